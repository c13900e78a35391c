"""Small checks of a native stack that the scripts cannot do in plain bash; Python's standard library only.

    check.py ports NAME=PORT…       each port can be bound on 127.0.0.1; otherwise says who holds which
    check.py free COUNT             that many free ports
    check.py http URL               the page answers 200 (basic authentication from CHECK_AUTH)
    check.py ready URL              the API is ready and has seen a worker
    check.py flower URL             Flower receives the events of a worker that is online
    check.py worker PID             the worker with that process id answers by remote control (needs celery;
                                    broker from CELERY_BROKER_URL)
"""
import base64
import json
import os
import socket
import sys
import urllib.error
import urllib.request


def holder(port):
    """Who listens on the port: 'program (process id)', as far as this user may see it."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as lines:
                rows = [line.split() for line in lines][1:]
        except OSError:
            continue
        inodes |= {f"socket:[{row[9]}]" for row in rows
                   if row[3] == "0A" and int(row[1].rsplit(":", 1)[1], 16) == port}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{descriptor}") in inodes:
                    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as name:
                        return f"{name.read().strip()} (process {pid})"
        except OSError:
            continue
    return "another program"


def ports(pairs):
    taken, seen = [], {}
    for pair in pairs:
        name, port = pair.split("=")
        port = int(port)
        if port in seen:
            taken.append(f"{name} and {seen[port]} are both {port}; give one of them another port")
        seen[port] = name
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind(("127.0.0.1", port))
            except PermissionError:
                # An engine opens ports with its own rights; only whether somebody has it can be asked.
                if os.environ.get("CHECK_FOR_ENGINE"):
                    with socket.socket() as other:
                        if other.connect_ex(("127.0.0.1", port)) == 0:
                            taken.append(f"port {port} ({name}) is taken by {holder(port)}; set {name} to a free port")
                    continue
                taken.append(f"{name}={port}: this user may not open a port below 1024; set {name} to a higher one")
            except OSError:
                taken.append(f"port {port} ({name}) is taken by {holder(port)}. You can end that program, or set {name} to "
                             f"a free port in the environment or in docker/.env")
    for line in taken:
        print(f"error: {line}", file=sys.stderr)
    return 1 if taken else 0


def free(count):
    held = []
    for _ in range(count):
        one = socket.socket()
        one.bind(("127.0.0.1", 0))
        held.append(one)
    print(*(one.getsockname()[1] for one in held))
    return 0


def fetch(url):
    request = urllib.request.Request(url)
    if os.environ.get("CHECK_AUTH"):
        # Flower takes several pairs, separated by commas; the first will do.
        pair = os.environ["CHECK_AUTH"].split(",")[0]
        request.add_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
    # No proxy of the environment stands between this machine and itself.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except (OSError, ValueError) as error:
        return 0, str(error).encode()


def answers(url):
    status, body = fetch(url)
    if status != 200:
        print(f"{url}: {status} {body[:300].decode(errors='replace')}")
        return 1
    return 0


def ready(url):
    status, body = fetch(url)
    try:
        workers = json.loads(body)["checks"]["workers"]
    except (ValueError, LookupError, TypeError):
        workers = None
    if status == 200 and isinstance(workers, int) and workers >= 1:
        return 0
    print(f"{url}: {status} {body[:300].decode(errors='replace')}")
    return 1


def flower(url):
    status, body = fetch(f"{url}/workers?json=1")
    try:
        online = [row for row in json.loads(body)["data"] if row.get("status")]
    except (ValueError, LookupError, TypeError, AttributeError):
        online = []
    if status == 200 and online:
        return 0
    print(f"{url}: {status}, no worker is shown online")
    return 1


def worker(pid):
    from celery import Celery
    app = Celery(broker=os.environ["CELERY_BROKER_URL"], set_as_current=False)
    found = app.control.inspect(timeout=1).stats() or {}
    pids = {name: stats.get("pid") for name, stats in found.items() if isinstance(stats, dict)}
    if pid in pids.values():
        return 0
    print(f"no answer from process {pid} (answers: {pids})")
    return 1


def main(command="", *arguments):
    if command == "ports":
        return ports(arguments)
    if command == "free":
        return free(int(arguments[0]))
    if command == "worker":
        return worker(int(arguments[0]))
    if command in ("http", "ready", "flower"):
        return {"http": answers, "ready": ready, "flower": flower}[command](arguments[0])
    print(__doc__, file=sys.stderr)
    return 2


sys.exit(main(*sys.argv[1:]))
