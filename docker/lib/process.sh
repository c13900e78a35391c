# shellcheck shell=bash
# Processes of a native stack: started detached, found again by what they are, ended by their id.
: "${ROOT:?}" "${RUN:?}" "${LOGS:?}"

# Each process carries this in its environment. It tells a process of this checkout from every other, so no pid file has
# to be believed: neither a stale one nor one that is missing.
marker() { printf 'PETIOLE_STACK=%s:%s' "$ROOT" "$1"; }

# processes_of SERVICE: the ids of all its processes, one a line
processes_of() {
  local file pid
  if [ "$1" = postgres ]; then postgres_processes; return; fi
  { grep -lszxF -e "$(marker "$1")" /proc/[0-9]*/environ || true; } | while IFS= read -r file; do
    pid=${file#/proc/}; pid=${pid%/environ}
    ! alive "$pid" || printf '%s\n' "$pid"
  done
}

# alive PID: it is there and no zombie
alive() {
  local state
  state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) || return 1
  [ -n "$state" ] && [ "$state" != Z ] && [ "$state" != X ]
}

# pid_of SERVICE: the id of its main process (the leader of its session); fails when there is none
pid_of() {
  local pid session
  if [ "$1" = postgres ]; then postgres_pid; return; fi
  for pid in $(processes_of "$1"); do
    session=$(sed -E 's/^.*\) //' "/proc/$pid/stat" 2>/dev/null | cut -d' ' -f4) || continue
    [ "$session" != "$pid" ] || { printf '%s\n' "$pid"; return 0; }
  done
  return 1
}

# launch SERVICE FOLDER COMMAND…: starts it in FOLDER, away from this terminal, its output to its log
launch() {
  local service=$1 folder=$2
  shift 2
  mkdir -p "$LOGS" "$RUN"
  printf '%s start %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$service" >>"$LOGS/$service.log"
  # A background job of a script ignores INT and QUIT; the service gets both back. Descriptor 9 is the lock.
  (cd "$folder" && exec setsid env --default-signal=INT,QUIT "$(marker "$service")" "$@" \
    </dev/null >>"$LOGS/$service.log" 2>&1 9>&-) &
  printf '%s\n' "$!" >"$RUN/$service.pid"
}

# end SERVICE SECONDS [SIGNAL]: asks its main process to end, waits, then ends what is left
end() {
  local service=$1 until pid pids signal=${3:-TERM}
  until=$((SECONDS + $2))
  if pid=$(pid_of "$service"); then
    kill -s "$signal" "$pid" 2>/dev/null || true
    while alive "$pid" && [ "$SECONDS" -lt "$until" ]; do sleep 0.1; done
    ! alive "$pid" || warn "$service did not end in $2 s and is killed"
  fi
  until=$((SECONDS + 10))
  while pids=$(processes_of "$service") && [ -n "$pids" ]; do
    [ "$SECONDS" -lt "$until" ] || { warn "$service: cannot end process $pids"; return 1; }
    # shellcheck disable=SC2086
    kill -KILL $pids 2>/dev/null || true
    sleep 0.1
  done
  rm -f "$RUN/$service.pid" "$RUN/$service.print" "$RUN/$service.port"
}

# What a service was started with, so that a second start leaves it alone.
same_print() { [ "$(cat "$RUN/$1.print" 2>/dev/null)" = "$2" ]; }
keep_print() { (umask 077; printf '%s\n' "$2" >"$RUN/$1.print"); printf '%s\n' "$3" >"$RUN/$1.port"; }

# wait_for SERVICE SECONDS CHECK…: until CHECK succeeds; at once a failure when its process ended
wait_for() {
  local service=$1 until=$((SECONDS + $2))
  shift 2
  while ! "$@" >"$RUN/$service.check" 2>&1; do
    if ! pid_of "$service" >/dev/null; then sleep 0.3; pid_of "$service" >/dev/null || { failed "$service" "it ended"; return 1; }; fi
    [ "$SECONDS" -lt "$until" ] || { failed "$service" "not healthy in time: $(tail -n 1 "$RUN/$service.check")"; return 1; }
    sleep 0.2
  done
}

# failed SERVICE WHY: says so, with the end of its log
failed() {
  warn "error: $1: $2. The end of $LOGS/$1.log:"
  tail -n 25 "$LOGS/$1.log" >&2 2>/dev/null || true
}

# as_root_install PACKAGE…: Debian packages, by one apt-get at a time
as_root_install() {
  [ "$(id -u)" = 0 ] || { warn "error: $* is missing and only root can install it: apt-get install $*"; return 1; }
  command -v apt-get >/dev/null || { warn "error: $* is missing and there is no apt-get to install it"; return 1; }
  (
    flock 8
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=300 update -qq &&
      apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$@"
  ) 8>"$RUN/apt.lock" </dev/null 9>&-
}
