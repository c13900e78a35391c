"""Python and Rust workers on one broker, with the same task names: each does the other's work."""
import json
import uuid

import pytest
from celery import Celery, chain, chord

from waiting import SOON, wait_until


def get(result):
    return result.get(timeout=SOON)


def worker_of(events, task_id):
    return events.wait_for(uuid=task_id, type="task-received")["hostname"]


def test_delay_of_a_python_producer(stack, client, events, worker):
    """A Python project that has the task's code calls it as ever; the stack's worker executes it."""
    app = Celery("project", broker=stack.broker_url, backend=stack.backend_url)

    @app.task(name="demo.add")
    def add(x, y):
        raise AssertionError("ran in the producer")

    first, second = add.delay(30, 4), add.apply_async((1,), {"y": 2})
    assert (get(first), get(second)) == (34, 3)
    assert worker_of(events, first.id) == worker


def test_both_workers_do_the_same(client, python_worker):
    for args in ([2, 3], [1.5, 2], [-5, 5]):
        ours, theirs = client.send("demo.add", *args), client.send("demo.add", *args, queue=python_worker)
        assert get(ours) == get(theirs)
    for result in (client.send("demo.add", 1), client.send("demo.add", 1, queue=python_worker)):
        error = client.error_of(result)
        assert isinstance(error, TypeError) and "'y'" in str(error)


def test_chain_across_both(client, events, python_worker, worker):
    result = chain(
        client.sig("e2e.multiply", 3, 4, queue=python_worker),
        client.sig("demo.add", 5, queue="celery"),
        client.sig("e2e.multiply", 2, queue=python_worker),
    )()
    assert get(result) == 34
    ran = [worker_of(events, step.id) for step in (result.parent.parent, result.parent, result)]
    assert ran[0] == ran[2] != ran[1] == worker


def test_chord_across_both(client, python_worker):
    """The header's members count on the same keys, whoever is last sends the body."""
    for body_queue in ("celery", python_worker):
        header = [client.sig("demo.add", n, 1, queue=("celery", python_worker)[n % 2]) for n in range(8)]
        result = chord(header)(client.sig("demo.echo", queue=body_queue))
        assert sorted(get(result)) == list(range(1, 9))


def test_link_across_both(client, python_worker):
    linked, failed = str(uuid.uuid4()), str(uuid.uuid4())
    get(client.send("demo.add", 1, 2, link=client.sig("e2e.multiply", 5, task_id=linked, queue=python_worker)))
    assert get(client.result(linked)) == 15
    result = client.send("demo.fail", "over there", queue=python_worker,
                         link_error=client.sig("demo.echo", task_id=failed, queue="celery"))
    client.error_of(result)
    assert get(client.result(failed)) == result.id


@pytest.mark.beyond_celery
def test_a_canvas_composed_in_rust_runs_in_python(client, events, python_worker, worker):
    steps, sums = get(client.send("demo.compose", python_worker))
    assert get(client.result(steps)) == 10
    assert get(client.result(sums)) == [1, 2, 3, 4]
    assert worker_of(events, steps) != worker and worker_of(events, sums) != worker


def test_python_task_sends_one_to_the_default_queue(client, events, python_worker, worker):
    ids = get(client.send("e2e.add_elsewhere", 5, 6, queue=python_worker))
    assert get(client.result(ids["child"])) == 11
    received = events.wait_for(uuid=ids["child"], type="task-received")
    assert received["hostname"] == worker
    assert (received["parent_id"], received["root_id"]) == (ids["self"], ids["self"])


def final(http, task_id):
    def done():
        answer = http.get(f"/v1/tasks/{task_id}", params={"wait": 20})
        assert answer.status_code == 200, answer.text
        return answer.json() if answer.json()["state"] in ("SUCCESS", "FAILURE", "REVOKED") else None
    return wait_until(done, f"task {task_id} ends", 40)


@pytest.mark.needs_api
def test_python_worker_executes_what_the_api_enqueued(http, events, python_worker, worker):
    answer = http.post("/v1/tasks", json={"task": "demo.add", "args": [6], "kwargs": {"y": 7}, "queue": python_worker})
    assert answer.status_code == 202, answer.text
    task = final(http, answer.json()["task_id"])
    assert task["result"] == 13 and task["state"] == "SUCCESS"
    assert worker_of(events, task["task_id"]) != worker


@pytest.mark.needs_api
def test_failure_in_the_python_worker_by_the_api(http, python_worker):
    answer = http.post("/v1/tasks", json={"task": "demo.fail", "args": ["in Python"], "queue": python_worker})
    task = final(http, answer.json()["task_id"])
    assert task["state"] == "FAILURE" and task["result"] is None
    assert task["error"]["type"].endswith("ValueError") and "in Python" in task["error"]["message"]
    assert "Traceback" in task["error"]["traceback"]


@pytest.mark.needs_api
def test_message_of_the_api_is_celerys(http, client, queue):
    """The message itself: what kombu would have written, and the id of the request among its headers."""
    answer = http.post("/v1/tasks", headers={"X-Request-Id": f"req-{queue}"},
                       json={"task": "demo.echo", "args": ["ü"], "queue": queue, "priority": 3})
    assert answer.status_code == 202, answer.text
    assert answer.headers["X-Request-Id"] == f"req-{queue}"
    texts = client.broker.lrange(f"{queue}\x06\x163", 0, -1)
    assert len(texts) == 1, "one message in the list of its priority"
    message = json.loads(texts[0])
    task_id = answer.json()["task_id"]
    assert (message["headers"]["task"], message["headers"]["id"]) == ("demo.echo", task_id)
    assert message["headers"]["root_id"] == task_id and message["properties"]["correlation_id"] == task_id
    assert message["content-type"] == "application/json" and message["properties"]["body_encoding"] == "base64"
    assert message["properties"]["delivery_info"]["routing_key"] == queue
    assert message["properties"]["priority"] == 3
    assert f"req-{queue}" in json.dumps(message["headers"])
    client.broker.delete(f"{queue}\x06\x163")


def test_infinity_passes_through_as_python_writes_it(client, python_worker):
    # Python's JSON has three words more than JSON. They come in arguments, links, the rest of a chain, parts and bodies.
    inf = float("inf")
    add = lambda *args: client.sig("demo.add", *args)
    theirs = lambda *args, **more: client.sig("demo.echo", *args, queue=python_worker, **more)
    assert get(chain(add(1, 2), theirs([1, -inf], immutable=True), theirs())()) == [1, -inf]
    assert get(chain(add(1, 2), chord([theirs(inf, immutable=True), add(1)], theirs()))()) == [inf, 4]
    assert get(chord([add(1, 2), add(3, 4)])(theirs([inf], immutable=True))) == [inf]
    linked = add(1, 2).apply_async(link=theirs([inf], immutable=True))
    assert get(linked) == 3
    wait_until(lambda: linked.children, "the link was sent", SOON)
    assert get(linked.children[0]) == [inf]
    # A Rust task takes it, if its parameter does.
    assert "invalid number" in str(client.error_of(client.send("demo.echo", inf)))
