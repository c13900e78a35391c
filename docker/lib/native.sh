# shellcheck shell=bash
# What backup and restore need of a stack that runs without containers.
: "${ROOT:?}" "${DATA:?}" "${RUN:?}"
# shellcheck source=process.sh
. "$ROOT/docker/lib/process.sh"
# shellcheck source=python.sh
. "$ROOT/docker/lib/python.sh"
# shellcheck source=postgres.sh
. "$ROOT/docker/lib/postgres.sh"
# shellcheck source=redis.sh
. "$ROOT/docker/lib/redis.sh"

# native_known: the settings and the servers of what runs
native_known() {
  choose_environment "$(cat "$RUN/environment" 2>/dev/null || echo "${APP_ENV:-development}")"
  [ -f "$SECRETS" ] && pid_of postgres >/dev/null && pid_of redis >/dev/null || die "the stack does not run; docker/start.sh starts it"
  load_settings
  POSTGRES_PORT=$(cat "$RUN/postgres.port") REDIS_PORT=$(cat "$RUN/redis.port")
  postgres_home
  postgres_programs
  redis_find || die "there is no redis-cli"
}

# postgres_tool PROGRAM ARGUMENT…: as the administrator, by the socket
postgres_tool() {
  local program=$1
  shift
  as_postgres "$POSTGRES_BIN/$program" -h "$(cat "$RUN/postgres.sockets")" -p "$POSTGRES_PORT" -U "$POSTGRES_ADMIN" "$@"
}
