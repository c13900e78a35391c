"""pytest plugin: the suite's session worker is a process that runs already.

Celery starts a worker in a thread of the test process. Four places of the suite lean on that, and each of them is given
here what it finds there otherwise; the suite's files stay as they were shipped:

- the session's fixture starts a worker: it gets a stand-in for the one outside;
- `wait_until_idle`, after every test, asks until nobody is busy, for ever if need be: it gets an end, and takes the first
  answer for all, as there is but one worker;
- `NODENAME` is the name of a worker in this process: it becomes that of the one outside;
- `successful_requests` is a set in the worker's memory, which tells of tasks that leave no result: it is filled from the
  worker's events.

What is left out, and why, stands in left_out.toml. `CELERY_SUITE_*` in the environment come from __main__.py.
"""
import contextlib
import json
import os
import threading
import time
import tomllib
from types import SimpleNamespace

import pytest
from celery import Celery
from celery.contrib.testing import manager, worker
from celery.worker import state

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = "t/integration/"
NODE = os.environ["CELERY_SUITE_NODE"]
PART = os.environ["CELERY_SUITE_PART"]
BOOK = os.environ["CELERY_SUITE_BOOK"]
SECONDS = float(os.environ["CELERY_SUITE_SECONDS"])
SLOTS = int(os.environ["CELERY_SUITE_SLOTS"])
BUSY_SECONDS = 20


# The worker

class Finished(threading.Thread):
    """Notes which tasks succeeded, as the worker tells it."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self.app = Celery(broker=url, set_as_current=False)
        self.listens = threading.Event()
        self.receiver = None
        self.start()

    def run(self):
        with self.app.connection_for_read() as connection:
            self.receiver = self.app.events.Receiver(connection, handlers={"task-succeeded": self.note})
            self.receiver.on_consume_ready = lambda *_, **__: self.listens.set()
            self.receiver.capture(limit=None, timeout=None, wakeup=False)

    @staticmethod
    def note(event):
        state.successful_requests.add(event["uuid"])


@contextlib.contextmanager
def stand_in(app, **_):
    """In the place of `start_worker`."""
    finished = Finished(app.conf.broker_url)
    assert finished.listens.wait(30), "nobody brings the worker's events"
    yield SimpleNamespace(hostname=NODE)
    finished.receiver.should_stop = True


def wait_until_idle(self):
    """Empties the queue, then waits until the worker has nothing in its hands, but not for ever."""
    until = time.monotonic() + BUSY_SECONDS
    with self.app.connection() as connection:
        while self.app.control.purge(connection=connection):
            assert time.monotonic() < until, "the queue is filled again and again"
        inspect = self.app.control.inspect(timeout=3, limit=1)
        inspect.connection = connection
        while True:
            active, waiting = inspect.active(), inspect.reserved()
            # What waits may be held by a rate limit: no reason to wait with it for long.
            if active == {NODE: []} and (waiting == {NODE: []} or time.monotonic() > until - BUSY_SECONDS + 3):
                return
            assert time.monotonic() < until, f"the worker does not come to rest: {active}, {waiting}"
            time.sleep(0.02)


worker.start_worker = stand_in
manager.ManagerMixin.wait_until_idle = wait_until_idle


# The tests

def names_of(nodeid):
    """The names under which a list may name a test: its own, without parameters, its class, its file."""
    name = nodeid.removeprefix(FOLDER)
    yield name
    name = name.split("[", 1)[0]
    while name:
        yield name
        name = name.rpartition("::")[0]


def listed(name):
    with open(os.path.join(HERE, name), "rb") as file:
        return tomllib.load(file)


def left_out():
    """What is not run; some of it only with many slots."""
    reasons = listed("left_out.toml").values()
    return {name for reason in reasons if SLOTS > reason.get("slots", 0) for name in reason["tests"]}


def in_vain(mark):
    """Tests that Celery expects to fail on the backend `rpc` must pass on Redis."""
    return mark.name == "xfail" and "rpc" in mark.kwargs.get("reason", "")


def pytest_ignore_collect(collection_path):
    """Files that are left out whole are not even read: some need libraries of other backends."""
    out = left_out()
    return True if collection_path.name in out else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    out = left_out()
    times = listed("times.toml")
    wanted = set(times["short"]) if PART == "short" else None
    known, kept, dropped = set(), [], []
    for item in items:
        names = set(names_of(item.nodeid))
        known |= names
        left = names & out or (wanted is not None and not names & wanted)
        (dropped if left else kept).append(item)
    gone = {name for name in (wanted or set()) | out | set(times["seconds"]) if "::" in name} - known
    if gone and not config.option.keyword and not config.known_args_namespace.file_or_dir[1:]:
        raise pytest.UsageError(f"the lists name tests that the suite does not have: {sorted(gone)}")
    config.hook.pytest_deselected(items=dropped)
    items[:] = kept
    for item in items:
        seconds = max([SECONDS] + [times["seconds"].get(name, 0) for name in names_of(item.nodeid)])
        item.add_marker(pytest.mark.timeout(seconds), append=False)
        for node in item.listchain():
            node.own_markers[:] = [mark for mark in node.own_markers if not in_vain(mark)]
        if hasattr(item.module, "NODENAME"):
            item.module.NODENAME = NODE


# The book of what happened

outcomes, durations = {}, {}


def pytest_runtest_logreport(report):
    """A test has failed when any part of it has: a subtest, or what comes before or after."""
    durations[report.nodeid] = durations.get(report.nodeid, 0) + (report.duration or 0)
    before = outcomes.setdefault(report.nodeid, "passed" if report.when == "call" or report.failed else "begun")
    if report.failed:
        outcomes[report.nodeid] = "failed"
    elif report.skipped and before != "failed":
        outcomes[report.nodeid] = "expected to fail" if hasattr(report, "wasxfail") else "skipped"
    elif report.when == "call" and before == "begun":
        outcomes[report.nodeid] = "passed"


def pytest_sessionfinish(session):
    for item in session.items:
        outcomes.setdefault(item.nodeid, "not run")
    with open(BOOK, "w", encoding="utf-8") as file:
        json.dump({"outcomes": outcomes, "seconds": durations}, file)
