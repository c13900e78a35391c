#!/usr/bin/env bash
# A PostgreSQL with pgvector of the chaos tests' own: postgres.sh start|stop|kill FOLDER, with POSTGRES_PORT and
# POSTGRES_PASSWORD set. It is durable, as in production.
set -euo pipefail
CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
ROOT=$CHECKOUT
# shellcheck source=../../docker/lib/settings.sh
. "$CHECKOUT/docker/lib/settings.sh"
ROOT=$2 DATA=$2 LOGS=$2/logs RUN=$2/run
mkdir -p "$LOGS" "$RUN"
chmod 755 "$2"
# shellcheck source=../../docker/lib/process.sh
. "$CHECKOUT/docker/lib/process.sh"
# shellcheck source=../../docker/lib/python.sh
. "$CHECKOUT/docker/lib/python.sh"
# shellcheck source=../../docker/lib/postgres.sh
. "$CHECKOUT/docker/lib/postgres.sh"
export POSTGRES_USER=petiole POSTGRES_DB=petiole

case $1 in
  start) need_python && postgres_prepare && postgres_start ;;
  stop) postgres_stop ;;
  kill) for pid in $(postgres_processes); do kill -9 "$pid" || true; done ;;
  *) exit 2 ;;
esac
