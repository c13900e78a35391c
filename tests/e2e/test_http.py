"""The HTTP API: health, description, tasks, events' rules, the one form of errors."""
import json
import time
import uuid

import httpx
import pytest
from openapi_spec_validator import validate

from waiting import SOON, wait_until

pytestmark = pytest.mark.needs_api

FINAL = ("SUCCESS", "FAILURE", "REVOKED")


def accepted(answer):
    assert answer.status_code == 202, f"{answer.status_code}: {answer.text}"
    return answer.json()


def final(http, task_id, seconds=40):
    def done():
        answer = http.get(f"/v1/tasks/{task_id}")
        assert answer.status_code == 200, answer.text
        return answer.json() if answer.json()["state"] in FINAL else None
    return wait_until(done, lambda: f"the task ends: {http.get(f'/v1/tasks/{task_id}').text}", seconds)


def problem(answer, *statuses):
    """Checks the form that every error has, and gives it."""
    assert answer.status_code in statuses, f"{answer.status_code}: {answer.text[:500]}"
    assert answer.headers["content-type"].split(";")[0] == "application/problem+json"
    found = answer.json()
    assert {"type", "title", "status", "detail", "request_id"} <= set(found), found
    assert found["status"] == answer.status_code
    assert found["request_id"] == answer.headers["X-Request-Id"]
    return found


def field_names(found):
    return " ".join(error["field"] for error in found.get("errors") or []) + " " + found["detail"]


# --- health and description ---

def test_health(http):
    assert http.get("/health").json()["status"] == "ok"


def test_ready_counts_the_workers(http, client):
    client.worker()
    found = wait_until(lambda: (r := http.get("/ready")).status_code == 200 and r.json(), "the API is ready")
    assert found["status"] == "ok"
    assert (found["checks"]["database"], found["checks"]["redis"]) == ("ok", "ok")
    assert found["checks"]["workers"] >= 1


def test_openapi_is_valid_and_describes_everything(http):
    spec = http.get("/openapi.json").json()
    validate(spec)
    paths = {}
    for server in [s["url"].rstrip("/") for s in spec.get("servers", [])] or [""]:
        prefix = httpx.URL(server).path.rstrip("/")
        paths.update({prefix + path: item for path, item in spec["paths"].items()})
    for path in ("/health", "/ready", "/v1/documents", "/v1/search", "/v1/events", "/v1/tasks"):
        assert path in paths, f"{path} is not among {sorted(paths)}"
    for prefix in ("/v1/documents/{", "/v1/events/{", "/v1/tasks/{"):
        assert any(path.startswith(prefix) for path in paths), prefix
    for path, item in paths.items():
        for method in {"get", "post", "put", "patch", "delete"} & set(item):
            operation = item[method]
            name = f"{method} {path}"
            assert operation.get("summary") or operation.get("description"), f"{name} is not described"
            if path.startswith("/v1/"):
                assert any(code[0] in "45d" for code in operation["responses"]), f"{name} tells no error"


@pytest.mark.parametrize("path, word", [("/docs", "swagger"), ("/redoc", "redoc")])
def test_documentation_pages(http, path, word):
    answer = http.get(path, follow_redirects=True)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    assert word in answer.text.lower()


# --- tasks ---

def test_task(http, client, worker):
    answer = http.post("/v1/tasks", json={"task": "demo.add", "args": [2, 3]})
    found = accepted(answer)
    assert found["state"] == "PENDING"
    uuid.UUID(found["task_id"])
    task = final(http, found["task_id"])
    assert (task["state"], task["result"], task["error"]) == ("SUCCESS", 5, None)
    assert (task["name"], task["worker"]) == ("demo.add", worker)
    assert task["date_done"].endswith(("Z", "+00:00"))
    assert http.get(httpx.URL(answer.headers["Location"]).path).json()["task_id"] == task["task_id"]
    # The same task as Python sees it.
    assert client.result(task["task_id"]).get(timeout=SOON) == 5


def test_wait_for_the_result(http):
    task_id = accepted(http.post("/v1/tasks", json={"task": "demo.sleep", "args": [1]}))["task_id"]
    begun = time.monotonic()
    answer = http.get(f"/v1/tasks/{task_id}", params={"wait": 20})
    assert answer.json()["state"] == "SUCCESS"
    assert time.monotonic() - begun < 10


def test_failing_task(http):
    task = final(http, accepted(http.post("/v1/tasks", json={"task": "demo.fail", "args": ["the reason"]}))["task_id"])
    assert task["state"] == "FAILURE" and task["result"] is None
    assert task["error"]["type"] and "the reason" in task["error"]["message"] and task["error"]["traceback"]


def test_countdown(http):
    begun = time.monotonic()
    body = {"task": "demo.add", "kwargs": {"x": 1, "y": 2}, "countdown": 2}
    task = final(http, accepted(http.post("/v1/tasks", json=body))["task_id"])
    assert task["result"] == 3 and time.monotonic() - begun > 1.9


def test_own_task_id(http):
    task_id = str(uuid.uuid4())
    assert accepted(http.post("/v1/tasks", json={"task": "demo.add", "args": [1, 2], "task_id": task_id}))["task_id"] == task_id
    assert final(http, task_id)["result"] == 3


def test_revoke(http):
    task_id = accepted(http.post("/v1/tasks", json={"task": "demo.add", "args": [1, 2], "countdown": 8}))["task_id"]
    assert http.get(f"/v1/tasks/{task_id}").json()["state"] not in FINAL
    assert http.delete(f"/v1/tasks/{task_id}").status_code == 202
    assert final(http, task_id)["state"] == "REVOKED"


def test_task_of_a_python_producer_is_seen(http, client):
    result = client.send("demo.add", 4, 4)
    result.get(timeout=SOON)
    assert http.get(f"/v1/tasks/{result.id}").json()["result"] == 8


def test_unknown_task_and_id(http):
    problem(http.get(f"/v1/tasks/{uuid.uuid4()}"), 404)
    problem(http.post("/v1/tasks", json={"task": "no.such_task"}), 404)


def test_celerys_own_tasks_are_not_allowed(http):
    problem(http.post("/v1/tasks", json={"task": "celery.backend_cleanup"}), 403)


# --- events ---

NOTE = {"type": "document.ingest", "data": {"text": "Otters hold hands while they sleep.", "collection": "e2e-events"}}


def test_unknown_type_of_event(http):
    assert "type" in field_names(problem(http.post("/v1/events", json={"type": "no.such", "data": {}}), 422))


def test_event_that_lacks_its_text_is_refused(http):
    assert "text" in field_names(problem(http.post("/v1/events", json={"type": "document.ingest", "data": {}}), 422))


def test_idempotency_key(http):
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = accepted(http.post("/v1/events", json=NOTE, headers=key))
    assert accepted(http.post("/v1/events", json=NOTE, headers=key))["id"] == first["id"]
    problem(http.post("/v1/events", json={**NOTE, "data": {"text": "Another one."}}, headers=key), 409)
    assert accepted(http.post("/v1/events", json=NOTE))["id"] != first["id"]


def test_events_are_listed(http):
    ids = {accepted(http.post("/v1/events", json=NOTE))["id"] for _ in range(3)}
    seen, cursor = set(), None
    for _ in range(200):
        query = {"limit": 2, "type": "document.ingest", **({"cursor": cursor} if cursor else {})}
        answer = http.get("/v1/events", params=query).json()
        assert len(answer["items"]) <= 2
        new = {item["id"] for item in answer["items"]}
        assert not new & seen, "an event is listed twice"
        seen |= new
        cursor = answer["next_cursor"]
        if cursor is None or ids <= seen:
            break
    assert ids <= seen


def test_unknown_event(http):
    problem(http.get(f"/v1/events/{uuid.uuid4()}"), 404)


# --- errors ---

@pytest.mark.parametrize("path, body, field", [
    ("/v1/documents", {}, "text"),
    ("/v1/documents", {"text": ""}, "text"),
    ("/v1/documents", {"text": 5}, "text"),
    ("/v1/documents", {"text": "x", "nonsense": 1}, "nonsense"),
    ("/v1/search", {"query": ""}, "query"),
    ("/v1/search", {"query": "x", "top_k": 0}, "top_k"),
    ("/v1/search", {"query": "x", "mode": "magic"}, "mode"),
    ("/v1/tasks", {}, "task"),
    ("/v1/tasks", {"task": "demo.add", "args": {}}, "args"),
    ("/v1/tasks", {"task": "demo.add", "priority": 10}, "priority"),
    ("/v1/tasks", {"task": "demo.add", "countdown": 1, "eta": "2031-01-01T00:00:00Z"}, "eta"),
    ("/v1/events", {"data": {}}, "type"),
])
def test_bad_field_is_named(http, path, body, field):
    found = problem(http.post(path, json=body), 422)
    assert field in field_names(found), found


@pytest.mark.parametrize("text", ["{", "", "NaN", '{"text": NaN}', '{"text": "\\ud800"}'])
def test_unreadable_json(http, text):
    answer = http.post("/v1/documents", content=text, headers={"Content-Type": "application/json"})
    problem(answer, 400, 422) if "ud800" in text else problem(answer, 400)


def test_other_errors_have_the_same_form(http):
    problem(http.get("/no/such/route"), 404)
    problem(http.get("/v1/documents/not-an-id"), 404, 422)
    problem(http.post("/v1/search", content="x", headers={"Content-Type": "text/plain"}), 415)
    answer = http.put("/v1/search", json={})
    problem(answer, 405)
    assert "POST" in answer.headers["Allow"]


def test_too_large_a_body(http):
    try:
        answer = http.post("/v1/documents", content=b'{"text": "' + b"x" * (11 * 1024 * 1024) + b'"}',
                           headers={"Content-Type": "application/json"})
    except httpx.WriteError:
        return   # the server may close the connection while the body is still on its way
    problem(answer, 413)


def test_request_id(http):
    assert http.get("/health", headers={"X-Request-Id": "from-a-test-1"}).headers["X-Request-Id"] == "from-a-test-1"
    made = http.get("/health").headers["X-Request-Id"]
    assert made and made != http.get("/health").headers["X-Request-Id"]


# --- workers and queues ---

def test_workers_tell_of_themselves(http, client, worker, python_worker):
    client.send("demo.add", 1, 1).get(timeout=SOON)
    client.send("demo.add", 1, 1, queue=python_worker).get(timeout=SOON)
    running = client.send("demo.sleep", 5)
    wait_until(lambda: running.id in str(client.app.control.inspect(timeout=1).active()), "the task runs")
    items = {one["name"]: one for one in http.get("/v1/workers").json()["items"]}
    stats = client.app.control.inspect(timeout=1).stats()
    assert set(items) == set(stats)
    ours = items[worker]
    assert ours["state"] == "online" and "celery" in ours["queues"] and ours["active"] >= 1
    for name, one in items.items():
        assert one["concurrency"] == stats[name]["pool"]["max-concurrency"]
        assert one["pid"] == stats[name]["pid"] and one["processed"] >= 1
    assert any(one["queues"] == [python_worker] for one in items.values())


def test_queues_count_what_waits_and_what_is_held(http, client, queue, python_worker):
    for priority in (0, 1, 3, 9):
        accepted(http.post("/v1/tasks", json={"task": "demo.add", "args": [1, 1], "queue": queue, "priority": priority}))
    items = {one["name"]: one for one in http.get("/v1/queues").json()["items"]}
    assert items[queue] == {"name": queue, "length": 4, "unacked": 0, "priorities": {"0": 2, "3": 1, "6": 0, "9": 1}}
    assert "celery" in items and not any("pidbox" in name or "celeryev" in name for name in items)
    # a queue that only Python declared, and what a Python worker holds of it
    held = [client.send("demo.add", 1, 1, queue=python_worker, countdown=8) for _ in range(2)]
    def seen():
        found = [one for one in http.get("/v1/queues").json()["items"] if one["name"] == python_worker]
        return found and (found[0]["length"], found[0]["unacked"]) == (0, 2)
    wait_until(seen, lambda: f"both are held: {http.get('/v1/queues').text}", 20)
    assert [one.get(timeout=SOON) for one in held] == [2, 2]


def test_prometheus_reads_the_metrics(http, queue):
    """By Prometheus' own parser, strict as it is."""
    from prometheus_client.openmetrics.parser import text_string_to_metric_families
    accepted(http.post("/v1/tasks", json={"task": "demo.add", "args": [1, 1], "queue": queue, "priority": 3}))
    families = {one.name: one for one in text_string_to_metric_families(http.get("/metrics").text)}
    requests = {tuple(sorted(one.labels.items())): one.value for one in families["http_requests"].samples}
    assert requests[("method", "POST"), ("route", "/v1/tasks"), ("status", "202")] >= 1
    assert families["http_request_duration_seconds"].type == "histogram"
    lengths = {(one.labels["queue"], one.labels["priority"]): one.value
               for one in families["petiole_queue_length"].samples}
    assert lengths[queue, "3"] == 1 and lengths[queue, "0"] == 0
    assert families["petiole_outbox_messages"].type == "gauge"
