#!/usr/bin/env bash
# The whole stack on this machine, without containers: PostgreSQL with pgvector, Redis, the API, a worker, Flower.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

usage() {
  cat <<'HELP'
usage: docker/native.sh start [development|staging|production]
       docker/native.sh stop [--volumes] | status | logs [SERVICE…] [--follow] [--no-color] [--since TIME]

  start    builds what changed, starts what does not run, waits until all of it is healthy
  stop     ends all of it; data stays, unless --volumes is given
  status   what runs; 0 only when everything does
  logs     what the services wrote, in one view

Services: postgres redis api worker flower. Data, logs and process ids are in docker/.data.
What is fetched or built is kept in ${XDG_CACHE_HOME:-$HOME/.cache}/petiole.

Settings beside those of the application (see docker/.env.example):
  BIN_DIR               a folder with ready-made programs `api` and `worker`; nothing is built then
  CARGO_TARGET_DIR      where cargo builds
  WORKER_STOP_SECONDS   how long the worker may take to finish what it has begun; default 60
A BROKER_URL or DATABASE_URL that names another machine is used; the server for it is then not started here.
HELP
}

# shellcheck source=lib/settings.sh
. "$ROOT/docker/lib/settings.sh"
# shellcheck source=lib/process.sh
. "$ROOT/docker/lib/process.sh"
# shellcheck source=lib/python.sh
. "$ROOT/docker/lib/python.sh"
# shellcheck source=lib/postgres.sh
. "$ROOT/docker/lib/postgres.sh"
# shellcheck source=lib/redis.sh
. "$ROOT/docker/lib/redis.sh"
# shellcheck source=lib/application.sh
. "$ROOT/docker/lib/application.sh"

SERVICES=(postgres redis api worker flower)

# One start or stop at a time; the lock goes with this process.
lock() {
  mkdir -p "$DATA" "$LOGS" "$RUN"
  exec 9>"$DATA/lock"
  flock -n 9 || { say "Another start or stop is under way in this checkout; waiting for it."; flock -w 1800 9 || die "it did not end"; }
}

# own URL PORT: the URL names a server of this stack
own() { [[ $1 =~ @?(127\.0\.0\.1|localhost):$2(/|\?|$) ]]; }

check_ports() {
  local pairs=() service variable
  for service in postgres:POSTGRES_PORT redis:REDIS_PORT api:API_PORT flower:FLOWER_PORT; do
    variable=${service#*:} service=${service%%:*}
    case $service in
      postgres) [ "$with_postgres" = yes ] || continue ;;
      redis) [ "$with_redis" = yes ] || continue ;;
    esac
    # What already runs here keeps its port.
    if pid_of "$service" >/dev/null && [ "$(cat "$RUN/$service.port" 2>/dev/null)" = "${!variable}" ]; then continue; fi
    pairs+=("$variable=${!variable}")
  done
  [ ${#pairs[@]} = 0 ] || python3 "$ROOT/docker/lib/check.py" ports "${pairs[@]}" || exit 1
}

declare -A job=()
started=$SECONDS
progress() { printf '[%3d s] %s\n' $((SECONDS - started)) "$*"; }

# prepare NAME COMMAND…: in the background, its output to its own log
prepare() {
  local name=$1
  shift
  ("$@") </dev/null >"$LOGS/prepare-$name.log" 2>&1 9>&- &
  job[$name]=$!
}

# prepared NAME: waits for it
prepared() {
  local name=$1 pid=${job[$1]} next=$((SECONDS + 30))
  while kill -0 "$pid" 2>/dev/null; do
    [ "$SECONDS" -lt "$next" ] || { progress "still at it: $name: $(tail -n 1 "$LOGS/prepare-$name.log" | tail -c 100 | tr -d '\r\033')"; next=$((SECONDS + 30)); }
    sleep 0.1
  done
  unset "job[$name]"
  wait "$pid" && return 0
  warn "error: $name failed. The end of $LOGS/prepare-$name.log:"
  tail -n 40 "$LOGS/prepare-$name.log" >&2
  exit 1
}

# What is still being prepared ends with this script.
give_up() {
  local pid
  for pid in "${job[@]}"; do kill_tree "$pid"; done
}
kill_tree() {
  local child
  # shellcheck disable=SC2013 # the file is one line of words
  for child in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do kill_tree "$child"; done
  kill "$1" 2>/dev/null || true
}

start() {
  choose_environment "${1:-}"
  lock
  trap give_up EXIT
  trap 'exit 143' TERM
  trap 'exit 130' INT
  make_secrets
  load_settings
  local_urls
  with_postgres=no with_redis=no
  ! own "$DATABASE_URL" "$POSTGRES_PORT" || with_postgres=yes
  ! own "$BROKER_URL" "$REDIS_PORT" || with_redis=yes
  need_python
  check_ports
  printf '%s\n' "$APP_ENV" >"$RUN/environment"
  progress "starting the $APP_ENV stack without containers"

  [ "$with_postgres" = no ] || prepare postgres postgres_prepare
  [ "$with_redis" = no ] || prepare redis redis_prepare
  [ ! -x "$ROOT/docker/fetch-models.sh" ] || [ -n "${OPENAI_BASE_URL:-}" ] || prepare model "$ROOT/docker/fetch-models.sh"
  prepare flower flower_prepare
  prepare programs build_programs

  if [ "$with_postgres" = yes ]; then
    prepared postgres
    postgres_start || exit 1
    progress "postgres is ready"
  fi
  if [ "$with_redis" = yes ]; then
    prepared redis
    redis_start || exit 1
    progress "redis is ready"
  fi
  prepared flower
  if [ -n "${job[model]:-}" ]; then prepared model; progress "the model is there"; fi
  progress "building the programs"
  prepared programs
  api_start || exit 1
  progress "api is up"
  worker_start || exit 1
  progress "worker answers"
  flower_start || exit 1
  progress "flower is ready"
  urls
}

urls() {
  say ""
  say "Petiole runs ($APP_ENV, without containers):"
  say "  API        http://127.0.0.1:$API_PORT        description: /docs  /redoc  /openapi.json"
  say "  Flower     http://127.0.0.1:$FLOWER_PORT"
  if [ "$with_postgres" = yes ]; then say "  PostgreSQL 127.0.0.1:$POSTGRES_PORT, database $POSTGRES_DB, user $POSTGRES_USER, password in docker/.env"
  else say "  PostgreSQL as DATABASE_URL says"; fi
  if [ "$with_redis" = yes ]; then say "  Redis      127.0.0.1:$REDIS_PORT, password in docker/.env"
  else say "  Redis      as BROKER_URL says"; fi
  say "Logs: docker/logs.sh   State: docker/status.sh   Stop: docker/stop.sh"
}

stop() {
  local failures=0
  lock
  end flower 10 || failures=1
  end worker "$(stop_seconds worker)" || failures=1
  end api 30 || failures=1
  redis_stop || failures=1
  postgres_stop || failures=1
  [ "$failures" = 0 ] || die "not everything could be ended"
  [ "${1:-}" = --volumes ] || { say "Stopped. The data is kept in docker/.data."; return; }
  postgres_home
  rm -rf "$POSTGRES_HOME" "$DATA/redis" "$DATA/flower"
  say "Stopped, and deleted the data of PostgreSQL and Redis."
}

status() {
  local service pid code=0 health
  choose_environment "$(cat "$RUN/environment" 2>/dev/null || echo "${APP_ENV:-development}")"
  [ -f "$SECRETS" ] || { say "Nothing was started here yet; docker/start.sh does."; return 1; }
  load_settings
  local_urls
  for service in "${SERVICES[@]}"; do
    case $service in
      postgres) own "$DATABASE_URL" "$POSTGRES_PORT" || { printf '%-9s elsewhere\n' "$service"; continue; } ;;
      redis) own "$BROKER_URL" "$REDIS_PORT" || { printf '%-9s elsewhere\n' "$service"; continue; } ;;
    esac
    if ! pid=$(pid_of "$service"); then
      printf '%-9s down\n' "$service"
      code=1
      continue
    fi
    # It runs with the port that it was started with, whatever the settings say by now.
    case $service in
      postgres) POSTGRES_PORT=$(cat "$RUN/postgres.port" 2>/dev/null || echo "$POSTGRES_PORT") ;;
      redis) REDIS_PORT=$(cat "$RUN/redis.port" 2>/dev/null || echo "$REDIS_PORT"); unset BROKER_URL; local_urls ;;
      api) API_PORT=$(cat "$RUN/api.port" 2>/dev/null || echo "$API_PORT") ;;
      flower) FLOWER_PORT=$(cat "$RUN/flower.port" 2>/dev/null || echo "$FLOWER_PORT") ;;
    esac
    if [ "$service" = api ]; then health=api_ready; else health=${service}_healthy; fi
    if "$health" >"$RUN/$service.check" 2>&1; then
      printf '%-9s healthy   pid %s\n' "$service" "$pid"
    else
      printf '%-9s unhealthy pid %s: %s\n' "$service" "$pid" "$(head -n 1 "$RUN/$service.check")"
      code=1
    fi
  done
  return "$code"
}

# running: something of this checkout runs natively
running() {
  local service
  for service in "${SERVICES[@]}"; do ! pid_of "$service" >/dev/null || return 0; done
  return 1
}

case ${1:-} in
  start) start "${2:-}" ;;
  stop) stop "${2:-}" ;;
  status) status ;;
  running) running ;;
  logs) shift; exec python3 "$ROOT/docker/lib/logs.py" "$LOGS" "$@" ;;
  -h | --help) usage ;;
  *) usage >&2; exit 2 ;;
esac
