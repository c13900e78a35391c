"""Bodies and results in every serializer and compression, from Python to Rust, back, and on to Python."""
import json
import pickle
import uuid
from datetime import datetime, timezone

import pytest
from celery import chain, chord
from kombu import Queue
from kombu.exceptions import ContentDisallowed

from celery_side import Client
from rust_worker import rust_worker
from waiting import SOON, wait_until

ALL = ["json", "yaml", "msgpack", "pickle"]
COMPRESSIONS = ["gzip", "bzip2", "lzma"]


@pytest.fixture(scope="module")
def reader(stack, client, tmp_path_factory):
    """The queue of a Rust worker that accepts everything and answers in JSON."""
    log = tmp_path_factory.mktemp("reader") / "log"
    with rust_worker(stack, client, log, ACCEPT_CONTENT=",".join(ALL)) as (queue, _, _):
        yield queue


@pytest.fixture(scope="module", params=["yaml", "msgpack"])
def writer(request, stack, client, tmp_path_factory):
    """(serializer, queue, client) of a Rust worker that writes messages and results in another serializer."""
    log = tmp_path_factory.mktemp("writer") / "log"
    settings = dict(ACCEPT_CONTENT="json,yaml,msgpack", TASK_SERIALIZER=request.param, RESULT_SERIALIZER=request.param,
                    TASK_COMPRESSION="gzip", RESULT_COMPRESSION="bzip2")
    with rust_worker(stack, client, log, **settings) as (queue, _, _):
        conf = dict(accept_content=["json", request.param], result_serializer=request.param)
        yield request.param, queue, Client(stack, **conf)


VALUE = {"text": "naïve 漢字 🦀 \u0085 'so' \"so\"", "numbers": [0, -1, 2**63 - 1, 1.5, 1e-9], "none": None, "yes": [True, False],
         "looks": ["yes", "1", "null", "2024-01-02", "1e3", ""], "nested": {"a": [{"b": []}, {}]}}


@pytest.mark.parametrize("compression", [None, *COMPRESSIONS])
@pytest.mark.parametrize("serializer", ALL)
def test_a_python_producer_s_message_is_read(client, reader, serializer, compression):
    result = client.send("demo.echo", VALUE, queue=reader, serializer=serializer, compression=compression)
    assert result.get(timeout=SOON) == VALUE


def test_pickles_of_every_protocol(client, reader):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        task_id = str(uuid.uuid4())
        body = pickle.dumps(((VALUE,), {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}), protocol)
        with client.app.producer_or_acquire() as producer:
            producer.publish(body, exchange="", routing_key=reader, content_type="application/x-python-serialize",
                             content_encoding="binary", headers={"task": "demo.echo", "id": task_id, "lang": "py"})
        assert client.result(task_id).get(timeout=SOON) == VALUE, f"protocol {protocol}"


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pickle_with_code_is_refused_and_runs_nothing(client, reader, tmp_path):
    mark = tmp_path / "ran"
    result = client.send("demo.echo", Touch(str(mark)), queue=reader, serializer="pickle")
    error = client.error_of(result)
    assert "open" in str(error) and "plain data" in str(error), error
    assert not mark.exists()
    assert client.send("demo.add", 1, 2, queue=reader, serializer="pickle").get(timeout=SOON) == 3


def test_what_is_not_asked_for_is_refused(client):
    for serializer in ALL[1:]:
        result = client.send("demo.add", 1, 2, serializer=serializer)
        assert type(client.error_of(result)) is ContentDisallowed or "not accepted" in str(client.error_of(result))


def test_values_that_json_has_no_type_for(client, reader):
    time, raw = datetime(2024, 1, 2, 3, 4, 5, 678900, tzinfo=timezone.utc), b"\xff\x00raw"
    assert client.send("demo.echo", [time, raw], queue=reader, serializer="yaml").get(timeout=SOON) == [time, raw]
    assert client.send("demo.echo", [raw, b"text"], queue=reader, serializer="msgpack").get(timeout=SOON) == [raw, b"text"]
    assert client.send("demo.echo", [raw, {1}, (2,)], queue=reader, serializer="pickle").get(timeout=SOON) == [raw, [1], [2]]


def test_a_canvas_in_pickle(client, reader):
    sig = lambda task, *args: client.sig(task, *args, queue=reader, serializer="pickle")
    assert chain(sig("demo.add", 1, 2), sig("demo.add", 3), sig("demo.add", 4))().get(timeout=SOON) == 10
    assert sorted(chord([sig("demo.add", n, 1) for n in range(3)])(sig("demo.echo")).get(timeout=SOON)) == [1, 2, 3]


def test_control_requests_in_another_serializer(stack, client, reader, writer):
    serializer, queue, other = writer
    other = Client(stack, accept_content=[serializer], task_serializer=serializer)
    answers = other.app.control.inspect(timeout=2).active_queues()
    assert {queue, reader} <= {one["name"] for queues in answers.values() for one in queues}


def test_results_and_messages_are_written_so_that_python_reads_them(client, events, writer):
    serializer, queue, other = writer
    sig = lambda task, *args: other.sig(task, *args, queue=queue)
    result = other.send("demo.echo", VALUE, queue=queue, serializer=serializer)
    assert result.get(timeout=SOON) == VALUE
    stored = client.backend.get(f"celery-task-meta-{result.id}")
    assert stored.startswith(b"\0celery-compressed\0application/x-bz2\0")
    assert chain(sig("demo.add", 1, 2), sig("demo.add", 3))().get(timeout=SOON) == 6
    assert sorted(chord([sig("demo.add", n, 1) for n in range(3)])(sig("demo.echo")).get(timeout=SOON)) == [1, 2, 3]
    error = other.error_of(other.send("demo.fail", "in " + serializer, queue=queue))
    assert type(error).__name__ == "ValueError" and serializer in str(error)


def test_a_message_of_the_rust_side_is_kombu_s(client, queue, writer):
    """The link's message lies in a queue that nobody consumes, in the worker's serializer and compression."""
    serializer, own, other = writer
    other.send("demo.add", 1, 2, queue=own, link=other.sig("demo.echo", queue=queue)).get(timeout=SOON)
    text = wait_until(lambda: client.broker.lindex(queue, 0), "the link's message is there", SOON)
    message = json.loads(text)
    assert message["headers"]["compression"] == "application/x-gzip"
    with other.app.connection_for_read() as connection:
        received = Queue(queue)(connection.default_channel).get(accept=[serializer])
        assert received.content_type == f"application/x-{serializer}"
        args, kwargs, embed = received.decode()
        received.ack()
    assert (args, kwargs, set(embed)) == ([3], {}, {"callbacks", "errbacks", "chain", "chord"})


@pytest.mark.parametrize("serializer", ["json", "yaml"])
def test_protocol_1_in_full(client, reader, stack, serializer):
    """Every field of the old form."""
    eta = datetime.now(timezone.utc).replace(microsecond=0)
    task_id, linked, group = (str(uuid.uuid4()) for _ in range(3))
    body = {"task": "demo.add", "id": task_id, "args": [20], "kwargs": {"y": 22}, "retries": 0, "eta": eta.isoformat(),
            "expires": eta.replace(year=eta.year + 1).isoformat(), "utc": True, "taskset": group, "chord": None,
            "callbacks": [dict(client.sig("demo.echo", task_id=linked, queue=reader))], "errbacks": None, "timelimit": [30, 20]}
    with client.app.producer_or_acquire() as producer:
        producer.publish(body, serializer=serializer, exchange="", routing_key=reader)
    assert client.result(task_id).get(timeout=SOON) == 42
    assert client.result(linked).get(timeout=SOON) == 42
    assert json.loads(client.backend.get(f"celery-task-meta-{task_id}"))["group_id"] == group
    gone = dict(body, id=str(uuid.uuid4()), expires="2020-01-01T00:00:00+00:00", callbacks=None)
    with client.app.producer_or_acquire() as producer:
        producer.publish(gone, serializer=serializer, exchange="", routing_key=reader)
    error = client.error_of(client.result(gone["id"]))
    assert "expired" in str(error)


def test_a_chord_of_protocol_1_messages(client, reader):
    group, body_id = str(uuid.uuid4()), str(uuid.uuid4())
    body = dict(client.sig("demo.echo", queue=reader, task_id=body_id))
    client.backend.set(f"celery-taskset-meta-{group}.s", 2, ex=600)
    for index in range(2):
        message = {"task": "demo.add", "id": str(uuid.uuid4()), "args": [index, 1], "kwargs": {}, "taskset": group,
                   "group_index": index, "chord": body, "utc": True}
        with client.app.producer_or_acquire() as producer:
            producer.publish(message, serializer="json", exchange="", routing_key=reader)
    assert client.result(body_id).get(timeout=SOON) == [1, 2]
