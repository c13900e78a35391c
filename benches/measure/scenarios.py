"""What is measured. Each scenario gives, for one engine, figures by name; what went wrong is an error, never a figure."""
import json
import os
import subprocess
import sys
import time
import uuid

from . import limit
from .engines import Worker
from .messages import META, QUEUE, STAGED, message, stage
from .processes import HERE, wait_for
from .server import Server, Wire, resp

QUICK = os.environ.get('QUICK') == '1'
PATIENCE = 300


def size(name, full, quick):
    return int(os.environ.get(name) or (quick if QUICK else full))


def per_task(count, seconds, server_before, server_after, worker_cpu=None, asked=0):
    """`asked`: how many commands the measurement itself has sent."""
    difference = {name: server_after[name] - server_before[name] for name in server_before}
    figures = {
        'rate': count / seconds,
        'redis µs': difference['cpu'] / count * 1e6,
        'commands': max(difference['commands'] - asked, 0) / count,
        'bytes': difference['bytes'] / count,
    }
    if worker_cpu is not None:
        figures['worker µs'] = worker_cpu / count * 1e6
    return figures


def results_are(client, task_ids, right):
    """A sample of results is looked at: who is quick and wrong has no figure."""
    for number in range(0, len(task_ids), max(1, len(task_ids) // 50)):
        key = META + task_ids[number]
        wait_for(lambda key=key: client.exists(key), 5)
        meta = json.loads(client.get(key))
        if meta['status'] != 'SUCCESS' or not right(number, meta['result']):
            raise RuntimeError(f'task {number} has the result {str(meta)[:200]}')


def run_staged(server, worker, texts, stored):
    """Hands over what was staged, with a task at its end that always stores; waits until nothing is left."""
    client, last = server.client, str(uuid.uuid4())
    stage(client, [*texts, message('demo.echo', ['last'], last)])
    # What notes who holds what comes and goes: a few keys. The results are the many.
    wanted = client.dbsize() + len(texts) - 5 if stored else 0

    def done():
        pipe = client.pipeline(transaction=False)
        ended, keys, waiting = pipe.exists(META + last).dbsize().llen(QUEUE).execute()
        return ended and not waiting and keys >= wanted

    worker_before, before, begun = worker.cpu(), server.cost(), time.perf_counter()
    client.rename(STAGED, QUEUE)
    asked = 3 * wait_for(done, PATIENCE, worker) + 4
    seconds, after = time.perf_counter() - begun, server.cost()
    return per_task(len(texts), seconds, before, after, worker.cpu() - worker_before, asked)


def drain(engine, results=True, events=False, late=False, count=None):
    count = count or size('DRAIN', 20_000, 4_000)
    job = 'events' if events else 'stored' if results else 'ignored'
    with Server() as server:
        if engine is None:
            seconds, before, after = limit.drain(server, count, job)
            return per_task(count, seconds, before, after)
        with Worker(engine, server, late=late, results=results, events=events) as worker:
            ids = [str(uuid.uuid4()) for _ in range(count)]
            texts = [message('demo.add', [number, 1], task_id, not results) for number, task_id in enumerate(ids)]
            seen = server.client.info('commandstats').get('cmdstat_publish', {}).get('calls', 0)
            figures = run_staged(server, worker, texts, results)
            if results:
                results_are(server.client, ids, lambda number, result: result == number + 1)
            elif server.client.exists(META + ids[0]):
                raise RuntimeError('a result was stored that was to be ignored')
            if events and server.client.info('commandstats')['cmdstat_publish']['calls'] - seen <= count:
                raise RuntimeError('no events were sent')
            return figures


def latency(engine):
    """One task at a time, from LPUSH to the PUBLISH of its result."""
    count = size('ROUND_TRIPS', 400, 100)
    with Server() as server:
        if engine is None:
            echo = subprocess.Popen([sys.executable, '-m', 'measure.limit', str(server.port)], cwd=HERE)
            try:
                time.sleep(1)
                return round_trips(server, count)
            finally:
                echo.kill()
                echo.wait()
        with Worker(engine, server):
            time.sleep(1)
            return round_trips(server, count)


def round_trips(server, count):
    sender, listener = Wire(server.port), Wire(server.port)
    listener.send(resp('PSUBSCRIBE', META + '*'))
    listener.receive(lambda answer: answer.endswith(b':1\r\n'))
    times, end = [], time.monotonic() + 25
    for number in range(count):
        task_id = str(uuid.uuid4())
        push, mark = resp('LPUSH', QUEUE, message('demo.echo', [number], task_id)), task_id.encode()
        begun = time.perf_counter()
        sender.send(push)
        # Once in the channel's name, once in the text.
        listener.receive(lambda answer: answer.count(mark) >= 2)
        times.append((time.perf_counter() - begun) * 1e3)
        sender.receive(lambda answer: answer.endswith(b'\r\n'))
        if time.monotonic() > end:
            break
        time.sleep(0.002)
    times.sort()
    return {'p50 ms': times[len(times) // 2], 'p99 ms': times[min(len(times) - 1, len(times) * 99 // 100)]}


def payload(engine):
    """Tasks that are given 100 KB and give them back."""
    count, text = size('PAYLOADS', 1_000, 200), '0123456789abcdef' * 6_250
    with Server() as server, Worker(engine, server) as worker:
        ids = [str(uuid.uuid4()) for _ in range(count)]
        figures = run_staged(server, worker, [message('demo.echo', [text], task_id) for task_id in ids], True)
        results_are(server.client, ids, lambda _, result: result == text)
        return figures


def waiting(engine):
    """Tasks that wait for 50 ms, 200 at once."""
    count = size('WAITING', 2_000, 600)
    with Server() as server, Worker(engine, server, concurrency=200) as worker:
        texts = [message('demo.sleep', [0.05], str(uuid.uuid4())) for _ in range(count)]
        figures = run_staged(server, worker, texts, True)
        return figures | {'of the ideal': figures['rate'] / (200 / 0.05)}


def canvas(engine, what):
    """What Python's client sends: chords of ten parts, or one long chain."""
    from celery import Celery, chain, chord

    with Server() as server:
        app = Celery(broker=server.url, backend=server.url)
        add = lambda *args: app.signature('demo.add', args=args)  # noqa: E731
        if what == 'chords':
            made = size('CHORDS', 500, 60)
            results = [
                chord([add(number, 1) for number in range(10)], app=app)(app.signature('demo.echo')) for _ in range(made)]
            # The body is given the sums n + 1 of its ten parts.
            tasks, right = made * 11, lambda _, sums: sorted(sums) == list(range(1, 11))
        else:
            tasks = size('LINKS', 500, 100)
            results = [chain(add(0, 1), *(add(1) for _ in range(tasks - 1)), app=app).apply_async()]
            right = lambda _, total: total == tasks  # noqa: E731
        ids = [result.id for result in results]
        for result in results:
            # No handle outlives its Redis: it would unsubscribe from one that is gone.
            result.backend.result_consumer.cancel_for = lambda *_: None
        del results, result
        client, keys = server.client, [META + task_id for task_id in ids]
        client.rename(QUEUE, STAGED)
        with Worker(engine, server) as worker:
            worker_before, before, begun = worker.cpu(), server.cost(), time.perf_counter()
            client.rename(STAGED, QUEUE)
            asked = wait_for(lambda: client.exists(*keys) == len(keys), PATIENCE, worker)
            seconds, after = time.perf_counter() - begun, server.cost()
            figures = per_task(tasks, seconds, before, after, worker.cpu() - worker_before, asked + 4)
        results_are(client, ids, right)
        app.close()
        return figures


def idle(engine):
    """A worker that has nothing to do."""
    seconds = size('IDLE', 15, 6)
    with Server() as server, Worker(engine, server) as worker:
        first = worker.first_task
        time.sleep(3)
        cpu, before = worker.cpu(), server.cost()
        time.sleep(seconds)
        after, cpu = server.cost(), worker.cpu() - cpu
        figures = {
            'PSS MiB': worker.pss(), '% of a core': cpu / seconds * 100,
            # cost() itself has sent three commands
            'commands/s': (after['commands'] - before['commands'] - 3) / seconds, 'first task s': first,
        }
        texts = [message('demo.add', [1, 2], str(uuid.uuid4())) for _ in range(size('DRAIN', 20_000, 4_000))]
        run_staged(server, worker, texts, True)
        return figures | {'PSS after MiB': worker.pss()}


class Scenario:
    def __init__(self, name, run, headline, limit=False, needs=()):
        self.name, self.run, self.headline, self.limit, self.needs = name, run, headline, limit, needs

    def fits(self, engine):
        return self.limit if engine is None else all(getattr(engine, need) for need in self.needs)


SCENARIOS = [
    Scenario('drain, ignored', lambda engine: drain(engine, results=False), 'rate', limit=True),
    Scenario('drain, ignored, late', lambda engine: drain(engine, results=False, late=True), 'rate', limit=True),
    Scenario('drain, stored', drain, 'rate', limit=True),
    Scenario('drain, stored, late', lambda engine: drain(engine, late=True), 'rate', limit=True),
    Scenario('drain, events', lambda engine: drain(engine, events=True), 'rate', limit=True, needs=['events']),
    Scenario('drain, events, late', lambda engine: drain(engine, events=True, late=True), 'rate', limit=True, needs=['events']),
    Scenario('latency', latency, 'p50 ms', limit=True),
    Scenario('payload', payload, 'rate'),
    Scenario('waiting', waiting, 'rate'),
    Scenario('chords', lambda engine: canvas(engine, 'chords'), 'rate', needs=['canvas']),
    Scenario('chain', lambda engine: canvas(engine, 'chain'), 'rate', needs=['canvas']),
    Scenario('idle', idle, 'PSS MiB'),
]
