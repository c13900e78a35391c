"""What Redis can do: the least commands that do the same job, in pipelines of 50 from a bare socket.

| job | commands a task |
|---|---|
| ignored | BRPOP; ZADD and HSET note the delivery; ZREM and HDEL acknowledge it |
| stored | the same, and SETEX and PUBLISH of a result |
| events | the same, and three PUBLISH of an event |
"""
import json
import sys
import time
import uuid

from .messages import META, QUEUE, message
from .server import Wire, resp

PIPELINE = 50


def commands(text, job):
    tag, task_id = str(uuid.uuid4()), str(uuid.uuid4())
    out = resp('BRPOP', QUEUE, 1) + resp('ZADD', 'unacked_index', time.time(), tag) + resp('HSET', 'unacked', tag, text)
    out += resp('ZREM', 'unacked_index', tag) + resp('HDEL', 'unacked', tag)
    if job != 'ignored':
        meta = json.dumps({
            'status': 'SUCCESS', 'result': 3, 'traceback': None, 'children': [], 'task_id': task_id,
            'date_done': '2026-01-01T00:00:00.000000+00:00'})
        out += resp('SETEX', META + task_id, 86400, meta) + resp('PUBLISH', META + task_id, meta)
    if job == 'events':
        event = json.dumps([{
            'hostname': 'celery@benches', 'utcoffset': 0, 'pid': 1, 'clock': 1, 'uuid': task_id, 'timestamp': time.time(),
            'type': 'task-received', 'name': 'demo.add', 'args': '(1, 2)', 'kwargs': '{}', 'root_id': task_id}])
        out += 3 * resp('PUBLISH', '/0.celeryev/task.multi', event)
    return out


def drain(server, count, job):
    texts = [message('demo.add', [number, 1], str(uuid.uuid4())) for number in range(count)]
    for start in range(0, count, 500):
        server.client.lpush(QUEUE, *texts[start:start + 500])
    calls = [commands(text, job) for text in texts]
    batches = [b''.join(calls[start:start + PIPELINE]) for start in range(0, count, PIPELINE)]
    wire = Wire(server.port)
    before, begun = server.cost(), time.perf_counter()
    for batch in batches:
        wire.blast(batch)
    seconds, after = time.perf_counter() - begun, server.cost()
    if server.client.llen(QUEUE):
        raise RuntimeError('the queue is not empty')
    return seconds, before, after


def answer(port):
    """The least worker there is, for round trips: BRPOP, then SETEX and PUBLISH in one write."""
    wire = Wire(port)
    while True:
        wire.send(resp('BRPOP', QUEUE, 0))
        text = wire.receive(lambda some: some.endswith(b'}\r\n'), timeout=None)
        task_id = text.partition(b'"id": "')[2].partition(b'"')[0]
        meta = b'{"status": "SUCCESS", "result": 3, "task_id": "%s"}' % task_id
        wire.send(resp('SETEX', META.encode() + task_id, 86400, meta) + resp('PUBLISH', META.encode() + task_id, meta))
        wire.receive(lambda some: some.count(b'\r\n') >= 2)


if __name__ == '__main__':
    answer(int(sys.argv[1]))
