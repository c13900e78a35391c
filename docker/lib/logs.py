"""Shows the logs of the native services in one view: logs.py FOLDER [SERVICE…] [--follow] [--no-color] [--since TIME]."""
import argparse
import datetime
import os
import re
import sys
import time

SERVICES = ("postgres", "redis", "api", "worker", "flower")
COLORS = {name: f"\033[{35 + i if i else 36}m" for i, name in enumerate(SERVICES)}
ESCAPES = re.compile(r"\033\[[0-9;]*[A-Za-z]")
ISO = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d+))?\s?(Z|UTC|[+-]\d\d:?\d\d)?")
SHORT = re.compile(r"(\d{6}) (\d\d:\d\d:\d\d)")                 # Flower's
REDIS = re.compile(r"(\d\d \w{3} \d{4}) (\d\d:\d\d:\d\d)\.(\d+)")


def written(line):
    """When the line says that it was written, in seconds since 1970; None when it does not say."""
    head = line[:90]
    try:
        if found := ISO.search(head):
            day, clock, part, zone = found.groups()
            moment = datetime.datetime.fromisoformat(f"{day}T{clock}")
            if zone and zone not in ("Z", "UTC"):
                moment = datetime.datetime.strptime(f"{day}T{clock}{zone.replace(':', '')}", "%Y-%m-%dT%H:%M:%S%z")
            elif zone:
                moment = moment.replace(tzinfo=datetime.timezone.utc)
            return moment.timestamp() + float(f"0.{part or 0}")
        if found := REDIS.search(head):
            moment = datetime.datetime.strptime(f"{found[1]} {found[2]}", "%d %b %Y %H:%M:%S")
            return moment.timestamp() + float(f"0.{found[3]}")
        if found := SHORT.search(head):
            return datetime.datetime.strptime(f"{found[1]} {found[2]}", "%y%m%d %H:%M:%S").timestamp()
    except ValueError:
        pass
    return None


def since(text):
    if found := re.fullmatch(r"(\d+)([smhd]?)", text):
        return time.time() - int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]
    try:
        moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: it may be 30s, 10m, 2h, 1d, or a time such as 2026-01-31T12:00:00Z")
    return moment.timestamp()


def show(service, line, colors):
    if colors:
        print(f"{COLORS[service]}{service:<8} |\033[0m {line}")
    else:
        print(f"{service:<8} | {ESCAPES.sub('', line)}")


def main():
    parser = argparse.ArgumentParser(prog="docker/logs.sh")
    parser.add_argument("folder", help=argparse.SUPPRESS)
    parser.add_argument("services", nargs="*", metavar="SERVICE", help=", ".join(SERVICES))
    parser.add_argument("-f", "--follow", action="store_true")
    parser.add_argument("--no-color", action="store_true")
    parser.add_argument("--since", type=since, default=0)
    args = parser.parse_args()
    for name in args.services:
        if name not in SERVICES:
            parser.error(f"unknown service {name!r}; there are {', '.join(SERVICES)}")
    colors = sys.stdout.isatty() and not args.no_color and not os.environ.get("NO_COLOR")
    chosen = args.services or SERVICES
    places, rows = {}, []
    for service in chosen:
        places[service] = 0
        try:
            with open(f"{args.folder}/{service}.log", "rb") as log:
                text = log.read()
        except OSError:
            continue
        places[service] = len(text)
        # A line without a time belongs to the one before it.
        last = 0.0
        for line in text.decode("utf-8", "replace").splitlines():
            last = written(ESCAPES.sub("", line)) or last
            if last >= args.since:
                rows.append((last, len(rows), service, line))
    for _, _, service, line in sorted(rows):
        show(service, line, colors)
    sys.stdout.flush()
    while args.follow:
        for service in chosen:
            try:
                with open(f"{args.folder}/{service}.log", "rb") as log:
                    if places[service] > os.fstat(log.fileno()).st_size:
                        places[service] = 0
                    log.seek(places[service])
                    text = log.read()
            except OSError:
                continue
            # Half a line waits for its other half.
            whole = text[:text.rfind(b"\n") + 1]
            places[service] += len(whole)
            for line in whole.decode("utf-8", "replace").splitlines():
                show(service, line, colors)
        sys.stdout.flush()
        time.sleep(0.25)


try:
    main()
except (KeyboardInterrupt, BrokenPipeError):
    sys.stderr.close()
