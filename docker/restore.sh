#!/usr/bin/env bash
# Brings back what docker/backup.sh wrote.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

usage() {
  cat <<'HELP'
usage: docker/restore.sh FOLDER [--yes]

Puts the database and Redis back as they were in FOLDER, in the place of what is there now, and starts the API, the workers
and Flower again. The stack runs before (docker/start.sh), in containers or not. Asks first.

  --yes   do not ask
HELP
}

# shellcheck source=lib/settings.sh
. "$ROOT/docker/lib/settings.sh"
yes=no folder=''
for argument; do
  case $argument in
    --yes) yes=yes ;;
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
    *) [ -z "$folder" ] || { usage >&2; exit 2; }; folder=$argument ;;
  esac
done
[ -n "$folder" ] || { usage >&2; exit 2; }
[ -f "$folder/SHA256SUMS" ] || die "$folder is no backup: it holds no SHA256SUMS"
folder=$(cd "$folder" && pwd -P)
(cd "$folder" && sha256sum --quiet --strict -c SHA256SUMS) || die "the backup is damaged; nothing was changed"
if [ -f "$DATA/compose" ]; then
  # shellcheck source=lib/containers.sh
  . "$ROOT/docker/lib/containers.sh"
  engine_there || die "no Docker engine answers, and the stack runs in containers"
else
  # shellcheck source=lib/native.sh
  . "$ROOT/docker/lib/native.sh"
  native_known
fi
if [ "$yes" = no ]; then
  printf 'This replaces all data of this stack by those of %s. Type yes to go on: ' "$folder"
  read -r answer || answer=
  [ "$answer" = yes ] || die "nothing was changed"
fi
empty="the database could not be restored and is empty now; the backup is whole: try again"

in_containers() {
  local scale keys
  lock
  known
  up database redis
  # Nobody may write meanwhile. Caddy stays and says that nobody is there.
  mapfile -t scale < <(for service in api worker; do
    count=$(compose ps -q "$service" | wc -l)
    [ "$count" -le 1 ] || printf '%s\n' --scale "$service=$count"
  done)
  compose stop flower worker api </dev/null 9>&-

  say "Restoring the database."
  admin() { compose exec -T database "$@"; }
  admin psql -X -q -v ON_ERROR_STOP=1 -U petiole_admin -d postgres -c "DROP DATABASE IF EXISTS \"$POSTGRES_DB\" WITH (FORCE)" </dev/null
  settle_database
  admin pg_restore -U petiole_admin -d "$POSTGRES_DB" --exit-on-error --single-transaction <"$folder/postgres.dump" || die "$empty"

  say "Restoring Redis."
  compose stop redis </dev/null 9>&-
  compose run --rm --no-deps -T redis sh -c 'cat >/data/dump.rdb' <"$folder/redis.rdb"
  keys=$(compose run --rm --no-deps -T redis sh /etc/petiole/redis.sh rewrite </dev/null) || die "Redis could not be restored"
  say "$keys keys"

  up database redis
  [ "$APP_ENV" = development ] || migrate
  up "${scale[@]}" api
  up "${scale[@]}" worker
  up "${scale[@]}"
  wait_ready
}

on_this_machine() {
  # The programs that run here are started again by the script that started them; it does not touch what lies elsewhere.
  local service
  native_lock
  for service in flower worker api; do end "$service" "$(stop_seconds "$service")" || die "$service could not be ended"; done

  say "Restoring the database."
  postgres_admin postgres -c "DROP DATABASE IF EXISTS \"$POSTGRES_DB\" WITH (FORCE)" </dev/null
  postgres_roles
  postgres_tool pg_restore -d "$POSTGRES_DB" --exit-on-error --single-transaction <"$folder/postgres.dump" || die "$empty"

  say "Restoring Redis."
  redis_stop || die "Redis could not be ended"
  redis_load "$folder/redis.rdb" || die "Redis could not be restored"
  flock -u 9
  "$ROOT/docker/native.sh" start "$APP_ENV"
}

if [ -f "$DATA/compose" ]; then in_containers; else on_this_machine; fi
say "Restored."
