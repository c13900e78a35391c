"""Flower, as its users see it: the pages it shows them and the data behind its tables."""
import html
import re
import time

import pytest

from waiting import SOON, wait_until

COLUMNS = ("name", "uuid", "state", "args", "kwargs", "result", "received", "started", "runtime", "worker")


@pytest.fixture
def row_of(flower):
    """The row of Flower's table of tasks, once it shows this state."""
    def find(task_id, state, seconds=20):
        query = {"draw": 1, "start": 0, "length": 10, "search[value]": task_id, "order[0][column]": 6,
                 "order[0][dir]": "desc"}
        query.update({f"columns[{n}][data]": name for n, name in enumerate(COLUMNS)})
        last = []

        def look():
            answer = flower.get("/tasks/datatable", params=query)
            assert answer.status_code == 200, answer.text[:500]
            last[:] = [row for row in answer.json()["data"] if row["uuid"] == task_id]
            return last[0] if last and last[0]["state"] == state else None
        return wait_until(look, lambda: f"Flower shows {task_id} as {state}, it shows {last}", seconds)
    return find


@pytest.fixture
def page(flower):
    """A page as plain text, without tags."""
    def load(path):
        answer = flower.get(path)
        assert answer.status_code == 200, f"{path}: {answer.status_code}"
        text = re.sub(r"<!--.*?-->", " ", answer.text, flags=re.S)
        return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text)))
    return load


@pytest.fixture(scope="module", autouse=True)
def watching(flower, client, events):
    """Flower has seen the worker, so that no event comes before it listens."""
    name = client.worker()[0]
    wait_until(lambda: name in [row["hostname"] for row in flower.get("/workers", params={"json": 1}).json()["data"]],
               "Flower sees the worker", 60)


def finish(result):
    result.get(timeout=SOON, propagate=False)


def test_worker_is_online(flower, worker):
    def online():
        rows = flower.get("/workers", params={"json": 1}).json()["data"]
        return [row for row in rows if row["hostname"] == worker and row["status"] is True]
    row = wait_until(online, "the worker is online")[0]
    assert row["pid"] and len(row["loadavg"]) == 3


def test_dashboard_counts(flower, client, worker):
    def row():
        rows = flower.get("/workers", params={"json": 1}).json()["data"]
        return next(row for row in rows if row["hostname"] == worker)
    before = row()
    for result in [client.send("demo.add", n, 1) for n in range(5)] + [client.send("demo.fail", "counted")]:
        finish(result)
    wait_until(lambda: row().get("task-succeeded", 0) - before.get("task-succeeded", 0) >= 5
               and row().get("task-failed", 0) - before.get("task-failed", 0) >= 1,
               lambda: f"five more succeeded and one failed; {before} became {row()}")


def test_row_of_a_task(client, row_of, worker):
    result = client.send("demo.add", 41, kwargs={"y": 1})
    finish(result)
    row = row_of(result.id, "SUCCESS")
    assert row["name"] == "demo.add" and row["worker"] == worker
    assert "41" in row["args"] and "y" in row["kwargs"]
    assert "42" in row["result"]
    assert 0 <= float(row["runtime"]) < 10
    assert row["received"] <= row["started"]


def test_runtime_is_the_time_that_the_task_took(client, row_of):
    result = client.send("demo.sleep", 1)
    finish(result)
    assert 0.95 < float(row_of(result.id, "SUCCESS")["runtime"]) < 3


def test_running_task_shows_as_started(client, row_of):
    result = client.send("demo.sleep", 3)
    row_of(result.id, "STARTED", 3)
    finish(result)
    row_of(result.id, "SUCCESS")


def test_page_of_a_task(client, row_of, page, worker):
    result = client.send("demo.echo", "<b>&\"'")
    finish(result)
    row_of(result.id, "SUCCESS")
    text = page(f"/task/{result.id}")
    for word in ("demo.echo", "SUCCESS", "<b>&", worker, result.id):
        assert word in text, f"{word} is not in {text}"


def test_page_of_a_failure(client, row_of, page):
    result = client.send("demo.fail", "shown to the user")
    finish(result)
    row_of(result.id, "FAILURE")
    text = page(f"/task/{result.id}")
    assert "FAILURE" in text and "ValueError('shown to the user')" in text
    assert "Traceback (most recent call last)" in text and "ValueError: shown to the user" in text


def test_revoked_task(client, events, row_of):
    result = client.send("demo.add", 1, 1, countdown=2)
    events.wait_for(uuid=result.id, type="task-received")
    result.revoke()
    row_of(result.id, "REVOKED")


def test_page_of_the_worker(client, flower, page, worker):
    finish(client.send("demo.add", 1, 1))
    text = wait_until(lambda: "demo.add" in (found := page(f"/worker/{worker}")) and found, "the worker's page", 30)
    stats = client.worker()[1]
    for word in ("Max concurrency", "Worker PID", "Prefetch", "redis", "celery", "demo.echo", "broker_url", "maxrss"):
        assert word.lower() in text.lower(), f"{word} is not on the page: {text}"
    assert str(stats["pid"]) in text
    assert "Traceback" not in text


@pytest.mark.needs_api
def test_task_of_the_api(http, row_of):
    answer = http.post("/v1/tasks", json={"task": "demo.add", "args": [70, 7]})
    assert answer.status_code == 202, answer.text
    row = row_of(answer.json()["task_id"], "SUCCESS")
    assert row["name"] == "demo.add" and "70" in row["args"] and "77" in row["result"]
