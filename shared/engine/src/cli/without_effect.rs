//! Flags of `celery worker` that are accepted, so that a command line can be kept, and mean nothing here.

use clap::Args;
use tracing::warn;

/// Flags without effect; each says why when it is given.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Accepted without effect")]
pub(crate) struct WithoutEffect {
    /// The Python application: this program is the application.
    #[arg(short = 'A', long = "app", global = true)]
    app: Option<String>,
    /// Run in the background: a process manager does that.
    #[arg(short = 'D', long = "detach")]
    detach: bool,
    /// Optimization profile: a slot takes a task when it is free, which is Celery's `fair`.
    #[arg(short = 'O', long = "optimization")]
    optimization: Option<String>,
    /// Pool implementation: tasks are futures in one process; isolated ones have a process each.
    #[arg(short = 'P', long = "pool")]
    pool: Option<String>,
    /// How pool processes start: there are none.
    #[arg(long = "pool-start-method")]
    pool_start_method: Option<String>,
    /// Tasks per pool process: an isolated task's process runs that one task.
    #[arg(long = "max-tasks-per-child")]
    max_tasks_per_child: Option<u64>,
    /// Memory of a pool process, KiB: an isolated task's process ends with its task.
    #[arg(long = "max-memory-per-child")]
    max_memory_per_child: Option<u64>,
    /// Python modules to import: tasks are compiled in.
    #[arg(short = 'I', long = "include")]
    include: Option<String>,
    /// Log file: logs go to standard error.
    #[arg(short = 'f', long = "logfile")]
    logfile: Option<String>,
    /// User to run as: start it as that user.
    #[arg(long = "uid")]
    uid: Option<String>,
    /// Group to run as: start it as that group.
    #[arg(long = "gid")]
    gid: Option<String>,
    /// File mode mask: set it before the start.
    #[arg(long = "umask")]
    umask: Option<String>,
    /// Python's executable.
    #[arg(long = "executable")]
    executable: Option<String>,
}

impl WithoutEffect {
    /// Says of each flag that was given why it means nothing.
    pub(crate) fn say(&self) {
        for (flag, why) in self.given() {
            warn!("{flag} means nothing here: {why}");
        }
    }

    fn given(&self) -> Vec<(&'static str, &'static str)> {
        let all = [
            ("--app", self.app.is_some(), "this program is the application"),
            ("--detach", self.detach, "a process manager runs it in the background"),
            ("--optimization", self.optimization.is_some(), "a free slot takes the next task, as with Ofair"),
            ("--pool", self.pool.is_some(), "tasks are futures in one process, isolated ones have a process each"),
            ("--pool-start-method", self.pool_start_method.is_some(), "there are no pool processes"),
            ("--max-tasks-per-child", self.max_tasks_per_child.is_some(), "an isolated task's process runs one task"),
            (
                "--max-memory-per-child",
                self.max_memory_per_child.is_some(),
                "an isolated task's process ends with its task, and other tasks share one process",
            ),
            ("--include", self.include.is_some(), "tasks are compiled in"),
            ("--logfile", self.logfile.is_some(), "logs go to standard error"),
            ("--uid", self.uid.is_some(), "start it as that user"),
            ("--gid", self.gid.is_some(), "start it as that group"),
            ("--umask", self.umask.is_some(), "set it before the start"),
            ("--executable", self.executable.is_some(), "there is no Python"),
        ];
        all.into_iter().filter(|(_, given, _)| *given).map(|(flag, _, why)| (flag, why)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_given_is_spoken_of() {
        assert!(WithoutEffect::default().given().is_empty());
        let pool = WithoutEffect { pool: Some("prefork".into()), detach: true, ..WithoutEffect::default() };
        assert_eq!(pool.given().iter().map(|(flag, _)| *flag).collect::<Vec<_>>(), ["--detach", "--pool"]);
    }
}
