use serde_json::{Value, json};
use uuid::Uuid;

use crate::server::{Answer, KEY, Server, answer, start, start_beside_worker, start_with};

fn every(seconds: f64, name: &str) -> Value {
    json!({"name": name, "task": "demo.add", "interval": seconds, "args": [1, 2]})
}

async fn change(server: &Server, method: reqwest::Method, path: &str, body: &Value) -> Answer {
    answer(server.http.request(method, server.url.clone() + path).json(body)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_is_added_changed_and_deleted() {
    let server = start_beside_worker().await;
    let body = json!({
        "name": "mornings", "task": "demo.echo", "args": ["x"], "kwargs": {"k": null}, "crontab": "30 7 * * mon-fri",
        "timezone": "Europe/Berlin", "options": {"queue": "slow", "priority": 3, "expires": 60, "headers": {"mine": 1}},
    });
    let made = server.post("/v1/schedules", &body).await;
    assert_eq!(made.status, 201, "{}", made.json);
    let path = made.header("location").to_owned();
    assert_eq!(path, format!("/v1/schedules/{}", made.json["id"].as_str().unwrap()));
    for (name, value) in body.as_object().unwrap() {
        if name != "options" {
            assert_eq!(&made.json[name], value, "{name}");
        }
    }
    assert_eq!(made.json["options"]["headers"], json!({"mine": 1}));
    assert_eq!(made.json["options"].as_object().unwrap().len(), 4, "only what was given");
    assert_eq!((&made.json["enabled"], &made.json["interval"]), (&json!(true), &json!(null)));
    assert_eq!((&made.json["last_run_at"], &made.json["total_run_count"]), (&json!(null), &json!(0)));
    let next: chrono::DateTime<chrono::Utc> = made.json["next_run_at"].as_str().unwrap().parse().unwrap();
    assert!(next > chrono::Utc::now() && [5, 6].contains(&chrono::Timelike::hour(&next)), "{next}");
    assert_eq!(server.get(&path).await.json, made.json);

    for (refused, field) in [(json!({"relative": true}), "relative"), (json!({"task": "nobody.knows"}), "task")] {
        assert_eq!(change(&server, reqwest::Method::PATCH, &path, &refused).await.problem(409), [field]);
    }
    let limits = json!({"options": {"soft_time_limit": 2, "time_limit": 1}});
    let limited = change(&server, reqwest::Method::PATCH, &path, &limits).await;
    assert_eq!(limited.json["options"], json!({"time_limit": 1.0}), "a soft limit that would never come");
    let rested = change(&server, reqwest::Method::PATCH, &path, &json!({"enabled": false})).await;
    assert_eq!((rested.status, &rested.json["next_run_at"]), (200, &json!(null)), "{}", rested.json);
    assert_eq!(rested.json["crontab"], body["crontab"]);
    let quick = change(&server, reqwest::Method::PATCH, &path, &json!({"interval": 0.5, "enabled": true})).await;
    assert_eq!((&quick.json["crontab"], &quick.json["timezone"]), (&json!(null), &json!(null)), "{}", quick.json);
    assert_eq!((&quick.json["interval"], &quick.json["args"]), (&json!(0.5), &json!(["x"])));
    let replaced = change(&server, reqwest::Method::PUT, &path, &every(3600.0, "hourly")).await;
    assert_eq!((replaced.status, &replaced.json["name"]), (200, &json!("hourly")), "{}", replaced.json);
    assert_eq!((&replaced.json["kwargs"], &replaced.json["options"]), (&json!({}), &json!({})));
    assert_eq!(replaced.json["created_at"], made.json["created_at"]);

    assert_eq!(server.delete(&path).await.status, 204);
    for gone in [
        server.get(&path).await,
        server.delete(&path).await,
        change(&server, reqwest::Method::PATCH, &path, &json!({})).await,
        change(&server, reqwest::Method::PUT, &path, &every(1.0, "x")).await,
    ] {
        gone.problem(404);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_named() {
    let server = start_beside_worker().await;
    let crontab = |line: &str| json!({"name": "n", "task": "demo.add", "crontab": line});
    let with = |mut body: Value, name: &str, value: Value| {
        body[name] = value;
        body
    };
    for (body, field, says) in [
        (json!({"task": "demo.add", "interval": 1}), "name", "is missing"),
        (json!({"name": "n", "interval": 1}), "task", "is missing"),
        (json!({"name": "n", "task": "demo.add"}), "crontab", "is missing, and interval too"),
        (with(crontab("* * * * *"), "interval", json!(1)), "interval", "not be given together with crontab"),
        (crontab("* * * *  "), "crontab", "must be five fields"),
        (crontab("61 * * * *"), "crontab", "minute \"61\": must be from 0 to 59"),
        (crontab("0 0 30 2 *"), "crontab", "never occurs"),
        (with(crontab("* * * * *"), "timezone", json!("Mars/Base")), "timezone", "more, is \"Mars/Base\""),
        (with(crontab("* * * * *"), "relative", json!(true)), "relative", "is for intervals only"),
        (with(every(1.0, "n"), "timezone", json!("UTC")), "timezone", "is for crontabs only"),
        (every(0.01, "n"), "interval", ""),
        (every(0.01, ""), "name", ""),
        (with(every(1.0, "n"), "args", json!({})), "args", "must be a list"),
        (with(every(1.0, "n"), "options", json!({"priority": 10})), "options.priority", ""),
        (with(every(1.0, "n"), "options", json!({"exchange": "x"})), "options.exchange", "is not known"),
        (with(every(1.0, "n"), "options", json!({"headers": {"id": "x"}})), "options.headers.id", "belongs to Celery"),
        (crontab("mon * * * *"), "crontab", "must be five fields of"),
        (every(1.0, "a\0b"), "name", "U+0000"),
        (every(1.0, " "), "name", "white space"),
    ] {
        let refused = server.post("/v1/schedules", &body).await;
        let fields = refused.problem(422);
        assert!(fields.iter().any(|name| name == field), "{body}: {}", refused.json);
        assert!(refused.json["detail"].as_str().unwrap().contains(says), "{body}: {}", refused.json);
    }
    server.post("/v1/schedules", &with(every(1.0, "n"), "task", json!("celery.chord"))).await.problem(403);
    server.post("/v1/schedules", &with(every(1.0, "n"), "task", json!("nobody.knows"))).await.problem(404);
    assert_eq!(server.get("/v1/schedules?limit=0").await.problem(422), ["limit"]);
    assert_eq!(server.get("/v1/schedules?enabled=maybe").await.problem(422), ["enabled"]);
    assert_eq!(server.get("/v1/schedules/x").await.problem(422), ["id"]);
    assert_eq!(server.get("/v1/schedules").await.json["items"], json!([]), "nothing was stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_unique_and_lists_have_pages() {
    let server = start().await;
    let mut ids = vec![];
    for name in ["a", "b", "c"] {
        let made = server.post("/v1/schedules", &every(60.0, name)).await;
        ids.push(made.json["id"].as_str().unwrap().parse::<Uuid>().unwrap());
    }
    assert_eq!(server.post("/v1/schedules", &every(1.0, "b")).await.problem(409), ["name"]);
    let path = format!("/v1/schedules/{}", ids[0]);
    let renamed = change(&server, reqwest::Method::PATCH, &path, &json!({"name": "b"})).await;
    assert_eq!(renamed.problem(409), ["name"]);
    change(&server, reqwest::Method::PATCH, &path, &json!({"enabled": false})).await;

    let names = |page: &Value| -> String {
        page["items"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
    };
    let first = server.get("/v1/schedules?limit=2").await.json;
    let next = format!("/v1/schedules?limit=2&cursor={}", first["next_cursor"].as_str().unwrap());
    let second = server.get(&next).await.json;
    assert_eq!((names(&first), names(&second), &second["next_cursor"]), ("cb".into(), "a".into(), &json!(null)));
    assert_eq!(names(&server.get("/v1/schedules?enabled=true").await.json), "cb");
    assert_eq!(names(&server.get("/v1/schedules?enabled=false&task=demo.add").await.json), "a");
    assert_eq!(names(&server.get("/v1/schedules?task=demo.echo").await.json), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_only_reads() {
    let redis = std::env::var("TEST_REDIS_URL").unwrap();
    let server = start_with(&[("API_KEYS", &format!("{KEY}:read"))], &redis).await;
    let request = |method, path: &str| server.http.request(method, server.url.clone() + path).header("x-api-key", KEY);
    assert_eq!(answer(request(reqwest::Method::GET, "/v1/schedules")).await.status, 200);
    answer(request(reqwest::Method::POST, "/v1/schedules").json(&every(1.0, "n"))).await.problem(403);
}
