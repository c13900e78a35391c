//! The language model of an OpenAI-compatible server, against servers of this test's own.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::settings;
use futures::StreamExt;
use petiole_ai::{ChatRequest, Form, LanguageError, LanguageModel, Message, Piece, Role, language_model_from};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wiremock::matchers::{body_partial_json, header, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

const KEY: &str = "sk-never-to-be-seen-0123456789";

fn model(url: &str, more: &[(&str, &str)]) -> Arc<dyn LanguageModel> {
    let base = format!("{url}/v1/");
    let mut values = vec![
        ("LANGUAGE_MODEL", "tiny-chat"),
        ("OPENAI_BASE_URL", base.as_str()),
        ("OPENAI_API_KEY", KEY),
        ("AI_MAX_RETRIES", "2"),
    ];
    values.extend_from_slice(more);
    language_model_from(&settings(&values)).unwrap().unwrap()
}

fn question() -> ChatRequest {
    ChatRequest::new(vec![Message::new(Role::System, "Be brief."), Message::new(Role::User, "Why?")])
}

fn chunk(text: &str) -> String {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]}))
}

fn end(reason: &str) -> String {
    let last = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]});
    format!("data: {last}\n\ndata: {}\n\ndata: [DONE]\n\n", json!({"choices": [], "usage": {"total_tokens": 9}}))
}

fn stream(body: String) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_raw(body, "text/event-stream; charset=utf-8")
}

#[tokio::test]
async fn an_answer_comes_piece_by_piece() {
    let server = MockServer::start().await;
    let asked = json!({
        "model": "tiny-chat", "stream": true, "max_tokens": 77,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
    });
    Mock::given(method("POST"))
        .and(path("/v1/chat/completions"))
        .and(header("authorization", format!("Bearer {KEY}")))
        .and(body_partial_json(asked))
        .respond_with(stream(format!(
            ": warming up\n\ndata: {}\n\n{}{}{}",
            json!({"choices": [{"delta": {"role": "assistant", "content": ""}}]}),
            chunk("Be"),
            chunk("cause 🦀"),
            end("stop")
        )))
        .expect(1)
        .mount(&server)
        .await;
    let model = model(&server.uri(), &[("LANGUAGE_MAX_TOKENS", "77")]);
    assert_eq!(model.model(), "tiny-chat");
    let pieces: Vec<_> = model.stream(question()).await.unwrap().map(Result::unwrap).collect().await;
    let text = |text: &str| Piece::Text(text.into());
    assert_eq!(pieces, [text("Be"), text("cause 🦀"), Piece::End { truncated: false }]);
}

#[tokio::test]
async fn the_first_pieces_are_there_before_the_last() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (go_on, told) = tokio::sync::oneshot::channel();
    let serving = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let _ = socket.read(&mut [0; 4096]).await.unwrap();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        socket.write_all(format!("{head}{}", chunk("first")).as_bytes()).await.unwrap();
        told.await.unwrap();
        // in the middle of a character
        let rest = chunk("ü");
        let (a, b) = rest.as_bytes().split_at(rest.find('ü').unwrap() + 1);
        socket.write_all(a).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        socket.write_all(&[b, end("length").as_bytes()].concat()).await.unwrap();
    });
    let mut pieces = model(&format!("http://{address}"), &[]).stream(question()).await.unwrap();
    let first =
        tokio::time::timeout(Duration::from_secs(5), pieces.next()).await.expect("the first piece is held back");
    assert_eq!(first.unwrap().unwrap(), Piece::Text("first".into()));
    go_on.send(()).unwrap();
    assert_eq!(pieces.next().await.unwrap().unwrap(), Piece::Text("ü".into()));
    assert_eq!(pieces.next().await.unwrap().unwrap(), Piece::End { truncated: true });
    assert!(pieces.next().await.is_none());
    serving.await.unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood() {
    let server = MockServer::start().await;
    let whole =
        json!({"choices": [{"message": {"role": "assistant", "content": "Because."}, "finish_reason": "length"}]});
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(200).set_body_json(whole)).mount(&server).await;
    let answer = model(&server.uri(), &[]).complete(question()).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.truncated), ("Because.", true));
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    let server = MockServer::start().await;
    for status in [429, 503] {
        let once = ResponseTemplate::new(status).insert_header("retry-after", "1");
        Mock::given(method("POST")).respond_with(once).up_to_n_times(1).expect(1).mount(&server).await;
    }
    Mock::given(method("POST")).respond_with(stream(chunk("yes") + &end("stop"))).expect(1).mount(&server).await;
    let begun = Instant::now();
    assert_eq!(model(&server.uri(), &[]).complete(question()).await.unwrap().text, "yes");
    assert!(begun.elapsed() >= Duration::from_secs(2), "the server's wish to wait was not respected");
}

#[tokio::test]
async fn trying_again_has_an_end() {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(502)).expect(3).mount(&server).await;
    let error = model(&server.uri(), &[]).complete(question()).await.unwrap_err();
    assert!(matches!(error, LanguageError::Refused { status: 502, .. }) && error.is_transient(), "{error}");
}

#[tokio::test]
async fn what_does_not_pass_is_not_tried_again_and_the_key_stays_secret() {
    let server = MockServer::start().await;
    let refusal = json!({"error": {"message": format!("Incorrect API key provided: {KEY}."), "type": "invalid"}});
    let refusal = ResponseTemplate::new(401).set_body_json(refusal);
    Mock::given(method("POST")).respond_with(refusal).expect(1).mount(&server).await;
    let error = model(&server.uri(), &[]).complete(question()).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("401") && text.contains("Incorrect API key") && !text.contains(KEY), "{text}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
    let fault = json!({"error": {"message": format!("out of memory for {KEY}")}});
    for (body, says) in [
        (chunk("half"), "closed the stream before its end"),
        (format!("{}data: {fault}\n\n", chunk("half")), "out of memory for ***"),
        (format!("{}data: {{\"choi\n\n", chunk("half")), "cannot be used"),
    ] {
        let server = MockServer::start().await;
        Mock::given(method("POST")).respond_with(stream(body)).expect(1).mount(&server).await;
        let error = model(&server.uri(), &[]).complete(question()).await.unwrap_err().to_string();
        assert!(error.contains(says), "{says} not in {error}");
    }
}

#[tokio::test]
async fn a_slow_server_is_given_up() {
    let server = MockServer::start().await;
    let slow = stream(chunk("late")).set_delay(Duration::from_secs(30));
    Mock::given(method("POST")).respond_with(slow).mount(&server).await;
    let begun = Instant::now();
    let error = model(&server.uri(), &[("LANGUAGE_TIMEOUT", "0.3")]).complete(question()).await.unwrap_err();
    assert!(matches!(&error, LanguageError::TooSlow(_) | LanguageError::Unreachable(_)), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let _ = socket.read(&mut [0; 4096]).await.unwrap();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        socket.write_all(format!("{head}{}", chunk("first")).as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
    });
    let more = [("AI_TIMEOUT", "0.3")];
    let error = model(&format!("http://{address}"), &more).complete(question()).await.unwrap_err();
    assert!(matches!(&error, LanguageError::Broken(reason) if reason.contains("nothing came")), "{error}");
    serving.abort();
}

/// A server that refuses the fields that some servers refuse.
fn choosy(request: &Request) -> ResponseTemplate {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let refuse = |message: &str| ResponseTemplate::new(400).set_body_json(json!({"error": {"message": message}}));
    if body.get("max_tokens").is_some() {
        return refuse("'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.");
    }
    if body.get("response_format").is_some() {
        return refuse("response_format is not available");
    }
    assert_eq!(body["max_completion_tokens"], 5);
    stream(chunk("{}") + &end("stop"))
}

#[tokio::test]
async fn fields_that_a_server_does_not_take_are_left_out() {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(choosy).expect(4).mount(&server).await;
    let model = model(&server.uri(), &[]);
    for _ in 0..2 {
        let request = ChatRequest { max_tokens: Some(5), form: Form::Json, ..question() };
        assert_eq!(model.complete(request).await.unwrap().text, "{}");
    }
}

#[test]
fn a_model_needs_a_server_and_none_is_no_error() {
    assert!(language_model_from(&settings(&[])).unwrap().is_none());
    let error = language_model_from(&settings(&[("LANGUAGE_MODEL", "gpt")])).err().unwrap().to_string();
    assert!(error.contains("LANGUAGE_MODEL") && error.contains("OPENAI_BASE_URL"), "{error}");
}
