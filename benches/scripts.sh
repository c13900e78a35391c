#!/usr/bin/env bash
# Prints what the worker's Lua scripts cost Redis. QUICK=1 for less, MESSAGES=n for how many messages are counted.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=lib.sh
. "$ROOT/benches/lib.sh"
prepare
cd "$ROOT/benches"
"$PYTHON" -m measure.scripts
