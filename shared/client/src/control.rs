//! Asking and steering workers (celery.app.control).

use std::collections::BTreeMap;
use std::time::Duration;

use petiole_protocol::pidbox::{EXCHANGE, REPLY_EXCHANGE, ReplyTo, Request};
use petiole_protocol::{Envelope, Map, time};
use redis::AsyncCommands;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::Client;
use crate::error::ClientError;

impl Client {
    /// Broadcasts a command and gives the replies by node name. Waits until all of `destination`, or all who listen, have
    /// answered, but no longer than `timeout`.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn inspect(
        &self,
        method: &str,
        arguments: Map,
        destination: Option<&[String]>,
        timeout: Duration,
    ) -> Result<BTreeMap<String, Value>, ClientError> {
        let oid = Uuid::new_v4().to_string();
        let queue = format!("{oid}.{REPLY_EXCHANGE}");
        let ticket = Uuid::new_v4().to_string();
        self.broker.bind_expiring(REPLY_EXCHANGE, &oid, "", &queue).await?;
        let request = Request {
            ticket: Some(ticket.clone()),
            reply_to: Some(ReplyTo { exchange: REPLY_EXCHANGE.into(), routing_key: oid.clone() }),
            ..request(method, arguments, destination)
        };
        let replies = self.collect(&request, &queue, destination.map_or(usize::MAX, <[String]>::len), timeout).await;
        self.broker.unbind(REPLY_EXCHANGE, &oid, "", &queue).await?;
        replies
    }

    /// Broadcasts a command and waits for nothing.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn broadcast(
        &self,
        method: &str,
        arguments: Map,
        destination: Option<&[String]>,
    ) -> Result<(), ClientError> {
        self.publish_request(&request(method, arguments, destination), Duration::ZERO).await.map(drop)
    }

    /// Revokes tasks: they are not started any more, and with `terminate` ended where they run.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn revoke(&self, task_ids: &[String], terminate: bool, signal: Option<&str>) -> Result<(), ClientError> {
        let arguments = json!({
            "task_id": task_ids, "terminate": terminate, "signal": signal.unwrap_or("SIGTERM"),
        });
        let Value::Object(arguments) = arguments else { return Ok(()) };
        self.broadcast("revoke", arguments, None).await
    }

    async fn publish_request(&self, request: &Request, timeout: Duration) -> Result<usize, ClientError> {
        let expires = if timeout.is_zero() { 0.0 } else { time::epoch(chrono::Utc::now()) + timeout.as_secs_f64() };
        let envelope = request.encode(expires, Uuid::new_v4().to_string());
        Ok(self.broker.broadcast(EXCHANGE, "", &envelope).await?)
    }

    async fn collect(
        &self,
        request: &Request,
        queue: &str,
        wanted: usize,
        timeout: Duration,
    ) -> Result<BTreeMap<String, Value>, ClientError> {
        // Also others than workers may listen, who do not answer.
        let wanted = self.publish_request(request, timeout).await?.min(wanted);
        let (mut replies, until) = (BTreeMap::new(), tokio::time::Instant::now() + timeout);
        let mut connection = self.broker.connection();
        let list = self.broker.keys().key(queue);
        // The shared connection must not block: short looks, closer together at first.
        let mut pause = Duration::from_millis(2);
        while replies.len() < wanted && tokio::time::Instant::now() < until {
            let text: Option<Vec<u8>> = connection.rpop(&list, None).await.map_err(petiole_redis::RedisError::from)?;
            let Some(text) = text else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(25));
                continue;
            };
            replies.extend(reply_of(&text, request.ticket.as_deref()).into_iter().flatten());
        }
        Ok(replies)
    }
}

fn request(method: &str, arguments: Map, destination: Option<&[String]>) -> Request {
    Request { destination: destination.unwrap_or_default().to_vec(), ..Request::new(method, arguments) }
}

/// Who answered what, by node name, if it is an answer to this request.
pub(crate) fn reply_of(text: &[u8], ticket: Option<&str>) -> Option<Map> {
    let envelope = Envelope::parse(text).ok()?;
    if envelope.headers.get("ticket").and_then(Value::as_str) != ticket {
        return None;
    }
    match petiole_protocol::serializer::from_json(&envelope.body) {
        Ok(Value::Object(body)) => Some(body),
        _ => None,
    }
}
