"""Messages that no worker can run: they go, the worker lives, and what comes after them runs."""
import base64
import json
import uuid

import pytest

from waiting import SOON

EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def envelope(body=None, raw=None, content_type="application/json", encoding="utf-8", without=(), **headers):
    """A message as kombu writes it, `raw` bytes instead of a JSON body if given."""
    task_id = str(uuid.uuid4())
    raw = json.dumps(body).encode() if raw is None else raw
    fields = {
        "lang": "py", "task": "demo.add", "id": task_id, "root_id": task_id, "parent_id": None, "group": None,
        "shadow": None, "eta": None, "expires": None, "retries": 0, "timelimit": [None, None], "argsrepr": "()",
        "kwargsrepr": "{}", "origin": "e2e@here", "ignore_result": False, **headers,
    }
    for name in without:
        del fields[name]
    return task_id, {
        "body": base64.b64encode(raw).decode(), "content-encoding": encoding, "content-type": content_type,
        "headers": fields,
        "properties": {
            "correlation_id": task_id, "reply_to": str(uuid.uuid4()), "delivery_mode": 2, "priority": 0,
            "delivery_info": {"exchange": "", "routing_key": "celery"}, "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }


@pytest.fixture
def survives(client, worker):
    """Pushes a text, then checks that the same worker goes on and that the message is gone."""
    pid = client.worker()[1]["pid"]

    def push(text):
        client.broker.lpush("celery", text)
        after = [client.send("demo.add", n, 1) for n in range(6)]
        assert [result.get(timeout=SOON) for result in after] == [1, 2, 3, 4, 5, 6]
        client.wait_empty()
        assert client.worker()[1]["pid"] == pid, "the worker is another process"
    return push


def test_the_envelope_of_these_tests_is_a_good_one(client, survives):
    task_id, message = envelope([[2, 3], {}, EMBED])
    survives(json.dumps(message))
    assert client.result(task_id).get(timeout=SOON) == 5


def test_only_the_headers_that_must_be(client, survives):
    task_id, message = envelope([[2, 3], {}, EMBED])
    message["headers"] = {"task": "demo.add", "id": task_id}
    survives(json.dumps(message))
    assert client.result(task_id).get(timeout=SOON) == 5


def test_unknown_task_fails_as_not_registered(client, survives):
    result = client.send("no.such.task", 1)
    error = client.error_of(result)
    assert type(error).__name__ == "NotRegistered", repr(error)
    assert "no.such.task" in str(error)
    assert result.state == "FAILURE"
    survives(json.dumps(envelope([[1, 2], {}, EMBED])[1]))


def test_pickle_is_refused(client, survives, events):
    """An untrusted pickle runs code as it is read: it must not be read."""
    result = client.send("demo.echo", "pickled", serializer="pickle")
    survives(json.dumps(envelope([[1, 2], {}, EMBED])[1]))
    assert not events.find(uuid=result.id, type="task-started")
    assert result.state != "SUCCESS"


@pytest.mark.parametrize("message", [
    pytest.param(envelope(raw=b"{not json at all")[1], id="not-json"),
    pytest.param(envelope(raw=b"\xff\xfe\x00")[1], id="not-utf-8"),
    pytest.param(envelope(raw=b"", )[1], id="empty", marks=pytest.mark.beyond_celery),
    pytest.param(envelope({"args": [1, 2]})[1], id="object"),
    pytest.param(envelope([[1, 2], {}, EMBED], content_type="application/x-unheard-of")[1], id="content-type"),
    pytest.param(envelope([[1, 2], {}, EMBED], compression="application/x-gzip")[1], id="not-what-it-says"),
    pytest.param(envelope([[1, 2], {}, EMBED], eta="next tuesday")[1], id="eta"),
    pytest.param(envelope([[1, 2], {}, EMBED], without=["task"])[1], id="no-task"),
    pytest.param(envelope([[1, 2], {}, EMBED], without=["id"])[1], id="no-id", marks=pytest.mark.beyond_celery),
])
def test_undecodable_message_does_not_stop_the_queue(survives, message):
    survives(json.dumps(message))


@pytest.mark.beyond_celery
@pytest.mark.parametrize("text", ["not json", "", "[]", "{}", "null", '"text"', '{"body": 5}'])
def test_what_is_no_message_does_not_stop_the_queue(survives, text):
    survives(text)


def test_garbage_on_the_control_channel(client, survives):
    client.broker.publish("/0.celery.pidbox", "not json")
    client.broker.publish("/0.celery.pidbox", json.dumps({"body": "!!", "headers": {}, "properties": {}}))
    survives(json.dumps(envelope([[1, 2], {}, EMBED])[1]))
