//! `petiole-benches`: what the pure parts of a worker cost, in time and in instructions. Whole processes are measured by
//! `benches/run.sh`.
//!
//! | module | what |
//! |---|---|
//! | `hot_paths` | what a worker does for every task, piece by piece |
//! | `samples` | the documents that they work on |
//! | `instructions` | counts instructions by valgrind and compares them with the baseline |

mod hot_paths;
mod instructions;
mod samples;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use criterion::Criterion;

/// The worker's own: what an allocation costs is part of what is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the pure parts of a worker cost.
#[derive(Parser)]
#[command(name = "petiole-benches")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The time of each hot path, by criterion (build with --release).
    Time {
        /// Only paths whose name holds this.
        #[arg(default_value = "")]
        filter: String,
    },
    /// Counts the instructions of each hot path by valgrind and fails where one needs more than the baseline says (build with
    /// --profile instructions).
    Instructions {
        /// Write what was counted as the new baseline.
        #[arg(long)]
        renew: bool,
        /// How much more than the baseline is too much, in per cent.
        #[arg(long, default_value_t = 5.0)]
        tolerance: f64,
    },
    /// Runs each hot path under valgrind; called by `instructions`.
    #[command(hide = true)]
    Measured,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Time { filter } => {
            time(&filter);
            Ok(true)
        }
        Command::Instructions { renew: true, .. } => instructions::renew().map(|()| true),
        Command::Instructions { renew: false, tolerance } => instructions::check(tolerance),
        Command::Measured => {
            instructions::run_all();
            Ok(true)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn time(filter: &str) {
    let mut criterion = Criterion::default().without_plots();
    for path in hot_paths::all().into_iter().filter(|path| path.name.contains(filter)) {
        criterion.bench_function(path.name, |bencher| bencher.iter(|| path.run()));
    }
    criterion.final_summary();
}
