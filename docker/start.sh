#!/usr/bin/env bash
# Starts the whole stack and waits until all of it is healthy.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

usage() {
  cat <<'HELP'
usage: docker/start.sh [development|staging|production] [--scale SERVICE=N] [--no-build]      (default: APP_ENV, else development)

Starts PostgreSQL with pgvector, Redis, the API, a worker and Flower; returns 0 when all are healthy and says where each is.
A second run is harmless: what runs is left alone, what died is started again.

  --scale api=N, --scale worker=N   so many of them (API: in production only); lasts until the next start,
                                    API_REPLICAS and WORKER_REPLICAS in docker/.env last longer
  --no-build                        take the images that are there (IMAGE_TAG)

With a Docker engine and Compose: in containers. Without: the same, natively (docker/native.sh).
Settings, the first that has one: the process environment, docker/.env (made with random secrets when it is missing),
.env.<environment>. Staging and production are refused, with the list, while a secret is empty, well known or short.
Ports, on localhost only: API_PORT 8080, FLOWER_PORT 5555, POSTGRES_PORT 5432, REDIS_PORT 6379.
HELP
}

case " $* " in *' --help '* | *' -h '*) usage; exit 0 ;; esac
environment='' options=()
while [ $# -gt 0 ]; do
  case $1 in
    --scale) [ $# -gt 1 ] || { usage >&2; exit 2; }; options+=("$1" "$2"); shift ;;
    -*) options+=("$1") ;;
    *) [ -z "$environment" ] || { usage >&2; exit 2; }; environment=$1 ;;
  esac
  shift
done

# shellcheck source=lib/settings.sh
. "$ROOT/docker/lib/settings.sh"
choose_environment "$environment"

if "$ROOT/docker/native.sh" running; then
  say "This checkout's stack runs without containers; keeping to that (docker/stop.sh ends it)."
elif engine_there; then
  exec "$ROOT/docker/containers.sh" start "$APP_ENV" "${options[@]}"
else
  say "No Docker engine with Compose answers: starting the same stack without containers."
fi
[ ${#options[@]} = 0 ] || die "${options[*]}: only with a Docker engine"
exec "$ROOT/docker/native.sh" start "$APP_ENV"
