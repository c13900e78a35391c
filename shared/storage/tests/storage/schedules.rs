use petiole_storage::{NewSchedule, ScheduleFilter, ScheduleRun, ScheduleTimes, StorageError};
use serde_json::json;
use uuid::Uuid;

use crate::database::ready;

fn new(name: &str) -> NewSchedule {
    NewSchedule {
        name: name.into(),
        task: "demo.add".into(),
        args: vec![json!(1), json!({"k\0": null})],
        kwargs: json!({"x": 2}).as_object().unwrap().clone(),
        options: json!({"queue": "slow"}).as_object().unwrap().clone(),
        times: ScheduleTimes::Interval { seconds: 30.0, relative: true },
        enabled: true,
    }
}

#[tokio::test]
async fn a_schedule_is_stored_changed_and_deleted() {
    let database = ready().await;
    let (storage, id) = (&database.storage, Uuid::now_v7());
    let stored = storage.create_schedule(id, new("a")).await.unwrap();
    assert_eq!((stored.id, stored.what.clone()), (id, new("a")));
    assert_eq!(storage.schedule(id).await.unwrap(), stored);

    // Another name and other arguments leave the times alone.
    let changed = storage
        .change_schedule(id, None, |what| Ok::<_, StorageError>(NewSchedule { name: "b".into(), args: vec![], ..what }))
        .await
        .unwrap();
    assert_eq!((changed.what.name.as_str(), changed.what.args.len()), ("b", 0));
    assert_eq!(changed.active_since, stored.active_since);
    assert!(changed.updated_at > stored.updated_at);

    let line = ScheduleTimes::Crontab { line: "0 4 * * *".into(), timezone: Some("Europe/Berlin".into()) };
    let times = line.clone();
    let other_times = storage
        .change_schedule(id, None, |what| Ok::<_, StorageError>(NewSchedule { times, enabled: false, ..what }))
        .await
        .unwrap();
    assert_eq!(other_times.what.times, line);
    assert!(other_times.active_since > stored.active_since);
    assert!(storage.enabled_schedules().await.unwrap().is_empty());
    let enabled = storage
        .change_schedule(id, None, |what| Ok::<_, StorageError>(NewSchedule { enabled: true, ..what }))
        .await
        .unwrap();
    assert!(enabled.active_since > other_times.active_since);

    storage.delete_schedule(id, None).await.unwrap();
    for error in [
        storage.schedule(id).await.unwrap_err(),
        storage.delete_schedule(id, None).await.unwrap_err(),
        storage.change_schedule(id, None, Ok::<_, StorageError>).await.unwrap_err(),
    ] {
        assert!(matches!(error, StorageError::NotFound { what: "schedule", .. }), "{error:?}");
    }
}

#[tokio::test]
async fn no_two_have_the_same_name() {
    let database = ready().await;
    let storage = &database.storage;
    storage.create_schedule(Uuid::now_v7(), new("a")).await.unwrap();
    let other = storage.create_schedule(Uuid::now_v7(), new("b")).await.unwrap();
    let renamed = storage
        .change_schedule(other.id, None, |what| Ok::<_, StorageError>(NewSchedule { name: "a".into(), ..what }))
        .await;
    for error in [storage.create_schedule(Uuid::now_v7(), new("a")).await.unwrap_err(), renamed.unwrap_err()] {
        assert!(matches!(&error, StorageError::Conflict(text) if text.contains("\"a\"")), "{error:?}");
    }
    assert_eq!(storage.schedule(other.id).await.unwrap().what.name, "b");
}

#[tokio::test]
async fn lists_are_filtered_and_paged_and_runs_are_no_change() {
    let database = ready().await;
    let storage = &database.storage;
    let mut ids = vec![];
    for (name, task, enabled) in [("a", "t.one", true), ("b", "t.two", true), ("c", "t.one", false)] {
        let schedule = NewSchedule { task: task.into(), enabled, ..new(name) };
        ids.push(storage.create_schedule(Uuid::now_v7(), schedule).await.unwrap().id);
    }
    let names = async |filter: ScheduleFilter| {
        let page = storage.schedules(&filter, None, 10).await.unwrap();
        page.items.into_iter().map(|one| one.what.name).collect::<String>()
    };
    assert_eq!(names(ScheduleFilter::default()).await, "cba");
    assert_eq!(names(ScheduleFilter { enabled: Some(true), task: None }).await, "ba");
    assert_eq!(names(ScheduleFilter { enabled: None, task: Some("t.one".into()) }).await, "ca");
    let first = storage.schedules(&ScheduleFilter::default(), None, 2).await.unwrap();
    let second = storage.schedules(&ScheduleFilter::default(), first.next, 2).await.unwrap();
    assert_eq!((first.items.len(), second.items[0].id, second.next), (2, ids[0], None));

    let before = storage.schedule(ids[0]).await.unwrap();
    let last_run_at = "2026-01-02T03:04:05.678901Z".parse().unwrap();
    let run = |id| ScheduleRun { id, last_run_at, total_run_count: 7, task_id: Some("t".into()) };
    storage.note_schedule_runs(&[run(ids[0]), run(Uuid::now_v7())]).await.unwrap();
    let after = storage.schedule(ids[0]).await.unwrap();
    assert_eq!(
        (after.last_run_at, after.total_run_count, after.last_task_id.as_deref()),
        (Some(last_run_at), 7, Some("t"))
    );
    assert_eq!(
        (after.what, after.updated_at, after.active_since),
        (before.what, before.updated_at, before.active_since)
    );
}
