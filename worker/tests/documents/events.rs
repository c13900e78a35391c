//! Events reach their handlers, and their outcomes are stored.

use async_trait::async_trait;
use petiole_storage::{DocumentFilter, DocumentState, Event, EventState, StepState};
use petiole_worker::Services;
use petiole_worker::events::{EventError, EventHandler, HandlerError, Processed, Registry, process_incoming_event};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::database::{World, world};

async fn process(world: &World, id: Uuid) -> Result<Value, EventError> {
    process_incoming_event(&world.services, &Registry::shipped(), id).await.map(output)
}

pub(crate) fn output(processed: Processed) -> Value {
    match processed {
        Processed::Done(output) => output,
        Processed::Workflow(canvas) => panic!("it is no workflow: {canvas:?}"),
    }
}

#[tokio::test]
async fn document_ingest_makes_one_document_and_says_which() {
    let world = world().await;
    let data = json!({
        "text": "Goats climb the cliff in spring.", "title": "goats", "metadata": {"year": 1815},
        "collection": "animals",
    });
    let id = world.event("document.ingest", data).await;
    let output = process(&world, id).await.unwrap();
    let event = world.storage().event(id).await.unwrap();
    assert_eq!((event.state, event.output, event.error), (EventState::Succeeded, Some(output.clone()), None));
    assert_eq!(output["chunks"], 1);
    let document = world.storage().document(output["document_id"].as_str().unwrap().parse().unwrap()).await.unwrap();
    assert_eq!(document.state, DocumentState::Ready);
    assert_eq!((document.title.as_deref(), document.collection.as_str()), (Some("goats"), "animals"));
    assert_eq!(document.metadata, json!({"year": 1815}));
    assert_eq!(document.task_id, event.task_id);
    assert!(world.found("mountain animals").await[0].contains("Goats"));

    // Delivered again: the same output, no second document.
    assert_eq!(process(&world, id).await.unwrap(), output);
    let documents = world.storage().documents(&DocumentFilter::default(), None, 10).await.unwrap();
    assert_eq!(documents.items.len(), 1);
}

#[tokio::test]
async fn deliveries_at_the_same_time_make_one_document() {
    let world = world().await;
    let id = world.event("document.ingest", json!({"text": "One text, many deliveries."})).await;
    let runs = (0..4).map(|_| {
        let services = world.services.clone();
        tokio::spawn(async move { process_incoming_event(&services, &Registry::shipped(), id).await.map(output) })
    });
    let mut outputs = Vec::new();
    for run in runs.collect::<Vec<_>>() {
        outputs.push(run.await.unwrap().unwrap());
    }
    assert!(outputs.iter().all(|output| *output == outputs[0]), "{outputs:?}");
    assert_eq!(world.storage().event(id).await.unwrap().state, EventState::Succeeded);
    let documents = world.storage().documents(&DocumentFilter::default(), None, 10).await.unwrap();
    assert_eq!(documents.items.len(), 1);
    assert_eq!(world.found("anything").await.len(), 1);
}

#[tokio::test]
async fn what_cannot_be_done_fails_with_its_reason() {
    let world = world().await;
    for (kind, data, says) in [
        (
            "no.such.type",
            json!({}),
            "unknown event type \"no.such.type\"; known types are: document.ingest, question.answer",
        ),
        ("document.ingest", json!({"title": "no text"}), "missing field `text`"),
        ("document.ingest", json!({"text": "  "}), "text: must not be empty"),
        ("document.ingest", json!({"text": "x", "colour": "red"}), "unknown field `colour`"),
        ("document.ingest", json!({"text": "x", "language": "klingon"}), "klingon"),
    ] {
        let id = world.event(kind, data).await;
        let error = process(&world, id).await.unwrap_err();
        assert!(matches!(&error, EventError::Failed(reason) if reason.contains(says)), "{says} not in {error}");
        let event = world.storage().event(id).await.unwrap();
        assert_eq!((event.state, event.output), (EventState::Failed, None));
        assert!(event.error.unwrap().contains(says));
        // Delivered again: the same outcome.
        assert!(matches!(process(&world, id).await.unwrap_err(), EventError::Failed(reason) if reason.contains(says)));
    }
}

#[tokio::test]
async fn an_event_that_is_not_there_is_an_error_that_stays() {
    let world = world().await;
    let error = process(&world, Uuid::now_v7()).await.unwrap_err();
    assert!(matches!(error, EventError::NotFound(_)) && !error.is_transient());
}

struct Double;

#[async_trait]
impl EventHandler for Double {
    const TYPE: &'static str = "number.double";
    type Data = u64;
    type Output = u64;

    async fn handle(&self, _: &Services, _: &Event, data: u64) -> Result<u64, HandlerError> {
        Ok(data * 2)
    }
}

#[tokio::test]
async fn a_type_of_ones_own_is_one_line() {
    let world = world().await;
    let registry = Registry::shipped().with(Double);
    let types: Vec<_> = registry.types().collect();
    let expected = [
        "document.ingest",
        "number.double",
        "question.answer",
        "text.classify",
        "text.digest",
        "text.extract",
        "text.summarize",
    ];
    assert_eq!(types, expected);
    let id = world.event("number.double", json!(21)).await;
    assert_eq!(output(process_incoming_event(&world.services, &registry, id).await.unwrap()), json!(42));
    assert_eq!(world.storage().event(id).await.unwrap().output, Some(json!(42)));
}

#[tokio::test]
async fn a_workflow_begins_with_its_plan_and_a_canvas() {
    let world = world().await;
    let id = world.event("text.digest", json!({"text": "Pay 5 EUR."})).await;
    let begun = process_incoming_event(&world.services, &Registry::shipped(), id).await.unwrap();
    let Processed::Workflow(canvas) = begun else { panic!("it is a workflow: {begun:?}") };
    assert_eq!(canvas.task, "celery.chain");
    let steps = world.storage().event_steps(id).await.unwrap();
    let names: Vec<_> = steps.iter().map(|step| (step.name.as_str(), step.task.as_str())).collect();
    let expected = [
        ("load", "steps.load"),
        ("by_length", "workflows.route"),
        ("summarize", "steps.summarize"),
        ("reduce", "steps.reduce"),
        ("summarize_reduced", "steps.summarize"),
        ("extract", "steps.extract"),
        ("classify", "steps.classify"),
        ("join", "steps.join"),
    ];
    assert_eq!(names, expected);
    assert!(steps.iter().all(|step| step.state == StepState::Pending && step.task_id.is_none()));
}
