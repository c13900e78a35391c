#!/usr/bin/env bash
# Ends what docker/start.sh began. Data stays.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

case ${1:-} in
  '') ;;
  -h | --help) echo "usage: docker/stop.sh    ends the stack, in containers or not; the data stays"; exit 0 ;;
  *) echo "usage: docker/stop.sh" >&2; exit 2 ;;
esac

# shellcheck source=lib/settings.sh
. "$ROOT/docker/lib/settings.sh"
if [ -f "$DATA/compose" ]; then
  engine_there || die "the stack was started in containers, and no Docker engine answers now"
  "$ROOT/docker/containers.sh" stop
fi
exec "$ROOT/docker/native.sh" stop
