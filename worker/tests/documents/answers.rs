//! Questions are answered from the documents: by their own sentences, or by a language model.

use std::time::Duration;

use petiole_ai::LanguageError;
use petiole_client::{Client, ClientConfig, Update};
use petiole_worker::answers::{Answer, AnswerError, AnswerRequest, Speaker, generate};
use petiole_worker::documents::ingest;
use serde_json::{Value, json};
use uuid::Uuid;
use wiremock::matchers::{body_string_contains, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::database::{World, world, world_with_language};

const SHARK: &str = "Sharks sense electric fields with their snout.";

async fn animals(world: &World) -> Uuid {
    for text in
        ["The blue whale is the heaviest animal that ever lived.", "Golden eagles build their eyries on cliffs."]
    {
        put_in(world, text).await;
    }
    put_in(world, SHARK).await
}

async fn put_in(world: &World, text: &str) -> Uuid {
    let id = world.document(text, "text/plain").await;
    ingest(&world.services, id).await.unwrap();
    id
}

fn question(text: &str) -> AnswerRequest {
    AnswerRequest { question: text.into(), ..AnswerRequest::default() }
}

async fn ask(world: &World, request: &AnswerRequest) -> Result<Answer, AnswerError> {
    generate(&world.services, request, &Uuid::new_v4().to_string(), None).await
}

#[tokio::test]
async fn the_sentence_that_answers_is_given_with_its_citation() {
    let world = world().await;
    let shark = animals(&world).await;
    let answer = ask(&world, &question("Which animals can feel electricity?")).await.unwrap();
    assert!(answer.answer.starts_with("Sharks sense electric fields with their snout. [1]"), "{answer:?}");
    let cited = &answer.citations[0];
    assert_eq!((cited.number, cited.document_id, cited.text.as_str()), (1, shark, SHARK));
    assert!(cited.score > 0.3 && cited.score <= 1.0);
    assert_eq!((answer.model.as_str(), &answer.prompt, answer.truncated), ("extractive", &None, false));
}

#[tokio::test]
async fn nothing_known_is_said_without_citations() {
    let world = world().await;
    animals(&world).await;
    let elsewhere =
        AnswerRequest { collection: Some("void".into()), ..question("Which animals can feel electricity?") };
    for request in [elsewhere, question("Who won the football world cup?")] {
        let answer = ask(&world, &request).await.unwrap();
        assert!(answer.citations.is_empty() && !answer.answer.is_empty(), "{answer:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused() {
    let world = world().await;
    let none = AnswerRequest { top_k: Some(0), ..question("Why?") };
    for (request, says) in [(question("  "), "question"), (question(&"x".repeat(9_000)), "8192"), (none, "top_k")] {
        let error = ask(&world, &request).await.unwrap_err();
        assert!(matches!(&error, AnswerError::Request(reason) if reason.contains(says)), "{error}");
    }
}

#[tokio::test]
async fn a_question_may_lean_on_the_one_before_and_a_task_answers_once() {
    let world = world().await;
    animals(&world).await;
    let id = Uuid::new_v4();
    let talk = Some(id);
    let first = AnswerRequest { conversation_id: talk, ..question("Which animals can feel electricity?") };
    let task = Uuid::new_v4().to_string();
    let answer = generate(&world.services, &first, &task, None).await.unwrap();
    assert_eq!(answer.conversation_id, talk);
    let next = AnswerRequest { conversation_id: talk, ..question("And with which part of their body?") };
    assert!(ask(&world, &next).await.unwrap().answer.contains("snout"));
    assert_eq!(ask(&world, &question("And with which part of their body?")).await.unwrap().citations.len(), 0);
    // delivered again
    assert_eq!(generate(&world.services, &first, &task, None).await.unwrap(), answer);
    let turns = world.storage().last_turns(id, 10).await.unwrap();
    assert_eq!(turns.len(), 2);
}

fn stream(pieces: &[&str]) -> ResponseTemplate {
    let mut body = String::new();
    for piece in pieces {
        body += &format!("data: {}\n\n", json!({"choices": [{"delta": {"content": piece}}]}));
    }
    body += &format!("data: {}\n\n", json!({"choices": [{"delta": {}, "finish_reason": "stop"}]}));
    ResponseTemplate::new(200).set_body_raw(body, "text/event-stream")
}

#[tokio::test]
async fn a_language_model_writes_from_numbered_passages_and_is_heard_word_by_word() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/v1/chat/completions"))
        .and(body_string_contains("Question: Which animals can feel electricity?"))
        .and(body_string_contains(SHARK))
        .respond_with(stream(&["Sharks ", "do", " [1]."]))
        .expect(1)
        .mount(&server)
        .await;
    let world = world_with_language(&server.uri()).await;
    let shark = animals(&world).await;
    let url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run docker/test.sh");
    let client = Client::new(ClientConfig::new(&url, &url)).unwrap();
    let task = Uuid::new_v4().to_string();
    let mut follow = client.follow(&task).await.unwrap();
    let speaker = Speaker::start(client.backend().clone(), task.clone());
    let request = question("Which animals can feel electricity?");
    let answer = generate(&world.services, &request, &task, Some(&speaker)).await.unwrap();
    speaker.finish().await;
    assert_eq!((answer.answer.as_str(), answer.model.as_str()), ("Sharks do [1].", "tiny-chat"));
    assert_eq!(answer.prompt.as_deref(), Some("answer/v1"));
    let cited: Vec<_> = answer.citations.iter().map(|citation| (citation.number, citation.document_id)).collect();
    assert_eq!(cited, [(1, shark)]);

    for expected in ["Sharks ", "do", " [1]."] {
        let next = tokio::time::timeout(Duration::from_secs(5), follow.next()).await.expect("a piece is missing");
        assert_eq!(next, Some(Update::Token(expected.into())));
    }
}

#[tokio::test]
async fn the_model_is_shown_the_talk_and_asked_what_is_meant() {
    let server = MockServer::start().await;
    // the longer text is looked for first
    Mock::given(body_string_contains("Next question: And where?"))
        .respond_with(stream(&["With which part of their body do sharks sense electric fields?"]))
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(method("POST")).respond_with(stream(&["As they say [9]."])).expect(2).mount(&server).await;
    let world = world_with_language(&server.uri()).await;
    animals(&world).await;
    let talk = Some(Uuid::new_v4());
    for text in ["Which animals can feel electricity?", "And where?"] {
        let answer = ask(&world, &AnswerRequest { conversation_id: talk, ..question(text) }).await.unwrap();
        // it points to no passage that there is: all it was shown are cited
        assert_eq!(answer.citations.len(), 3, "{answer:?}");
    }
    let asked = server.received_requests().await.unwrap();
    let last: Value = serde_json::from_slice(&asked.last().unwrap().body).unwrap();
    let roles: Vec<_> = last["messages"].as_array().unwrap().iter().map(|message| message["role"].clone()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"]);
    assert_eq!(last["messages"][1]["content"], "Which animals can feel electricity?");
}

#[tokio::test]
async fn the_providers_error_is_told() {
    let server = MockServer::start().await;
    let refusal = ResponseTemplate::new(402).set_body_json(json!({"error": {"message": "no more money"}}));
    Mock::given(method("POST")).respond_with(refusal).expect(1).mount(&server).await;
    let world = world_with_language(&server.uri()).await;
    animals(&world).await;
    let error = ask(&world, &question("Which animals can feel electricity?")).await.unwrap_err();
    assert!(matches!(error, AnswerError::Language(LanguageError::Refused { status: 402, .. })), "{error}");
    assert!(error.to_string().contains("no more money") && !error.is_transient());
}
