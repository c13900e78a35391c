"""Periodic tasks: our beat, and Celery's own, with workers of either side."""
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from datetime import datetime, timedelta

import pytest

from waiting import PATIENCE, wait_until


@pytest.fixture
def name():
    return f"e2e-beat-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def beats(stack, client, tmp_path):
    """Starts beats of ours that stand in for each other, and not for the stack's own."""
    prefix = f"e2e:{uuid.uuid4().hex[:8]}:beat:"
    if not stack.worker_program():
        pytest.skip("there is no program of ours to start")
    running = []

    def start(schedule, *flags):
        log = tmp_path / f"beat-{len(running)}.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [stack.worker_program(), "beat", "-l", "DEBUG", "-s", "unused", *flags], stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "BROKER_URL": stack.broker_url, "RESULT_BACKEND": stack.backend_url, "LOG_FORMAT": "human",
                     "DATABASE_URL": "postgres://nobody@127.0.0.1:1/nothing", "BEAT_LOCK_TIMEOUT": "2",
                     "BEAT_SCHEDULE": json.dumps(schedule), "NO_COLOR": "1", "BEAT_KEY_PREFIX": prefix},
            )
        running.append(process)
        return process, log.read_text
    start.prefix = prefix
    yield start
    for process in running:
        if process.poll() is None:
            process.terminate()
            process.wait(20)
    client.broker.delete(*(prefix + key for key in ("lock", "fence", "entries")))


def messages(client, queue):
    return [json.loads(text) for text in reversed(client.broker.lrange(queue, 0, -1))]


def test_log_of_our_beat_reads_as_celerys(client, beats, queue):
    _, log = beats({"tick": {"task": "demo.add", "schedule": 0.3, "args": [2, 3], "options": {"queue": queue}}})
    wait_until(lambda: client.broker.llen(queue) >= 2, lambda: f"two ticks: {log()}")
    text = log()
    for line in ("is starting.", "LocalTime -> ", ". maxinterval -> 5.00 minutes (300s)", "beat: Starting...",
                 "Scheduler: Sending due task tick (demo.add)", "demo.add sent. id->"):
        assert line in text, text
    client.broker.delete(queue)


def test_a_beat_can_be_asked_whether_it_is_well(client, beats, queue):
    node = f"celerybeat@e2e-{uuid.uuid4().hex[:8]}"
    schedule = {"tick": {"task": "demo.add", "schedule": 3600.0, "args": [2, 3], "options": {"queue": queue}}}
    process, log = beats(schedule, "--enable-remote-control", "-n", node)
    inspect = client.app.control.inspect(timeout=2, destination=[node])
    assert wait_until(inspect.ping, log) == {node: {"ok": "pong"}}
    # Other commands are for workers: it does not stand among them.
    assert inspect.stats() is None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        assert inspect.ping() is None
    finally:
        os.kill(process.pid, signal.SIGCONT)


def test_our_beat_with_a_python_worker(client, events, beats, python_worker, name):
    _, log = beats({name: {"task": "e2e.multiply", "schedule": 0.5, "args": [6, 7], "options": {"queue": python_worker}}})
    since = events.mark()
    event = wait_until(lambda: next(iter(events.find(since, type="task-received", name="e2e.multiply")), None), log)
    assert client.result(event["uuid"]).get(timeout=20) == 42
    assert event["args"] == "[6, 7]" and event["hostname"].startswith("e2e-python")


def test_celerys_beat_with_our_worker(stack, client, events, tmp_path, queue, name):
    """The real `celery beat`."""
    (tmp_path / "beat_app.py").write_text(f"""
from celery import Celery
app = Celery("beat_app", broker={stack.broker_url!r}, backend={stack.backend_url!r})
app.conf.beat_schedule = {{{name!r}: {{"task": "demo.echo", "schedule": 0.5, "args": ({name!r},), "options": {{"expires": 30}}}}}}
""")
    since = events.mark()
    beat = subprocess.Popen([sys.executable, "-m", "celery", "-A", "beat_app", "beat", "-s", str(tmp_path / "schedule")],
                            cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        done = wait_until(lambda: [event for event in events.find(since, type="task-received", name="demo.echo")
                                   if name in event["args"]][:2] or None, "the tasks of celery beat")
    finally:
        beat.terminate()
        beat.wait(20)
    for event in done:
        assert client.result(event["uuid"]).get(timeout=20) == name


def test_a_beat_is_killed_and_another_goes_on(client, beats, queue):
    """kill -9 of the active one of two: nothing is sent twice, and no more is missed than the lock's time."""
    every = 0.2
    schedule = {"tick": {"task": "demo.echo", "schedule": every, "args": [1], "options": {"queue": queue}}}
    count = lambda: client.broker.llen(queue)
    first, log = beats(schedule)
    wait_until(lambda: count() >= 3, lambda: f"ticks: {log()}")
    second, other_log = beats(schedule)
    wait_until(lambda: "Another beat is active" in other_log(), other_log)
    time.sleep(1)
    assert "Sending due task" not in other_log()
    first.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    first.wait()
    before = count()
    wait_until(lambda: count() >= before + 1, other_log, every=0.02)
    silence = time.monotonic() - killed
    assert silence < (2 + 1.5) * PATIENCE
    wait_until(lambda: count() >= before + 5, other_log)
    second.terminate()
    second.wait(20)
    ids = [message["headers"]["id"] for message in messages(client, queue)]
    assert len(set(ids)) == len(ids), "each tick was sent once"
    state = json.loads(client.broker.hget(f"{beats.prefix}entries", "tick"))
    assert state["total_run_count"] == len(ids), "each tick was counted once"
    assert not client.broker.exists(f"{beats.prefix}lock"), "one that stops gives the lock back"
    client.broker.delete(queue)


@pytest.mark.needs_api
def test_schedules_over_http(http, client, events, name):
    """Made, seen within seconds, changed, deleted: by the stack's own beat."""
    since = events.mark()
    ran = lambda text: [event for event in events.find(since, type="task-received", name="demo.echo") if text in event["args"]]
    answer = http.post("/v1/schedules", json={"name": name, "task": "demo.echo", "args": [f"{name}-a"], "interval": 0.5,
                                              "options": {"expires": 60}})
    assert answer.status_code == 201, answer.text
    path = answer.headers["Location"]
    begun = time.monotonic()
    wait_until(lambda: len(ran(f"{name}-a")) >= 2, "two runs")
    assert time.monotonic() - begun < 8 * PATIENCE
    seen = wait_until(lambda: (one := http.get(path).json())["total_run_count"] >= 2 and one, "the runs are counted")
    assert abs(datetime.fromisoformat(seen["last_run_at"].replace("Z", "+00:00")).timestamp() - time.time()) < 10 * PATIENCE
    assert client.result(seen["last_task_id"]).get(timeout=20) == f"{name}-a"

    assert http.patch(path, json={"args": [f"{name}-b"]}).status_code == 200
    wait_until(lambda: ran(f"{name}-b"), "the change is noticed")
    assert http.delete(path).status_code == 204
    def quiet():
        count = len(ran(name))
        time.sleep(1.2)
        return len(ran(name)) == count
    wait_until(quiet, "what is deleted is not sent")


@pytest.mark.needs_api
def test_next_run_over_http(http, name):
    body = {"name": name, "task": "demo.echo", "crontab": "0 4 * * *", "timezone": "Asia/Tokyo"}
    made = http.post("/v1/schedules", json=body).json()
    try:
        next_run = datetime.fromisoformat(made["next_run_at"].replace("Z", "+00:00"))
        assert (next_run.hour, next_run.minute) == (19, 0)
        assert timedelta(0) < next_run - datetime.fromisoformat(made["created_at"].replace("Z", "+00:00")) <= timedelta(days=1)
    finally:
        http.delete(f"/v1/schedules/{made['id']}")
