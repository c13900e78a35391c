//! The built-in page is served whole, and holds nothing from elsewhere.

use crate::server::{KEY, start, start_with};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_its_style_and_its_script_are_served() {
    let server = start().await;
    let page = server.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").contains("default-src 'none'; script-src 'self'"));
    let html = page.json.as_str().unwrap();
    assert!(html.contains("data-flower-port=\"5555\"") && html.contains("id=\"key-form\" hidden"), "{html}");
    assert!(!html.contains("{{") && !html.contains("//"), "a placeholder or an address of elsewhere is left");
    for (path, kind, part) in
        [("/assets/app.css", "text/css", "focus-visible"), ("/assets/app.js", "text/javascript", "/v1/answers")]
    {
        assert!(html.contains(path));
        let asset = server.get(path).await;
        assert_eq!((asset.status, asset.header("content-type")), (200, format!("{kind}; charset=utf-8").as_str()));
        assert!(asset.json.as_str().unwrap().contains(part));
    }
    let refused = crate::server::answer(server.http.post(server.url.clone() + "/")).await;
    refused.problem(405);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_keys_are_needed_the_page_asks_for_one() {
    let redis = std::env::var("TEST_REDIS_URL").unwrap();
    let server = start_with(&[("API_KEYS", KEY), ("FLOWER_URL", "https://flower.example/\"<")], &redis).await;
    let page = server.get("/").await;
    let html = page.json.as_str().unwrap();
    assert!(!html.contains("id=\"key-form\" hidden") && !html.contains(KEY));
    assert!(html.contains("href=\"https://flower.example/&quot;&lt;\""), "{html}");
}
