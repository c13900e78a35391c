"""What a worker keeps over a restart, its flags, elections, and the events of its own sending."""
import base64
import json
import time
import uuid
from datetime import datetime, timedelta, timezone

import pytest
from celery import chain
from celery.utils.nodenames import worker_direct

from rust_worker import rust_worker
from test_bad_messages import EMBED, envelope
from waiting import SOON, wait_until


@pytest.fixture
def logs(tmp_path):
    return tmp_path / "log"


def test_revoked_ids_survive_a_restart(stack, client, logs, tmp_path):
    statedb = tmp_path / "state.db"
    task_id = str(uuid.uuid4())
    with rust_worker(stack, client, logs, "--statedb", str(statedb), "--without-mingle") as (queue, name, _):
        client.control("revoke", name, task_id=task_id)
        client.backend.delete(f"celery-task-meta-{task_id}")
        # Written soon, not only at the end: a worker may be killed.
        wait_until(lambda: task_id in statedb.read_text(), "the id is in the file", 10)
    with rust_worker(stack, client, logs, "--statedb", str(statedb), "--without-mingle") as (queue, name, _):
        assert task_id in client.app.control.inspect(timeout=SOON, destination=[name]).revoked()[name]
        result = client.send("demo.add", 1, 2, queue=queue, task_id=task_id)
        assert "revoked" in str(client.error_of(result))


def test_a_foreign_statedb_is_not_overwritten(stack, client, logs, tmp_path):
    import shelve
    path = tmp_path / "shelve"
    with shelve.open(str(path)) as db:
        db["revoked"] = {"a": 1}
    file = next(tmp_path.glob("shelve*"))
    before = file.read_bytes()
    with pytest.raises(AssertionError, match="no state database of this worker"):
        with rust_worker(stack, client, logs, "--statedb", str(file)):
            pass
    assert file.read_bytes() == before


def test_flags_of_celery_worker_are_taken(stack, client, logs, tmp_path):
    pidfile = tmp_path / "pid"
    flags = ["-A", "proj", "-P", "prefork", "-O", "fair", "--max-tasks-per-child", "10", "--max-memory-per-child", "12000",
             "--pool-start-method", "fork", "-I", "a,b", "--pidfile", str(pidfile), "-c", "auto", "--heartbeat-interval", "7",
             "-X", "nowhere", "--purge", "--disable-prefetch", "--uid", "1", "--gid", "1", "--umask", "22", "-D",
             "-f", "/dev/null", "--executable", "python"]
    with rust_worker(stack, client, logs, *flags) as (queue, _, process):
        assert client.send("demo.add", 1, 2, queue=queue).get(timeout=SOON) == 3
        assert int(pidfile.read_text()) == process.pid
    told = logs.read_text()
    for flag in ("--app", "--pool", "--optimization", "--max-tasks-per-child", "--include", "--detach", "--uid"):
        assert f"{flag} means nothing here: " in told
    assert not pidfile.exists()


def test_purge_empties_the_queue_first(stack, client, logs):
    queue = f"e2e-purge-{uuid.uuid4().hex[:8]}"
    sent = [client.send("demo.add", n, 1, queue=queue, priority=n) for n in (0, 9)]
    with rust_worker(stack, client, logs, "--purge", WORKER_QUEUES=queue):
        assert client.send("demo.add", 1, 1, queue=queue).get(timeout=SOON) == 2
    assert "Erased 2 message(s)" in logs.read_text()
    assert not any(client.has_stored(result.id) for result in sent)


def test_one_of_two_wins_an_election(stack, client, tmp_path):
    task_id = str(uuid.uuid4())
    with rust_worker(stack, client, tmp_path / "a") as (queue, first, _), rust_worker(stack, client, tmp_path / "b") as (_, second, _):
        time.sleep(5)    # heartbeats: each must know of the others, the stack's own worker included
        action = dict(client.sig("demo.add", 40, 2, queue=queue, task_id=task_id))
        client.app.control.election(id=str(uuid.uuid4()), topic="task", action=action, connection=None)
        assert client.result(task_id).get(timeout=SOON) == 42
    told = (tmp_path / "a").read_text() + (tmp_path / "b").read_text()
    assert told.count("I won the election") <= 1


def test_the_event_task_sent(stack, client, events, logs, queue):
    with rust_worker(stack, client, logs, TASK_SEND_SENT_EVENT="1") as (own, _, _):
        linked = str(uuid.uuid4())
        client.send("demo.add", 1, 2, queue=own, link=client.sig("demo.echo", task_id=linked, queue=queue))
        sent = events.wait_for(uuid=linked, type="task-sent")
    assert (sent["name"], sent["queue"], sent["routing_key"], sent["exchange"]) == ("demo.echo", queue, queue, "")
    assert sent["args"] == "(3,)" and sent["hostname"].startswith("gen") and sent["retries"] == 0
    client.broker.delete(queue)


def test_remote_control_can_be_left_out(stack, client, logs):
    with pytest.raises(AssertionError, match="answers"):
        with rust_worker(stack, client, logs, WORKER_ENABLE_REMOTE_CONTROL="0", E2E_WAIT="5"):
            pass


def redelivered(task_id, task, *args, **headers):
    """A message that comes again, as a worker's death leaves it."""
    _, message = envelope([list(args), {}, EMBED], task=task, redelivered=True, **{"id": task_id, "root_id": task_id, **headers})
    message["properties"]["delivery_info"]["redelivered"] = True
    return json.dumps(message)


@pytest.mark.parametrize("deduplicate", ["1", "0"])
def test_a_task_that_has_succeeded_runs_again_only_without_deduplication(stack, client, logs, deduplicate):
    settings = {"WORKER_DEDUPLICATE_SUCCESSFUL_TASKS": deduplicate, "TASK_ACKS_LATE": "1"}
    with rust_worker(stack, client, logs, "-l", "info", **settings) as (queue, name, _):
        result = client.send("demo.add", 1, 2, queue=queue)
        assert result.get(timeout=SOON) == 3
        client.broker.lpush(queue, redelivered(result.id, "demo.add", 1, 2))
        # One that has not succeeded yet runs in either case.
        first = str(uuid.uuid4())
        client.broker.lpush(queue, redelivered(first, "demo.add", 3, 4))
        assert client.result(first).get(timeout=SOON) == 7
        wait_until(lambda: not client.broker.llen(queue), "both are taken", SOON)
        client.wait_empty()
    told = logs.read_text()
    assert told.count(f"[{result.id}] Task already completed successfully.") == int(deduplicate)
    assert told.count(f"[{result.id}] succeeded in") == (1 if deduplicate == "1" else 2)


def test_a_time_without_an_offset_is_of_the_application_s_time_zone(stack, client, logs):
    # Kiritimati is fourteen hours ahead: what its clocks show now is long past there, and far away for UTC.
    zone, now = "Pacific/Kiritimati", datetime.now(timezone.utc)
    shown = (now + timedelta(hours=14)).replace(tzinfo=None).isoformat()
    with rust_worker(stack, client, logs, TIMEZONE=zone) as (queue, name, _):
        task_id, message = envelope([[1, 2], {}, EMBED], eta=shown)
        client.broker.lpush(queue, json.dumps(message))
        assert client.result(task_id).get(timeout=SOON) == 3
        assert client.app.control.inspect(timeout=SOON, destination=[name]).conf()[name]["timezone"] == zone


def test_what_was_to_follow_a_task_that_has_succeeded_is_sent_when_it_was_not(stack, client, logs):
    settings = {"WORKER_DEDUPLICATE_SUCCESSFUL_TASKS": "1", "TASK_ACKS_LATE": "1"}
    with rust_worker(stack, client, logs, "-l", "info", **settings) as (queue, *_):
        result, linked = client.send("demo.add", 1, 2, queue=queue), str(uuid.uuid4())
        assert result.get(timeout=SOON) == 3
        link = dict(client.sig("demo.add", 10, queue=queue, task_id=linked))
        message = json.loads(redelivered(result.id, "demo.add", 1, 2))
        body = [[1, 2], {}, {**EMBED, "callbacks": [link]}]
        message["body"] = base64.b64encode(json.dumps(body).encode()).decode()
        client.broker.lpush(queue, json.dumps(message))
        assert client.result(linked).get(timeout=SOON) == 13


def test_a_queue_of_one_worker_s_own(stack, client, logs):
    with rust_worker(stack, client, logs, WORKER_DIRECT="1") as (queue, name, _):
        direct = worker_direct(name)
        assert client.send("demo.add", 1, 2, queue=direct).get(timeout=SOON) == 3
        rows = client.app.control.inspect(timeout=SOON, destination=[name]).active_queues()[name]
        told = {row["name"]: (row["exchange"]["name"], row["routing_key"]) for row in rows}
        assert told == {queue: (queue, queue), direct.name: ("C.dq2", name)}


@pytest.mark.parametrize("inherit", ["1", "0"])
def test_the_priority_of_what_a_task_sends(stack, client, logs, queue, inherit):
    with rust_worker(stack, client, logs, TASK_INHERIT_PARENT_PRIORITY=inherit) as (own, *_):
        steps = [client.sig("demo.add", 1, 2, queue=own, priority=6), client.sig("demo.add", 3, queue=queue)]
        link = client.sig("demo.add", 4, queue=queue, priority=3)
        first = chain(*steps).apply_async(priority=6)
        client.send("demo.add", 1, 2, queue=own, priority=6, link=link)
        lists = {priority: queue + (f"\x06\x16{priority}" if priority else "") for priority in (0, 3, 6)}
        found = lambda: {priority: client.broker.llen(key) for priority, key in lists.items()}
        # A priority that is said wins.
        expected = {0: 0, 3: 1, 6: 1} if inherit == "1" else {0: 1, 3: 1, 6: 0}
        wait_until(lambda: found() == expected, lambda: f"{found()} are {expected}", SOON)
    client.broker.delete(*lists.values())


def test_a_task_goes_where_its_name_is_routed_to(stack, client, logs, queue):
    """The steps of a Python project's chain go where that project's own workers would send them."""
    routes = json.dumps({"demo.e*": {"queue": queue, "priority": 3}})
    with rust_worker(stack, client, logs, TASK_ROUTES=routes) as (own, _, _):
        chain(client.sig("demo.add", 1, 2, queue=own), client.sig("demo.echo"))()
        wait_until(lambda: client.broker.llen(f"{queue}\x06\x163") == 1, "the second step is on the queue of its route")
        named = chain(client.sig("demo.add", 1, 2, queue=own), client.sig("demo.echo", queue=own))()
        assert named.get(timeout=SOON) == 3, "what the call says comes first"
    client.broker.delete(f"{queue}\x06\x163")
