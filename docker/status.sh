#!/usr/bin/env bash
# What runs, and whether it is healthy.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

case ${1:-} in
  '') ;;
  -h | --help) echo "usage: docker/status.sh    each service's state; 0 only when all are healthy"; exit 0 ;;
  *) echo "usage: docker/status.sh" >&2; exit 2 ;;
esac

# shellcheck source=lib/settings.sh
. "$ROOT/docker/lib/settings.sh"
if [ -f "$DATA/compose" ]; then exec "$ROOT/docker/containers.sh" status; fi
exec "$ROOT/docker/native.sh" status
