#!/usr/bin/env bash
# The whole stack in containers, by Docker Compose.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

usage() {
  cat <<'HELP'
usage: docker/containers.sh start [development|staging|production]
       docker/containers.sh stop | status | logs [SERVICE…] [--follow] [--no-color] [--since TIME]

docker/start.sh, stop.sh, status.sh and logs.sh call this when the stack runs in containers.
Compose's own settings (COMPOSE_PROJECT_NAME, DOCKER_HOST) are respected; the project is called petiole.
HELP
}

# shellcheck source=lib/settings.sh
. "$ROOT/docker/lib/settings.sh"

STATE=$DATA/compose

# write_application_env: every setting of the application that is set here, for the containers of API and worker
write_application_env() {
  local name value
  (
    umask 077
    while IFS= read -r -d '' name; do
      value=${name#*=} name=${name%%=*}
      # Addresses and places are the containers' own.
      case $name in
        API_HOST | API_PORT | MODEL_DIR | POSTGRES_* | REDIS_*) continue ;;
      esac
      # So is localhost: an address on it is the published port of this very stack.
      case $name in
        BROKER_URL | RESULT_BACKEND | DATABASE_URL) ! [[ $value =~ (@|//)(127\.0\.0\.1|localhost)[:/] ]] || continue ;;
      esac
      case $value in *"'"* | *$'\n'*) die "$name holds a quote or a new line, which cannot be given to a container" ;; esac
      printf "%s='%s'\n" "$name" "$value"
    done < <(settings_in_environment) >"$DATA/application.env"
  )
}

prepare() {
  load_settings
  export REDIS_PASSWORD_QUOTED
  REDIS_PASSWORD_QUOTED=$(quote_url "$REDIS_PASSWORD")
  write_application_env
}

check_ports() {
  local pairs=() pair variable service
  case $APP_ENV in
    development) pairs=(POSTGRES_PORT:database REDIS_PORT:redis API_PORT:api FLOWER_PORT:flower) ;;
    staging) pairs=(API_PORT:api FLOWER_PORT:flower) ;;
    production)
      export HTTP_PORT=${HTTP_PORT:-80} HTTPS_PORT=${HTTPS_PORT:-443}
      pairs=(HTTP_PORT:caddy HTTPS_PORT:caddy)
      ;;
  esac
  local wanted=()
  for pair in "${pairs[@]}"; do
    variable=${pair%%:*} service=${pair#*:}
    # What already runs here keeps its port.
    [ -z "$(compose ps -q --status running "$service" 2>/dev/null)" ] || continue
    wanted+=("$variable=${!variable}")
  done
  [ ${#wanted[@]} = 0 ] || CHECK_FOR_ENGINE=1 python3 "$ROOT/docker/lib/check.py" ports "${wanted[@]}" || exit 1
}

# ready: the API is, with its database, Redis and a worker, asked inside its container
ready() { compose exec -T api healthcheck http 8080 /ready </dev/null >/dev/null 2>&1; }

failed() {
  local service
  warn "error: the stack did not become healthy. Its services:"
  compose ps -a --format 'table {{.Service}}\t{{.Status}}' >&2 || true
  for service in $(compose ps -a --format '{{.Service}} {{.Health}}' | awk '$2 != "healthy" { print $1 }' | sort -u); do
    warn ""
    warn "The last lines of $service:"
    compose logs --no-color --no-log-prefix --tail 25 "$service" >&2 || true
  done
  exit 1
}

start() {
  local until before
  choose_environment "${1:-}"
  mkdir -p "$DATA" "$DATA/logs" "$DATA/run"
  exec 9>"$DATA/lock"
  flock -n 9 || { say "Another start or stop is under way in this checkout; waiting for it."; flock -w 3600 9 || die "it did not end"; }
  make_secrets
  prepare
  check_ports
  # Another environment's containers go first; its data stays.
  before=$(cat "$STATE" 2>/dev/null || echo "$APP_ENV")
  [ "$before" = "$APP_ENV" ] || APP_ENV=$before compose down --remove-orphans 9>&-
  printf '%s\n' "$APP_ENV" >"$STATE"
  say "Starting the $APP_ENV stack in containers; the first time takes minutes."
  if [ "$APP_ENV" = development ]; then compose build api 9>&-; else compose build 9>&-; fi </dev/null
  compose up -d --wait --wait-timeout "${START_TIMEOUT:-2400}" --remove-orphans </dev/null 9>&- || failed
  until=$((SECONDS + 120))
  until ready; do [ "$SECONDS" -lt "$until" ] || failed; sleep 1; done
  say ""
  say "Petiole runs ($APP_ENV, in containers):"
  case $APP_ENV in
    development)
      say "  API        http://127.0.0.1:$API_PORT        description: /docs  /redoc  /openapi.json"
      say "  Flower     http://127.0.0.1:$FLOWER_PORT"
      say "  PostgreSQL 127.0.0.1:$POSTGRES_PORT, database $POSTGRES_DB, user $POSTGRES_USER, password in docker/.env"
      say "  Redis      127.0.0.1:$REDIS_PORT, password in docker/.env"
      ;;
    staging)
      say "  API        http://127.0.0.1:$API_PORT        keys: API_KEYS in docker/.env"
      say "  Flower     http://127.0.0.1:$FLOWER_PORT        password: FLOWER_BASIC_AUTH in docker/.env"
      ;;
    production)
      say "  API        https://${SITE_ADDRESS:-localhost}:$HTTPS_PORT        keys: API_KEYS in docker/.env"
      say "  Flower, PostgreSQL and Redis are reached from inside only."
      ;;
  esac
  say "Logs: docker/logs.sh   State: docker/status.sh   Stop: docker/stop.sh"
}

# known: the environment that runs
known() {
  choose_environment "$(cat "$STATE" 2>/dev/null || echo "${APP_ENV:-development}")"
  [ -f "$SECRETS" ] || die "docker/.env is missing; docker/start.sh makes it"
  prepare
}

case ${1:-} in
  start) start "${2:-}" ;;
  stop)
    known
    compose down --remove-orphans --timeout 60 </dev/null
    rm -f "$STATE" "$DATA/application.env"
    say "Stopped. The data is kept in Docker's volumes."
    ;;
  status)
    known
    compose ps -a --format 'table {{.Service}}\t{{.Status}}\t{{.Ports}}'
    ready || { say "The API is not ready."; exit 1; }
    [ -z "$(compose ps -a --format '{{.Health}}' | grep -vx healthy || true)" ]
    ;;
  logs)
    shift
    known
    arguments=(--timestamps)
    [ -t 1 ] && [ -z "${NO_COLOR:-}" ] || arguments+=(--no-color)
    compose logs "${arguments[@]}" "$@"
    ;;
  -h | --help) usage ;;
  *) usage >&2; exit 2 ;;
esac
