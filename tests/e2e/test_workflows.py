"""Workflows over HTTP, with Python's client as the judge: what it finds is what Celery's own canvas would have left."""
import celery
import httpx
import pytest
from celery.result import AsyncResult, GroupResult

from test_http import accepted, final
from waiting import SOON, wait_until

pytestmark = pytest.mark.needs_api

NOBODY = "6f2d3a10-0000-4000-8000-0123456789ab"


def step(task, *args, **options):
    return {"task": task, "args": list(args), **options}


def send(http, workflow):
    return accepted(http.post("/v1/workflows", json=workflow))


def test_chain(http, client):
    sent = send(http, {"chain": [step("demo.add", 1, 2), step("demo.add", 3), step("demo.add", 4)]})
    assert client.result(sent["task_id"]).get(timeout=SOON) == 10


def test_group_is_restored_by_python(http, client):
    """`task_id` gives the list of results; `group_id` is the group that Python restores, with each task of it."""
    sent = send(http, {"group": [step("demo.add", n, n) for n in range(6)]})
    assert client.result(sent["task_id"]).get(timeout=SOON) == [0, 2, 4, 6, 8, 10]
    group = GroupResult.restore(sent["group_id"], app=client.app)
    assert group is not None and len(group) == 6
    assert group.get(timeout=SOON) == [0, 2, 4, 6, 8, 10]
    assert group.completed_count() == 6 and group.successful()
    assert final(http, sent["task_id"])["result"] == [0, 2, 4, 6, 8, 10]


def test_group_with_a_failure(http, client):
    sent = send(http, {"group": [step("demo.add", 1, 1), step("demo.fail", "not this one")]})
    failed = final(http, sent["task_id"])
    assert failed["state"] == "FAILURE" and "not this one" in failed["error"]["message"]
    group = GroupResult.restore(sent["group_id"], app=client.app)
    assert group.failed() and group.results[0].get(timeout=SOON) == 2


def test_group_at_the_end_of_a_chain(http, client):
    sent = send(http, {"chain": [step("demo.add", 1, 1), {"group": [step("demo.add", 10), step("demo.add", 20)]}]})
    assert client.result(sent["task_id"]).get(timeout=SOON) == [12, 22]
    assert GroupResult.restore(sent["group_id"], app=client.app).get(timeout=SOON) == [12, 22]


def test_nested(http, client):
    middle = {"chain": [step("demo.add", 1, 1), {"group": [step("demo.add", 10), step("demo.add", 20)]},
                        step("demo.echo")]}
    assert client.result(send(http, middle)["task_id"]).get(timeout=SOON) == [12, 22]
    chord = {"chord": {"header": [{"chain": [step("demo.add", 1, 1), step("demo.add", 1)]}, step("demo.add", 2, 2)],
                       "body": {"chain": [step("demo.echo"), step("demo.echo")]}}}
    sent = send(http, chord)
    assert client.result(sent["task_id"]).get(timeout=SOON) == [3, 4]
    groups = {"group": [{"group": [step("demo.add", 1, 1), step("demo.add", 2, 2)]}, {"chain": [step("demo.add", 3, 3)]}]}
    assert client.result(send(http, groups)["task_id"]).get(timeout=SOON) == [2, 4, 6]


def test_across_python_and_rust(http, client, python_worker):
    """A Python worker runs some of the steps, joins the header when it comes last, and finds options by their names."""
    header = [step("demo.add", n, 1, queue=("celery", python_worker)[n % 2]) for n in range(8)]
    sent = send(http, {"group": header})
    assert client.result(sent["task_id"]).get(timeout=SOON) == list(range(1, 9))
    sent = send(http, {"chain": [
        step("e2e.multiply", 3, 4, queue=python_worker),
        step("demo.add", 5, queue="celery", priority=3, expires=300),
        step("e2e.multiply", 2, queue=python_worker),
        step("e2e.multiply", 7, 6, queue=python_worker, immutable=True),
    ]})
    last = client.result(sent["task_id"])
    assert last.get(timeout=SOON) == 42


def test_a_step_that_fails_ends_it(http, client):
    sent = send(http, {"chain": [step("demo.fail", "early"), step("demo.add", 1)]})
    chord = send(http, {"chord": {"header": [step("demo.add", 1, 1), step("demo.fail", "head")],
                                  "body": step("demo.echo")}})
    failed = final(http, chord["task_id"])
    assert failed["state"] == "FAILURE" and "head" in failed["error"]["message"]
    assert AsyncResult(sent["task_id"], app=client.app).state != "SUCCESS"


def test_options_of_steps(http, events):
    sent = send(http, {"chain": [step("demo.echo", 1), step("demo.echo", "own", countdown=2, immutable=True)]})
    assert events.wait_for(uuid=sent["task_id"], type="task-received")["eta"]
    assert final(http, sent["task_id"])["result"] == "own"


def succeeded(http, path):
    def over():
        event = http.get(path).json()
        assert event["state"] != "failed", event
        return event if event["state"] == "succeeded" else None
    return wait_until(over, lambda: f"the workflow ends: {http.get(path).text}", 120)


def test_an_event_that_is_a_workflow_shows_each_step(http, client, events):
    """`text.digest`: a sequence, a branch, three steps side by side; each is a task with its root, and is kept with the event."""
    text = "The harbour closes at noon. Pay 1,250 EUR to desk@example.org by 12 March 2030. Seals sleep on the sand bank."
    answer = http.post("/v1/events", json={"type": "text.digest", "data": {"text": text, "labels": ["money", "animals"]}})
    assert answer.status_code == 202, answer.text
    path = httpx.URL(answer.headers["Location"]).path

    event = succeeded(http, path)
    steps = {step["name"]: step for step in event["steps"]}
    assert {name: step["state"] for name, step in steps.items()} == {
        "load": "succeeded", "by_length": "succeeded", "summarize": "succeeded", "reduce": "skipped",
        "summarize_reduced": "skipped", "extract": "succeeded", "classify": "succeeded", "join": "succeeded"}
    assert steps["load"]["input"]["text"] == text and steps["extract"]["input"] == steps["load"]["output"]
    assert steps["by_length"]["output"] == "short"
    assert event["output"] == steps["join"]["output"]
    assert {"amount", "email", "date"} <= {item["kind"] for item in event["output"]["extraction"]["items"]}
    assert all(step["attempts"] == 1 and step["error"] is None for step in steps.values() if step["state"] == "succeeded")
    # each step is a task of its own, under the event's
    for name in ("load", "by_length", "summarize", "extract", "classify", "join"):
        received = events.wait_for(uuid=steps[name]["task_id"], type="task-received", name=steps[name]["task"])
        assert received["root_id"] == event["task_id"], received
        assert received["parent_id"], received
    assert steps["load"]["task"] == "steps.load" and steps["by_length"]["task"] == "workflows.route"
    side_by_side = {steps[name]["task_id"] for name in ("by_length", "extract", "classify")}
    assert len(side_by_side | {steps[name]["task_id"] for name in ("load", "join")} | {event["task_id"]}) == 6
    assert client.result(event["task_id"]).get(timeout=SOON) == event["output"]


def test_a_branch_goes_the_way_that_its_router_says(http):
    """A long text is reduced before it is summarised: two steps of the other way."""
    text = " ".join(f"Ship {n} carries {n * 7} tons of grain and timber to the northern harbour." for n in range(320))
    assert len(text) > 20_000
    answer = http.post("/v1/events", json={"type": "text.digest", "data": {"text": text, "labels": ["ships", "cooking"]}})
    event = succeeded(http, httpx.URL(answer.headers["Location"]).path)
    steps = {step["name"]: step for step in event["steps"]}
    assert steps["by_length"]["output"] == "long"
    assert steps["summarize"]["state"] == "skipped" and steps["summarize"]["task_id"] is None
    reduced = steps["summarize_reduced"]["input"]
    assert reduced == steps["reduce"]["output"] and 0 < len(reduced["text"]) < len(text)
    assert event["output"]["summary"] == steps["summarize_reduced"]["output"]
    assert event["output"]["classification"]["label"] == "ships"


def test_a_step_that_fails_fails_the_event_and_says_where(http):
    answer = http.post("/v1/events", json={"type": "text.digest", "data": {"document_id": NOBODY}})
    path = httpx.URL(answer.headers["Location"]).path
    event = wait_until(lambda: (e := http.get(path).json())["state"] == "failed" and e, "the event fails", 60)
    assert event["error"].startswith("step load: ") and NOBODY in event["error"], event
    states = {step["name"]: step["state"] for step in event["steps"]}
    assert states["load"] == "failed" and states["join"] == "pending", states


def test_a_step_may_live_in_a_python_worker(http, client, python_worker):
    """What a step of another worker becomes (`Flow::task`): its task between two that keep what went in and came out."""
    answer = http.post("/v1/events", json={"type": "text.digest", "data": {"document_id": NOBODY}})
    path = httpx.URL(answer.headers["Location"]).path
    # an event with steps that nobody takes
    wait_until(lambda: http.get(path).json()["state"] == "failed", "the event fails", 60)
    about = {"event_id": answer.json()["id"], "step": "join"}

    def call(task, *args):
        parts = [client.app.signature("workflows.begin", args=(21,), kwargs=about),
                 client.app.signature(task, args=args, queue=python_worker),
                 client.app.signature("workflows.end", kwargs=about)]
        for part in parts:
            part.link_error(client.app.signature("workflows.failed", kwargs=about))
        return celery.chain(*parts, app=client.app).apply_async()

    def join(state):
        step = next(step for step in http.get(path).json()["steps"] if step["name"] == "join")
        return step if step["state"] == state else None
    call("demo.fail")
    failed = wait_until(lambda: join("failed"), lambda: f"the step fails: {http.get(path).text}", 30)
    assert (failed["input"], failed["output"], failed["attempts"]) == (21, None, 1)
    assert failed["error"] == "ValueError: 21", failed
    assert call("e2e.multiply", 2).get(timeout=SOON) == 42
    done = join("succeeded")
    assert (done["input"], done["output"], done["attempts"], done["error"]) == (21, 42, 2, None), done
