"""Remote control, side by side: a Rust and a Python worker are asked the same, and must answer the same."""
import json
import uuid

import pytest

from celery_side import OWN_WORKER
from waiting import SOON

# What is asked of both. Nothing of it depends on what the workers do at the moment.
SAME = [
    ("ping", {}), ("ping", {"surplus": 1}), ("no_such_command", {}), ("report", {"surplus": 1}),
    ("query_task", {}), ("query_task", {"ids": "unknown"}), ("query_task", {"ids": ["a", "b"]}), ("query_task", {"ids": None}),
    ("revoke", {}), ("revoke", {"task_id": None}), ("revoke", {"task_id": []}), ("revoke", {"task_id": "e2e-one"}),
    ("revoke", {"task_id": "e2e-one", "terminate": True}),
    ("revoke", {"task_id": "e2e-one", "terminate": True, "signal": "NOPE"}),
    ("terminate", {}), ("terminate", {"task_id": "x"}), ("terminate", {"task_id": "x", "signal": "kill"}),
    ("terminate", {"task_id": "x", "signal": 9}),
    ("revoke_by_stamped_headers", {}), ("revoke_by_stamped_headers", {"headers": {"e2e": "b"}}),
    ("revoke_by_stamped_headers", {"headers": {"e2e": ["b", "c"]}}), ("revoke_by_stamped_headers", {"headers": ["e2e=b"]}),
    ("revoke_by_stamped_headers", {"headers": ["e2e"]}), ("revoke_by_stamped_headers", {"headers": "e2e"}),
    ("revoke_by_stamped_headers", {"headers": {"e2e-none": "b"}, "terminate": True}),
    ("revoke_by_stamped_headers", {"headers": {"e2e": "b"}, "signal": "BAD"}),
    ("rate_limit", {}), ("rate_limit", {"task_name": "demo.progress"}),
    ("rate_limit", {"task_name": "nope", "rate_limit": "10/m"}), ("rate_limit", {"task_name": "nope", "rate_limit": "x"}),
    ("rate_limit", {"task_name": "demo.progress", "rate_limit": "1/y"}),
    ("rate_limit", {"task_name": "demo.progress", "rate_limit": [1]}),
    ("rate_limit", {"task_name": "demo.progress", "rate_limit": "600/m"}),
    ("rate_limit", {"task_name": "demo.progress", "rate_limit": "0"}),
    ("rate_limit", {"task_name": "demo.progress", "rate_limit": None}),
    ("time_limit", {}), ("time_limit", {"task_name": "nope"}), ("time_limit", {"task_name": ["a"]}),
    ("time_limit", {"task_name": "demo.progress", "soft": 100, "hard": 200}), ("time_limit", {"task_name": "demo.progress"}),
    ("enable_events", {"surplus": 1}), ("heartbeat", {}), ("heartbeat", {"surplus": 1}),
    ("election", {}), ("election", {"id": "a"}), ("hello", {}), ("active_queues", {"surplus": 1}),
    ("objgraph", {}), ("objgraph", {"surplus": 1}), ("autoscale", {"surplus": 1}), ("autoscale", {"max": 3, "min": 1}),
    ("add_consumer", {}), ("cancel_consumer", {}), ("cancel_consumer", {"queue": "never"}),
]


def ask(client, node, method, arguments):
    reply = client.app.control.broadcast(method, arguments=arguments, destination=[node], reply=True, timeout=SOON)
    assert reply, f"no reply to {method} {arguments}"
    return json.dumps(reply[0][node], sort_keys=True)


@pytest.fixture(scope="module")
def python_node(client, python_worker):
    names = [name for name in client.app.control.inspect(timeout=2).ping() if name.startswith(OWN_WORKER + "-")]
    queues = client.app.control.inspect(timeout=2, destination=names).active_queues()
    return next(name for name, consumed in queues.items() if consumed[0]["name"] == python_worker)


@pytest.mark.parametrize("method, arguments", SAME, ids=lambda part: part if isinstance(part, str) else json.dumps(part))
def test_the_same_reply(client, worker, python_node, method, arguments):
    assert ask(client, worker, method, arguments) == ask(client, python_node, method, arguments)


def test_every_command_of_celery_is_known(client, worker):
    """Whatever Celery's worker knows is no KeyError here."""
    from celery.worker.control import Panel
    unknown = [name for name in Panel.data if name not in ("shutdown", "pool_restart")
               and "KeyError" in ask(client, worker, name, {"surplus-only-for-the-check": 1})]
    assert not unknown


def test_every_setting_of_celery_is_told(client, worker):
    from celery.app.defaults import DEFAULTS
    told = json.loads(ask(client, worker, "conf", {"with_defaults": True}))
    assert not {name for name in DEFAULTS if name not in told}


def test_memory_is_sampled_and_dumped(client, worker):
    sample = json.loads(ask(client, worker, "memsample", {}))
    assert sample.endswith("MB")
    dump = json.loads(ask(client, worker, "memdump", {}))
    assert f"- rss (sample):\n-    > {sample},\n" in dump and "- rss (end): " in dump


def test_a_queue_of_a_topic_exchange(client, worker, queue):
    from kombu import Exchange
    exchange = Exchange(queue + "-topic", type="topic")
    client.control("add_consumer", worker, queue=queue, exchange=exchange.name, exchange_type="topic", routing_key="a.#")
    try:
        told = {one["name"]: one for one in client.app.control.inspect(timeout=SOON, destination=[worker]).active_queues()[worker]}
        assert told[queue]["exchange"]["type"] == "topic" and told[queue]["routing_key"] == "a.#"
        task_id = str(uuid.uuid4())
        with client.app.producer_or_acquire() as producer:
            producer.publish({"task": "demo.add", "id": task_id, "args": [2, 3], "kwargs": {}}, exchange=exchange,
                             routing_key="a.b.c", declare=[exchange])
        assert client.result(task_id).get(timeout=SOON) == 5
    finally:
        client.control("cancel_consumer", worker, queue=queue)
        client.broker.delete(f"_kombu.binding.{exchange.name}", f"_kombu.binding_permanent.{exchange.name}")
