use serde_json::json;

use crate::server::{KEY, answer, start_with};

const READER: &str = "0a9b8c7d6e5f40312233445566778899";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outside_development_a_key_is_needed() {
    let redis_url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run docker/test.sh");
    let keys = format!("{KEY},{READER}:read");
    let server = start_with(&[("API_KEYS", &keys)], &redis_url).await;
    for path in ["/v1/documents", "/v1/nope", "/v1/tasks/6f2d3a10-0000-4000-8000-0123456789ab"] {
        let refused = server.get(path).await;
        refused.problem(401);
        assert!(refused.header("www-authenticate").starts_with("Bearer"));
    }
    server.post("/v1/documents", &json!({"text": "x"})).await.problem(401);
    server.post("/v1/documents", &json!(5)).await.problem(401);
    assert_eq!(server.get("/health").await.status, 200);
    assert_eq!(server.get("/openapi.json").await.status, 200);

    let ask = |name: &'static str, key: String, path: &str, post: bool| {
        let url = server.url.clone() + path;
        let request = if post {
            server.http.post(url).json(&json!({"query": "x", "mode": "keyword"}))
        } else {
            server.http.get(url)
        };
        answer(request.header(name, key))
    };
    assert_eq!(ask("authorization", format!("Bearer {KEY}"), "/v1/documents", false).await.status, 200);
    assert_eq!(ask("x-api-key", KEY.into(), "/v1/documents", false).await.status, 200);
    assert_eq!(ask("x-api-key", READER.into(), "/v1/documents", false).await.status, 200);
    assert_eq!(ask("x-api-key", READER.into(), "/v1/search", true).await.status, 200);
    ask("x-api-key", READER.into(), "/v1/documents", true).await.problem(403);
    ask("x-api-key", "another".into(), "/v1/documents", false).await.problem(401);
}

fn redis_url() -> String {
    std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run docker/test.sh")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_made_used_and_revoked() {
    let server = start_with(&[("API_KEYS", &format!("{KEY},{READER}:read"))], &redis_url()).await;
    let url = |path: &str| server.url.clone() + path;
    let body = json!({"name": "import", "scope": "write", "allowed_tasks": ["demo.e*"]});
    for key in ["", READER] {
        let status = if key.is_empty() { 401 } else { 403 };
        answer(server.http.post(url("/v1/keys")).bearer_auth(key).json(&body)).await.problem(status);
        answer(server.http.get(url("/v1/keys")).bearer_auth(key)).await.problem(status);
    }
    let made = answer(server.http.post(url("/v1/keys")).bearer_auth(KEY).json(&body)).await;
    assert_eq!(made.status, 201, "{}", made.json);
    let (key, id) = (made.json["key"].as_str().unwrap(), made.json["details"]["id"].as_str().unwrap());
    assert!(key.starts_with(&format!("petiole_{}_", id.replace('-', ""))) && key.len() == 8 + 32 + 1 + 64);

    assert_eq!(answer(server.http.get(url("/v1/documents")).header("x-api-key", key)).await.status, 200);
    answer(server.http.get(url("/v1/keys")).bearer_auth(key)).await.problem(403);
    // its own list of tasks, in workflows too
    let send = |path: &str, body: serde_json::Value| answer(server.http.post(url(path)).bearer_auth(key).json(&body));
    let (add, echo) =
        (json!({"task": "demo.add", "queue": server.queue}), json!({"task": "demo.echo", "queue": server.queue}));
    send("/v1/tasks", add.clone()).await.problem(403);
    send("/v1/workflows", json!({"chain": [echo, add]})).await.problem(403);
    assert_eq!(send("/v1/tasks", echo.clone()).await.status, 202);
    for wrong in
        [key.replace("petiole_", "petiole-"), format!("{key}0"), key[..key.len() - 1].to_owned(), key.to_uppercase()]
    {
        answer(server.http.get(url("/v1/documents")).bearer_auth(wrong)).await.problem(401);
    }

    let list = answer(server.http.get(url("/v1/keys")).bearer_auth(KEY)).await;
    assert_eq!((&list.json["items"][0]["id"], &list.json["items"][0]["name"]), (&json!(id), &json!("import")));
    assert!(!list.json.to_string().contains(key.rsplit('_').next().unwrap()));
    // what lies in the database is no key
    let mut database = server.database().await;
    let rows: String = sea_orm::sqlx::Row::get(
        &sea_orm::sqlx::query("SELECT string_agg(api_keys::text, '') FROM api_keys")
            .fetch_one(&mut database)
            .await
            .unwrap(),
        0,
    );
    assert!(rows.contains("import") && !rows.contains(key.rsplit('_').next().unwrap()));

    let revoked = answer(server.http.delete(url(&format!("/v1/keys/{id}"))).bearer_auth(KEY)).await;
    assert_eq!(revoked.status, 204);
    answer(server.http.get(url("/v1/documents")).bearer_auth(key)).await.problem(401);
    let unknown = url("/v1/keys/6f2d3a10-0000-4000-8000-0123456789ab");
    answer(server.http.delete(unknown).bearer_auth(KEY)).await.problem(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_ends_in_time_and_the_command_makes_keys_too() {
    let server = start_with(&[("API_KEYS", KEY)], &redis_url()).await;
    let past = json!({"name": "old", "scope": "all", "expires_at": "2020-01-01T00:00:00Z"});
    let made = answer(server.http.post(format!("{}/v1/keys", server.url)).bearer_auth(KEY).json(&past)).await;
    let expired = made.json["key"].as_str().unwrap();
    answer(server.http.get(format!("{}/v1/documents", server.url)).bearer_auth(expired)).await.problem(401);

    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_api"));
        command.args(arguments).env("DATABASE_URL", server.database_url()).env("BROKER_URL", &server.redis_url);
        async move {
            let done = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            String::from_utf8(done.stdout).unwrap().trim().to_owned()
        }
    };
    let key = run(&["keys", "create", "--name", "by hand", "--scope", "read", "--days", "1"]).await;
    let ask = || answer(server.http.get(format!("{}/v1/documents", server.url)).bearer_auth(&key));
    assert_eq!(ask().await.status, 200);
    answer(server.http.post(format!("{}/v1/documents", server.url)).bearer_auth(&key).json(&json!({"text": "x"})))
        .await
        .problem(403);
    let list = run(&["keys", "list"]).await;
    assert!(list.contains("by hand") && list.contains("valid") && list.contains("expired"), "{list}");
    let id = list.lines().find(|line| line.contains("by hand")).unwrap()[..36].to_owned();
    run(&["keys", "revoke", &id]).await;
    for _ in 0..80 {
        if ask().await.status == 401 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("a key that another process revoked still opens");
}
