#!/usr/bin/env bash
# The whole stack in containers, by Docker Compose.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

usage() {
  cat <<'HELP'
usage: docker/containers.sh start [development|staging|production] [--scale SERVICE=N] [--no-build]
       docker/containers.sh stop [--volumes] | status | logs [SERVICE…] [--follow] [--no-color] [--since TIME] [--tail N]
       docker/containers.sh compose ARGUMENT…     docker compose, with the files and settings of what runs

docker/start.sh, stop.sh, status.sh and logs.sh call this when the stack runs in containers.
Compose's own settings (COMPOSE_PROJECT_NAME, DOCKER_HOST) are respected; the project is called petiole.
HELP
}

# shellcheck source=lib/settings.sh
. "$ROOT/docker/lib/settings.sh"
# shellcheck source=lib/containers.sh
. "$ROOT/docker/lib/containers.sh"

port_is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

check_ports() {
  local pairs=() pair variable taken=no
  case $APP_ENV in
    development) pairs=(POSTGRES_PORT:database REDIS_PORT:redis API_PORT:api FLOWER_PORT:flower) ;;
    staging) pairs=(API_PORT:api FLOWER_PORT:flower) ;;
    production)
      export HTTP_PORT=${HTTP_PORT:-80} HTTPS_PORT=${HTTPS_PORT:-443}
      pairs=(HTTP_PORT:caddy HTTPS_PORT:caddy)
      ;;
  esac
  for pair in "${pairs[@]}"; do
    variable=${pair%%:*}
    # What already runs here keeps its port.
    [ -z "$(compose ps -q --status running "${pair#*:}" 2>/dev/null)" ] || continue
    if port_is_taken "${!variable}"; then
      warn "error: port ${!variable} ($variable) is taken by another program; end it, or set $variable in the environment or in docker/.env"
      taken=yes
    fi
  done
  [ "$taken" = no ] || exit 1
}

start() {
  local environment='' build=yes api=() worker=() before
  while [ $# -gt 0 ]; do
    case $1 in
      --scale | --scale=*)
        if [ "$1" = --scale ]; then shift; set -- "--scale=${1:-}" "${@:2}"; fi
        case $1 in
          --scale=api=[1-9]*) api=("$1") ;;
          --scale=worker=[1-9]*) worker=("$1") ;;
          *) die "--scale wants api=N or worker=N" ;;
        esac
        ;;
      --no-build) build=no ;;
      -*) usage >&2; exit 2 ;;
      *) [ -z "$environment" ] || { usage >&2; exit 2; }; environment=$1 ;;
    esac
    shift
  done
  choose_environment "$environment"
  lock
  make_secrets
  prepare
  check_ports
  # Another environment's containers go first; its data stays.
  before=$(cat "$STATE" 2>/dev/null || echo "$APP_ENV")
  [ "$before" = "$APP_ENV" ] || APP_ENV=$before compose --progress quiet down --remove-orphans 9>&-
  printf '%s\n' "$APP_ENV" >"$STATE"
  say "Starting the $APP_ENV stack in containers; the first time takes minutes."
  if [ "$build" = yes ]; then build_images; fi
  up database redis
  settle_database
  [ "$APP_ENV" = development ] || migrate
  # Compose takes a number of replicas only where it starts that service.
  up "${api[@]}" api
  up "${api[@]}" "${worker[@]}" worker
  up --remove-orphans "${api[@]}" "${worker[@]}"
  wait_ready
  urls
}

urls() {
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
      say "  Flower     https://${SITE_ADDRESS:-localhost}:$HTTPS_PORT/flower/        password: FLOWER_BASIC_AUTH in docker/.env"
      say "  PostgreSQL and Redis are reached from inside only."
      ;;
  esac
  say "Logs: docker/logs.sh   State: docker/status.sh   Stop: docker/stop.sh"
}

stop() {
  local volumes
  known
  # Each service has its own time to end (stop_grace_period).
  compose --progress quiet down --remove-orphans </dev/null
  rm -rf "$STATE" "$DATA/application.env" "$DATA/secrets"
  [ "${1:-}" = --volumes ] || { say "Stopped. The data is kept in Docker's volumes."; return; }
  mapfile -t volumes < <(docker volume ls -q --filter "label=com.docker.compose.project=$PROJECT")
  [ ${#volumes[@]} = 0 ] || docker volume rm "${volumes[@]}" >/dev/null
  say "Stopped, and deleted ${#volumes[@]} volumes of the project $PROJECT."
}

status() {
  known
  compose ps -a --format 'table {{.Name}}\t{{.Service}}\t{{.Status}}\t{{.Ports}}'
  [ -z "$(ill)" ] || { say "Not healthy: $(ill | cut -d' ' -f1 | sort -u | tr '\n' ' ')"; return 1; }
  # On a busy machine a worker may be late with its answer.
  ready || ready || ready || { say "The API is not ready."; return 1; }
}

# logs: one line a time, the older first; each service has its colour
logs() {
  # Compose writes codes for terminals even into a pipe.
  local follow=no color=yes arguments=() services=() paint='s/\r?\x1b\[2K//g;' number=0 service all
  while [ $# -gt 0 ]; do
    case $1 in
      -f | --follow) follow=yes ;;
      --no-color) color=no ;;
      --since | --tail) [ $# -gt 1 ] || die "$1 wants a value"; arguments+=("$1" "$2"); shift ;;
      --since=* | --tail=*) arguments+=("$1") ;;
      -*) die "unknown option $1; docker/logs.sh --help" ;;
      *) services+=("$1") ;;
    esac
    shift
  done
  known
  # Not in a pipe to grep, which may end it as a failure when it has found what it looks for.
  all=$(compose config --services | sort)
  for service in "${services[@]}"; do
    grep -qxF -- "$service" <<<"$all" || die "unknown service '$service'; there are ${all//$'\n'/ }"
  done
  [ -t 1 ] && [ -z "${NO_COLOR:-}" ] || color=no
  [ "$follow" = no ] || arguments+=(--follow)
  if [ "$color" = yes ]; then
    for service in $all; do
      paint+="s/^($service-[0-9]+ *\\|)/\\x1b[$((31 + number % 6))m\\1\\x1b[0m/;"
      number=$((number + 1))
    done
  else
    # Nor the colours that the programs themselves write.
    paint+='s/\x1b\[[0-9;]*m//g;'
  fi
  compose logs --no-color --timestamps "${arguments[@]}" "${services[@]}" 2>&1 </dev/null |
    if [ "$follow" = yes ]; then sed -uE "$paint"; else LC_ALL=C sort -s -t '|' -k 2.2,2.31 | sed -E "$paint"; fi
}

case ${1:-} in
  start) shift; start "$@" ;;
  stop) lock; stop "${2:-}" ;;
  status) status ;;
  logs) shift; logs "$@" ;;
  compose) shift; known; compose "$@" ;;
  -h | --help) usage ;;
  *) usage >&2; exit 2 ;;
esac
