#!/usr/bin/env bash
# What the services wrote, in one view.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

usage() {
  cat <<'HELP'
usage: docker/logs.sh [SERVICE…] [--follow] [--no-color] [--since TIME] [--tail N]

  SERVICE       postgres (in containers: database), redis, api, worker, flower, caddy; default: all
  -f, --follow  go on with what is written from now on
  --no-color    plain text (also with NO_COLOR, or when the output is no terminal)
  --tail N      only the last N lines of each service (in containers)
  --since TIME  only what is newer: 10m, 2h, 30s, or a time such as 2026-01-31T12:00:00Z
HELP
}
case " $* " in *' --help '* | *' -h '*) usage; exit 0 ;; esac

# shellcheck source=lib/settings.sh
. "$ROOT/docker/lib/settings.sh"
if [ -f "$DATA/compose" ]; then exec "$ROOT/docker/containers.sh" logs "$@"; fi
exec "$ROOT/docker/native.sh" logs "$@"
