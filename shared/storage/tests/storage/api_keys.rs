use chrono::{TimeDelta, Utc};
use petiole_storage::{NewApiKey, StorageError};
use uuid::Uuid;

use crate::database::ready;

fn new(name: &str) -> NewApiKey {
    NewApiKey {
        id: Uuid::now_v7(),
        name: name.into(),
        salt: vec![1, 0, 255],
        hash: vec![7; 32],
        scope: "write".into(),
        allowed_tasks: Some(vec!["demo.*".into()]),
        rate_limit: Some(60),
        daily_quota: None,
        expires_at: Some(Utc::now() + TimeDelta::hours(1)),
    }
}

#[tokio::test]
async fn a_key_is_stored_found_used_and_revoked() {
    let database = ready().await;
    let storage = &database.storage;
    let first = storage.create_api_key(new("one")).await.unwrap();
    let second = storage.create_api_key(new("two")).await.unwrap();
    assert_eq!(storage.api_key(first.id).await.unwrap().unwrap(), first);
    assert_eq!((first.salt.as_slice(), first.rate_limit, first.daily_quota), ([1, 0, 255].as_slice(), Some(60), None));
    assert_eq!(first.allowed_tasks.as_deref(), Some(["demo.*".to_owned()].as_slice()));
    let names: Vec<_> = storage.api_keys().await.unwrap().into_iter().map(|key| key.name).collect();
    assert_eq!(names, ["two", "one"]);
    storage.touch_api_key(second.id).await.unwrap();
    assert!(storage.api_key(second.id).await.unwrap().unwrap().last_used_at.is_some());
    assert!(first.is_valid(Utc::now()) && !first.is_valid(Utc::now() + TimeDelta::hours(2)));
    storage.revoke_api_key(first.id).await.unwrap();
    let revoked = storage.api_key(first.id).await.unwrap().unwrap();
    storage.revoke_api_key(first.id).await.unwrap();
    assert_eq!(storage.api_key(first.id).await.unwrap().unwrap().revoked_at, revoked.revoked_at);
    assert!(!revoked.is_valid(Utc::now()));
    let unknown = storage.revoke_api_key(Uuid::nil()).await.unwrap_err();
    assert!(matches!(unknown, StorageError::NotFound { what: "key", .. }));
    assert_eq!(storage.api_key(Uuid::nil()).await.unwrap(), None);
}
