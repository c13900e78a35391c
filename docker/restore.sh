#!/usr/bin/env bash
# Brings back what docker/backup.sh wrote.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

usage() {
  cat <<'HELP'
usage: docker/restore.sh FOLDER [--yes]

Puts the database and Redis back as they were in FOLDER, in the place of what is there now, and starts the API, the workers
and Flower again. The stack runs in containers before (docker/start.sh). Asks first.

  --yes   do not ask
HELP
}

# shellcheck source=lib/settings.sh
. "$ROOT/docker/lib/settings.sh"
# shellcheck source=lib/containers.sh
. "$ROOT/docker/lib/containers.sh"
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
engine_there && [ -f "$STATE" ] || die "the stack does not run in containers; docker/start.sh ENVIRONMENT starts it"
if [ "$yes" = no ]; then
  printf 'This replaces all data of this stack by those of %s. Type yes to go on: ' "$folder"
  read -r answer || answer=
  [ "$answer" = yes ] || die "nothing was changed"
fi

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
admin pg_restore -U petiole_admin -d "$POSTGRES_DB" --exit-on-error --single-transaction <"$folder/postgres.dump" ||
  die "the database could not be restored and is empty now; the backup is whole: try again"

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
say "Restored."
