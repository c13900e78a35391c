//! Answers: a question, the passages that bear on it, and what they say, with citations.

mod generate;
mod result;
mod speaker;

pub use generate::{AnswerError, AnswerRequest, generate};
pub use result::{Answer, Citation};
pub use speaker::Speaker;
