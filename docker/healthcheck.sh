#!/usr/bin/env bash
# Health of a container, with nothing but bash: the images hold no HTTP client.
#   healthcheck http PORT PATH     the page answers 200; prints it
#   healthcheck connected PORT     a connection to that port of another container stands (a worker's to its broker)
set -euo pipefail

case ${1:-} in
  http)
    exec 3<>"/dev/tcp/127.0.0.1/$2"
    printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$3" >&3
    answer=$(cat <&3)
    printf '%s\n' "${answer##*$'\r\n\r\n'}"
    [[ $answer == 'HTTP/1.'?' 200 '* ]]
    ;;
  connected)
    printf -v port ':%04X' "$2"
    # columns: number, own address, other's address, state (01: established)
    awk -v port="$port" '$3 ~ port "$" && $4 == "01" { found = 1 } END { exit !found }' /proc/net/tcp /proc/net/tcp6
    ;;
  *)
    echo "usage: healthcheck http PORT PATH | connected PORT" >&2
    exit 2
    ;;
esac
