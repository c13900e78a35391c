"""What takes long, lies far ahead, and what the clocks say."""
import os
import subprocess
import time
from datetime import datetime, timedelta, timezone

import celery

from cluster import TASKS, wait
from scenarios import books


def at(seconds):
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat()


def then_write(house, seconds, n):
    """A task that takes its time, and one that then enters its number in the book."""
    signature = house.app.signature
    return celery.chain(signature(TASKS + "sleeping", args=[seconds], immutable=True),
                        signature(TASKS + "write_to_file_and_return_int", args=house.entry(n), immutable=True), app=house.app)


def once(house, numbers):
    runs = house.runs()
    twice = sum(1 for times in runs.values() if times > 1)
    return set(runs.items()) == {(n, 1) for n in numbers}, (
        f"sent {len(numbers)}, finished {len(runs)}, lost {len(set(numbers) - set(runs))}, more than once {twice}")


def long(house, options):
    """Five times as long as the visibility timeout, with an idle worker of ours and one of Python's beside."""
    settings = {"TASK_ACKS_LATE": 1, "VISIBILITY_TIMEOUT": 4}
    house.start("a", **settings)
    house.ready("a")
    for n in range(4):
        then_write(house, 20, n).apply_async()
    house.send(4, first=100, eta=at(20))
    wait("it holds them", lambda: house.redis.hlen("unacked") == 8)
    house.start("b", **settings)
    if house.command:
        house.start("python", python=True, **settings)
    time.sleep(22)
    emptied = house.drained(40)
    held, told = once(house, [0, 1, 2, 3, 100, 101, 102, 103])
    return held and emptied, f"{told}; five visibility timeouts, idle workers of both kinds beside"


def python(house, options):
    """A Python worker's long task: an idle worker of ours leaves it alone, whatever the clock says."""
    settings = {"TASK_ACKS_LATE": 1, "VISIBILITY_TIMEOUT": 3600}
    house.start("python", python=True, **settings)
    house.ready("python")
    for n in range(4):
        then_write(house, 12, n).apply_async()
    wait("it holds them", lambda: house.redis.hlen("unacked") == 4)
    house.start("ours", **{**settings, "VISIBILITY_TIMEOUT": 2})
    emptied = house.drained(60)
    held, told = once(house, range(4))
    return held and emptied, f"{told}; six of our visibility timeouts"


def clocks(house, options):
    """Hosts whose clocks are five minutes apart from Redis', either way."""
    shim = os.path.join(house.folder, "clock.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, os.path.join(os.path.dirname(__file__), "clock.c"), "-ldl"],
                   check=True)
    settings = {"TASK_ACKS_LATE": 1, "VISIBILITY_TIMEOUT": 4, "LD_PRELOAD": shim, "WORKER_ETA_TASK_LIMIT": 2}
    for name, skew in (("fast", 300), ("slow", -300), ("right", 0)):
        house.start(name, CLOCK_SKEW=skew, **settings)
    house.ready("fast", "slow", "right")
    began, wait_for = time.monotonic(), 10
    for n in range(9):
        then_write(house, 12, n).apply_async()
    house.send(30, first=100, eta=at(wait_for))
    early = 0
    while time.monotonic() < began + wait_for - 0.5:
        early = max(early, len(house.runs()))
        time.sleep(0.1)
    wait("all etas have run", lambda: sum(1 for n in house.runs() if n >= 100) == 30, 60)
    late = time.monotonic() - began - wait_for
    emptied = house.drained(40)
    held, told = once(house, [*range(9), *range(100, 130)])
    return held and emptied and early == 0, (
        f"{told}; clocks ±5 minutes: {early} before its time, the last {late:.1f} s after it; three visibility timeouts")


def etas(house, options):
    """Many tasks for later: they wait on Redis, and a killed worker changes nothing."""
    count = options.tasks * (50 if options.long else 2)
    settings = {"TASK_ACKS_LATE": 1, "LOG_LEVEL": "warning"}
    for name in ("a", "b"):
        house.start(name, **settings)
    house.ready("a", "b")
    before = house.rss("a")
    wait_for = 12 + count / 2000
    began = time.monotonic()
    house.send(count, eta=at(wait_for))
    wait("they are fetched", lambda: not house.redis.llen("celery"), wait_for)
    time.sleep(0.5)
    fetched, held_by_both, waiting = time.monotonic() - began, house.redis.hlen("unacked"), house.redis.zcard("petiole:waiting")
    grown = house.rss("a") - before
    shown = sum(len(rows) for rows in (house.app.control.inspect(timeout=5).scheduled() or {}).values())
    house.kill("b")
    early = len(house.runs())
    while time.monotonic() < began + wait_for - 0.5:
        early = max(early, len(house.runs()))
        time.sleep(0.2)
    house.start("b", **settings)
    emptied = house.drained(60 + count / 500)
    done = time.monotonic() - began - wait_for
    held, told = books(house, count)
    known = min(count, held_by_both + 10_000)
    return held and emptied and not early and grown < 40 and held_by_both + waiting == count and shown >= known, (
        f"{told}; fetched within {fetched:.0f} s, then {held_by_both} held and {waiting} waiting on Redis, {shown} shown; "
        f"the worker grew by {grown:.0f} MB; one killed; all done {done:.0f} s after their time, {early} before")


ALL = {scenario.__name__: scenario for scenario in (long, python, clocks, etas)}
