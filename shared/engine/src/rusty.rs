//! The door for `#[celery::task]` functions of the crate `celery`.
//!
//! A task of that crate is run as it is: its request is built from our message, its `run` is called, and how it ends is
//! told in Celery's words. What its own worker would do differently:
//!
//! | there | here |
//! |---|---|
//! | an error retries for ever unless `max_retries` says otherwise | an error fails the task, as in Celery; with `max_retries` it is retried so often, with the task's own back-off |
//! | `retry_with_countdown`, `retry_with_eta` | RETRY, at most `max_retries` times (Celery's default: 3) |
//! | surplus arguments are dropped | `TypeError`, as in Python |

use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use celery::broker::{Broker, Delivery, DeliveryStream};
use celery::error::{BrokerError, TaskError};
use celery::protocol::{Message, MessageHeaders, MessageProperties};
use celery::task::{Request, Task as RustyTask};
use celery::{Celery, CeleryBuilder};
use chrono::Utc;
use petiole_client::{Client, Plan, Step};
use petiole_protocol::{Embed, Map, TaskException, TaskMessage, TimeLimits, serializer, time};
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::context::Context;
use crate::task::{Fault, Retry, RetryAt, Task, TaskOptions};

/// The `Celery` app that tasks see as `task.request().app`; set when the worker starts.
pub(crate) type SharedApp = Arc<OnceLock<Arc<Celery>>>;

/// A task of the crate `celery`, as the engine runs it.
pub(crate) struct Rusty<T> {
    app: SharedApp,
    task: PhantomData<fn() -> T>,
}

impl<T> Rusty<T> {
    pub(crate) fn new(app: SharedApp) -> Self {
        Self { app, task: PhantomData }
    }
}

#[async_trait]
impl<T> Task for Rusty<T>
where
    T: RustyTask + 'static,
    T::Returns: Serialize,
{
    fn name(&self) -> &str {
        T::NAME
    }

    fn options(&self) -> TaskOptions {
        TaskOptions {
            acks_late: T::DEFAULTS.acks_late,
            max_retries: T::DEFAULTS.max_retries.map(Some),
            soft_time_limit: T::DEFAULTS.time_limit.map(f64::from),
            time_limit: T::DEFAULTS.hard_time_limit.map(f64::from),
            ..TaskOptions::default()
        }
    }

    fn arity(&self) -> Option<usize> {
        Some(T::ARGS.len())
    }

    async fn run(&self, args: Vec<Value>, kwargs: Map, context: Context) -> Result<Value, Fault> {
        let app = self.app.get().cloned().ok_or_else(|| {
            Fault::exception(TaskException::builtin("RuntimeError", "the worker has not started yet"))
        })?;
        let params: T::Params = bind(T::NAME, T::ARGS, args, kwargs)?;
        let message = rusty_message(context.message());
        let task = T::from_request(Request::new(app, message, params.clone()), T::DEFAULTS);
        match task.run(params).await {
            Ok(value) => {
                task.on_success(&value).await;
                serde_json::to_value(value).map_err(|error| {
                    TaskException::new("kombu.exceptions", "EncodeError", vec![error.to_string().into()]).into()
                })
            }
            Err(error) => {
                task.on_failure(&error).await;
                Err(fault(&task, error, &context))
            }
        }
    }
}

/// Puts positional arguments to their names, as a call in Python would, and reads the task's parameters.
fn bind<P: serde::de::DeserializeOwned>(
    task: &str,
    names: &[&str],
    args: Vec<Value>,
    mut kwargs: Map,
) -> Result<P, Fault> {
    let function = task.rsplit('.').next().unwrap_or(task);
    if args.len() > names.len() {
        let plural = if names.len() == 1 { "" } else { "s" };
        let were = if args.len() == 1 { "was" } else { "were" };
        return Err(Fault::type_error(format!(
            "{function}() takes {} positional argument{plural} but {} {were} given",
            names.len(),
            args.len()
        )));
    }
    if let Some(unknown) = kwargs.keys().find(|name| !names.contains(&name.as_str())) {
        return Err(Fault::type_error(format!("{function}() got an unexpected keyword argument '{unknown}'")));
    }
    for (name, value) in names.iter().zip(args) {
        if kwargs.insert((*name).to_owned(), value).is_some() {
            return Err(Fault::type_error(format!("{function}() got multiple values for argument '{name}'")));
        }
    }
    serde_json::from_value(Value::Object(kwargs)).map_err(|error| {
        let text = error.to_string();
        match text.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
            Some(name) => Fault::type_error(format!("{function}() missing 1 required positional argument: '{name}'")),
            None => Fault::type_error(format!("{function}(): {text}")),
        }
    })
}

fn fault<T: RustyTask>(task: &T, error: TaskError, context: &Context) -> Fault {
    let otherwise = match &error {
        TaskError::ExpectedError(text) => TaskException::builtin("Exception", text),
        TaskError::UnexpectedError(text) => TaskException::builtin("RuntimeError", text),
        TaskError::TimeoutError => TaskException::builtin("TimeoutError", "task timed out"),
        TaskError::Retry(_) => TaskException::builtin("Exception", "retry"),
    };
    let asked = matches!(error, TaskError::Retry(_));
    let failure = context.take_raised(otherwise);
    let retries = match &error {
        TaskError::UnexpectedError(_) => task.retry_for_unexpected() && task.max_retries().is_some_and(|max| max > 0),
        TaskError::Retry(_) => true,
        _ => task.max_retries().is_some_and(|max| max > 0),
    };
    if !retries {
        return Fault::Error(failure);
    }
    let when = match error {
        TaskError::Retry(Some(eta)) => Some(RetryAt::At(eta)),
        _ => task.retry_eta().map(RetryAt::At),
    };
    Fault::Retry(Box::new(Retry { exception: (!asked).then_some(failure), when, ..Retry::default() }))
}

/// Our message as the crate's own: what `task.request()` shows.
fn rusty_message(message: &TaskMessage) -> Message {
    let seconds = |limit: Option<f64>| limit.map(|limit| limit.ceil() as u32);
    Message {
        properties: MessageProperties {
            correlation_id: message.properties.correlation_id.clone().unwrap_or_else(|| message.id.clone()),
            content_type: serializer::JSON.to_owned(),
            content_encoding: "utf-8".to_owned(),
            reply_to: message.properties.reply_to.clone(),
        },
        headers: MessageHeaders {
            id: message.id.clone(),
            task: message.task.clone(),
            lang: Some("py".to_owned()),
            root_id: message.root_id.clone(),
            parent_id: message.parent_id.clone(),
            group: message.group.clone(),
            meth: None,
            shadow: message.shadow.clone(),
            eta: message.eta.as_deref().and_then(time::parse),
            expires: message.expires.as_deref().and_then(time::parse),
            retries: Some(message.retries),
            timelimit: (seconds(message.timelimit.hard), seconds(message.timelimit.soft)),
            argsrepr: message.argsrepr.clone(),
            kwargsrepr: message.kwargsrepr.clone(),
            origin: message.origin.clone(),
        },
        raw_body: Vec::new(),
    }
}

/// An app of the crate whose `send_task` goes through our client. Building one insists on a connection by the crate's own
/// Redis client: a listener on loopback, for as long as the building takes, gives it one.
pub(crate) async fn app(name: &str, queue: &str, client: Client) -> std::io::Result<Arc<Celery>> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("redis://{}", listener.local_addr()?);
    let accept = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            held.push(connection);
        }
    });
    let built = CeleryBuilder::new(name, &url).default_queue(queue).build().await;
    accept.abort();
    let mut app = built.map_err(std::io::Error::other)?;
    app.broker = Box::new(ClientBroker { client, url: "redis".to_owned() });
    Ok(Arc::new(app))
}

/// The crate's broker, as far as tasks use it: sending.
struct ClientBroker {
    client: Client,
    url: String,
}

#[async_trait]
impl Broker for ClientBroker {
    fn safe_url(&self) -> String {
        self.url.clone()
    }

    async fn send(&self, message: &Message, queue: &str) -> Result<(), BrokerError> {
        let (headers, running) = (&message.headers, crate::context());
        let (args, kwargs) = match serializer::from_json(&message.raw_body) {
            Ok(Value::Array(items)) if items.len() == 3 => {
                let mut items = items.into_iter();
                let mut next = || items.next().unwrap_or_default();
                (next(), next())
            }
            _ => (Value::Null, Value::Null),
        };
        let as_list = |value: Value| if let Value::Array(items) = value { items } else { vec![] };
        let as_map = |value: Value| if let Value::Object(map) = value { map } else { Map::new() };
        let mut sent = TaskMessage::new(&headers.task, &headers.id, as_list(args), as_map(kwargs));
        sent.eta = headers.eta.map(time::format);
        sent.expires = headers.expires.map(time::format);
        sent.timelimit =
            TimeLimits { hard: headers.timelimit.0.map(f64::from), soft: headers.timelimit.1.map(f64::from) };
        sent.origin = Some(petiole_client::send::ORIGIN.clone());
        sent.embed = Embed::default();
        let parent = running.as_ref().map(Context::message);
        sent.root_id = Some(parent.map_or(headers.id.as_str(), TaskMessage::root).to_owned());
        sent.parent_id = parent.map(|parent| parent.id.clone());
        sent.properties.routing_key = queue.to_owned();
        if let Some(expires) = headers.expires {
            let left = (expires - Utc::now()).num_milliseconds().max(0);
            sent.properties.other.insert("expiration".into(), left.to_string().into());
        }
        let handle = petiole_client::Handle { id: headers.id.clone(), parent: None, children: None };
        let tuple = handle.tuple();
        let plan = Plan { steps: vec![Step::Send { message: Box::new(sent), queue: queue.to_owned() }], handle };
        self.client.execute(&plan).await.map_err(|error| BrokerError::IoError(std::io::Error::other(error)))?;
        if let Some(running) = running {
            running.add_child(tuple);
        }
        Ok(())
    }

    async fn consume(
        &self,
        _: &str,
        _: Box<dyn Fn(BrokerError) + Send + Sync + 'static>,
    ) -> Result<(String, Box<dyn DeliveryStream>), BrokerError> {
        Err(BrokerError::NotConnected)
    }

    async fn cancel(&self, _: &str) -> Result<(), BrokerError> {
        Err(BrokerError::NotConnected)
    }

    async fn ack(&self, _: &dyn Delivery) -> Result<(), BrokerError> {
        Err(BrokerError::NotConnected)
    }

    async fn retry(&self, _: &dyn Delivery, _: Option<chrono::DateTime<Utc>>) -> Result<(), BrokerError> {
        Err(BrokerError::NotConnected)
    }

    async fn increase_prefetch_count(&self) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn decrease_prefetch_count(&self) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn close(&self) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn reconnect(&self, _: u32) -> Result<(), BrokerError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    #[derive(serde::Deserialize, Debug, PartialEq)]
    struct Params {
        x: i64,
        y: i64,
        z: Option<i64>,
    }

    fn call(args: Value, kwargs: Value) -> Result<Params, String> {
        let (Value::Array(args), Value::Object(kwargs)) = (args, kwargs) else { panic!() };
        bind::<Params>("demo.add", &["x", "y", "z"], args, kwargs).map_err(|fault| match fault {
            Fault::Error(failure) => failure.exception.last_line(),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn arguments_as_in_python() {
        assert_eq!(call(json!([1]), json!({"y": 2})).unwrap(), Params { x: 1, y: 2, z: None });
        for (args, kwargs, told) in [
            (json!([1]), json!({}), "TypeError: add() missing 1 required positional argument: 'y'"),
            (json!([1, 2, 3, 4]), json!({}), "TypeError: add() takes 3 positional arguments but 4 were given"),
            (json!([1]), json!({"q": 2}), "TypeError: add() got an unexpected keyword argument 'q'"),
            (json!([1]), json!({"x": 2}), "TypeError: add() got multiple values for argument 'x'"),
        ] {
            assert_eq!(call(args, kwargs).unwrap_err(), told);
        }
        assert!(call(json!([{"a": 1}, 2]), json!({})).unwrap_err().starts_with("TypeError: add(): invalid type"));
    }
}
