//! Answers: a question becomes a task, or a stream of what the task says.

use std::time::Duration;

use futures::stream::{self, BoxStream};
use petiole_client::{Follow, TaskMeta, TaskSend, Update};
use poem::Request;
use poem::http::{StatusCode, header};
use poem::web::Data;
use poem::web::sse::Event;
use poem_openapi::payload::{EventStream, Json};
use poem_openapi::types::{Example, ParseFromJSON, ToJSON};
use poem_openapi::{ApiResponse, Object, OpenApi, Union};
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use crate::body::Body;
use crate::failures::{Answer, Create};
use crate::filter::MetadataFilter;
use crate::json::Text;
use crate::problem::{Document, Problem};
use crate::request_id::RequestId;
use crate::routes::Group;
use crate::routes::tasks::SentTask;
use crate::state::State;

/// The task that answers.
const GENERATE: &str = "answers.generate";
/// A comment is sent this often, so that nobody in between takes the stream for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A stream never lasts longer.
const LONGEST: Duration = Duration::from_secs(3600);

#[derive(Clone, Default)]
pub(crate) struct Answers;

/// A question to the documents.
#[derive(Clone, Debug, Object)]
#[oai(example)]
pub(crate) struct AnswerRequest {
    /// The question.
    #[oai(validator(max_length = 8192))]
    question: Text,
    /// How many passages the answer may rest on.
    #[oai(default = "default_top_k", validator(minimum(value = "1"), maximum(value = "1000")))]
    top_k: u32,
    /// Whether the passages that were found are read again and put in order by that; as for a search.
    rerank: Option<bool>,
    /// Only passages of this collection.
    #[oai(validator(max_length = 200, pattern = r"^[^\x00]*$"))]
    collection: Option<String>,
    /// Only documents whose metadata are like this.
    #[oai(default)]
    pub(crate) filter: MetadataFilter,
    /// The conversation that the question belongs to: any UUID of your own. Later questions of it may lean on earlier
    /// ones.
    conversation_id: Option<Uuid>,
}

fn default_top_k() -> u32 {
    8
}

impl Example for AnswerRequest {
    fn example() -> Self {
        Self {
            question: Text("What does the Analytical Engine weave?".into()),
            top_k: 5,
            rerank: None,
            collection: Some("history".into()),
            filter: MetadataFilter::default(),
            conversation_id: None,
        }
    }
}

impl AnswerRequest {
    fn into_task(self, task_id: &str, request_id: &RequestId, stream: bool) -> TaskSend {
        let mut task = TaskSend::new(GENERATE);
        task.task_id = Some(task_id.to_owned());
        task.headers.insert("request_id".into(), json!(request_id.0));
        task.kwargs.insert("question".into(), json!(self.question.0));
        task.kwargs.insert("top_k".into(), json!(self.top_k));
        if let Some(rerank) = self.rerank {
            task.kwargs.insert("rerank".into(), json!(rerank));
        }
        if let Some(collection) = self.collection {
            task.kwargs.insert("collection".into(), json!(collection));
        }
        if !self.filter.0.is_empty() {
            task.kwargs.insert("filter".into(), json!(self.filter.0));
        }
        if let Some(id) = self.conversation_id {
            task.kwargs.insert("conversation_id".into(), json!(id));
        }
        if stream {
            task.kwargs.insert("stream".into(), json!(true));
        }
        task
    }
}

/// A passage that an answer points to.
#[derive(Clone, Debug, Object)]
#[oai(rename = "Citation")]
pub(crate) struct CitationView {
    /// The number that stands for it in the answer: `[1]`.
    number: u32,
    /// The document it is of.
    document_id: Uuid,
    /// The passage.
    chunk_id: Uuid,
    /// The document's title.
    title: Option<String>,
    /// The passage's text.
    text: String,
    /// How well it fits the question; comparable only within one answer.
    score: f64,
}

/// An answer from the documents.
#[derive(Clone, Debug, Object)]
#[oai(rename = "Answer")]
pub(crate) struct AnswerView {
    /// The answer. `[1]` points to the citation of that number.
    answer: String,
    /// The passages it rests on; none when nothing is known.
    citations: Vec<CitationView>,
    /// What answered: a language model's name, or `extractive` for sentences of the passages themselves.
    model: String,
    /// Whether it was cut off at the limit of tokens.
    #[oai(default)]
    truncated: bool,
    /// The prompt it was made with; null without a language model.
    prompt: Option<String>,
    /// The conversation it belongs to.
    conversation_id: Option<Uuid>,
}

/// The next bit of an answer.
#[derive(Clone, Debug, Object)]
pub(crate) struct Token {
    /// The text; all of them together are the answer.
    text: String,
}

/// What a stream brings: `token` any number of times, then `done` or `error`.
#[derive(Debug, Union)]
pub(crate) enum AnswerEvent {
    Token(Token),
    Done(AnswerView),
    Error(Document),
}

impl AnswerEvent {
    fn into_event(self) -> Event {
        let name = match &self {
            Self::Token(_) => "token",
            Self::Done(_) => "done",
            Self::Error(_) => "error",
        };
        Event::message(self.to_json_string()).event_type(name)
    }
}

#[derive(ApiResponse)]
pub(crate) enum AnswerResponse {
    /// A task answers it; its result is the answer.
    #[oai(status = 202)]
    Sent(
        Json<SentTask>,
        /// Where it is followed.
        #[oai(header = "Location")]
        String,
    ),
    /// The answer as it is made, for those who accept `text/event-stream`: events `token` with the next bit of text, then
    /// `done` with the answer, or `error` with a problem.
    #[oai(status = 200)]
    Stream(
        EventStream<BoxStream<'static, AnswerEvent>>,
        /// The task that answers.
        #[oai(header = "Location")]
        String,
    ),
}

#[OpenApi]
impl Answers {
    /// Ask a question
    ///
    /// A task finds the passages that bear on the question and answers from them, with citations: by the language model
    /// of the settings, or, without one, by the passages' own sentences. Its result is an `Answer`. With
    /// `Accept: text/event-stream` the answer comes as it is made.
    #[oai(path = "/v1/answers", method = "post", operation_id = "createAnswer", tag = "Group::Answers")]
    async fn create(
        &self,
        state: Data<&State>,
        request: &Request,
        request_id: RequestId,
        body: Body<AnswerRequest>,
    ) -> Answer<AnswerResponse, Create> {
        let Body(question) = body;
        question.filter.read("filter")?;
        let task_id = Uuid::new_v4().to_string();
        let location = format!("/v1/tasks/{task_id}");
        let streams = accepts_stream(request);
        let task = question.into_task(&task_id, &request_id, streams);
        let late = |_| Problem::unavailable("Redis did not answer in time; try again soon");
        if !streams {
            tokio::time::timeout(state.limits.request, state.client.send(task)).await.map_err(late)??;
            return Ok(AnswerResponse::Sent(Json(SentTask::pending(task_id)), location));
        }
        let begin = async {
            // listening before there is anything to hear
            let follow = state.client.follow(&task_id).await?;
            state.client.send(task).await?;
            Ok::<_, Problem>(follow)
        };
        let follow = tokio::time::timeout(state.limits.request, begin).await.map_err(late)??;
        let telling = Telling { follow, request_id, until: Instant::now() + LONGEST, over: false };
        let events: BoxStream<'static, AnswerEvent> = Box::pin(stream::unfold(telling, Telling::next));
        let events = EventStream::new(events).keep_alive(KEEP_ALIVE).to_event(AnswerEvent::into_event);
        Ok(AnswerResponse::Stream(events, location))
    }
}

/// Whether the client asks for server-sent events.
pub(crate) fn accepts_stream(request: &Request) -> bool {
    let accepted = request.headers().get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| {
        let kind = range.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("text/event-stream")
    })
}

struct Telling {
    follow: Follow,
    request_id: RequestId,
    until: Instant,
    over: bool,
}

impl Telling {
    async fn next(mut self) -> Option<(AnswerEvent, Self)> {
        if self.over {
            return None;
        }
        let event = match tokio::time::timeout_at(self.until, self.follow.next()).await {
            Ok(Some(Update::Token(text))) => AnswerEvent::Token(Token { text }),
            Ok(Some(Update::End(meta))) => self.last(*meta),
            Ok(None) => return None,
            Err(_) => self.problem(StatusCode::GATEWAY_TIMEOUT, "the answer takes too long; its task goes on"),
        };
        Some((event, self))
    }

    fn last(&mut self, meta: TaskMeta) -> AnswerEvent {
        self.over = true;
        if let Some(exception) = meta.exception() {
            return self.problem(StatusCode::BAD_GATEWAY, exception.message());
        }
        match AnswerView::parse_from_json(Some(meta.result)) {
            Ok(answer) if meta.status == "SUCCESS" => AnswerEvent::Done(answer),
            _ => self.problem(StatusCode::BAD_GATEWAY, format!("the task ended as {} without an answer", meta.status)),
        }
    }

    fn problem(&mut self, status: StatusCode, detail: impl Into<String>) -> AnswerEvent {
        self.over = true;
        AnswerEvent::Error(Problem::new(status, detail).document(&self.request_id.0))
    }
}
