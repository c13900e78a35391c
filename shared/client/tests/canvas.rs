//! What a canvas becomes, beside what Celery 5.7 was seen to send for the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use chrono::Utc;
use petiole_client::{Map, Plan, Planner, Signature, Step};
use petiole_protocol::{Chain, Envelope, TaskMessage};
use serde_json::{Value, json};

fn planner() -> Planner<'static> {
    Planner {
        default_queue: "wire",
        now: Utc::now(),
        root_id: None,
        parent_id: None,
        priority: None,
        defaults: &|_| None,
    }
}

fn plan(signature: Signature, prefix: &[Value]) -> Plan {
    planner().plan(signature, prefix, Map::new()).unwrap()
}

fn add(args: Value) -> Signature {
    Signature::new("wt.add", args.as_array().unwrap().clone())
}

fn sent(plan: &Plan) -> Vec<&TaskMessage> {
    plan.steps
        .iter()
        .filter_map(|step| match step {
            Step::Send { message, .. } => Some(message.as_ref()),
            _ => None,
        })
        .collect()
}

/// The messages that Celery sent, in the order of their places in the group.
fn captured(name: &str) -> Vec<TaskMessage> {
    let path = format!("{}/../protocol/tests/data/wire-samples/messages/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let sample: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let captures = sample.as_array().cloned().unwrap_or_else(|| vec![sample]);
    let read = |capture: &Value| {
        let envelope = Envelope::parse(capture["envelope"].to_string().as_bytes()).unwrap();
        TaskMessage::decode(&envelope, &["json".into()]).unwrap()
    };
    let mut messages: Vec<_> = captures.iter().map(read).collect();
    messages.sort_by_key(|message| message.group_index);
    messages
}

/// A signature with ids, and what the capturing client added, made alike.
fn shape(signature: &Signature) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(map) => {
                for noise in ["reply_to", "queue", "root_id", "parent_id"] {
                    map.shift_remove(noise);
                }
                for id in ["task_id", "group_id"] {
                    if map.get(id).is_some_and(Value::is_string) {
                        map.insert(id.into(), "ID".into());
                    }
                }
                map.values_mut().for_each(walk);
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            _ => {}
        }
    }
    let mut value = json!(signature);
    walk(&mut value);
    value
}

/// The rest of a message's chain, reversed.
fn rest(message: &TaskMessage) -> Vec<Signature> {
    message.embed.chain.signatures().unwrap()
}

#[test]
fn the_next_step_hands_the_rest_on_as_a_plan_of_all_would() {
    let steps = [add(json!([3])), Signature::group(&[add(json!([4])), add(json!([5]))])];
    for next in [add(json!([2])), Signature::chain(&[add(json!([2])), add(json!([6]))])] {
        let next = next.set("task_id", "next");
        let (plain, all) = (Chain::from(steps.as_slice()), Map::from_iter([("chain".to_owned(), json!(steps))]));
        let planner = planner();
        let (ours, theirs) = (
            planner.plan_next(next.clone(), &[json!(1)], plain).unwrap(),
            planner.plan(next, &[json!(1)], all).unwrap(),
        );
        let (ours, theirs) = (sent(&ours), sent(&theirs));
        assert_eq!((ours.len(), &ours[0].args, ours[0].embed.in_chain), (1, &theirs[0].args, true));
        assert_eq!(rest(ours[0]).len(), rest(theirs[0]).len());
        assert_eq!(rest(ours[0])[..2], steps);
    }
}

#[test]
fn a_chain_travels_reversed_behind_its_first_step() {
    let chain = Signature::chain(&[add(json!([1, 2])), add(json!([3])), add(json!([4]))]);
    let plan = plan(chain, &[]);
    let (ours, theirs) = (sent(&plan)[0], &captured("chain_of_3")[0]);
    let (our_rest, their_rest) = (rest(ours), rest(theirs));
    assert_eq!((our_rest.len(), plan.steps.len()), (2, 1));
    for (ours, theirs) in our_rest.iter().zip(&their_rest) {
        assert_eq!((ours.task.as_str(), ours.args.len()), (theirs.task.as_str(), theirs.args.len()));
        assert!(ours.option_text("task_id").is_some() && theirs.option_text("task_id").is_some());
    }
    // The caller waits for the last step, whose parents are the steps before.
    assert_eq!(plan.handle.id, our_rest[0].option_text("task_id").unwrap());
    let second = plan.handle.parent.as_ref().unwrap();
    assert_eq!(second.parent.as_ref().unwrap().id, ours.id);
}

#[test]
fn members_of_a_chord_carry_its_body_and_the_size_comes_before_the_last() {
    let chord = Signature::chord(&[add(json!([1, 1])), add(json!([2, 2]))], &Signature::new("wt.tsum", vec![]));
    let plan = plan(chord, &[]);
    let theirs = captured("chord_header_members");
    let ours = sent(&plan);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!((ours.group_index, &ours.args), (theirs.group_index, &theirs.args));
        let (our_body, their_body) = (ours.embed.chord.as_ref().unwrap(), theirs.embed.chord.as_ref().unwrap());
        assert_eq!(shape(our_body), shape(their_body));
        assert_eq!(our_body.option_text("group_id"), ours.group.as_deref());
        assert_eq!(our_body.option_text("task_id"), Some(plan.handle.id.as_str()));
    }
    let kinds: Vec<_> = plan.steps.iter().map(|step| matches!(step, Step::ChordSize { size: 2, .. })).collect();
    assert_eq!(kinds, [false, true, false]);
}

#[test]
fn a_group_behind_a_group_is_a_chord_with_a_group_as_body() {
    let first = Signature::group(&[add(json!([1, 1])), add(json!([2, 2]))]);
    let second = Signature::group(&[add(json!([3, 3])), add(json!([4, 4]))]);
    let plan = plan(Signature::chain(&[first, second]), &[]);
    let theirs = captured("group_chained_with_group");
    for (ours, theirs) in sent(&plan).iter().zip(&theirs) {
        assert_eq!(shape(ours.embed.chord.as_ref().unwrap()), shape(theirs.embed.chord.as_ref().unwrap()));
    }
}

#[test]
fn a_group_in_the_middle_of_a_chain_becomes_a_chord_with_the_next_step() {
    let middle = Signature::group(&[add(json!([1])), add(json!([2]))]);
    let plan =
        plan(Signature::chain(&[add(json!([1, 2])), middle, Signature::new("wt.tsum", vec![]), add(json!([5]))]), &[]);
    let first = sent(&plan)[0];
    let rest = rest(first);
    assert_eq!((rest[1].subtask_type.as_deref(), rest.len()), (Some("chord"), 2));
    assert_eq!(plan.handle.id, rest[0].option_text("task_id").unwrap());
}

#[test]
fn a_body_keeps_the_id_it_was_given() {
    // As Celery sends a chord within a chain: the chord bears the id of its group, the body its own.
    let body = Signature::new("wt.tsum", vec![]).set("task_id", "of the body");
    let header = [add(json!([1])), add(json!([2]))];
    let plan = plan(Signature::chord(&header, &body).set("task_id", "of the group"), &[json!(1)]);
    assert_eq!(plan.handle.id, "of the body");
    assert!(
        sent(&plan)
            .iter()
            .all(|message| message.embed.chord.as_ref().unwrap().option_text("task_id") == Some("of the body"))
    );
}

#[test]
fn nested_headers_are_counted_and_their_structure_is_saved() {
    let inner = Signature::chain(&[add(json!([1])), Signature::group(&[add(json!([1])), add(json!([2]))])]);
    let chord = Signature::chord(&[add(json!([1, 1])), inner], &Signature::new("wt.tsum", vec![]));
    let plan = plan(chord, &[]);
    assert!(matches!(&plan.steps[0], Step::SaveGroup { tuple, .. } if tuple[1].as_array().unwrap().len() == 2));
    assert!(plan.steps.iter().any(|step| matches!(step, Step::ChordSize { size: 3, .. })));
    // The members of the inner group report to the outer chord, with the outer group's id.
    let last = rest(sent(&plan)[1]).remove(0);
    let members: Vec<Signature> = serde_json::from_value(last.kwargs["tasks"].clone()).unwrap();
    assert!(members.iter().all(|member| member.options["chord"].is_object()));
    assert_eq!(members[0].option_text("group_id"), sent(&plan)[0].group.as_deref());
}

#[test]
fn immutable_signatures_take_no_prefix_and_an_empty_header_sends_its_body() {
    let plain = plan(add(json!([1])), &[json!(7)]);
    assert_eq!(sent(&plain)[0].args, [json!(7), json!(1)]);
    let immutable = plan(add(json!([1, 2])).immutable(), &[json!(7)]);
    assert_eq!(sent(&immutable)[0].args, [json!(1), json!(2)]);
    let empty = plan(Signature::chord(&[], &Signature::new("wt.tsum", vec![])), &[]);
    assert_eq!(sent(&empty)[0].args, [json!([])]);
    let planner = Planner {
        default_queue: "q",
        now: Utc::now(),
        root_id: None,
        parent_id: None,
        priority: None,
        defaults: &|_| None,
    };
    assert!(planner.plan(Signature::chain(&[]), &[], Map::new()).is_err());
}

#[test]
fn options_become_headers_and_properties() {
    let task = add(json!([1, 2]))
        .set("queue", "other")
        .set("priority", 5)
        .set("countdown", 10)
        .set("expires", 60)
        .set("time_limit", 9)
        .set("shadow", "alias")
        .set("app_id", "mine")
        .set("stamped_headers", json!(["tenant"]))
        .set("tenant", "t1");
    let plan = plan(task, &[]);
    let Step::Send { message, queue } = &plan.steps[0] else { panic!() };
    assert_eq!((queue.as_str(), message.properties.priority, message.shadow.as_deref()), ("other", 5, Some("alias")));
    assert!(message.eta.is_some() && message.expires.is_some() && message.timelimit.hard == Some(9.0));
    assert_eq!((&message.stamps["tenant"], &message.properties.other["app_id"]), (&json!("t1"), &json!("mine")));
    assert!(message.properties.other.contains_key("expiration") && !message.properties.other.contains_key("tenant"));
    assert_eq!(message.root_id.as_deref(), Some(message.id.as_str()));
}
