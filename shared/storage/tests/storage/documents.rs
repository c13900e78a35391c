use petiole_storage::{
    CreatedDocument, DocumentFilter, DocumentState, NewDocument, OnDuplicate, Replaced, SearchMode, StorageError,
};
use serde_json::json;
use uuid::Uuid;

use crate::database::{message, new_document, new_event, ready, store};
use crate::search::{chunk, query};

#[tokio::test]
async fn a_document_is_cut_embedded_and_found() {
    let database = ready().await;
    let storage = &database.storage;
    let new = new_document("c", "whale", json!({"n": 1, "deep": {"x": null}}));
    store(storage, new.clone()).await;
    let document = storage.document(new.id).await.unwrap();
    assert_eq!((document.title, document.metadata), (new.title, serde_json::Value::Object(new.metadata)));
    assert_eq!((document.state, document.chunks, document.chunks_done), (DocumentState::Queued, 0, 0));
    assert_eq!(storage.document_text(new.id).await.unwrap().content, "The text of whale.");
    assert_eq!(storage.outbox_length().await.unwrap(), 1);

    storage.set_processing(new.id, 1).await.unwrap();
    storage.set_progress(new.id, 1, 1, 2).await.unwrap();
    let document = storage.document(new.id).await.unwrap();
    assert_eq!((document.state, document.chunks, document.chunks_done), (DocumentState::Processing, 2, 1));
    let chunks = vec![chunk(0, "The blue whale", [1., 0., 0.]), chunk(1, "lives in the sea", [0., 1., 0.])];
    storage.replace_chunks(new.id, 1, chunks).await.unwrap();
    let document = storage.document(new.id).await.unwrap();
    assert_eq!((document.state, document.chunks, document.chunks_done), (DocumentState::Ready, 2, 2));
    assert!(document.updated_at > document.created_at);
}

#[tokio::test]
async fn another_ingest_replaces_the_passages() {
    let database = ready().await;
    let storage = &database.storage;
    let new = new_document("c", "t", json!({}));
    store(storage, new.clone()).await;
    // Vectors of their own: among hundreds of equal ones an HNSW graph does not reach every one.
    let vector = |i: i32| [1., i as f32 / 10_000., 0.];
    let many = |word: &str, n| (0..n).map(|i| chunk(i, &format!("{word} {i}"), vector(i))).collect::<Vec<_>>();
    // more than one INSERT holds
    storage.replace_chunks(new.id, 1, many("first", 1_203)).await.unwrap();
    assert_eq!(storage.document(new.id).await.unwrap().chunks, 1_203);
    let (a, b) = tokio::join!(
        storage.replace_chunks(new.id, 1, many("second", 2)),
        storage.replace_chunks(new.id, 1, many("second", 2))
    );
    a.unwrap();
    b.unwrap();
    let hits = storage.search(&query("", SearchMode::Vector(vec![1., 0., 0.]), 100)).await.unwrap();
    let mut texts: Vec<_> = hits.iter().map(|hit| hit.text.as_str()).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["second 0", "second 1"]);

    let error = storage.replace_chunks(new.id, 1, vec![chunk(0, "x", [0.; 2])]).await.unwrap_err();
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
    store(storage, new.clone()).await;
    storage.replace_chunks(new.id, 1, vec![chunk(0, "flamingos", [1., 0., 0.])]).await.unwrap();
    storage.delete_document(new.id, None).await.unwrap();
    for mode in [SearchMode::Keyword, SearchMode::Vector(vec![1., 0., 0.]), SearchMode::Hybrid(vec![1., 0., 0.])] {
        assert!(storage.search(&query("flamingos", mode, 5)).await.unwrap().is_empty());
    }
    for error in [
        storage.document(new.id).await.unwrap_err(),
        storage.document_text(new.id).await.unwrap_err(),
        storage.delete_document(new.id, None).await.unwrap_err(),
        storage.set_processing(new.id, 1).await.unwrap_err(),
        storage.replace_chunks(new.id, 1, vec![]).await.unwrap_err(),
        storage.mark_failed(new.id, "x").await.unwrap_err(),
    ] {
        assert!(matches!(error, StorageError::NotFound { what: "document", .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_failed_document_says_why() {
    let database = ready().await;
    let new = new_document("c", "t", json!({}));
    store(&database.storage, new.clone()).await;
    database.storage.mark_failed(new.id, "no text in it").await.unwrap();
    let document = database.storage.document(new.id).await.unwrap();
    assert_eq!((document.state, document.error.as_deref()), (DocumentState::Failed, Some("no text in it")));
}

#[tokio::test]
async fn an_unknown_language_is_named() {
    let database = ready().await;
    for language in ["klingon", "13244", "", "english'; --"] {
        let new = NewDocument { language: language.into(), ..new_document("c", "t", json!({})) };
        let error = database.storage.create_document(new, message("m"), OnDuplicate::Store, None).await.unwrap_err();
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
        store(storage, new).await;
    }
    let filter =
        DocumentFilter { collection: Some("c".into()), state: Some(DocumentState::Queued), ..Default::default() };
    let first = storage.documents(&filter, None, 2).await.unwrap();
    let second = storage.documents(&filter, first.next, 2).await.unwrap();
    assert!(second.next.is_none());
    let seen: Vec<_> = first.items.iter().chain(&second.items).map(|document| document.id).collect();
    assert_eq!(seen, ids[1..]);
    storage.replace_chunks(ids[1], 1, vec![]).await.unwrap();
    assert_eq!(storage.documents(&filter, None, 200).await.unwrap().items.len(), 3);
}

/// Another content for a document.
fn again(new: &NewDocument, content: &str) -> NewDocument {
    NewDocument { content: content.into(), task_id: Uuid::new_v4().to_string(), ..new.clone() }
}

#[tokio::test]
async fn a_document_that_is_handed_in_again_is_found_as_it_was_until_the_new_passages_are_there() {
    let database = ready().await;
    let storage = &database.storage;
    let new = new_document("c", "t", json!({}));
    store(storage, new.clone()).await;
    storage.replace_chunks(new.id, 1, vec![chunk(0, "herons", [1., 0., 0.])]).await.unwrap();
    let found = async |word: &str| storage.search(&query(word, SearchMode::Keyword, 5)).await.unwrap().len();

    let second = NewDocument { title: Some("storks".into()), ..again(&new, "storks") };
    assert_eq!(storage.replace_document(second.clone(), message("m"), None).await.unwrap(), Replaced::Anew);
    let document = storage.document(new.id).await.unwrap();
    assert_eq!((document.state, document.revision, &document.task_id), (DocumentState::Queued, 2, &second.task_id));
    assert_eq!(storage.outbox_length().await.unwrap(), 2);
    storage.set_processing(new.id, 2).await.unwrap();
    assert_eq!((found("herons").await, found("storks").await), (1, 0));

    // work on the first content that is late changes nothing
    for late in [
        storage.set_processing(new.id, 1).await,
        storage.set_progress(new.id, 1, 1, 1).await,
        storage.set_text(new.id, 1, "herons").await,
        storage.replace_chunks(new.id, 1, vec![chunk(0, "herons again", [1., 0., 0.])]).await,
    ] {
        assert!(matches!(late, Err(StorageError::Conflict(_))), "{late:?}");
    }
    storage.replace_chunks(new.id, 2, vec![chunk(0, "storks", [0., 1., 0.])]).await.unwrap();
    assert_eq!((found("herons").await, found("storks").await), (0, 1));
    storage.mark_failed(new.id, "late").await.unwrap();
    assert_eq!(storage.document(new.id).await.unwrap().state, DocumentState::Ready);

    let unknown = NewDocument { id: Uuid::now_v7(), ..new };
    let error = storage.replace_document(unknown, message("m"), None).await.unwrap_err();
    assert!(matches!(error, StorageError::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn the_same_content_again_only_changes_what_is_written_on_it() {
    let database = ready().await;
    let storage = &database.storage;
    let new = new_document("c", "t", json!({"n": 1}));
    store(storage, new.clone()).await;
    storage.replace_chunks(new.id, 1, vec![chunk(0, "herons", [1., 0., 0.])]).await.unwrap();
    let moved = NewDocument { collection: "d".into(), metadata: Default::default(), ..again(&new, &new.content) };
    let Replaced::Unchanged(document) = storage.replace_document(moved.clone(), message("m"), None).await.unwrap()
    else {
        panic!("its content is the same")
    };
    assert_eq!((document.state, document.revision, document.metadata), (DocumentState::Ready, 1, json!({})));
    assert_eq!((document.task_id, storage.outbox_length().await.unwrap()), (new.task_id.clone(), 1));
    let there =
        petiole_storage::SearchQuery { collection: Some("d".into()), ..query("herons", SearchMode::Keyword, 5) };
    assert_eq!(storage.search(&there).await.unwrap().len(), 1);
    // in another language its words are others
    let german = NewDocument { language: "german".into(), ..moved };
    assert_eq!(storage.replace_document(german, message("m"), None).await.unwrap(), Replaced::Anew);
}

#[tokio::test]
async fn duplicates_are_known_by_their_content() {
    let database = ready().await;
    let storage = &database.storage;
    let new = new_document("c", "t", json!({}));
    store(storage, new.clone()).await;
    let twin = || NewDocument { id: Uuid::now_v7(), title: Some("other".into()), ..new.clone() };
    let create = async |new, on_duplicate| storage.create_document(new, message("m"), on_duplicate, None).await;
    let CreatedDocument::Existing(found) = create(twin(), OnDuplicate::Existing).await.unwrap() else {
        panic!("it is there")
    };
    assert_eq!(found.id, new.id);
    let error = create(twin(), OnDuplicate::Refuse).await.unwrap_err();
    assert!(matches!(&error, StorageError::Conflict(why) if why.contains(&new.id.to_string())), "{error:?}");
    // elsewhere it is none, and one that failed is none either
    let elsewhere = NewDocument { collection: "d".into(), ..twin() };
    assert_eq!(create(elsewhere, OnDuplicate::Refuse).await.unwrap(), CreatedDocument::New);
    storage.mark_failed(new.id, "x").await.unwrap();
    let (a, b) = tokio::join!(create(twin(), OnDuplicate::Existing), create(twin(), OnDuplicate::Existing));
    let stored = [a.unwrap(), b.unwrap()].into_iter().filter(|created| *created == CreatedDocument::New).count();
    assert_eq!(stored, 1, "two that come at once are stored once");
    let filter = DocumentFilter { content_hash: Some(found.content_hash.clone()), ..DocumentFilter::default() };
    assert_eq!(storage.documents(&filter, None, 10).await.unwrap().items.len(), 3);
}
