//! Spans as a collector gets them. The settings are those of a process: the test runs itself again with others.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Command;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use petiole_settings::trace_context::{self, Part};
use petiole_settings::{LogSettings, telemetry};
use prost::Message;
use tracing::field::Empty;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// The program whose spans are looked at: it prints the headers that it would send on.
fn program() {
    petiole_otel::start("petiole-test").unwrap();
    telemetry::init(&LogSettings { filter: "warn".into(), ..LogSettings::default() });
    let span = tracing::info_span!("task", task_id = "an-id", trace_id = Empty, otel.name = Empty, otel.kind = Empty);
    let came = |name: &str| (name == "traceparent").then(|| format!("00-{TRACE}-{CALLER}-01"));
    trace_context::begin(&span, Part::Consumer, || "run/t.add".to_owned(), came);
    span.in_scope(|| {
        println!("headers: {:?}", trace_context::headers());
        tracing::info_span!("inner").in_scope(|| trace_context::failed(|| "ValueError('no')".to_owned()));
    });
    drop(span);
    petiole_otel::stop();
}

/// Runs this test again as the program; gives what it printed.
fn run_program(endpoint: &str) -> String {
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "spans_reach_the_collector_and_their_context_the_next_program", "--nocapture"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a-key")
        .env("PETIOLE_TEST_PROGRAM", "1")
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn spans_reach_the_collector_and_their_context_the_next_program() {
    if std::env::var_os("PETIOLE_TEST_PROGRAM").is_some() {
        return program();
    }
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let received = std::thread::spawn(move || {
        let (mut stream, _) = collector.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut head, mut line) = (Vec::new(), String::new());
        while reader.read_line(&mut line).unwrap() > 2 {
            head.push(line.trim().to_ascii_lowercase());
            line.clear();
        }
        let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        (head, ExportTraceServiceRequest::decode(body.as_slice()).unwrap())
    });
    let printed = run_program(&endpoint);
    let (head, request) = received.join().unwrap();
    assert!(
        head.contains(&"post /v1/traces http/1.1".to_owned()) && head.contains(&"x-key: a-key".to_owned()),
        "{head:?}"
    );

    let resource = &request.resource_spans[0];
    let attributes = format!("{:?}", resource.resource.as_ref().unwrap().attributes);
    for expected in ["petiole-test", "deployment.environment.name"] {
        assert!(attributes.contains(expected), "{expected} in {attributes}");
    }
    let spans: Vec<&Span> = resource.scope_spans.iter().flat_map(|scope| &scope.spans).collect();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let outer = spans.iter().find(|span| span.name == "run/t.add").expect("the span has its name");
    assert_eq!((hex(&outer.trace_id).as_str(), hex(&outer.parent_span_id).as_str()), (TRACE, CALLER));
    assert_eq!(outer.kind, SpanKind::Consumer as i32);
    assert!(format!("{:?}", outer.attributes).contains("an-id"));
    let inner = spans.iter().find(|span| span.name == "inner").unwrap();
    assert_eq!((&inner.trace_id, &inner.parent_span_id), (&outer.trace_id, &outer.span_id));
    assert_eq!(inner.status.as_ref().unwrap().message, "ValueError('no')");
    let onward = format!("(\"traceparent\", \"00-{TRACE}-{}-01\")", hex(&outer.span_id));
    assert!(printed.contains(&onward), "{onward} in {printed}");
}
