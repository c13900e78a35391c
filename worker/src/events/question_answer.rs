//! `question.answer`: the body of `POST /v1/answers` as an event's data.

use async_trait::async_trait;
use petiole_storage::Event;

use super::registry::{EventHandler, HandlerError};
use crate::answers::{Answer, AnswerError, AnswerRequest, generate};
use crate::services::Services;

/// Answers a question from the documents.
#[derive(Clone, Copy, Debug)]
pub struct QuestionAnswer;

#[async_trait]
impl EventHandler for QuestionAnswer {
    const TYPE: &'static str = "question.answer";
    type Data = AnswerRequest;
    type Output = Answer;

    async fn handle(&self, services: &Services, event: &Event, data: AnswerRequest) -> Result<Answer, HandlerError> {
        services.declare_model().await?;
        generate(services, &data, &event.task_id, None).await.map_err(|error| match error {
            AnswerError::Request(reason) => HandlerError::Data { kind: Self::TYPE, reason },
            error => error.into(),
        })
    }
}
