"""The events that monitors live on: which, in which order, with which fields."""
import time

from waiting import SOON


def life(client, events, result, last):
    try:
        result.get(timeout=SOON)
    except Exception:
        pass
    events.wait_for(uuid=result.id, type=last)
    return {event["type"]: event for event in events.find(uuid=result.id)}


def test_life_of_a_task(client, events, worker):
    begun = time.time()
    result = client.send("demo.add", 2, kwargs={"y": 3})
    of = life(client, events, result, "task-succeeded")
    received, started, succeeded = of["task-received"], of["task-started"], of["task-succeeded"]
    assert received["name"] == "demo.add"
    assert (received["args"], received["kwargs"]) == ("[2]", "{'y': 3}")
    assert (received["root_id"], received["parent_id"]) == (result.id, None)
    assert (received["retries"], received["eta"], received["expires"]) == (0, None, None)
    assert succeeded["result"] == "5"
    assert 0 <= succeeded["runtime"] < 10
    clocks = [event["clock"] for event in (received, started, succeeded)]
    assert clocks == sorted(clocks) and len(set(clocks)) == 3
    for event in (received, started, succeeded):
        assert event["hostname"] == worker and isinstance(event["pid"], int) and "utcoffset" in event
        assert begun - 2 < event["timestamp"] < time.time() + 2


def test_failure(client, events):
    of = life(client, events, client.send("demo.fail", "seen by monitors"), "task-failed")
    assert "seen by monitors" in of["task-failed"]["exception"]
    assert "seen by monitors" in of["task-failed"]["traceback"]
    assert "task-succeeded" not in of


def test_chain_tells_root_and_parent(client, events):
    result = (client.sig("demo.add", 1, 1) | client.sig("demo.add", 1)).apply_async()
    of = life(client, events, result, "task-succeeded")
    first = result.parent.id
    assert (of["task-received"]["root_id"], of["task-received"]["parent_id"]) == (first, first)


def test_eta_is_told(client, events):
    result = client.send("demo.add", 1, 1, countdown=1)
    of = life(client, events, result, "task-succeeded")
    assert of["task-received"]["eta"]
    assert of["task-started"]["timestamp"] - of["task-received"]["timestamp"] > 0.5


def test_heartbeat(events, worker):
    since = events.mark()
    beat = events.wait_for(type="worker-heartbeat", hostname=worker, since=since)
    assert beat["freq"] > 0 and beat["processed"] >= 1 and beat["active"] >= 0
    assert len(beat["loadavg"]) == 3
    assert beat["sw_ident"] and beat["sw_ver"] and beat["sw_sys"] == "Linux"
    again = events.wait_for(type="worker-heartbeat", hostname=worker, since=events.mark())
    assert again["clock"] > beat["clock"]
