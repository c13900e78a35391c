//! Tasks that give or take signatures as values.

use petiole_engine::task::{TaskOptions, function};
use petiole_engine::{AppBuilder, Fault};
use petiole_protocol::Signature;
use petiole_protocol::signature::Canvas;
use serde_json::{Value, json};

use crate::arguments::Call;
use crate::name;

fn add() -> Signature {
    Signature::new(name("add"), vec![])
}

fn chord(header: Signature) -> Signature {
    let mut chord = Signature::chord(&[], &add());
    chord.kwargs.insert("header".into(), json!([header]));
    chord
}

/// An outer canvas that holds an inner one that holds `add`.
fn nested(outer: &str, inner: &str) -> Signature {
    let inside = match inner {
        "chain" => Signature::chain(&[add()]),
        "group" => Signature::group(&[add()]),
        _ => chord(add()),
    };
    match (outer, inner) {
        ("chain", _) => Signature::chain(&[inside]),
        ("group", "group") => inside,
        ("group", _) => Signature::group(&[inside]),
        (_, "chord") => chord(inside),
        _ => chord(add()),
    }
}

/// Every element must be recognisable as a signature.
fn walk(value: &Value) -> Result<(), Fault> {
    let signature: Signature =
        serde_json::from_value(value.clone()).map_err(|error| Fault::type_error(format!("no signature: {error}")))?;
    match signature.canvas().map_err(|error| Fault::type_error(error.to_string()))? {
        Canvas::Task => Ok(()),
        Canvas::Chain(tasks) | Canvas::Group(tasks) => tasks.iter().try_for_each(|task| walk(&json!(task))),
        Canvas::Chord { header, body, .. } => {
            header.iter().try_for_each(|task| walk(&json!(task)))?;
            walk(&json!(body))
        }
    }
}

pub(crate) fn add_to(app: AppBuilder) -> AppBuilder {
    let kinds = ["chain", "group", "chord"];
    let pairs = kinds.iter().flat_map(|outer| kinds.iter().map(move |inner| (*outer, *inner)));
    let app = pairs.fold(app, |app, (outer, inner)| {
        let task = name(&format!("return_nested_signature_{outer}_{inner}"));
        app.register(function(task, TaskOptions::default(), Some(0), async move |_, _, _| {
            Ok(json!(nested(outer, inner)))
        }))
    });
    app.register(function(name("rebuild_signature"), TaskOptions::default(), Some(1), async |args, kwargs, _| {
        walk(&Call::bind(&["sig_dict"], 1, args, kwargs)?.get("sig_dict"))?;
        Ok(Value::Null)
    }))
}
