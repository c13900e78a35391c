"""What a plain Python producer sees: calls, results, errors, states, times."""
import json
import time
from datetime import datetime, timedelta, timezone

import pytest
from celery.exceptions import TaskRevokedError

from celery_side import Client
from waiting import SOON, wait_until


def get(result):
    return result.get(timeout=SOON)


def test_send_task_returns_the_result(client):
    result = client.send("demo.add", 2, 3)
    assert get(result) == 5
    assert result.state == "SUCCESS"


def test_keyword_arguments(client):
    assert get(client.send("demo.add", kwargs={"x": 1.5, "y": 2})) == 3.5
    assert get(client.send("demo.add", 20, kwargs={"y": -22})) == -2


def test_unicode_and_nested_values_come_back_unchanged(client):
    value = {"list": [1, {"ü": None}, [], {}, True, False], "text": "漢字 🦀 \u0000 \"quoted\" \\ \u2028", "": ""}
    assert get(client.send("demo.echo", value)) == value


@pytest.mark.parametrize("number", [
    0, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 0.1, -0.0, 1e308, 5e-324, 1.7976931348623157e308,
])
def test_numbers_come_back_exactly(client, number):
    back = get(client.send("demo.echo", number))
    assert (back, type(back)) == (number, type(number))


def test_an_integer_beyond_64_bits_is_never_changed(client):
    """Exact, or refused with a reason; not silently a float."""
    result = client.send("demo.echo", 2**70)
    try:
        back = get(result)
    except Exception as error:
        assert result.state == "FAILURE", f"no answer: {error!r}"
        assert str(error)
    else:
        assert back == 2**70 and isinstance(back, int)


def test_a_large_argument(client):
    text = "é" * 200_000 + "x" * 300_000
    assert get(client.send("demo.echo", text)) == text


@pytest.mark.parametrize("compression", ["zlib", "bzip2"])
def test_compressed_message(client, compression):
    assert get(client.send("demo.echo", "abc" * 1000, compression=compression)) == "abc" * 1000


def test_result_is_pushed_not_polled(client):
    """Twenty calls, one after the other, take far less than one poll interval (0.5 s) each."""
    begun = time.monotonic()
    for number in range(20):
        assert get(client.send("demo.echo", number)) == number
    assert time.monotonic() - begun < 6


def test_get_raises_the_error_of_the_task(client):
    result = client.send("demo.fail", "boom — from a test")
    error = client.error_of(result)
    assert "boom — from a test" in str(error)
    assert result.state == "FAILURE" and result.failed()
    assert "boom — from a test" in result.traceback
    stored = json.loads(client.backend.get(f"celery-task-meta-{result.id}"))
    assert {"exc_type", "exc_message", "exc_module"} <= set(stored["result"])
    assert type(error).__name__ == stored["result"]["exc_type"]


@pytest.mark.parametrize("args, kwargs, said", [
    ([1], {}, "y"),
    ([1, 2, 3], {}, "argument"),
    ([1], {"nope": 2}, "nope"),
    ([1, 2], {"x": 3}, "x"),
], ids=["missing", "surplus", "unknown-keyword", "given-twice"])
def test_bad_arguments_fail_with_a_type_error(client, args, kwargs, said):
    result = client.send("demo.add", *args, kwargs=kwargs)
    error = client.error_of(result)
    assert isinstance(error, TypeError), repr(error)
    assert said in str(error)
    assert result.state == "FAILURE"


def test_arguments_of_the_wrong_type_fail_with_a_reason(client):
    result = client.send("demo.add", {"a": 1}, [])
    assert str(client.error_of(result))
    assert result.state == "FAILURE"
    assert get(client.send("demo.add", 1, 1)) == 2


def test_custom_progress_states(client):
    result = client.send("demo.progress", 5, 2)
    seen = []

    def done():
        state, info = result.state, result.info
        if state == "PROGRESS" and isinstance(info, dict) and info not in seen:
            seen.append(info)
        return state in ("SUCCESS", "FAILURE")
    wait_until(done, "demo.progress ends", every=0.03)
    assert result.state == "SUCCESS"
    assert len(seen) >= 2, f"states seen: {seen}"
    assert all(info["total"] == 5 for info in seen)
    steps = [info["current"] for info in seen]
    assert steps == sorted(steps) and 0 <= steps[0] < steps[-1] <= 5


def test_countdown(client):
    begun = time.monotonic()
    late = client.send("demo.add", 1, 2, countdown=2)
    soon = client.send("demo.add", 3, 4, countdown=1)
    assert get(soon) == 7
    took_soon = time.monotonic() - begun
    assert get(late) == 3
    took_late = time.monotonic() - begun
    assert 0.9 < took_soon and 1.9 < took_late < 6 and took_soon < took_late


def test_an_eta_in_the_past_runs_at_once(client):
    past = datetime.now(timezone.utc) - timedelta(hours=1)
    begun = time.monotonic()
    assert get(client.send("demo.add", 1, 2, eta=past)) == 3
    assert time.monotonic() - begun < 5


def test_expired_task_is_revoked(client, held_queue):
    queue, consumed = held_queue
    result = client.send("demo.add", 1, 2, queue=queue, expires=0.3)
    alive = client.send("demo.add", 1, 2, queue=queue, expires=300)
    time.sleep(0.5)   # the expiry itself
    with consumed():
        error = client.error_of(result)
        assert get(alive) == 3
    assert isinstance(error, TaskRevokedError) and "expired" in str(error)
    assert result.state == "REVOKED"


def test_revoke_of_a_task_that_waits_for_its_time(client, events, worker):
    result = client.send("demo.add", 1, 2, countdown=3)
    events.wait_for(uuid=result.id, type="task-received")
    result.revoke()
    wait_until(lambda: result.state == "REVOKED", lambda: f"state REVOKED, it is {result.state}")
    event = events.wait_for(uuid=result.id, type="task-revoked")
    assert not event["terminated"] and not event["expired"]
    assert isinstance(client.error_of(result), TaskRevokedError)
    assert not events.find(uuid=result.id, type="task-started")


def test_revoke_with_terminate_ends_a_running_task(client, events):
    result = client.send("demo.sleep", 60)
    events.wait_for(uuid=result.id, type="task-started")
    result.revoke(terminate=True)
    assert isinstance(client.error_of(result), TaskRevokedError)
    assert result.state == "REVOKED"
    assert get(client.send("demo.add", 1, 1)) == 2


def test_ignore_result_stores_nothing(client, events):
    result = client.send("demo.add", 1, 2, ignore_result=True)
    events.wait_for(uuid=result.id, type="task-succeeded")
    # A later task's result is there, so this one's would be, too.
    marker = client.send("demo.add", 1, 2)
    get(marker)
    assert client.has_stored(marker.id)
    assert not client.has_stored(result.id)


def test_priorities_zero_first(client, events, held_queue):
    queue, consumed = held_queue
    sent = {}
    for priority in [9, 3, 0, 6] * 4:
        sent[client.send("demo.echo", priority, queue=queue, priority=priority).id] = priority
    since = events.mark()
    with consumed():
        for task_id in sent:
            get(client.result(task_id))
            events.wait_for(uuid=task_id, type="task-received", since=since)
    order = [sent[e["uuid"]] for e in events.find(since=since, type="task-received") if e["uuid"] in sent]
    assert order == sorted(order), "0 goes first, 9 last"


def test_message_of_protocol_1(stack):
    old = Client(stack, task_protocol=1)
    assert get(old.send("demo.add", 20, 22)) == 42
    assert get(old.send("demo.add", kwargs={"x": 1, "y": 2})) == 3


def test_hard_time_limit(client):
    begun = time.monotonic()
    result = client.send("demo.sleep", 60, time_limit=1)
    error = client.error_of(result)
    assert type(error).__name__ == "TimeLimitExceeded", repr(error)
    assert result.state == "FAILURE" and time.monotonic() - begun < 15
    assert [get(client.send("demo.add", n, 1)) for n in range(4)] == [1, 2, 3, 4]


def test_soft_time_limit(client):
    begun = time.monotonic()
    result = client.send("demo.sleep", 60, soft_time_limit=1)
    error = client.error_of(result)
    assert type(error).__name__ == "SoftTimeLimitExceeded", repr(error)
    assert result.state == "FAILURE" and time.monotonic() - begun < 15


def test_limits_that_are_not_reached_change_nothing(client):
    result = client.send("demo.sleep", 0.1, time_limit=30, soft_time_limit=20)
    get(result)
    assert result.state == "SUCCESS"


def test_forget(client):
    result = client.send("demo.add", 1, 1)
    get(result)
    assert client.has_stored(result.id)
    result.forget()
    assert not client.has_stored(result.id)


def test_when_it_was_done(client):
    result = client.send("demo.add", 1, 2)
    result.get(timeout=SOON)
    age = datetime.now(timezone.utc) - result.date_done
    assert timedelta(seconds=-5) < age < timedelta(seconds=SOON)


def test_result_expires_after_a_day(client):
    result = client.send("demo.add", 1, 1)
    get(result)
    assert 80_000 < client.backend.ttl(f"celery-task-meta-{result.id}") <= 86_400


def test_a_hundred_tasks_and_an_empty_broker(client):
    with client.app.producer_or_acquire() as producer:
        results = [client.send("demo.add", n, 1, producer=producer) for n in range(100)]
    assert [get(result) for result in results] == [n + 1 for n in range(100)]
    client.wait_empty()
