use petiole_storage::{EmbeddingModel, StorageError};
use serde_json::json;

use crate::database::{empty, model, new_document, ready, store};

#[tokio::test]
async fn two_programs_migrate_at_once() {
    let database = empty().await;
    let storage = &database.storage;
    let (a, b, c) = tokio::join!(storage.migrate(), storage.migrate(), storage.migrate());
    a.unwrap();
    b.unwrap();
    c.unwrap();
    assert!(storage.schema_is_current().await.unwrap());
    let model = model();
    let (a, b) = tokio::join!(storage.use_embedding_model(&model), storage.use_embedding_model(&model));
    a.unwrap();
    b.unwrap();
    storage.use_embedding_model(&model).await.unwrap();
    assert_eq!(storage.embedding_model().await.unwrap(), Some(model));
}

#[tokio::test]
async fn an_empty_database_is_not_current() {
    let database = empty().await;
    assert!(!database.storage.schema_is_current().await.unwrap());
    // To ask changes nothing: who migrates at that moment would find a table that was not there.
    database.execute("CREATE TABLE seaql_migrations ()").await;
}

#[tokio::test]
async fn a_newer_schema_will_do_and_an_older_one_will_not() {
    let database = ready().await;
    let storage = &database.storage;
    let latest = "(SELECT max(version) FROM seaql_migrations)";
    database.execute("INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_of_a_later_version', 0)").await;
    assert!(storage.schema_is_current().await.unwrap());
    // A program of the version before starts while the schema is newer.
    storage.migrate().await.unwrap();
    database.execute(&format!("DELETE FROM seaql_migrations WHERE version = {latest}")).await;
    assert!(storage.schema_is_current().await.unwrap());
    database.execute(&format!("DELETE FROM seaql_migrations WHERE version = {latest}")).await;
    assert!(!storage.schema_is_current().await.unwrap());
}

#[tokio::test]
async fn another_model_is_refused_while_there_are_vectors_of_the_first() {
    let database = ready().await;
    let storage = &database.storage;
    let other = EmbeddingModel { name: "other".into(), dimensions: 4 };
    // no vectors yet: either model will do
    storage.use_embedding_model(&other).await.unwrap();
    storage.use_embedding_model(&model()).await.unwrap();

    let document = new_document("c", "t", json!({}));
    let id = document.id;
    store(storage, document).await;
    storage.replace_chunks(id, 1, vec![crate::search::chunk(0, "text", [1., 0., 0.])]).await.unwrap();
    let error = storage.use_embedding_model(&other).await.unwrap_err();
    let StorageError::EmbeddingModel { stored, configured } = error else { panic!("{error}") };
    assert_eq!((stored, configured), (model(), other));
    storage.use_embedding_model(&model()).await.unwrap();

    let huge = EmbeddingModel { name: "huge".into(), dimensions: 3072 };
    assert!(matches!(storage.use_embedding_model(&huge).await, Err(StorageError::Invalid { .. })));
}
