//! The tables as sea-orm sees them.
#![allow(unreachable_pub, missing_docs)]

pub mod document;
pub mod event;
pub mod schedule;
