use petiole_storage::{Filter, NewChunk, NewDocument, SearchMode, SearchQuery, Storage, StorageError};
use serde_json::{Value, json};

use crate::database::{new_document, ready, store};

pub(crate) fn chunk<const N: usize>(position: i32, text: &str, embedding: [f32; N]) -> NewChunk {
    NewChunk { position, text: text.into(), tokens: 3, embedding: embedding.to_vec() }
}

pub(crate) fn query(text: &str, mode: SearchMode, top_k: u32) -> SearchQuery {
    SearchQuery { text: text.into(), mode, top_k, collection: None, filter: Default::default() }
}

fn filter_of(filter: Value) -> Filter {
    Filter::parse(filter.as_object().unwrap()).unwrap()
}

fn filtered(filter: Value) -> SearchQuery {
    SearchQuery { filter: filter_of(filter), ..query("", SearchMode::Vector(vec![1., 0., 0.]), 50) }
}

/// Three animals and a part, apart in meaning.
async fn animals(storage: &Storage) {
    let rows = [
        (
            "whale",
            "The blue whale is the heaviest animal.",
            [1., 0.1, 0.],
            json!({"kind": "mammal", "legs": 0, "tags": ["sea"]}),
        ),
        ("eagle", "Golden eagles build eyries on cliffs.", [0., 1., 0.1], json!({"kind": "bird", "legs": 2})),
        ("spider", "Spiders spin silk.", [0.6, 0.6, 0.2], json!({"kind": "arachnid", "legs": 8})),
        ("part", "Order the flange QX-77193.", [0., 0., 1.], json!({"kind": "part", "legs": 0})),
    ];
    for (title, text, vector, metadata) in rows {
        let new = new_document("animals", title, metadata);
        let id = new.id;
        store(storage, new).await;
        storage.replace_chunks(id, 1, vec![chunk(0, text, vector)]).await.unwrap();
    }
}

async fn titles(storage: &Storage, query: &SearchQuery) -> Vec<String> {
    storage.search(query).await.unwrap().into_iter().map(|hit| hit.title.unwrap()).collect()
}

#[tokio::test]
async fn vectors_find_the_nearest_first() {
    let database = ready().await;
    animals(&database.storage).await;
    let hits = database.storage.search(&query("", SearchMode::Vector(vec![1., 0., 0.]), 2)).await.unwrap();
    assert_eq!(hits.iter().map(|hit| hit.title.as_deref().unwrap()).collect::<Vec<_>>(), ["whale", "spider"]);
    assert!(hits[0].score > 0.99 && hits[0].score <= 1.0 && hits[1].score < hits[0].score, "{hits:?}");
    assert_eq!(hits[0].metadata["kind"], "mammal");
    assert!(hits[0].text.contains("blue whale"));
    let error = database.storage.search(&query("", SearchMode::Vector(vec![1.; 4]), 2)).await.unwrap_err();
    assert!(matches!(error, StorageError::Invalid { .. }), "{error:?}");
}

#[tokio::test]
async fn keywords_find_words_and_their_forms() {
    let database = ready().await;
    let storage = &database.storage;
    animals(storage).await;
    assert_eq!(titles(storage, &query("eagle", SearchMode::Keyword, 5)).await, ["eagle"]);
    assert_eq!(titles(storage, &query("qx-77193", SearchMode::Keyword, 5)).await, ["part"]);
    // any word finds, all words come first
    assert_eq!(titles(storage, &query("whale heaviest eagles", SearchMode::Keyword, 5)).await.len(), 2);
    assert_eq!(titles(storage, &query("spiders and silk and eagles", SearchMode::Keyword, 5)).await[0], "spider");
    assert_eq!(titles(storage, &query("\"blue whale\"", SearchMode::Keyword, 5)).await, ["whale"]);
    assert!(titles(storage, &query("\"whale blue\"", SearchMode::Keyword, 5)).await.is_empty());
    assert!(titles(storage, &query("the of", SearchMode::Keyword, 5)).await.is_empty());
}

#[tokio::test]
async fn each_document_is_read_in_its_own_language() {
    let database = ready().await;
    let storage = &database.storage;
    animals(storage).await;
    let german = NewDocument { language: "german".into(), ..new_document("animals", "haus", json!({})) };
    let id = german.id;
    store(storage, german).await;
    storage.replace_chunks(id, 1, vec![chunk(0, "Die alten Häuser am Fluss", [0., 0.5, 0.5])]).await.unwrap();
    assert_eq!(titles(storage, &query("Haus", SearchMode::Keyword, 5)).await, ["haus"]);
    // The question's words have forms of that language as well.
    assert_eq!(titles(storage, &query("Häusern", SearchMode::Keyword, 5)).await, ["haus"]);
    assert_eq!(titles(storage, &query("eagles", SearchMode::Keyword, 5)).await, ["eagle"]);
}

#[tokio::test]
async fn hybrid_lets_what_both_know_rise() {
    let database = ready().await;
    let storage = &database.storage;
    animals(storage).await;
    let near_whale = vec![1., 0.2, 0.];
    assert_eq!(
        titles(storage, &query("nothing here", SearchMode::Hybrid(near_whale.clone()), 2)).await,
        ["whale", "spider"]
    );
    let hits = storage.search(&query("flange QX-77193", SearchMode::Hybrid(near_whale), 4)).await.unwrap();
    assert_eq!(hits[0].title.as_deref(), Some("part"));
    assert_eq!(hits.len(), 4);
    assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
}

#[tokio::test]
async fn filters_compare_values_and_types() {
    let database = ready().await;
    let storage = &database.storage;
    animals(storage).await;
    assert_eq!(titles(storage, &filtered(json!({"kind": "bird"}))).await, ["eagle"]);
    assert_eq!(titles(storage, &filtered(json!({"legs": 0}))).await, ["whale", "part"]);
    assert_eq!(titles(storage, &filtered(json!({"legs": 0, "kind": "part"}))).await, ["part"]);
    assert_eq!(titles(storage, &filtered(json!({"tags": ["sea"]}))).await, ["whale"]);
    for none in [json!({"legs": "0"}), json!({"nothing": "here"}), json!({"kind' OR 1=1 --": "x"})] {
        assert!(titles(storage, &filtered(none.clone())).await.is_empty(), "{none}");
    }
    // a list that holds it, whole numbers and fractions, texts by their letters, and what is not there
    for (filter, expected) in [
        (json!({"tags": "sea"}), vec!["whale"]),
        (json!({"tags": ["sea", "land"]}), vec![]),
        (json!({"legs": 2.0}), vec!["eagle"]),
        (json!({"legs": {"$gt": 0}}), vec!["spider", "eagle"]),
        (json!({"legs": {"$gte": 2, "$lt": 8}}), vec!["eagle"]),
        (json!({"legs": {"$lte": "2"}}), vec![]),
        (json!({"kind": {"$gte": "b", "$lt": "n"}}), vec!["whale", "eagle"]),
        (json!({"tags": {"$gte": "s"}}), vec!["whale"]),
        (json!({"kind": {"$in": ["part", "bird"]}}), vec!["eagle", "part"]),
        (json!({"kind": {"$nin": ["part", "bird"]}}), vec!["whale", "spider"]),
        (json!({"legs": {"$ne": 0}}), vec!["spider", "eagle"]),
        (json!({"tags": {"$ne": "sea"}, "legs": {"$eq": 0}}), vec!["part"]),
        (json!({"tags": {"$exists": true}}), vec!["whale"]),
        (json!({"tags": {"$exists": false}, "legs": 0}), vec!["part"]),
        (json!({"$or": [{"kind": "bird"}, {"legs": {"$gt": 7}}]}), vec!["spider", "eagle"]),
        (json!({"$and": [{"legs": 0}, {"$not": {"kind": "part"}}]}), vec!["whale"]),
        (json!({"a' || pg_sleep(9)": {"$gt": "' || 1"}}), vec![]),
    ] {
        assert_eq!(titles(storage, &filtered(filter.clone())).await, expected, "{filter}");
    }
    assert!(titles(storage, &filtered(json!({"a\0": 1}))).await.is_empty());
    assert!(titles(storage, &filtered(json!({"a\0": {"$exists": true}}))).await.is_empty());
    assert!(storage.search(&query("a\0b", SearchMode::Keyword, 5)).await.unwrap().is_empty());
    let nowhere = SearchQuery { collection: Some("\0".into()), ..filtered(json!({})) };
    assert!(titles(storage, &nowhere).await.is_empty());
}

#[tokio::test]
async fn snippets_mark_the_words_and_are_safe_to_show() {
    let database = ready().await;
    let storage = &database.storage;
    animals(storage).await;
    let new = new_document("animals", "long", json!({}));
    let id = new.id;
    store(storage, new).await;
    let filler = "Nothing of interest stands in this sentence. ".repeat(30);
    let text =
        format!("{filler} <script>alert(1)</script> <b>Lighthouses</b> \u{fdd1}guide\u{fdd2} ships & boats. {filler}");
    storage.replace_chunks(id, 1, vec![chunk(0, &text, [0.1, 0.1, 1.])]).await.unwrap();
    for mode in [SearchMode::Keyword, SearchMode::Vector(vec![0.1, 0.1, 1.]), SearchMode::Hybrid(vec![0.1, 0.1, 1.])] {
        let hit = storage.search(&query("what guides a ship", mode, 1)).await.unwrap().remove(0);
        assert_eq!(hit.title.as_deref(), Some("long"));
        assert!(hit.snippet.contains("<mark>guide</mark> <mark>ships</mark> &amp; boats"), "{}", hit.snippet);
        assert!(hit.snippet.contains("&lt;b&gt;Lighthouses&lt;/b&gt; "), "{}", hit.snippet);
        assert!(!hit.snippet.contains("<script") && hit.snippet.len() < 500, "{}", hit.snippet);
        assert!(hit.snippet.contains("alert(1)&lt;/script&gt;"), "what looks like a tag is text: {}", hit.snippet);
    }
    storage.replace_chunks(id, 1, vec![chunk(0, "A <b>ship</b> \u{fdd3}sails.", [0.1, 0.1, 1.])]).await.unwrap();
    let hit = storage.search(&query("ships", SearchMode::Keyword, 1)).await.unwrap().remove(0);
    assert_eq!(hit.snippet, "A &lt;b&gt;<mark>ship</mark>&lt;/b&gt; sails.");
    // without a word of the question, the passage's begin
    let hit = storage.search(&query("zzz", SearchMode::Vector(vec![1., 0.1, 0.]), 1)).await.unwrap().remove(0);
    assert_eq!(hit.snippet, "The blue whale is the heaviest animal.");
}

#[tokio::test]
async fn collections_are_apart() {
    let database = ready().await;
    let storage = &database.storage;
    animals(storage).await;
    for mode in [SearchMode::Keyword, SearchMode::Vector(vec![1., 0., 0.]), SearchMode::Hybrid(vec![1., 0., 0.])] {
        let elsewhere = SearchQuery { collection: Some("elsewhere".into()), ..query("whale", mode.clone(), 9) };
        assert!(titles(storage, &elsewhere).await.is_empty());
        let here = SearchQuery { collection: Some("animals".into()), ..query("whale", mode, 9) };
        assert_eq!(titles(storage, &here).await[0], "whale");
    }
}

#[tokio::test]
async fn syntax_in_a_question_is_only_text() {
    let database = ready().await;
    let storage = &database.storage;
    animals(storage).await;
    for text in [
        "'; DROP TABLE documents; --",
        "foo & | ! :* <-> ((",
        "\\",
        "\"unclosed",
        "%",
        "$1",
        ":*",
        "a' & 'b' | c",
        "x:y/z?a&b | c",
    ] {
        for mode in [SearchMode::Keyword, SearchMode::Hybrid(vec![1., 0., 0.])] {
            storage.search(&query(text, mode, 5)).await.unwrap_or_else(|error| panic!("{text:?}: {error:?}"));
        }
    }
    assert_eq!(titles(storage, &filtered(json!({}))).await.len(), 4);
}

/// The index is used, and goes on behind a filter that most of the nearest do not pass.
#[tokio::test]
async fn a_selective_filter_still_fills_the_answer() {
    use sea_orm::sqlx::{Connection, Executor, PgConnection};
    let database = ready().await;
    let storage = &database.storage;
    for (title, n, second) in [("near", 2_000, 0.), ("far", 30, 1.)] {
        let new = new_document("many", title, json!({"which": title}));
        let id = new.id;
        store(storage, new).await;
        let vector = |i: i32| [1., second + i as f32 / 100_000., 0.3];
        storage.replace_chunks(id, 1, (0..n).map(|i| chunk(i, "x", vector(i))).collect()).await.unwrap();
    }
    let mut other = PgConnection::connect(&database.url).await.unwrap();
    other.execute("ANALYZE").await.unwrap();
    // for the next connections of this database: only the index may be used
    other
        .execute(sea_orm::sqlx::AssertSqlSafe(format!(
            "ALTER DATABASE {} SET enable_seqscan = off; ALTER DATABASE {} SET enable_sort = off",
            database.url.rsplit('/').next().unwrap(),
            database.url.rsplit('/').next().unwrap()
        )))
        .await
        .unwrap();
    let fresh = Storage::connect(&database.url, 2).await.unwrap();
    let far = SearchQuery {
        collection: Some("many".into()),
        filter: filter_of(json!({"which": "far"})),
        ..query("", SearchMode::Vector(vec![1., 0., 0.3]), 20)
    };
    let hits = fresh.search(&far).await.unwrap();
    assert_eq!(hits.len(), 20);
    assert!(hits.iter().all(|hit| hit.title.as_deref() == Some("far")));
    fresh.close().await;
}
