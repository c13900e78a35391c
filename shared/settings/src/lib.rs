//! Every setting of Petiole, from the environment, checked all at once; and logging, set up once.
//!
//! | module | holds |
//! |---|---|
//! | [`reader`] | [`Reader`]: typed values out of environment variables, collecting every problem |
//! | [`url`] | connection URLs: made from their parts, shown without their passwords |
//! | [`secrets`] | which secrets are too weak to start with outside development |
//! | [`api`], [`ai`], [`log`] | the settings of one concern each |
//! | [`resident_memory`] | the memory that this process uses |
//! | [`telemetry`] | `tracing` to standard error, and to a layer that somebody adds |
//! | [`trace_context`] | the trace that work belongs to, carried from one program to the next |
//!
//! ```
//! use petiole_settings::{AppEnv, Reader, Role, Settings};
//!
//! let mut reader = Reader::from_map([("REDIS_PASSWORD", "not a real one")]);
//! let settings = Settings::read(&mut reader, Role::Worker);
//! reader.finish()?;
//! assert_eq!(settings.app_env, AppEnv::Development);
//! # Ok::<(), petiole_settings::SettingsError>(())
//! ```

pub mod ai;
pub mod api;
pub mod log;
pub mod reader;
pub mod secrets;
mod sentinel;
pub mod telemetry;
pub mod trace_context;
pub mod url;

mod memory;
mod settings;
mod time_zone;

pub use ai::AiSettings;
pub use api::{ApiKey, ApiSettings, KeyScope};
pub use log::{LogFormat, LogSettings};
pub use memory::resident_memory;
pub use reader::{Problem, Reader, SettingsError};
pub use settings::{AppEnv, Role, Settings};
pub use time_zone::time_zone;
pub use url::redacted_url;
