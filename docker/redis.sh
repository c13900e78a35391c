#!/bin/sh
# Redis in its container: `serve` starts the server, `check` is its health check, `operator ARGUMENTS…` is redis-cli with
# every right, `rewrite` makes a dump that lies in /data the data of the next start.
#
# The password opens what Celery needs. What can empty, stop, copy or reconfigure the server is left to the user `operator`,
# whose password is made at each start and never leaves the container.
set -eu

usage() { echo "usage: docker/redis.sh serve | check | operator ARGUMENT… | rewrite    (inside the container of Redis)"; }

password() {
  if [ -n "${REDIS_PASSWORD:-}" ]; then printf '%s' "$REDIS_PASSWORD"; else cat /run/secrets/redis_password; fi
}
hash() { sha256sum | cut -d' ' -f1; }

case ${1:-} in
  serve)
    umask 077
    head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >/tmp/operator
    # INFO tells of memory and clients; it is "dangerous" only in telling. Only hashes of passwords are written down.
    cat >/tmp/redis.conf <<CONFIGURATION
dir /data
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
user default on #$(password | hash) ~* &* +@all -@dangerous +info
user operator on #$(hash </tmp/operator) ~* &* +@all
CONFIGURATION
    exec redis-server /tmp/redis.conf
    ;;
  check)
    REDISCLI_AUTH=$(password) redis-cli ping | grep -q PONG
    ;;
  operator)
    shift
    REDISCLI_AUTH=$(cat /tmp/operator) exec redis-cli --user operator "$@"
    ;;
  rewrite)
    # An append-only file is what a start reads: it is made of the dump by a server that nobody reaches.
    rm -rf /data/appendonlydir
    redis-server --port 0 --unixsocket /tmp/restore.sock --dir /data --dbfilename dump.rdb --appendonly no --save '' --daemonize yes \
      --logfile /tmp/restore.log >/dev/null
    quiet() { redis-cli -s /tmp/restore.sock "$@"; }
    until quiet ping 2>/dev/null | grep -q PONG; do sleep 0.2; done
    quiet config set appendonly yes >/dev/null
    while quiet info persistence | grep -Eq 'aof_rewrite_in_progress:1|aof_rewrite_scheduled:1'; do sleep 0.2; done
    quiet info persistence | grep -q 'aof_last_bgrewrite_status:ok' || { cat /tmp/restore.log >&2; exit 1; }
    quiet dbsize
    quiet shutdown nosave || true
    rm -f /data/dump.rdb
    ;;
  -h | --help) usage ;;
  *) usage >&2; exit 2 ;;
esac
