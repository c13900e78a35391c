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
# shellcheck source=application.sh
. "$ROOT/docker/lib/application.sh"

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

# native_lock: one start, stop or restore at a time; the lock goes with this process
native_lock() {
  exec 9>"$DATA/lock"
  flock -n 9 || { say "Another start or stop is under way in this checkout; waiting for it."; flock -w 1800 9 || die "it did not end"; }
}

# redis_load FILE: makes a dump the data of the next start. That reads the append-only file, which a server that nobody
# reaches makes of the dump. Prints the number of keys.
redis_load() {
  local folder=$DATA/redis socket work status=0
  rm -rf "$folder/appendonlydir" "$folder/appendonly.aof"
  (umask 077; cp "$1" "$folder/dump.rdb")
  # A socket's path is short.
  work=$(mktemp -d /tmp/petiole-redis.XXXXXX)
  socket=$work/socket
  "${REDIS_COMMAND[@]}" --port 0 --unixsocket "$socket" --dir "$folder" --dbfilename dump.rdb --appendonly no --save '' --daemonize yes \
    --pidfile "$work/pid" --logfile "$work/log" >/dev/null </dev/null 9>&-
  redis_load_wait "$socket" || { cat "$work/log" >&2; status=1; }
  "${REDIS_CLIENT[@]}" -s "$socket" shutdown nosave >/dev/null 2>&1 </dev/null || true
  rm -rf "$work" "$folder/dump.rdb"
  return "$status"
}
redis_load_wait() {
  local until=$((SECONDS + 600)) info
  quiet() { "${REDIS_CLIENT[@]}" -s "$socket" "$@" 2>/dev/null </dev/null; }
  until quiet ping | grep -q PONG; do
    # It has no process id any more when it could not read the dump.
    [ "$SECONDS" -lt "$until" ] && { [ ! -f "$work/pid" ] || kill -0 "$(cat "$work/pid")" 2>/dev/null; } || return 1
    sleep 0.2
  done
  quiet config set appendonly yes >/dev/null
  while info=$(quiet info persistence) && grep -Eq 'aof_rewrite_in_progress:1|aof_rewrite_scheduled:1' <<<"$info"; do sleep 0.2; done
  grep -q 'aof_last_bgrewrite_status:ok' <<<"$info" && say "$(quiet dbsize) keys"
}
