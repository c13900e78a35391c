use petiole_storage::{DocumentFilter, DocumentState, NewDocument, SearchMode, StorageError};
use serde_json::json;
use uuid::Uuid;

use crate::database::{message, new_document, new_event, ready};
use crate::search::{chunk, query};

#[tokio::test]
async fn a_document_is_cut_embedded_and_found() {
    let database = ready().await;
    let storage = &database.storage;
    let new = new_document("c", "whale", json!({"n": 1, "deep": {"x": null}}));
    storage.create_document(new.clone(), message("m")).await.unwrap();
    let document = storage.document(new.id).await.unwrap();
    assert_eq!((document.title, document.metadata), (new.title, serde_json::Value::Object(new.metadata)));
    assert_eq!((document.state, document.chunks, document.chunks_done), (DocumentState::Queued, 0, 0));
    assert_eq!(storage.document_text(new.id).await.unwrap().content, "The text of whale.");
    assert_eq!(storage.outbox_length().await.unwrap(), 1);

    storage.set_processing(new.id).await.unwrap();
    storage.set_progress(new.id, 1, 2).await.unwrap();
    let document = storage.document(new.id).await.unwrap();
    assert_eq!((document.state, document.chunks, document.chunks_done), (DocumentState::Processing, 2, 1));
    let chunks = vec![chunk(0, "The blue whale", [1., 0., 0.]), chunk(1, "lives in the sea", [0., 1., 0.])];
    storage.replace_chunks(new.id, chunks).await.unwrap();
    storage.mark_ready(new.id).await.unwrap();
    let document = storage.document(new.id).await.unwrap();
    assert_eq!((document.state, document.chunks, document.chunks_done), (DocumentState::Ready, 2, 2));
    assert!(document.updated_at > document.created_at);
}

#[tokio::test]
async fn another_ingest_replaces_the_passages() {
    let database = ready().await;
    let storage = &database.storage;
    let new = new_document("c", "t", json!({}));
    storage.create_document(new.clone(), message("m")).await.unwrap();
    // Vectors of their own: among hundreds of equal ones an HNSW graph does not reach every one.
    let vector = |i: i32| [1., i as f32 / 10_000., 0.];
    let many = |word: &str, n| (0..n).map(|i| chunk(i, &format!("{word} {i}"), vector(i))).collect::<Vec<_>>();
    // more than one INSERT holds
    storage.replace_chunks(new.id, many("first", 1_203)).await.unwrap();
    assert_eq!(storage.document(new.id).await.unwrap().chunks, 1_203);
    let (a, b) = tokio::join!(
        storage.replace_chunks(new.id, many("second", 2)),
        storage.replace_chunks(new.id, many("second", 2))
    );
    a.unwrap();
    b.unwrap();
    let hits = storage.search(&query("", SearchMode::Vector(vec![1., 0., 0.]), 100)).await.unwrap();
    let mut texts: Vec<_> = hits.iter().map(|hit| hit.text.as_str()).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["second 0", "second 1"]);

    let error = storage.replace_chunks(new.id, vec![chunk(0, "x", [0.; 2])]).await.unwrap_err();
    assert!(matches!(error, StorageError::Invalid { .. }), "{error:?}");
    assert_eq!(
        storage.search(&query("second", SearchMode::Keyword, 100)).await.unwrap().len(),
        2,
        "nothing was replaced"
    );
}

#[tokio::test]
async fn a_deleted_document_is_gone_with_its_passages() {
    let database = ready().await;
    let storage = &database.storage;
    let new = new_document("c", "t", json!({}));
    storage.create_document(new.clone(), message("m")).await.unwrap();
    storage.replace_chunks(new.id, vec![chunk(0, "flamingos", [1., 0., 0.])]).await.unwrap();
    storage.delete_document(new.id).await.unwrap();
    for mode in [SearchMode::Keyword, SearchMode::Vector(vec![1., 0., 0.]), SearchMode::Hybrid(vec![1., 0., 0.])] {
        assert!(storage.search(&query("flamingos", mode, 5)).await.unwrap().is_empty());
    }
    for error in [
        storage.document(new.id).await.unwrap_err(),
        storage.document_text(new.id).await.unwrap_err(),
        storage.delete_document(new.id).await.unwrap_err(),
        storage.set_processing(new.id).await.unwrap_err(),
        storage.replace_chunks(new.id, vec![]).await.unwrap_err(),
        storage.mark_failed(new.id, "x").await.unwrap_err(),
    ] {
        assert!(matches!(error, StorageError::NotFound { what: "document", .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_failed_document_says_why() {
    let database = ready().await;
    let new = new_document("c", "t", json!({}));
    database.storage.create_document(new.clone(), message("m")).await.unwrap();
    database.storage.mark_failed(new.id, "no text in it").await.unwrap();
    let document = database.storage.document(new.id).await.unwrap();
    assert_eq!((document.state, document.error.as_deref()), (DocumentState::Failed, Some("no text in it")));
}

#[tokio::test]
async fn an_unknown_language_is_named() {
    let database = ready().await;
    for language in ["klingon", "13244", "", "english'; --"] {
        let new = NewDocument { language: language.into(), ..new_document("c", "t", json!({})) };
        let error = database.storage.create_document(new, message("m")).await.unwrap_err();
        assert!(matches!(error, StorageError::Invalid { field: "language", .. }), "{error:?}");
    }
    assert_eq!(database.storage.outbox_length().await.unwrap(), 0);
}

#[tokio::test]
async fn one_event_makes_one_document() {
    let database = ready().await;
    let storage = &database.storage;
    let event = new_event();
    storage.create_event(event.clone(), message("m"), None).await.unwrap();
    let make = || storage.create_document_for_event(event.id, new_document("c", "t", json!({})), Some(message("m")));
    let (a, b) = tokio::join!(make(), make());
    let (a, b, c) = (a.unwrap(), b.unwrap(), make().await.unwrap());
    assert_eq!((a.id, b.id), (c.id, c.id));
    assert_eq!(storage.documents(&DocumentFilter::default(), None, 10).await.unwrap().items.len(), 1);
    assert_eq!(storage.outbox_length().await.unwrap(), 2);
}

#[tokio::test]
async fn the_list_is_paged_and_filtered() {
    let database = ready().await;
    let storage = &database.storage;
    let mut ids = Vec::<Uuid>::new();
    for n in 0..5 {
        let new = new_document(if n == 4 { "other" } else { "c" }, "t", json!({}));
        ids.insert(0, new.id);
        storage.create_document(new, message("m")).await.unwrap();
    }
    let filter = DocumentFilter { collection: Some("c".into()), state: Some(DocumentState::Queued) };
    let first = storage.documents(&filter, None, 2).await.unwrap();
    let second = storage.documents(&filter, first.next, 2).await.unwrap();
    assert!(second.next.is_none());
    let seen: Vec<_> = first.items.iter().chain(&second.items).map(|document| document.id).collect();
    assert_eq!(seen, ids[1..]);
    storage.mark_ready(ids[1]).await.unwrap();
    assert_eq!(storage.documents(&filter, None, 200).await.unwrap().items.len(), 3);
}
