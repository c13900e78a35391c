"""What operators change while a worker runs: slots, limits, events, queues, and its end, by `celery control` and in Flower."""
import uuid

import pytest
from celery.exceptions import TaskRevokedError, TimeLimitExceeded

from rust_worker import rust_worker
from waiting import PATIENCE, SOON, wait_until


@pytest.fixture
def logs(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def told(flower):
    """Tells Flower something; gives its answer."""
    def post(path, status=200, **fields):
        answer = flower.post(path, data={name: str(value) for name, value in fields.items()})
        assert answer.status_code == status, f"{path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()
    return post


def get(result):
    return result.get(timeout=SOON)


def stats(client, name):
    return client.app.control.inspect(timeout=SOON, destination=[name]).stats()[name]


def slots(client, name):
    return stats(client, name)["pool"]["max-concurrency"]


def queues(client, name):
    return {row["name"] for row in client.app.control.inspect(timeout=SOON, destination=[name]).active_queues()[name]}


def run_at_once(events, results, count):
    """So many of these tasks run before the first of them ends."""
    def begun():
        kinds = [event["type"] for result in results for event in events.find(uuid=result.id)]
        assert "task-succeeded" not in kinds, kinds
        return kinds.count("task-started") == count
    wait_until(begun, f"{count} tasks run", every=0.02)


def test_slots_are_added_and_taken_away(stack, client, celery_command, events, logs):
    with rust_worker(stack, client, logs, "-c", "1", "-E") as (queue, name, _):
        assert "pool will grow" in celery_command("control", "pool_grow", "2", "-d", name, "--timeout", "10")
        assert slots(client, name) == 3
        results = [client.send("demo.sleep", 2 * PATIENCE, queue=queue) for _ in range(4)]
        run_at_once(events, results, 3)
        assert "All processes busy" in client.control("pool_shrink", name, n=2)["error"]
        assert [get(result) for result in results] == [2 * PATIENCE] * 4
        assert "pool will shrink" in celery_command("control", "pool_shrink", "2", "-d", name, "--timeout", "10")
        assert slots(client, name) == 1
        results = [client.send("demo.sleep", 0.5, queue=queue) for _ in range(3)]
        for result in results:
            get(result)
        times = [(events.wait_for(uuid=result.id, type="task-started")["timestamp"],
                  events.wait_for(uuid=result.id, type="task-succeeded")["timestamp"]) for result in results]
        times.sort()
        assert all(ended <= begun + 0.05 for (_, ended), (begun, _) in zip(times, times[1:])), times


def test_a_pool_that_follows_the_load(stack, client, events, logs):
    with rust_worker(stack, client, logs, "--autoscale", "4,1", "-E") as (queue, name, _):
        assert stats(client, name)["autoscaler"]["max"] == 4
        results = [client.send("demo.sleep", 3 * PATIENCE, queue=queue) for _ in range(4)]
        run_at_once(events, results, 4)
        assert client.control("autoscale", name, max=2, min=1) == {"ok": "autoscale now max=2 min=1"}
        for result in results:
            get(result)
        assert stats(client, name)["autoscaler"]["max"] == 2


@pytest.mark.beyond_celery
def test_a_time_limit_is_set_and_taken_back(client, celery_command, worker):
    said = celery_command("control", "time_limit", "demo.sleep", "0", "1", "-d", worker, "--timeout", "10")
    try:
        assert "time limits set successfully" in said
        assert isinstance(client.error_of(client.send("demo.sleep", 20 * PATIENCE)), TimeLimitExceeded)
    finally:
        client.control("time_limit", worker, task_name="demo.sleep")
    assert get(client.send("demo.sleep", 1.3)) == 1.3


def test_a_task_is_ended_from_the_command_line(client, celery_command, events, worker):
    result = client.send("demo.sleep", 60 * PATIENCE)
    events.wait_for(uuid=result.id, type="task-started")
    celery_command("control", "terminate", "KILL", result.id, "-d", worker, "--timeout", "10")
    assert isinstance(client.error_of(result), TaskRevokedError)


def test_a_revoked_task_that_runs_may_end(client, events, worker):
    result = client.send("demo.sleep", 1.5)
    events.wait_for(uuid=result.id, type="task-started")
    client.control("revoke", worker, task_id=result.id)
    assert get(result) == 1.5


@pytest.mark.beyond_celery
def test_events_are_switched_off_and_on(stack, client, events, logs):
    with rust_worker(stack, client, logs, "-E") as (queue, name, _):
        assert client.control("disable_events", name) == {"ok": "task events disabled"}
        silent = client.send("demo.add", 1, 2, queue=queue)
        get(silent)
        assert client.control("enable_events", name) == {"ok": "task events enabled"}
        told = client.send("demo.add", 1, 2, queue=queue)
        events.wait_for(uuid=told.id, type="task-succeeded")
        assert events.find(uuid=silent.id, hostname=name) == []


def test_a_later_try_is_told_as_such(client, events):
    result = client.send("demo.add", 1, 2, retries=2)
    get(result)
    assert events.wait_for(uuid=result.id, type="task-received")["retries"] == 2


def test_a_queue_is_emptied(client, celery_command, queue):
    for number in range(3):
        client.send("demo.echo", number, queue=queue, priority=(0, 3, 9)[number])
    assert client.queue_length(queue) == 3
    assert "Purged 3 messages" in celery_command("purge", "-f", "-Q", queue)
    assert client.queue_length(queue) == 0


def test_a_worker_is_sent_home(stack, client, celery_command, events, logs):
    with rust_worker(stack, client, logs, "-E") as (queue, name, process):
        running = client.send("demo.sleep", 1.5, queue=queue)
        events.wait_for(uuid=running.id, type="task-started")
        # Nobody answers that, and the command line says so.
        celery_command("control", "shutdown", "-d", name, status=69)
        assert process.wait(SOON) == 0
        assert get(running) == 1.5, "what ran was finished"
        events.wait_for(type="worker-offline", hostname=name)
    assert get(client.send("demo.add", 1, 1)) == 2, "the others are not meant"


def test_what_a_revoke_tells_reaches_all(stack, client, python_worker, logs, worker):
    """Workers that come later learn it of those that are there, Python's and Rust's of each other (mingle)."""
    task_id = str(uuid.uuid4())
    client.app.control.revoke(task_id)
    wait_until(lambda: all(task_id in ids for ids in client.app.control.inspect(timeout=1).revoked().values()), "all know of it")
    with rust_worker(stack, client, logs) as (queue, name, _):
        assert task_id in client.app.control.inspect(timeout=SOON, destination=[name]).revoked()[name]


# Flower

def test_flower_sends_a_task(client, flower):
    answer = flower.post("/api/task/send-task/demo.add", json={"args": [30, 4]})
    assert answer.status_code == 200, answer.text[:500]
    assert get(client.result(answer.json()["task-id"])) == 34


def test_flower_changes_a_pool(stack, client, told, flower, logs):
    with rust_worker(stack, client, logs, "-c", "2") as (queue, name, _):
        wait_until(lambda: name in flower.get("/api/workers", params={"refresh": 1, "workername": name}).json(), "Flower sees it", 60)
        told(f"/api/worker/pool/grow/{name}", n=2)
        assert slots(client, name) == 4
        told(f"/api/worker/pool/shrink/{name}", n=3)
        assert slots(client, name) == 1
        more = f"e2e-{uuid.uuid4().hex[:12]}"
        told(f"/api/worker/queue/add-consumer/{name}", queue=more)
        assert more in queues(client, name)
        assert get(client.send("demo.add", 1, 2, queue=more)) == 3
        told(f"/api/worker/queue/cancel-consumer/{name}", queue=more)
        assert more not in queues(client, name)


def test_flower_ends_a_task(client, told, events):
    running = client.send("demo.sleep", 60 * PATIENCE)
    events.wait_for(uuid=running.id, type="task-started")
    told(f"/api/task/revoke/{running.id}", terminate="true")
    assert isinstance(client.error_of(running), TaskRevokedError)


def test_flower_sends_a_worker_home(stack, client, told, flower, logs):
    with rust_worker(stack, client, logs) as (queue, name, process):
        wait_until(lambda: name in flower.get("/api/workers", params={"refresh": 1, "workername": name}).json(), "Flower sees it", 60)
        told(f"/api/worker/shutdown/{name}")
        assert process.wait(SOON) == 0


def test_flower_counts(client, flower, events, worker):
    """What Prometheus is told by Flower."""
    def count():
        lines = flower.get("/metrics").text.splitlines()
        wanted = [line for line in lines if line.startswith("flower_events_total{") and f'worker="{worker}"' in line
                  and 'task="demo.echo"' in line and 'type="task-succeeded"' in line]
        return float(wanted[0].rsplit(" ", 1)[1]) if wanted else 0
    before = count()
    for number in range(3):
        get(client.send("demo.echo", number))
    wait_until(lambda: count() == before + 3, lambda: f"three more than {before}: {count()}")
