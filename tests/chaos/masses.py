"""Much of everything: messages that wait, tasks that run, bodies, names that nobody knows."""
import time

from cluster import message, wait
from scenarios import books

QUIET = {"LOG_LEVEL": "error", "RUST_LOG": "error"}


def backlog(house, options):
    """A long queue: the worker holds no more of it, and fetches no slower."""
    house.fsync = "everysec"
    house.redis.config_set("appendfsync", "everysec")
    count, part = (1_000_000 if options.long else 30_000), 5_000
    house.start("a", TASK_ACKS_LATE=1, WORKER_CONCURRENCY=8, **QUIET)
    house.ready("a")
    rate_of_few, small = speed(house, part)
    house.app.control.cancel_consumer("celery", destination=["a@chaos"], reply=True)
    house.send(count, first=part)
    house.app.control.add_consumer("celery", destination=["a@chaos"], reply=True)
    began, before = time.monotonic(), len_of(house)
    wait("the first of them run", lambda: len_of(house) >= before + part, 120)
    rate_of_many, large = part / (time.monotonic() - began), house.rss("a")
    waits = house.redis.llen("celery")
    if not options.long:
        emptied = house.drained(120)
        held, told = books(house, count + part)
    else:
        house.redis.delete("celery")
        held, emptied, told = True, house.drained(60), f"sent {count + part}, the rest thrown away after the measurement"
    return held and emptied and large < small * 1.25 + 5 and rate_of_many > rate_of_few * 0.6, (
        f"{told}; with {waits} waiting {rate_of_many:.0f} a second and {large:.0f} MB, with few {rate_of_few:.0f} and {small:.0f} MB")


def speed(house, count):
    """Tasks a second, and the worker's memory after."""
    began, before = time.monotonic(), len_of(house)
    house.send(count, first=0)
    wait("they run", lambda: len_of(house) >= before + count, 120)
    return count / (time.monotonic() - began), house.rss("a")


def len_of(house):
    """How many entries the book has: counted by its length, for it is long."""
    try:
        with open(house.book, "rb") as book:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: book.read(1 << 20), b""))
    except FileNotFoundError:
        return 0


def steady(house, options):
    """One worker, many tasks with results: its memory stays."""
    house.redis.config_set("appendfsync", "everysec")
    count = 1_000_000 if options.long else 40_000
    house.start("a", TASK_ACKS_LATE=1, WORKER_CONCURRENCY=16, RESULT_EXPIRES=20, **QUIET)
    house.ready("a")
    seen, part = [], count // 20
    for turn in range(20):
        house.send(part, "add", lambda n: [n, 1], ignore_result=False)
        wait("they are done", lambda: not house.redis.llen("celery") and not house.redis.hlen("unacked"), 600)
        seen.append(house.rss("a"))
    # The first fifth fills what is allocated once.
    first, last = max(seen[2:5]), max(seen[-3:])
    return last <= first * 1.05 + 1, (
        f"{count} tasks: {first:.1f} MB after the first fifth, {last:.1f} MB at the end ({(last / first - 1) * 100:+.1f} %)")


def unknown(house, options):
    """Names that nobody knows: each is recorded, none is in the way."""
    house.redis.config_set("appendfsync", "everysec")
    count = 100_000 if options.long else 3_000
    house.start("a", TASK_ACKS_LATE=1, **QUIET)
    house.ready("a")
    before = house.rss("a")
    began = time.monotonic()
    for begin in range(0, count, 1000):
        house.redis.lpush("celery", *(
            message(f"nobody.knows.{n}", [n], {"ignore_result": False}) for n in range(begin, min(begin + 1000, count))))
    house.send(100)
    emptied = house.drained(60 + count / 500)
    taken, grown = time.monotonic() - began, house.rss("a") - before
    failed = sum(1 for _ in house.redis.scan_iter("celery-task-meta-*", 10_000))
    held, told = books(house, 100)
    return held and emptied and failed == count and grown < 40, (
        f"{count} unknown names, {failed} recorded as failures in {taken:.0f} s; the others: {told}; the worker grew by {grown:.0f} MB")


def body(house, options):
    """A body of 50 MB runs like any other, and costs its memory only while it does."""
    house.start("a", TASK_ACKS_LATE=1)
    house.ready("a")
    house.send(10)
    wait("it works", lambda: len(house.runs()) == 10)
    before = house.rss("a")
    size = 50_000_000
    house.redis.lpush("celery", message("t.integration.tasks.identity", ["x" * size], {"ignore_result": False, "argsrepr": "'x…'"}))
    house.send(20, first=100)
    emptied = house.drained(60)
    held, told = books(house, 30)
    stored = [house.redis.strlen(key) for key in house.redis.scan_iter("celery-task-meta-*", 1000)]
    house.send(100, first=1000)
    wait("it works on", lambda: len(house.runs()) == 130)
    time.sleep(2)
    after = house.rss("a")
    return held and emptied and any(length > size for length in stored) and after < before + 3 * size / 1e6, (
        f"50 MB in and out, a result of {max(stored, default=0) / 1e6:.0f} MB stored; beside it {told}; "
        f"{before:.0f} MB before, {after:.0f} MB after")


ALL = {scenario.__name__: scenario for scenario in (backlog, steady, unknown, body)}
