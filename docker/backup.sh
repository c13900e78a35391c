#!/usr/bin/env bash
# Copies PostgreSQL and Redis while they run.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

usage() {
  cat <<'HELP'
usage: docker/backup.sh [--to FOLDER]

Writes the database and Redis into a new folder below FOLDER (default: docker/backups), named by the time, and prints its
path. The stack runs on, in containers or not. Both show the same moment, give or take a second.

  postgres.dump   pg_dump's custom format, with the schema
  redis.rdb       messages that wait or are held, results, schedules
  SHA256SUMS      of both

Passwords and keys (docker/.env) are no part of it. docker/restore.sh FOLDER brings it back.
HELP
}

# shellcheck source=lib/settings.sh
. "$ROOT/docker/lib/settings.sh"
to=$ROOT/docker/backups
while [ $# -gt 0 ]; do
  case $1 in
    --to) [ $# -gt 1 ] || { usage >&2; exit 2; }; to=$2; shift ;;
    --to=*) to=${1#*=} ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

umask 077
mkdir -p "$to"
folder=$(cd "$to" && pwd -P)/$(date -u +%Y-%m-%dT%H-%M-%SZ)
[ ! -e "$folder" ] || die "$folder is there already"
mkdir "$folder.part"
trap 'rm -rf "$folder.part"' EXIT

if [ -f "$DATA/compose" ]; then
  # shellcheck source=lib/containers.sh
  . "$ROOT/docker/lib/containers.sh"
  known
  redis() { compose exec -T redis sh /etc/petiole/redis.sh operator "$@" </dev/null; }
  redis_file() { compose exec -T redis cat /data/dump.rdb </dev/null; }
  dump() { compose exec -T database pg_dump -U petiole_admin -Fc "$POSTGRES_DB" </dev/null; }
else
  # shellcheck source=lib/native.sh
  . "$ROOT/docker/lib/native.sh"
  native_known
  redis() { REDISCLI_AUTH=$REDIS_PASSWORD "${REDIS_CLIENT[@]}" -h 127.0.0.1 -p "$REDIS_PORT" "$@" </dev/null; }
  redis_file() { cat "$DATA/redis/dump.rdb"; }
  dump() { postgres_tool pg_dump -Fc "$POSTGRES_DB"; }
fi

# The time of the last dump is in whole seconds: a dump that ends in the same one is waited out.
last=$(redis LASTSAVE)
sleep 1.1
# What Redis saves is what it holds now; what PostgreSQL dumps is what it holds a moment later.
redis BGSAVE >/dev/null || die "Redis does not save"
dump >"$folder.part/postgres.dump" || die "PostgreSQL gave no dump"
for _ in $(seq 600); do
  sleep 0.5
  info=$(redis INFO persistence | tr -d '\r')
  if grep -qx 'rdb_bgsave_in_progress:0' <<<"$info" && [ "$(redis LASTSAVE)" != "$last" ]; then break; fi
done
grep -qx 'rdb_last_bgsave_status:ok' <<<"$info" || die "Redis could not save: docker/logs.sh redis"
[ "$(redis LASTSAVE)" != "$last" ] || die "Redis did not save within 5 minutes"
redis_file >"$folder.part/redis.rdb"
[ "$(head -c 5 "$folder.part/redis.rdb")" = REDIS ] || die "Redis gave no dump"
[ "$(head -c 5 "$folder.part/postgres.dump")" = PGDMP ] || die "PostgreSQL gave no dump"
(cd "$folder.part" && sha256sum postgres.dump redis.rdb >SHA256SUMS)
mv "$folder.part" "$folder"
say "$folder"
