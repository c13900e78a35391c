//! Names of tasks that nobody has heard of.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{Server, start_alone};

/// Waits until the name is refused: what was known before a worker came is known for a moment longer.
async fn becomes_unknown(server: &Server, body: &Value) {
    let begun = Instant::now();
    while server.post("/v1/tasks", body).await.status != 404 {
        assert!(begun.elapsed() < Duration::from_secs(20), "a worker runs, and the name is still taken");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_unknown_when_there_are_workers_and_none_has_it() {
    let (server, prefix) = start_alone(&[]).await;
    let unknown = json!({"task": "no.such", "queue": format!("{}-other", server.queue)});
    let of_workflow = json!({"group": [unknown]});
    // Nobody is there to tell.
    assert_eq!(server.post("/v1/tasks", &unknown).await.status, 202);
    assert_eq!(server.post("/v1/workflows", &of_workflow).await.status, 202);
    server.begin_worker(&prefix).await;
    becomes_unknown(&server, &unknown).await;
    server.post("/v1/tasks", &unknown).await.problem(404);
    server.post("/v1/workflows", &of_workflow).await.problem(404);
    let known = json!({"task": "demo.echo", "args": [1], "queue": format!("{}-other", server.queue)});
    assert_eq!(server.post("/v1/tasks", &known).await.status, 202);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_on_the_list_is_known() {
    let (server, prefix) = start_alone(&[("ALLOWED_TASKS", "reports.monthly,math.*")]).await;
    server.begin_worker(&prefix).await;
    becomes_unknown(&server, &json!({"task": "math.unknown"})).await;
    assert_eq!(server.post("/v1/tasks", &json!({"task": "reports.monthly"})).await.status, 202);
    server.post("/v1/tasks", &json!({"task": "demo.echo"})).await.problem(403);
}
