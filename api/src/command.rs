//! The command line: without a command the service runs; `--migrate` prepares the database; `keys` makes, lists and revokes
//! keys.

use chrono::{TimeDelta, Utc};
use clap::{Parser, Subcommand, ValueEnum};
use petiole_storage::{ApiKeyRow, Storage};
use uuid::Uuid;

use crate::keys::{KeyRequest, issue};

/// Petiole's HTTP service. Its settings come from the environment.
#[derive(Debug, Parser)]
#[command(name = "api", version)]
pub struct Arguments {
    /// Bring the database's schema up to date and exit. The service does so itself at its start.
    #[arg(long)]
    pub migrate: bool,
    /// What to do; the service runs when there is none.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What else the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make, list and revoke API keys.
    #[command(subcommand)]
    Keys(Keys),
}

/// What is to be done with keys.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Makes a key and prints it: the only time that it is seen.
    Create {
        /// Whose it is, or what for.
        #[arg(long)]
        name: String,
        /// What it opens.
        #[arg(long, value_enum, default_value_t = Scope::Read)]
        scope: Scope,
        /// Patterns of the tasks that it may send, separated by commas; else what the settings allow.
        #[arg(long, value_delimiter = ',')]
        tasks: Option<Vec<String>>,
        /// Requests a minute; else what the settings say.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
        rate_limit: Option<u32>,
        /// Requests a day; else what the settings say.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
        daily_quota: Option<u32>,
        /// Days until it ends; else never.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: Option<u32>,
    },
    /// Lists all keys that were made; those of API_KEYS are not among them.
    List,
    /// Revokes a key.
    Revoke {
        /// Its id, the part of it after petiole_.
        id: Uuid,
    },
}

/// What a key opens.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Scope {
    /// Everything.
    All,
    /// Reading and searching.
    Read,
    /// Reading, creating and deleting; no keys.
    Write,
    /// Everything, keys too.
    Admin,
}

/// Does it, and gives what is to be printed.
///
/// # Errors
/// PostgreSQL is away, or there is no such key.
pub async fn keys(storage: &Storage, command: Keys) -> anyhow::Result<String> {
    // also before the service has ever run
    storage.migrate().await?;
    match command {
        Keys::Create { name, scope, tasks, rate_limit, daily_quota, days } => {
            let scope = scope.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
            let expires_at = days.map(|days| Utc::now() + TimeDelta::days(i64::from(days)));
            let request = KeyRequest { name, scope, allowed_tasks: tasks, rate_limit, daily_quota, expires_at };
            Ok(issue(storage, request).await?.key)
        }
        Keys::List => {
            let rows = storage.api_keys().await?;
            let lines: Vec<_> = rows.iter().map(line).collect();
            Ok(format!("{:<36}  {:<5}  {:<9}  {:<20}  name\n{}", "id", "scope", "state", "last used", lines.join("\n")))
        }
        Keys::Revoke { id } => {
            storage.revoke_api_key(id).await?;
            Ok(format!("revoked {id}; services that run know it within five seconds"))
        }
    }
}

fn line(key: &ApiKeyRow) -> String {
    let state = match key.revoked_at {
        Some(_) => "revoked",
        None if key.is_valid(Utc::now()) => "valid",
        None => "expired",
    };
    let used = key.last_used_at.map_or_else(|| "never".to_owned(), |at| at.format("%Y-%m-%dT%H:%M:%SZ").to_string());
    let name: String = key.name.chars().filter(|c| !c.is_control()).collect();
    format!("{:<36}  {:<5}  {state:<9}  {used:<20}  {name}", key.id, key.scope)
}
