//! `conformance-worker`: the worker's own command line, with the fixture tasks of Celery's integration suite.
//!
//! | module | the tasks |
//! |---|---|
//! | `arguments` | Python's calling conventions and its `+` |
//! | `plain` | functions of their arguments |
//! | `request` | that look at their own request |
//! | `effects` | that leave marks in Redis |
//! | `failures` | that fail, reject, retry |
//! | `replacing` | that put others in their place, or send them |
//! | `signatures` | that give or take signatures as values |

mod arguments;
mod effects;
mod failures;
mod plain;
mod replacing;
mod request;
mod signatures;

use clap::Parser;
use petiole_engine::cli::{self, WorkerArgs};
use petiole_engine::{App, AppBuilder};

/// Tasks are many small allocations: this one takes half the time of the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A worker with the fixture tasks of Celery's integration suite.
#[derive(Parser)]
#[command(name = "conformance-worker", version, about)]
struct Cli {
    #[command(flatten)]
    worker: WorkerArgs,
}

/// The names of most tasks begin with this.
pub(crate) fn name(task: &str) -> String {
    format!("t.integration.tasks.{task}")
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (settings, config) = cli::load(&Cli::parse().worker)?;
    let steps: [fn(AppBuilder) -> AppBuilder; 6] =
        [plain::add_to, request::add_to, effects::add_to, failures::add_to, replacing::add_to, signatures::add_to];
    let app = steps.into_iter().fold(App::builder(), |app, add| add(app)).build()?;
    cli::run(app, config, &settings).await?;
    Ok(())
}
