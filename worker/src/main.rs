//! The task service.
fn main() {}
