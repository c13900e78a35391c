# shellcheck shell=bash
# The API, the worker and Flower, without containers: built, installed, started.
: "${ROOT:?}" "${DATA:?}" "${CACHE:?}" "${LOGS:?}" "${RUN:?}"

FLOWER_REQUIREMENTS=$ROOT/docker/lib/requirements.txt

settings_print() { settings_in_environment | sha256sum | cut -d' ' -f1; }

# sources_print: changes with whatever the programs are built from
sources_print() {
  local found=() path
  for path in Cargo.toml Cargo.lock rust-toolchain rust-toolchain.toml .cargo api worker shared; do
    [ ! -e "$ROOT/$path" ] || found+=("$path")
  done
  {
    (cd "$ROOT" && find "${found[@]}" -name target -prune -o -type f -print0 | sort -z | xargs -0 sha256sum)
    cargo --version
    env | grep -E '^(RUSTFLAGS|CARGO_(BUILD|ENCODED|PROFILE)_)' | sort || true
  } | sha256sum | cut -d' ' -f1
}

# build_programs: leaves the programs in docker/.data/bin, replaced only when they changed
build_programs() {
  local profile=() from print
  mkdir -p "$DATA/bin"
  if [ -n "${BIN_DIR:-}" ]; then
    rm -f "$RUN/programs.print"
    install_programs "$BIN_DIR"
    return
  fi
  command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
  command -v cargo >/dev/null || { warn "error: cargo is missing: install Rust (https://rustup.rs)"; return 1; }
  from=$CARGO_TARGET_DIR/debug
  if [ "$APP_ENV" != development ]; then profile=(--release) from=$CARGO_TARGET_DIR/release; fi
  print="${profile[*]:-debug} $(sources_print)"
  if [ -x "$DATA/bin/api" ] && [ -x "$DATA/bin/worker" ] && same_print programs "$print"; then return 0; fi
  command -v cc >/dev/null || as_root_install gcc libc6-dev || return 1
  # Several checkouts may share the folder that cargo builds in. What lies there must be this one's when it is taken.
  # In cargo's lists a blank in a path has a backslash before it.
  local here=${ROOT// /\\ }
  for _ in 1 2 3; do
    (cd "$ROOT" && cargo build --locked "${profile[@]}" --bins) || return 1
    install_programs "$from" || return 1
    if grep -qF " $here/api/src/" "$from/api.d" && grep -qF " $here/worker/src/" "$from/worker.d"; then
      printf '%s\n' "$print" >"$RUN/programs.print"
      return 0
    fi
  done
  warn "error: another checkout builds in $CARGO_TARGET_DIR all the time; set CARGO_TARGET_DIR"
  return 1
}

# install_programs FOLDER
install_programs() {
  local program
  for program in api worker; do
    ! cmp -s "$1/$program" "$DATA/bin/$program" || continue
    install -m 755 "$1/$program" "$DATA/bin/.$program.new" || return 1
    # A running program keeps its own file: it is replaced, not written to.
    mv -f "$DATA/bin/.$program.new" "$DATA/bin/$program"
  done
}

# program_start NAME PORT: starts docker/.data/bin/NAME, unless it runs as it is and with these settings
program_start() {
  local print
  print="$(sha256sum <"$DATA/bin/$1" | cut -d' ' -f1) $(settings_print)"
  if pid_of "$1" >/dev/null; then
    if same_print "$1" "$print"; then return 0; fi
    say "  $1: the program or its settings changed; starting it anew"
  fi
  # What a killed one left behind goes first.
  end "$1" "$(stop_seconds "$1")" || return 1
  launch "$1" "$ROOT" env -u POSTGRES_PASSWORD -u REDIS_PASSWORD "$DATA/bin/$1"
  keep_print "$1" "$print" "$2"
  sleep 0.1
}

# A worker may take its time to finish what it has begun.
stop_seconds() { if [ "$1" = worker ]; then echo "${WORKER_STOP_SECONDS:-60}"; else echo 30; fi; }

api_start() {
  program_start api "$API_PORT" || return 1
  wait_for api 90 api_healthy
}
api_healthy() { python3 "$ROOT/docker/lib/check.py" http "http://127.0.0.1:$API_PORT/health"; }
# ready: with its database, Redis and a worker
api_ready() { python3 "$ROOT/docker/lib/check.py" ready "http://127.0.0.1:$API_PORT/ready"; }

worker_start() {
  program_start worker - || return 1
  wait_for worker 120 worker_healthy && wait_for api 60 api_ready
}
worker_healthy() {
  CELERY_BROKER_URL=$BROKER_URL "$(venv_folder "$FLOWER_REQUIREMENTS")/bin/python" "$ROOT/docker/lib/check.py" worker "$(pid_of worker)"
}

flower_prepare() { make_venv "$FLOWER_REQUIREMENTS"; }

flower_start() {
  local python print
  python=$(venv_folder "$FLOWER_REQUIREMENTS")/bin/python
  [ "$APP_ENV" != development ] || export FLOWER_UNAUTHENTICATED_API=${FLOWER_UNAUTHENTICATED_API:-true}
  [ "$APP_ENV" = development ] || unset FLOWER_UNAUTHENTICATED_API
  print="$python $(env -0 | { grep -zE '^FLOWER_|^BROKER_URL=' || true; } | sort -z | sha256sum | cut -d' ' -f1)"
  if ! pid_of flower >/dev/null || ! same_print flower "$print"; then
    end flower 10 || return 1
    # The broker's address holds a password: in the environment, not on the command line, which all can read.
    mkdir -p "$DATA/flower"
    (
      export CELERY_BROKER_URL=$BROKER_URL PYTHONUNBUFFERED=1
      launch flower "$DATA/flower" env -u POSTGRES_PASSWORD -u REDIS_PASSWORD -u DATABASE_URL -u API_KEYS -u OPENAI_API_KEY \
        "$python" -m celery flower --address=127.0.0.1 --port="$FLOWER_PORT"
    )
    keep_print flower "$print" "$FLOWER_PORT"
    sleep 0.1
  fi
  wait_for flower 60 flower_healthy
}
# Flower shows a worker online only once that worker's events reach it.
flower_healthy() {
  CHECK_AUTH=${FLOWER_BASIC_AUTH:-} python3 "$ROOT/docker/lib/check.py" http "http://127.0.0.1:$FLOWER_PORT/" &&
    CHECK_AUTH=${FLOWER_BASIC_AUTH:-} python3 "$ROOT/docker/lib/check.py" flower "http://127.0.0.1:$FLOWER_PORT"
}
