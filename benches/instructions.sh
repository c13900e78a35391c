#!/usr/bin/env bash
# Instructions of the hot paths, counted by valgrind and compared with instructions.txt; --renew writes a new baseline.
# Fails where a path needs more than 5 % more (--tolerance PER_CENT).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec cargo run --quiet --locked --profile instructions -p petiole-benches -- instructions "$@"
