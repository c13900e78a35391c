//! Counts the instructions of each hot path by valgrind's callgrind, which does not depend on how busy the machine is, and
//! compares them with the baseline that lies beside.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::hot_paths::{self, HotPath};

/// Each path runs so often while it is counted; the first runs, which fill what is lazy, are not counted.
const RUNS: u64 = 50;
const FIRST_RUNS: u64 = 10;

type Counts = BTreeMap<String, u64>;

/// What is counted: callgrind knows it by its name.
#[inline(never)]
fn counted(path: &HotPath) {
    for _ in 0..RUNS {
        path.run();
    }
}

/// Runs each path, the counted ones in a row.
pub(crate) fn run_all() {
    let paths = hot_paths::all();
    for path in &paths {
        (0..FIRST_RUNS).for_each(|_| path.run());
        counted(path);
    }
}

/// Compares with the baseline. False: a path needs more than `tolerance` per cent more.
pub(crate) fn check(tolerance: f64) -> anyhow::Result<bool> {
    let text = std::fs::read_to_string(baseline()).context("there is no baseline: call it with --renew")?;
    let Some((head, lines)) = text.split_once('\n') else { bail!("the baseline is empty") };
    if !head.contains(std::env::consts::ARCH) {
        println!("skipped: the baseline is of another processor ({head})");
        return Ok(true);
    }
    let (table, good) = compare(&read(lines)?, &count()?, tolerance)?;
    print!("{table}");
    Ok(good)
}

/// A table of both, and whether all is well.
fn compare(before: &Counts, now: &Counts, tolerance: f64) -> anyhow::Result<(String, bool)> {
    let (mut good, mut faster) = (true, false);
    let mut table = format!("{:>12} {:>12} {:>8}  instructions of one run\n", "baseline", "now", "");
    for (name, now) in now {
        let Some(before) = before.get(name) else {
            writeln!(table, "{:>12} {now:>12} {:>8}  {name}: not in the baseline", "", "")?;
            good = false;
            continue;
        };
        let change = (*now as f64 / (*before).max(1) as f64 - 1.0) * 100.0;
        let slower = change > tolerance;
        writeln!(table, "{before:>12} {now:>12} {change:>+7.1}%  {name}{}", if slower { ": SLOWER" } else { "" })?;
        good &= !slower;
        faster |= change < -tolerance;
    }
    for name in before.keys().filter(|name| !now.contains_key(*name)) {
        writeln!(table, "{name}: in the baseline, but gone")?;
        good = false;
    }
    if !good || faster {
        writeln!(table, "Is it meant to be so? Then write a new baseline: benches/instructions.sh --renew")?;
    }
    Ok((table, good))
}

/// Writes the baseline.
pub(crate) fn renew() -> anyhow::Result<()> {
    let mut text =
        format!("# instructions of one run on {}, by benches/instructions.sh --renew\n", std::env::consts::ARCH);
    for (name, count) in count()? {
        writeln!(text, "{count:>9} {name}")?;
        println!("{count:>9} {name}");
    }
    Ok(std::fs::write(baseline(), text)?)
}

fn baseline() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.txt")
}

fn read(lines: &str) -> anyhow::Result<Counts> {
    lines
        .lines()
        .map(|line| {
            let (count, name) = line.trim().split_once(' ').with_context(|| format!("the baseline's line {line:?}"))?;
            Ok((name.to_owned(), count.parse()?))
        })
        .collect()
}

/// One run of valgrind; it writes a file each time that `counted` ends.
fn count() -> anyhow::Result<Counts> {
    let folder = std::env::temp_dir().join(format!("petiole-instructions-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let counts = count_in(&folder);
    std::fs::remove_dir_all(&folder)?;
    counts
}

fn count_in(folder: &Path) -> anyhow::Result<Counts> {
    let counted = "*::instructions::counted";
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={counted}"))
        .arg(format!("--dump-after={counted}"))
        .arg(format!("--callgrind-out-file={}", folder.join("out").display()))
        .arg(std::env::current_exe()?)
        .arg("measured");
    let output = valgrind.output().context("valgrind cannot be run")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind ended with {}: {said}", output.status);
    let names = hot_paths::all().into_iter().map(|path| path.name.to_owned());
    let counts: anyhow::Result<Counts> = names
        .enumerate()
        .map(|(place, name)| {
            let file = folder.join(format!("out.{}", place + 1));
            let text = std::fs::read_to_string(&file).with_context(|| format!("{name}: valgrind counted nothing"))?;
            let total = text.lines().find_map(|line| line.strip_prefix("totals: ")).context("no totals")?;
            Ok((name, total.trim().parse::<u64>()? / RUNS))
        })
        .collect();
    let counts = counts?;
    ensure!(counts.values().all(|count| *count > 0), "valgrind did not see the function that is counted");
    Ok(counts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn verdict(now: &str) -> bool {
        compare(&read("1000 read\n 500 write a b").unwrap(), &read(now).unwrap(), 5.0).unwrap().1
    }

    #[test]
    fn more_than_the_tolerance_fails_and_less_does_not() {
        assert!(verdict("1049 read\n500 write a b") && verdict("10 read\n500 write a b"));
        assert!(!verdict("1051 read\n500 write a b"));
        let (table, _) = compare(&read("1000 read").unwrap(), &read("1100 read").unwrap(), 5.0).unwrap();
        assert!(table.contains("+10.0%  read: SLOWER"), "{table}");
    }

    #[test]
    fn a_path_that_is_new_or_gone_asks_for_a_new_baseline() {
        assert!(!verdict("1000 read") && !verdict("1000 read\n500 write a b\n1 more"));
    }

    #[test]
    fn the_baseline_knows_every_path() {
        let text = std::fs::read_to_string(baseline()).unwrap();
        let known = read(text.split_once('\n').unwrap().1).unwrap();
        for path in hot_paths::all() {
            path.run();
            assert!(known.contains_key(path.name), "{}: call benches/instructions.sh --renew", path.name);
        }
    }
}
