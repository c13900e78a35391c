#!/usr/bin/env bash
# Measures the worker beside its peers and prints the tables.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

usage() {
  cat <<'HELP'
usage: benches/run.sh [--quick] [SCENARIO…]

Measures whole workers, interleaved, each with a redis-server of its own, and prints medians and ratios: Petiole's worker, Python
Celery 5.7 (prefork), stock rusty-celery 0.5.5, and what Redis can do at all. SCENARIO is the beginning of a name: drain, latency,
payload, waiting, chords, chain, idle; without one all run. Builds what is missing; the first time takes some minutes.

  --quick   smaller sizes and one repetition instead of three: about four minutes

Settings: BENCH_WORKER and BENCH_RUSTY_CELERY (programs to use instead of building them; BENCH_RUSTY_CELERY=no leaves it out),
REPETITIONS, ENGINES (petiole,celery,rusty-celery), sizes DRAIN, ROUND_TRIPS, PAYLOADS, WAITING, CHORDS, LINKS, IDLE (seconds).
Exit status 1: Petiole failed a scenario.
HELP
}

# shellcheck source=lib.sh
. "$ROOT/benches/lib.sh"
read_arguments "$@"

command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
target=${CARGO_TARGET_DIR:-$CACHE/target}
if [ -z "${BENCH_WORKER:-}" ]; then
  CARGO_TARGET_DIR=$target cargo build --release --locked --manifest-path "$ROOT/Cargo.toml" --bin worker || die "the worker does not build"
  BENCH_WORKER=$target/release/worker
fi
if [ -z "${BENCH_RUSTY_CELERY:-}" ]; then
  CARGO_TARGET_DIR=$target/rusty-celery cargo build --release --locked --manifest-path "$ROOT/benches/rusty-celery/Cargo.toml" ||
    die "the peer does not build; BENCH_RUSTY_CELERY=no leaves it out"
  BENCH_RUSTY_CELERY=$target/rusty-celery/release/rusty-celery-peer
fi
[ "$BENCH_RUSTY_CELERY" != no ] || BENCH_RUSTY_CELERY=
export BENCH_WORKER BENCH_RUSTY_CELERY
prepare
cd "$ROOT/benches"
"$PYTHON" -m measure "${scenarios[@]}"
