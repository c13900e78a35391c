#!/usr/bin/env bash
# Ends what docker/start.sh began. Data stays, unless it is asked for.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

usage() {
  cat <<'HELP'
usage: docker/stop.sh [--volumes [--yes]]

Ends the stack, in containers or not: tasks that run may finish, the others go back to their queue. The data stays.

  --volumes   delete the data, too: database, Redis, certificates; asks before
  --yes       do not ask
HELP
}

# shellcheck source=lib/settings.sh
. "$ROOT/docker/lib/settings.sh"
volumes=() yes=no
for argument; do
  case $argument in
    --volumes) volumes=(--volumes) ;;
    --yes) yes=yes ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
if [ ${#volumes[@]} != 0 ] && [ "$yes" = no ]; then
  printf 'This deletes all data of this stack: documents, events, results, tasks that wait. Type yes to go on: '
  read -r answer || answer=
  [ "$answer" = yes ] || die "nothing was stopped, nothing was deleted"
fi

# In containers, if they run, or if it is their data that is to go.
if [ -f "$DATA/compose" ] || { [ ${#volumes[@]} != 0 ] && [ -f "$SECRETS" ] && engine_there; }; then
  engine_there || die "the stack was started in containers, and no Docker engine answers now"
  "$ROOT/docker/containers.sh" stop "${volumes[@]}"
  # Nothing of a stack without containers is there.
  if ! "$ROOT/docker/native.sh" running && { [ ${#volumes[@]} = 0 ] || [ ! -e "$DATA/redis" ]; }; then exit 0; fi
fi
exec "$ROOT/docker/native.sh" stop "${volumes[@]}"
