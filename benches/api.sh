#!/usr/bin/env bash
# Measures the API beside its peer, and search, and prints the tables.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

usage() {
  cat <<'HELP'
usage: benches/api.sh [--quick] [SCENARIO…]

Measures the API by turns with FastAPI, SQLAlchemy and Celery (uvicorn, two workers), each with a Redis and a database of its own:
tasks (POST /v1/tasks), state (GET /v1/tasks/{id}), events (POST /v1/events, with its transaction); and search over 50,000
passages, beside PostgreSQL's own time. Without a SCENARIO all run. Builds what is missing; the first time takes some minutes.

  --quick   2 seconds each and one repetition instead of 5 and three

Settings: BENCH_API and BENCH_RETRIEVAL (programs to use instead of building them), REPETITIONS, SECONDS_EACH, CONNECTIONS (32).
Exit status 1: Petiole failed a scenario.
HELP
}

# shellcheck source=lib.sh
. "$ROOT/benches/lib.sh"
read_arguments "$@"
# shellcheck source=../docker/lib/postgres.sh
. "$ROOT/docker/lib/postgres.sh"

command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
target=${CARGO_TARGET_DIR:-$CACHE/target}
if [ -z "${BENCH_API:-}" ] || [ -z "${BENCH_RETRIEVAL:-}" ]; then
  CARGO_TARGET_DIR=$target cargo build --release --locked --manifest-path "$ROOT/Cargo.toml" -p petiole-api -p petiole-worker --bins --examples ||
    die "the API does not build"
fi
export BENCH_API=${BENCH_API:-$target/release/api} BENCH_RETRIEVAL=${BENCH_RETRIEVAL:-$target/release/examples/retrieval}
prepare "$ROOT/benches/requirements-api.txt"
command -v wrk >/dev/null || as_root_install wrk >&2 || die "wrk makes the load"
postgres_prepare || die "PostgreSQL cannot be had"
# Its server may run as another user, who must be able to enter.
chmod 755 "$RUN"
POSTGRES_PORT=$("$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export POSTGRES_PORT POSTGRES_USER=bench POSTGRES_PASSWORD=bench POSTGRES_DB=bench
trap 'postgres_stop >/dev/null 2>&1; rm -rf "$RUN"' EXIT
postgres_start >&2
# It makes databases, and has the time of statements logged.
postgres_admin postgres -c "ALTER ROLE bench SUPERUSER" </dev/null
export DATABASE_URL=postgres://bench:bench@127.0.0.1:$POSTGRES_PORT/bench POSTGRES_LOG=$LOGS/postgres.log
export RAYON_NUM_THREADS=1 CANDLE_NUM_THREADS=1
cd "$ROOT/benches"
"$PYTHON" -m measure.api "${scenarios[@]}"
