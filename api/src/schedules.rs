//! Schedules as requests bring them and answers show them.

use chrono::{DateTime, Utc};
use petiole_beat::{Schedule, ScheduleError, Zone};
use petiole_storage::{NewSchedule, ScheduleTimes};
use poem::http::StatusCode;
use poem_openapi::Object;
use poem_openapi::types::{Any, Example, ToJSON};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::calls::TaskRequest;
use crate::clock::{CRONTAB, CrontabLine, ZoneName};
use crate::json::JsonObject;
use crate::problem::{FieldError, Problem};
use crate::schema_check;

/// Options of each call.
#[derive(Clone, Debug, Default, Object)]
pub(crate) struct ScheduleOptionsRequest {
    /// The queue it goes to; the default queue when missing.
    #[oai(validator(min_length = 1, max_length = 200), skip_serializing_if_is_none)]
    queue: Option<String>,
    /// 0 to 9; 0 is served first.
    #[oai(validator(minimum(value = "0"), maximum(value = "9")), skip_serializing_if_is_none)]
    priority: Option<u8>,
    /// Seconds until it may start.
    #[oai(validator(minimum(value = "0"), maximum(value = "315360000")), skip_serializing_if_is_none)]
    countdown: Option<f64>,
    /// Seconds after which it is not started any more.
    #[oai(validator(minimum(value = "0"), maximum(value = "315360000")), skip_serializing_if_is_none)]
    expires: Option<f64>,
    /// Seconds after which it is ended.
    #[oai(validator(minimum(value = "0"), maximum(value = "315360000")), skip_serializing_if_is_none)]
    time_limit: Option<f64>,
    /// Seconds after which it is asked to end; above `time_limit` it would never come to that, and is left out.
    #[oai(validator(minimum(value = "0"), maximum(value = "315360000")), skip_serializing_if_is_none)]
    soft_time_limit: Option<f64>,
    /// Whether its result is thrown away.
    #[oai(skip_serializing_if_is_none)]
    ignore_result: Option<bool>,
    /// Headers of your own in the message.
    #[oai(skip_serializing_if_is_none)]
    headers: Option<JsonObject>,
}

/// A task to be sent again and again: by a `crontab` or at an `interval`, one of the two.
#[derive(Clone, Debug, Object)]
#[oai(example)]
pub(crate) struct ScheduleRequest {
    /// Its name; no two schedules have the same.
    #[oai(validator(min_length = 1, max_length = 255, pattern = r"^[^\x00]*[^\s\x00-\x1f\x7f-\x9f][^\x00]*$"))]
    name: String,
    /// The task's name.
    #[oai(validator(min_length = 1, max_length = 255, pattern = r"^[^\x00]*$"))]
    pub(crate) task: String,
    /// Positional arguments.
    #[oai(default)]
    args: Vec<Any<Value>>,
    /// Keyword arguments.
    #[oai(default)]
    kwargs: JsonObject,
    /// Minute, hour, day of the month, month and day of the week, in Celery's syntax: `*/15 8-17 * * mon-fri`. A day must
    /// fit all three of its fields.
    crontab: Option<CrontabLine>,
    /// The time zone of the crontab, such as `Europe/Berlin`; the application's (`TIMEZONE`) when missing.
    timezone: Option<ZoneName>,
    /// Seconds from one time to the next.
    #[oai(validator(minimum(value = "0.1"), maximum(value = "315360000")))]
    interval: Option<f64>,
    /// Whether the interval is rounded to its unit on the clock: an hourly one to full hours, a daily one to midnight.
    #[oai(default)]
    relative: bool,
    /// Options of each call.
    #[oai(default)]
    options: ScheduleOptionsRequest,
    /// Whether it is sent at all.
    #[oai(default = "yes")]
    enabled: bool,
}

fn yes() -> bool {
    true
}

impl Example for ScheduleRequest {
    fn example() -> Self {
        Self {
            name: "greet-on-weekdays".into(),
            task: "demo.echo".into(),
            args: vec![Any(json!("Good morning"))],
            kwargs: JsonObject::default(),
            crontab: Some(CrontabLine("30 7 * * mon-fri".into())),
            timezone: Some(ZoneName("Europe/Berlin".into())),
            interval: None,
            relative: false,
            options: ScheduleOptionsRequest { expires: Some(3600.0), ..Default::default() },
            enabled: true,
        }
    }
}

/// What is to change of a schedule; what is missing or null stays. A `crontab` takes the place of an `interval`, and the
/// other way round.
#[derive(Clone, Debug, Object)]
#[oai(example)]
pub(crate) struct ScheduleChangeRequest {
    /// Its name; no two schedules have the same.
    #[oai(validator(min_length = 1, max_length = 255, pattern = r"^[^\x00]*[^\s\x00-\x1f\x7f-\x9f][^\x00]*$"))]
    name: Option<String>,
    /// The task's name.
    #[oai(validator(min_length = 1, max_length = 255, pattern = r"^[^\x00]*$"))]
    pub(crate) task: Option<String>,
    /// Positional arguments.
    args: Option<Vec<Any<Value>>>,
    /// Keyword arguments.
    kwargs: Option<JsonObject>,
    /// Minute, hour, day of the month, month and day of the week.
    crontab: Option<CrontabLine>,
    /// The time zone of the crontab.
    timezone: Option<ZoneName>,
    /// Seconds from one time to the next.
    #[oai(validator(minimum(value = "0.1"), maximum(value = "315360000")))]
    interval: Option<f64>,
    /// Whether the interval is rounded to its unit on the clock.
    relative: Option<bool>,
    /// Options of each call, all of them.
    options: Option<ScheduleOptionsRequest>,
    /// Whether it is sent at all.
    enabled: Option<bool>,
}

impl Example for ScheduleChangeRequest {
    fn example() -> Self {
        Self {
            name: None,
            task: None,
            args: None,
            kwargs: None,
            crontab: None,
            timezone: None,
            interval: Some(60.0),
            relative: None,
            options: None,
            enabled: Some(true),
        }
    }
}

impl ScheduleRequest {
    /// What is to be stored.
    ///
    /// # Errors
    /// 422 with every field that is wrong.
    pub(crate) fn into_new(self) -> Result<NewSchedule, Problem> {
        let crontab = self.crontab.map(|line| line.0);
        let times = times(crontab, self.timezone.map(|zone| zone.0), self.interval, self.relative)?;
        Ok(NewSchedule {
            name: self.name,
            task: self.task,
            args: self.args.into_iter().map(|any| any.0).collect(),
            kwargs: self.kwargs.0,
            options: options(&self.options)?,
            times,
            enabled: self.enabled,
        })
    }
}

impl ScheduleChangeRequest {
    /// The schedule with the changes.
    ///
    /// # Errors
    /// 422 with every field that is wrong.
    pub(crate) fn change(self, mut what: NewSchedule) -> Result<NewSchedule, Problem> {
        what.times = self.times(what.times)?;
        what.name = self.name.unwrap_or(what.name);
        what.task = self.task.unwrap_or(what.task);
        what.enabled = self.enabled.unwrap_or(what.enabled);
        what.kwargs = self.kwargs.map_or(what.kwargs, |kwargs| kwargs.0);
        if let Some(args) = self.args {
            what.args = args.into_iter().map(|any| any.0).collect();
        }
        if let Some(changed) = &self.options {
            what.options = options(changed)?;
        }
        Ok(what)
    }

    fn times(&self, before: ScheduleTimes) -> Result<ScheduleTimes, Problem> {
        let (crontab, timezone, interval, relative) = match before {
            ScheduleTimes::Crontab { line, timezone } if self.interval.is_none() => {
                if self.relative == Some(true) && self.crontab.is_none() {
                    return Err(contradiction("relative", "is for intervals only, and this schedule has a crontab"));
                }
                (Some(line), timezone, None, None)
            }
            ScheduleTimes::Interval { seconds, relative } if self.crontab.is_none() => {
                if self.timezone.is_some() && self.interval.is_none() {
                    return Err(contradiction("timezone", "is for crontabs only, and this schedule has an interval"));
                }
                (None, None, Some(seconds), Some(relative))
            }
            _ => (None, None, None, None),
        };
        times(
            self.crontab.clone().map(|line| line.0).or(crontab),
            self.timezone.clone().map(|zone| zone.0).or(timezone),
            self.interval.or(interval),
            self.relative.or(relative).unwrap_or(false),
        )
    }
}

/// 409: the field does not fit what is stored.
pub(crate) fn contradiction(field: &str, message: &str) -> Problem {
    let detail = format!("the request contradicts what is stored: {field} {message}");
    Problem::new(StatusCode::CONFLICT, detail).with_errors(vec![FieldError::new(field, message)])
}

fn times(
    crontab: Option<String>,
    timezone: Option<String>,
    interval: Option<f64>,
    relative: bool,
) -> Result<ScheduleTimes, Problem> {
    let (times, other) = match (crontab, interval) {
        (Some(line), None) => {
            let other = relative.then_some(("relative", "is for intervals only"));
            (ScheduleTimes::Crontab { line, timezone }, other)
        }
        (None, Some(seconds)) => {
            let other = timezone.map(|_| ("timezone", "is for crontabs only"));
            (ScheduleTimes::Interval { seconds, relative }, other)
        }
        (Some(_), Some(_)) => return Err(Problem::field("interval", "must not be given together with crontab")),
        (None, None) => {
            return Err(Problem::field("crontab", "is missing, and interval too: one of them must be there"));
        }
    };
    if let Some((field, message)) = other {
        return Err(Problem::field(field, message));
    }
    match schedule_of(&times) {
        Ok(_) if !is_plain(&times) => Err(Problem::field(
            "crontab",
            "must be five fields of `*`, numbers, names, ranges and steps, with blanks between them",
        )),
        Ok(_) => Ok(times),
        Err(error) => {
            let field = match &error {
                ScheduleError::Zone(_) => "timezone",
                ScheduleError::Interval(_) => "interval",
                _ => "crontab",
            };
            let text = error.to_string();
            Err(Problem::field(field, text.strip_prefix(field).unwrap_or(&text).trim_start()))
        }
    }
}

/// The scheduler takes more than the description says: names of days for minutes, for one.
fn is_plain(times: &ScheduleTimes) -> bool {
    match times {
        ScheduleTimes::Crontab { line, .. } => schema_check::matches(&CRONTAB, line),
        ScheduleTimes::Interval { .. } => true,
    }
}

/// The options as they are stored: those that were given.
fn options(options: &ScheduleOptionsRequest) -> Result<Map<String, Value>, Problem> {
    let mut options = options.clone();
    if let (Some(soft), Some(hard)) = (options.soft_time_limit, options.time_limit) {
        options.soft_time_limit = Some(soft).filter(|soft| *soft <= hard);
    }
    let mut call = TaskRequest::named("");
    call.headers = options.headers.clone().unwrap_or_default();
    Problem::refuse(call.check("options"))?;
    match options.to_json() {
        Some(Value::Object(map)) => Ok(map),
        _ => Ok(Map::new()),
    }
}

/// When it is due, to reckon with.
fn schedule_of(times: &ScheduleTimes) -> Result<Schedule, ScheduleError> {
    match times {
        ScheduleTimes::Crontab { line, timezone } => Schedule::crontab(line, timezone.as_deref()),
        ScheduleTimes::Interval { seconds, relative } => Schedule::interval(*seconds, *relative),
    }
}

/// A schedule and how it fares.
#[derive(Debug, Object)]
#[oai(rename = "Schedule")]
pub(crate) struct ScheduleView {
    /// Its id.
    pub(crate) id: Uuid,
    /// Its name.
    name: String,
    /// The task's name.
    task: String,
    /// Positional arguments.
    args: Vec<Any<Value>>,
    /// Keyword arguments.
    kwargs: JsonObject,
    /// Minute, hour, day of the month, month and day of the week.
    crontab: Option<String>,
    /// The time zone of the crontab; null: the application's.
    timezone: Option<String>,
    /// Seconds from one time to the next.
    interval: Option<f64>,
    /// Whether the interval is rounded to its unit on the clock.
    relative: bool,
    /// Options of each call.
    options: JsonObject,
    /// Whether it is sent at all.
    enabled: bool,
    /// When it is due next; null while it is not enabled.
    next_run_at: Option<DateTime<Utc>>,
    /// When it was last sent.
    last_run_at: Option<DateTime<Utc>>,
    /// The task that was sent then.
    last_task_id: Option<String>,
    /// How often it was sent.
    total_run_count: u64,
    /// When it was made.
    created_at: DateTime<Utc>,
    /// When it was last changed.
    updated_at: DateTime<Utc>,
}

impl ScheduleView {
    pub(crate) fn new(stored: petiole_storage::Schedule, zone: &Zone) -> Self {
        let what = stored.what;
        let last = stored.last_run_at.map_or(stored.active_since, |ran| ran.max(stored.active_since));
        let next = schedule_of(&what.times).ok().filter(|_| what.enabled);
        let (crontab, timezone, interval, relative) = match what.times {
            ScheduleTimes::Crontab { line, timezone } => (Some(line), timezone, None, false),
            ScheduleTimes::Interval { seconds, relative } => (None, None, Some(seconds), relative),
        };
        Self {
            id: stored.id,
            name: what.name,
            task: what.task,
            args: what.args.into_iter().map(Any).collect(),
            kwargs: JsonObject(what.kwargs),
            crontab,
            timezone,
            interval,
            relative,
            options: JsonObject(what.options),
            enabled: what.enabled,
            next_run_at: next.and_then(|schedule| schedule.next_after(last, zone)),
            last_run_at: stored.last_run_at,
            last_task_id: stored.last_task_id,
            total_run_count: stored.total_run_count,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
        }
    }
}
