#!/usr/bin/env bash
# Builds a program of the mounted source, runs it, and builds and starts it anew when the source changes. A build that fails
# is shown and the program before it runs on. It looks once a second: events of a mounted folder do not reach every container.
#   watch-and-run PROGRAM
set -euo pipefail

program=${1:?usage: watch-and-run PROGRAM}
own=/programs/$program
child='' compiler=''

# What the program is built from, its own folder and what is shared: names, times and sizes.
look() { find Cargo.toml Cargo.lock "$program" shared -path '*/target' -prune -o -type f -not -name '*~' -printf '%p %T@ %s\n' 2>/dev/null | sort | sha256sum; }

stop() {
  [ -n "$child" ] || return 0
  kill -TERM "$child" 2>/dev/null || true
  wait "$child" || true
  child=
}
leave() {
  [ -z "$compiler" ] || kill -TERM "$compiler" 2>/dev/null || true
  stop
  exit 0
}
trap leave TERM INT

build() {
  echo "watch: building $program"
  # In the background: a signal is heard while it builds.
  cargo build --locked --bin "$program" &
  compiler=$!
  wait "$compiler" || { compiler=''; return 1; }
  compiler=''
  cp -f "$CARGO_TARGET_DIR/debug/$program" "$own.new" && mv -f "$own.new" "$own"
}

seen=
while true; do
  now=$(look)
  if [ "$now" != "$seen" ]; then
    seen=$now
    if build; then
      stop
      echo "watch: starting $program"
      "$own" &
      child=$!
    else
      echo "watch: the build failed; ${child:+the program before it runs on; }waiting for a change"
    fi
  elif [ -n "$child" ] && ! kill -0 "$child" 2>/dev/null; then
    wait "$child" || echo "watch: $program ended with $?"
    child=
    # The container's restart policy takes it from here.
    exit 1
  fi
  sleep 1 &
  wait $! || true
done
