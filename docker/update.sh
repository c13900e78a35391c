#!/usr/bin/env bash
# Brings a running stack to the images of this checkout, without a request that fails.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

usage() {
  cat <<'HELP'
usage: docker/update.sh [--no-build] [--pull] [--force]

For a staging or production stack that runs in containers. Step by step:
  1. new images: built from this checkout; with --pull fetched (API_IMAGE, WORKER_IMAGE, IMAGE_TAG); with --no-build those
     that are there
  2. the migrations of the new version, while the old one runs on: they must fit both
  3. workers: new ones first, then the old ones are drained, one by one (warm: what runs finishes, the rest goes back)
  4. API: new replicas beside the old ones; when they are healthy, the old ones end, one by one. In staging, where no Caddy
     stands before it, the API is away for some seconds
  5. Flower and Caddy, if their settings or images changed
What is up to date is left alone, unless --force is given. When a new container does not become healthy, the new ones are
taken away and the old ones stay.
HELP
}

# shellcheck source=lib/settings.sh
. "$ROOT/docker/lib/settings.sh"
# shellcheck source=lib/containers.sh
. "$ROOT/docker/lib/containers.sh"
build=yes pull=no force=no
for argument; do
  case $argument in
    --no-build) build=no ;;
    --pull) build=no pull=yes ;;
    --force) force=yes ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
engine_there && [ -f "$STATE" ] || die "the stack does not run in containers; docker/start.sh production starts it"
lock
known
[ "$APP_ENV" != development ] || die "development builds by itself what changes; this is for staging and production"

[ "$build" = no ] || build_images
[ "$pull" = no ] || compose pull api worker </dev/null

# outdated SERVICE: the ids of its containers that Compose would make anew, for their image or their settings
outdated() {
  local ids=() names
  mapfile -t ids < <(compose ps -q --no-trunc "$1")
  [ ${#ids[@]} != 0 ] || return 0
  if [ "$force" = yes ]; then printf '%s\n' "${ids[@]}"; return; fi
  names=$(compose --dry-run up -d --no-build "${keep[@]}" 2>&1 | sed -nE 's/^.*Container ([^ ]+) +Recreate$/\1/p')
  docker inspect --format '{{slice .Name 1}} {{.Id}}' "${ids[@]}" | while read -r name id; do
    ! grep -qxF -- "$name" <<<"$names" || printf '%s\n' "$id"
  done
}

# roll SERVICE: as many new ones as there are, then the old ones go, one by one
roll() {
  local service=$1 old count new id started=yes
  mapfile -t old < <(outdated "$service")
  count=$(compose ps -q "$service" | wc -l)
  if [ ${#old[@]} = 0 ]; then say "$service is up to date."; return; fi
  say "$service: ${#old[@]} new beside ${#old[@]} old"
  # All services are named by none: the others are left as they are, in the number that they have.
  # Compose gives up by itself where another service waits for this one's health.
  compose --progress quiet up -d --no-build --no-recreate "${keep[@]}" --scale "$service=$((count + ${#old[@]}))" </dev/null 9>&- || started=no
  mapfile -t new < <(compose ps -aq --no-trunc "$service" | grep -vxFf <(printf '%s\n' "${old[@]}"))
  if ! (wait_healthy "$service") || [ $started = no ]; then
    [ ${#new[@]} = 0 ] || docker rm -f "${new[@]}" >/dev/null
    die "the new version of $service is not healthy and was taken away; the old one runs on"
  fi
  for id in "${old[@]}"; do
    docker stop "$id" >/dev/null
    docker rm "$id" >/dev/null
    say "$service: an old one has ended"
  done
}

# keep_scale: what runs in several replicas goes on doing so
keep_scale() {
  keep=(--scale "worker=$(compose ps -q worker | wc -l)")
  [ "$APP_ENV" != production ] || keep+=(--scale "api=$(compose ps -q api | wc -l)")
}

settle_database
say "Migrations."
migrate
keep_scale
roll worker
keep_scale
[ "$APP_ENV" != production ] || roll api
keep_scale
# The rest, if something about it changed; in staging the API is part of it.
up "${keep[@]}"
wait_ready
say "Up to date: $VERSION."
