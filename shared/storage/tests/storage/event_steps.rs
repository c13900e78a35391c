use petiole_storage::StepState;
use serde_json::json;
use uuid::Uuid;

use crate::database::{message, new_event, ready};

#[tokio::test]
async fn steps_keep_what_went_in_and_what_came_out() {
    let database = ready().await;
    let storage = &database.storage;
    let event = new_event();
    storage.create_event(event.clone(), message("m"), None).await.unwrap();
    let steps = ["a", "b", "c"].map(|name| (name.to_owned(), format!("steps.{name}")));
    storage.plan_event_steps(event.id, &steps).await.unwrap();
    // delivered twice
    storage.plan_event_steps(event.id, &steps).await.unwrap();
    assert_eq!(storage.begin_event_step(event.id, "a", "t1", json!({"x\0": 1})).await.unwrap(), None);
    storage.fail_event_step(event.id, "a", "busy", false).await.unwrap();
    assert_eq!(storage.begin_event_step(event.id, "a", "t1", json!({"x\0": 1})).await.unwrap(), None);
    storage.end_event_step(event.id, "a", json!("out\0")).await.unwrap();
    // what is done is not done again, and does not fail late
    assert_eq!(storage.begin_event_step(event.id, "a", "t2", json!(2)).await.unwrap(), Some(json!("out\0")));
    storage.fail_event_step(event.id, "a", "late", true).await.unwrap();
    storage.begin_event_step(event.id, "b", "t3", json!(null)).await.unwrap();
    storage.fail_event_step(event.id, "b", "broken", true).await.unwrap();
    storage.skip_event_steps(event.id, &["a".to_owned(), "c".to_owned()]).await.unwrap();
    let found = storage.event_steps(event.id).await.unwrap();
    let states: Vec<_> = found.iter().map(|step| (step.name.as_str(), step.state, step.attempts)).collect();
    assert_eq!(states, [("a", StepState::Succeeded, 2), ("b", StepState::Failed, 1), ("c", StepState::Skipped, 0)]);
    let first = &found[0];
    assert_eq!((first.task_id.as_deref(), first.error.as_deref()), (Some("t1"), None));
    assert_eq!((&first.input, &first.output), (&Some(json!({"x\0": 1})), &Some(json!("out\0"))));
    assert!(first.finished_at >= first.started_at && first.started_at.is_some());
    assert_eq!(found[1].error.as_deref(), Some("broken"));
    assert!(storage.begin_event_step(event.id, "unplanned", "t", json!(1)).await.is_err());
    assert!(storage.event_steps(Uuid::new_v4()).await.unwrap().is_empty());
}
