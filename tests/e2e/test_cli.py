"""The real `celery` command line: inspect, status, call, result, control, events."""
import json
import os
import re
import signal
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest

from waiting import PATIENCE, SOON, wait_until


@pytest.fixture
def inspect(celery_command, worker):
    """`celery inspect COMMAND --json`: what the stack's worker replies."""
    def run(command):
        output = celery_command("inspect", command, "--json", "--timeout", "10", "-d", worker)
        return json.JSONDecoder().raw_decode(output[output.index("{"):])[0][worker]
    return run


@pytest.fixture
def busy(client, events):
    """Occupies every slot of the worker for some seconds; gives the results once all of them run."""
    def occupy(seconds):
        slots = client.worker()[1]["pool"]["max-concurrency"]
        results = [client.send("demo.sleep", seconds) for _ in range(slots)]
        for result in results:
            events.wait_for(uuid=result.id, type="task-started")
        return results
    return occupy


def get(result):
    return result.get(timeout=SOON)


def test_status(celery_command, worker):
    output = celery_command("status", "--timeout", "3")
    assert re.search(rf"{re.escape(worker)}:\s+OK", output), output
    assert re.search(r"\b[1-9]\d* nodes? online", output), output


def test_ping(celery_command, worker):
    output = celery_command("inspect", "ping", "-d", worker, "--timeout", "10")
    assert f"{worker}: OK" in output and "pong" in output


def test_a_worker_that_is_not_there(celery_command):
    output = celery_command("inspect", "ping", "-d", "nobody@nowhere", status=69)
    assert "No nodes replied" in output


def test_registered(inspect):
    rows = inspect("registered")
    names = {row.split(" ")[0] for row in rows}
    assert {"demo.add", "demo.echo", "demo.sleep", "demo.fail", "demo.progress"} <= names
    assert rows == sorted(rows)
    assert not [name for name in names if name.startswith("celery.")], "built-in tasks are left out"


@pytest.mark.needs_api
def test_registered_application_tasks(inspect, http):
    names = {row.split(" ")[0] for row in inspect("registered")}
    assert {"process_incoming_event", "documents.ingest"} <= names


def test_active(client, inspect, events, worker):
    result = client.send("demo.sleep", kwargs={"seconds": 4})
    events.wait_for(uuid=result.id, type="task-started")
    rows = [row for row in inspect("active") if row["id"] == result.id]
    assert len(rows) == 1, "the running task is listed once"
    row = rows[0]
    assert (row["name"], row["type"], row["args"], row["kwargs"]) == ("demo.sleep", "demo.sleep", [], {"seconds": 4})
    assert row["hostname"] == worker and isinstance(row["worker_pid"], int)
    assert abs(row["time_start"] - time.time()) < 60
    assert row["delivery_info"]["routing_key"] == "celery" and not row["delivery_info"]["redelivered"]
    get(result)
    wait_until(lambda: result.id not in [row["id"] for row in client.app.control.inspect(
        destination=[worker], timeout=SOON).active()[worker]], "the task leaves the list")


def test_reserved(client, inspect, busy):
    running = busy(4)
    waiting = [client.send("demo.add", n, n) for n in range(2)]
    rows = wait_until(lambda: [row for row in inspect("reserved") if row["id"] in {r.id for r in waiting}],
                      "the waiting tasks are reserved", 4)
    assert {row["name"] for row in rows} == {"demo.add"}
    assert {row["acknowledged"] for row in rows} == {False}
    for result in running + waiting:
        get(result)
    assert inspect("reserved") == []


def test_scheduled_then_revoked(client, inspect, celery_command, events, worker):
    result = client.send("demo.echo", "later", countdown=15)
    events.wait_for(uuid=result.id, type="task-received")
    rows = [row for row in inspect("scheduled") if row["request"]["id"] == result.id]
    assert len(rows) == 1 and rows[0]["request"]["name"] == "demo.echo" and rows[0]["eta"] and "priority" in rows[0]
    output = celery_command("control", "revoke", result.id, "-d", worker, "--timeout", "10")
    assert f"{worker}: OK" in output and "flagged as revoked" in output
    assert result.id in inspect("revoked")
    wait_until(lambda: result.state == "REVOKED", lambda: f"state REVOKED, it is {result.state}")


def test_stats(client, inspect):
    get(client.send("demo.add", 1, 1))
    stats = inspect("stats")
    assert stats["total"]["demo.add"] >= 1
    os.kill(stats["pid"], 0)
    assert isinstance(stats["uptime"], int) and int(stats["clock"]) > 0 and "rusage" in stats
    pool = stats["pool"]
    assert pool["max-concurrency"] >= 1 and pool["implementation"] and isinstance(pool["processes"], list)
    assert stats["prefetch_count"] >= pool["max-concurrency"]
    broker = stats["broker"]
    assert (broker["transport"], broker["port"]) == ("redis", urlsplit(client.stack.broker_url).port)
    assert "password" not in broker


def test_active_queues(inspect):
    rows = {row["name"]: row for row in inspect("active_queues")}
    row = rows["celery"]
    assert (row["exchange"]["name"], row["exchange"]["type"], row["routing_key"]) == ("celery", "direct", "celery")
    assert (row["durable"], row["exclusive"], row["auto_delete"], row["no_ack"]) == (True, False, False, False)


def test_conf_and_report_tell_no_secret(client, inspect):
    conf, report = inspect("conf"), inspect("report")
    assert conf["broker_url"].startswith("redis://")
    assert len(report["ok"]) > 60 and "broker_url" in report["ok"]
    password = urlsplit(client.stack.broker_url).password
    assert password, "the broker has a password"
    for answer in (conf, report, inspect("stats")):
        assert password not in json.dumps(answer)


def test_clock_goes_on(client, inspect):
    before = inspect("clock")["clock"]
    get(client.send("demo.add", 1, 1))
    assert inspect("clock")["clock"] > before


def test_call_and_result(client, celery_command):
    task_id = celery_command("call", "demo.add", "--args", "[4]", "--kwargs", '{"y": 5}').split()[-1]
    assert get(client.result(task_id)) == 9
    assert celery_command("result", task_id).strip() == "9"


def test_rate_limit(client, celery_command, worker):
    output = celery_command("control", "rate_limit", "demo.echo", "2/s", "-d", worker, "--timeout", "10")
    try:
        assert "new rate limit set successfully" in output
        begun = time.monotonic()
        results = [client.send("demo.echo", n) for n in range(5)]
        assert get(client.send("demo.add", 1, 1)) == 2
        other = time.monotonic() - begun
        assert [get(result) for result in results] == [0, 1, 2, 3, 4]
        took = time.monotonic() - begun
    finally:
        client.control("rate_limit", worker, task_name="demo.echo", rate_limit="0")
    assert 1.4 < took < 10, f"5 tasks at 2/s took {took:.1f} s"
    assert other < took, "another task is not held up"


def test_rate_limit_of_a_bad_rate_or_task(client, worker):
    answer = client.control("rate_limit", worker, task_name="demo.echo", rate_limit="many")
    assert "Invalid rate limit string" in answer["error"]
    answer = client.control("rate_limit", worker, task_name="no.such", rate_limit="1/s")
    assert answer == {"error": "unknown task"}


def test_add_and_cancel_consumer(client, celery_command, queue, worker):
    waits = client.send("demo.add", 1, 2, queue=queue)
    output = celery_command("control", "add_consumer", queue, "-d", worker, "--timeout", "10")
    assert f"add consumer {queue}" in output
    assert get(waits) == 3
    output = celery_command("control", "cancel_consumer", queue, "-d", worker, "--timeout", "10")
    assert f"no longer consuming from {queue}" in output

    def names():
        rows = client.app.control.inspect(destination=[worker], timeout=SOON).active_queues()[worker]
        return {row["name"] for row in rows}
    wait_until(lambda: queue not in names(), "the queue is no longer listed")
    time.sleep(1.2)   # a blocking pop that was under way may take one message yet
    left = client.send("demo.add", 3, 4, queue=queue)
    assert get(client.send("demo.add", 1, 1)) == 2
    assert client.queue_length(queue) == 1 and left.state == "PENDING"


def test_unknown_command(client, worker):
    answer = client.control("no_such_command", worker)
    assert "no_such_command" in answer["error"]


def test_replies_while_every_slot_is_busy(client, busy, worker):
    running = busy(3)
    begun = time.monotonic()
    assert client.app.control.inspect(destination=[worker], timeout=SOON).ping() == {worker: {"ok": "pong"}}
    assert time.monotonic() - begun < 1.5 * PATIENCE
    for result in running:
        get(result)


def test_events_dump(client, stack, tmp_path, worker, events):
    """`celery events --dump`, the capture that comes with Celery, prints a task's life."""
    log = tmp_path / "dump"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "celery", "-b", stack.broker_url, "events", "--dump"],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: b"heartbeat" in log.read_bytes(),
                   lambda: f"a heartbeat in {log.read_text()!r}", 30)
        result = client.send("demo.add", 2, 3)
        get(result)
        text = wait_until(lambda: re.search(rf"{worker} .*succeeded: .*{result.id}.*", log.read_text()),
                          lambda: f"task-succeeded of {result.id} in {log.read_text()!r}")
        assert "result" in text.group(0) and "5" in text.group(0)
        for kind in ("received", "started"):
            assert re.search(rf"{kind}: .*{result.id}", log.read_text()), log.read_text()
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
