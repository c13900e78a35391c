//! What Prometheus sees.

use std::time::Duration;

use petiole_engine::{App, WorkerConfig};
use petiole_settings::Reader;
use serde_json::json;

use crate::stand::Stand;

/// What a worker tells a reader of its figures.
async fn figures(address: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("# EOF\n"), "{answer}");
    answer
}

fn figure(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in {page}")).parse().unwrap()
}

#[tokio::test]
async fn figures_for_prometheus() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let stand = Stand::new(&[("WORKER_METRICS_ADDRESS", &address)]).await;
    stand.run("t.add", json!([2, 3])).await;
    stand.run("t.add", json!([2, 4])).await;
    stand.run("t.fails", json!([])).await;
    stand.run("t.nowhere", json!([])).await;
    stand.run("t.acts", json!(["retry"])).await;
    stand.drained().await;
    // Two run and are acknowledged, eight are held here, and the rest waits.
    let _sleepers: Vec<_> =
        futures::future::join_all((0..11).map(|_| stand.send("t.sleeps", json!([60]), |_| {}))).await;
    let mut page = String::new();
    for _ in 0..100 {
        page = figures(&address).await;
        if figure(&page, "petiole_worker_tasks_reserved") >= 8.0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (name, value) in [
        (r#"petiole_worker_tasks_total{task="t.add",state="received"}"#, 2.0),
        (r#"petiole_worker_tasks_total{task="t.add",state="started"}"#, 2.0),
        (r#"petiole_worker_tasks_total{task="t.add",state="succeeded"}"#, 2.0),
        (r#"petiole_worker_tasks_total{task="t.fails",state="failed"}"#, 1.0),
        (r#"petiole_worker_tasks_total{task="unknown",state="failed"}"#, 1.0),
        (r#"petiole_worker_tasks_total{task="t.acts",state="retried"}"#, 1.0),
        (r#"petiole_worker_task_runtime_seconds_count{task="t.add"}"#, 2.0),
        ("petiole_worker_slots", 2.0),
        ("petiole_worker_tasks_active", 2.0),
        ("petiole_worker_tasks_reserved", 8.0),
        ("petiole_worker_prefetched", 8.0),
        ("petiole_worker_prefetch_count", 8.0),
        ("petiole_worker_redis_connected", 1.0),
        (&format!(r#"petiole_worker_queue_length{{queue="{}"}}"#, stand.queue), 1.0),
    ] {
        assert_eq!(figure(&page, name), value, "{name} in {page}");
    }
    assert!(figure(&page, "petiole_worker_heartbeat_age_seconds") < 15.0);
    stand.worker.abort();
}

#[tokio::test]
async fn no_start_where_the_figures_cannot_be_served() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run docker/test.sh");
    let config = WorkerConfig::read(&mut Reader::from_map([("WORKER_METRICS_ADDRESS", address.as_str())]));
    let error = App::builder().build().unwrap().run(config, &url, &url).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("WORKER_METRICS_ADDRESS {address}: cannot listen there")), "{error}");
}
