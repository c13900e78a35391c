//! How many requests a key may make: so many a minute, so many a day. Counted on Redis, so that all replicas count
//! together; while Redis is away each process counts for itself.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use petiole_client::Client;
use poem::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use poem::{Endpoint, IntoResponse, Middleware, Request, Response};

use crate::auth::{Caller, guarded};
use crate::problem::Problem;
use crate::state::State;

const MINUTE: u64 = 60;
const DAY: u64 = 86_400;
/// Redis has so long to count; a request does not wait for a Redis that hangs.
const PATIENCE: Duration = Duration::from_millis(150);

/// What a key may do, by the settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateLimits {
    /// Requests a minute; 0: any number.
    pub minute: u32,
    /// Requests a day; 0: any number.
    pub day: u32,
}

/// One limit and how much of it is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Use {
    limit: u64,
    /// Seconds.
    window: u64,
    used: u64,
    /// Seconds until it begins anew.
    reset: u64,
}

impl Use {
    fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

/// Counts of this process alone, for when Redis is away.
#[derive(Default)]
pub(crate) struct LocalCounts(Mutex<HashMap<(String, u64), (u64, u64)>>);

impl LocalCounts {
    fn count(&self, who: &str, windows: &[u64], now: u64) -> Vec<u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.retain(|(_, length), (window, _)| now / length == *window);
        let count = |length: &u64| {
            let (_, count) = counts.entry((who.to_owned(), *length)).or_insert((now / length, 0));
            *count += 1;
            *count
        };
        windows.iter().map(count).collect()
    }
}

/// The headers that tell of limits, for an error on its way to its form.
#[derive(Clone)]
pub(crate) struct LimitHeaders(pub(crate) HeaderMap);

/// Refuses who asks too often.
pub(crate) struct Limit;

impl<E: Endpoint> Middleware<E> for Limit {
    type Output = Limited<E>;

    fn transform(&self, endpoint: E) -> Self::Output {
        Limited { endpoint }
    }
}

/// An endpoint that counts.
pub struct Limited<E> {
    endpoint: E,
}

impl<E: Endpoint> Endpoint for Limited<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let answer = match uses(&request).await {
            uses if uses.is_empty() => return self.endpoint.call(request).await.map(IntoResponse::into_response),
            uses => {
                let headers = headers(&uses);
                let over = uses.iter().filter(|one| one.used > one.limit).max_by_key(|one| one.reset);
                let answer = match over {
                    Some(one) => Err(too_many(one).into()),
                    None => self.endpoint.call(request).await.map(IntoResponse::into_response),
                };
                (answer, headers)
            }
        };
        let (answer, headers) = answer;
        answer
            .map(|mut response| {
                response.headers_mut().extend(headers.clone());
                response
            })
            .map_err(|mut error: poem::Error| {
                error.set_data(LimitHeaders(headers));
                error
            })
    }
}

/// Counts this request against the limits of its caller.
async fn uses(request: &Request) -> Vec<Use> {
    let Some(state) = request.data::<State>().filter(|_| guarded(request.uri().path())) else { return vec![] };
    let caller = request.extensions().get::<Caller>().cloned().unwrap_or_default();
    let limits = [
        (caller.rate_limit.unwrap_or(state.rate_limits.minute), MINUTE),
        (caller.daily_quota.unwrap_or(state.rate_limits.day), DAY),
    ];
    let limits: Vec<_> = limits.into_iter().filter(|(limit, _)| *limit > 0).collect();
    if limits.is_empty() {
        return vec![];
    }
    let who = match caller.id.is_empty() {
        true => request.remote_addr().as_socket_addr().map(|address| address.ip().to_string()).unwrap_or_default(),
        false => caller.id,
    };
    let windows: Vec<u64> = limits.iter().map(|(_, window)| *window).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let counts = count(&state.client, &state.local_counts, &who, &windows, now).await;
    let one = |((limit, window), used): ((u32, u64), u64)| Use {
        limit: u64::from(limit),
        window,
        used,
        reset: window - now % window,
    };
    limits.into_iter().zip(counts).map(one).collect()
}

async fn count(client: &Client, local: &LocalCounts, who: &str, windows: &[u64], now: u64) -> Vec<u64> {
    match tokio::time::timeout(PATIENCE, client.count(who, windows, now)).await {
        Ok(Ok(counts)) => counts,
        _ => local.count(who, windows, now),
    }
}

/// By the IETF's draft "RateLimit header fields for HTTP": of several limits the one that ends first.
fn headers(uses: &[Use]) -> HeaderMap {
    let policies: Vec<_> = uses.iter().map(|one| format!("{};w={}", one.limit, one.window)).collect();
    let Some(next) = uses.iter().min_by_key(|one| (one.remaining(), u64::MAX - one.reset)) else {
        return HeaderMap::new();
    };
    let fields = [
        ("ratelimit-policy", policies.join(", ")),
        ("ratelimit-limit", next.limit.to_string()),
        ("ratelimit-remaining", next.remaining().to_string()),
        ("ratelimit-reset", next.reset.to_string()),
    ];
    let field = |(name, value): (&'static str, String)| {
        Some((HeaderName::from_static(name), HeaderValue::try_from(value).ok()?))
    };
    fields.into_iter().filter_map(field).collect()
}

fn too_many(over: &Use) -> Problem {
    let window = if over.window == DAY { "day" } else { "minute" };
    let detail = format!("this key may make {} requests a {window}; they are used up", over.limit);
    let wait = u32::try_from(over.reset).unwrap_or(u32::MAX);
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).with_retry_after(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_limit_is_told() {
        let minute = Use { limit: 10, window: 60, used: 4, reset: 30 };
        let day = Use { limit: 100, window: 86_400, used: 99, reset: 5_000 };
        let told = headers(&[minute, day]);
        let text = |name: &str| told[name].to_str().unwrap_or_default().to_owned();
        assert_eq!(text("ratelimit-policy"), "10;w=60, 100;w=86400");
        assert_eq!((text("ratelimit-limit"), text("ratelimit-remaining")), ("100".into(), "1".into()));
        assert_eq!(text("ratelimit-reset"), "5000");
    }

    #[test]
    fn a_process_counts_alone_by_windows() {
        let local = LocalCounts::default();
        assert_eq!(local.count("a", &[60, 86_400], 120), [1, 1]);
        assert_eq!(local.count("a", &[60, 86_400], 179), [2, 2]);
        assert_eq!(local.count("b", &[60], 179), [1]);
        assert_eq!(local.count("a", &[60, 86_400], 180), [1, 3]);
    }
}
