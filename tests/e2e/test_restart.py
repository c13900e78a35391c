"""Crashes and restarts. These tests come last; they end and start parts of the stack, in this order."""
import os
import signal

import httpx
import pytest

import processes
from stack import PORTS
from waiting import PATIENCE, SOON, wait_until

pytestmark = pytest.mark.needs_scripts

LATE = {"TASK_ACKS_LATE": "1", "VISIBILITY_TIMEOUT": "15"}


def get(result, seconds=SOON):
    return result.get(timeout=seconds)


def started(events, result):
    return events.find(uuid=result.id, type="task-started")


@pytest.mark.needs_api
def test_start_again_is_harmless(stack, client):
    """Nothing is restarted, no secret changes, a running task goes on, and the addresses are told again."""
    def pids():
        found = {name: processes.listener(int(stack.env[name])) for name in PORTS}
        return {**found, "worker": client.worker()[1]["pid"]}
    before, secrets = pids(), (stack.folder / "docker/.env").read_bytes()
    assert all(before.values()), f"each service has a process: {before}"
    running = client.send("demo.sleep", 5)
    output = stack.start()
    get(running)
    assert pids() == before
    assert (stack.folder / "docker/.env").read_bytes() == secrets
    for name in ("API_PORT", "FLOWER_PORT"):
        assert stack.env[name] in output, f"start.sh does not say where {name} is"


@pytest.mark.needs_api
def test_secrets_are_random_and_kept_from_others(stack):
    from settings import read_env_file
    file = stack.folder / "docker/.env"
    found, example = read_env_file(file), read_env_file(stack.folder / "docker/.env.example")
    for name in ("POSTGRES_PASSWORD", "REDIS_PASSWORD"):
        assert len(found.get(name, "")) >= 16 and found[name] != example.get(name), f"{name} is no random secret"
    assert file.stat().st_mode & 0o077 == 0, "docker/.env is readable by others"


def test_warm_shutdown(stack, client, events):
    """TERM: running tasks end with their results; those that wait go back to the queue and run after the restart."""
    client.wait_empty()
    _, stats = client.worker()
    slots = stats["pool"]["max-concurrency"]
    running = [client.send("demo.sleep", 4) for _ in range(slots)]
    for result in running:
        events.wait_for(uuid=result.id, type="task-started")
    waiting = [client.send("demo.add", n, 1) for n in range(20)]
    wait_until(lambda: client.broker.hlen("unacked") >= 1, "some of them are prefetched")
    # Held still until the worker is seen to have ended, whoever starts another one.
    os.kill(stats["pid"], signal.SIGTERM)
    for result in running:
        get(result)
        assert result.state == "SUCCESS"
    wait_until(lambda: not processes.alive(stats["pid"]), "the worker ends", 30)
    stack.start()
    assert [get(result, 60 * PATIENCE) for result in waiting] == [n + 1 for n in range(20)]
    for result in running + waiting:
        assert len(started(events, result)) <= 1, "no task ran twice"
    client.wait_empty()
    assert client.worker()[1]["pid"] != stats["pid"]


def test_data_outlives_the_stack(stack, client, request):
    """docker/stop.sh ends every process and keeps the data; then start.sh takes other settings of the worker."""
    document = None
    if stack.has_api:
        http = request.getfixturevalue("http")
        answer = http.post("/v1/documents", json={"text": "Barnacles glue themselves to whales.", "title": "kept"})
        assert answer.status_code == 202, answer.text
        document = answer.json()["id"]
        wait_until(lambda: http.get(f"/v1/documents/{document}").json()["state"] == "ready", "the document is ready", 60)
    stack.stop()
    if stack.has_api:
        assert not processes.of_stack(stack.marker, stack.folder), "something still runs after stop.sh"
    stack.start(LATE)
    client.reconnect()
    client.worker()
    if document:
        assert http.get(f"/v1/documents/{document}").json()["state"] == "ready"


def test_killed_in_the_middle_of_a_late_ack_task(stack, client, recorder):
    """kill -9: after a restart the task runs again, whatever was prefetched runs, nothing stays on the broker.

    Goes on with the stack as the test before left it: late acknowledgement, a short visibility timeout.
    """
    _, stats = client.worker()
    client.app.control.enable_events()
    client.wait_empty()
    slow = client.send("demo.sleep", 6)
    wait_until(lambda: started(recorder, slow), "the task has started")
    others = [client.send("demo.sleep", 0.1) for _ in range(6)]
    # In one look: the others are being fetched meanwhile.
    unacked, index = client.broker.pipeline(transaction=True).hlen("unacked").zcard("unacked_index").execute()
    assert unacked >= 1, "a late-ack task stays in unacked while it runs"
    assert index == unacked
    stack.kill_worker(stats["pid"])
    wait_until(lambda: not processes.alive(stats["pid"]), "the worker is dead")
    assert slow.state not in ("SUCCESS", "FAILURE")
    stack.start(LATE)
    while_down = [client.send("demo.add", n, 0) for n in range(10)]
    client.app.control.enable_events()
    get(slow, 150 * PATIENCE)
    for result in others:
        get(result, 60 * PATIENCE)
    assert [get(result) for result in while_down] == list(range(10))
    wait_until(lambda: len(started(recorder, slow)) == 2, lambda: f"it started twice: {started(recorder, slow)}")
    client.wait_empty(60)
    assert client.worker()[1]["pid"] != stats["pid"]


@pytest.mark.needs_api
def test_workflows_outlive_a_killed_worker(stack, client, http):
    """kill -9 amid workflows: each goes on where it was, and what was done already keeps its output."""
    text = " ".join(f"Pay {n} EUR for the {n}th boat by 12 March 2030." for n in range(1, 60))
    accepted = [http.post("/v1/events", json={"type": "text.digest", "data": {"text": text, "labels": ["a", "b"]}}) for _ in range(12)]
    paths = [httpx.URL(answer.headers["Location"]).path for answer in accepted]

    def steps(event):
        return {step["name"]: step for step in event["steps"]}

    def half_done():
        found = [http.get(path).json() for path in paths]
        return [event for event in found if event["state"] == "running" and event["steps"]
                and steps(event)["load"]["state"] == "succeeded" and steps(event)["join"]["state"] == "pending"]
    _, stats = client.worker()
    cut = wait_until(half_done, "a workflow is half done", 60)
    stack.kill_worker(stats["pid"])
    wait_until(lambda: not processes.alive(stats["pid"]), "the worker is dead")
    stack.start(LATE)
    for path in paths:
        event = wait_until(lambda: (found := http.get(path).json())["state"] in ("succeeded", "failed") and found,
                           lambda: f"the workflow ends: {http.get(path).text}", 150)
        assert event["state"] == "succeeded", event
        assert event["output"] == steps(event)["join"]["output"]
    for before in cut:
        after = http.get(f"/v1/events/{before['id']}").json()
        assert steps(after)["load"] == steps(before)["load"], "what was done is not done again"
