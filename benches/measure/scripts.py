"""What the worker's Lua scripts cost Redis: fetch.lua and settle.lua as the worker calls them, at several sizes.

Many workers are played by one connection that holds the messages of all: Redis runs one command at a time, so what counts for it is
how many messages a call moves, how long the queue is, how much is held meanwhile, and from how many lists is fetched.
"""
import json
import time
import uuid
from pathlib import Path

from .messages import META, message
from .scenarios import QUICK, size
from .server import Server

FOLDER = Path(__file__).resolve().parents[2] / 'shared/redis/src/scripts'
PRIORITIES = ['', '\x06\x163', '\x06\x166', '\x06\x169']
OWNER = 'petiole:held:benches'
BATCHES, DEPTHS, HELD, QUEUES = [1, 8, 32, 100], [1_000, 10_000, 100_000], [100_000], [16]
REPETITIONS = 3


def result(task_id):
    return json.dumps({
        'status': 'SUCCESS', 'result': 3, 'traceback': None, 'children': [], 'date_done': '2026-01-01T00:00:00.000000+00:00',
        'task_id': task_id})


class Play:
    """A worker's part, by the same calls."""

    def __init__(self, client, queues):
        self.client, self.queues = client, [f'queue{number}' for number in range(queues)]
        self.fetch_sha = client.script_load((FOLDER / 'fetch.lua').read_text())
        self.settle_sha = client.script_load((FOLDER / 'settle.lua').read_text())
        self.calls = 0

    def push(self, count):
        for start in range(0, count, 500):
            pipe = self.client.pipeline(transaction=False)
            for number in range(start, min(start + 500, count)):
                pipe.lpush(self.queues[number % len(self.queues)], message('demo.add', [number, 1], str(uuid.uuid4())))
            pipe.execute()

    def hold(self, count):
        """What other workers hold."""
        text = message('demo.add', [1, 2], str(uuid.uuid4()))
        for start in range(0, count, 1_000):
            tags = [f'other{number}' for number in range(start, start + 1_000)]
            self.client.hset('unacked', mapping=dict.fromkeys(tags, text))
            self.client.zadd('unacked_index', dict.fromkeys(tags, time.time()))

    def fetch(self, pipe, room):
        self.calls += 1
        lists = [queue + priority for priority in PRIORITIES for queue in self.queues]
        tails = [f', "", "{queue}"]' for _ in PRIORITIES for queue in self.queues]
        pipe.evalsha(self.fetch_sha, 3 + len(lists), 'unacked', 'unacked_index', OWNER, *lists, room, f'spare{self.calls}', *tails)

    def settle(self, pipe, tags, stored):
        writes = []
        for _ in tags:
            if stored:
                task_id = str(uuid.uuid4())
                writes += [1, 'R', META + task_id, 86_400, result(task_id)]
            else:
                writes.append(0)
        pipe.evalsha(self.settle_sha, 3, 'unacked', 'unacked_index', OWNER, len(tags), *tags, *writes)

    def work(self, count, batch, finish):
        """Fetches `count` messages, and finishes each batch with the next fetch, as the worker does."""
        tags = []
        while count > 0 or tags:
            pipe = self.client.pipeline(transaction=False)
            if tags:
                finish(pipe, tags)
            if count > 0:
                self.fetch(pipe, batch)
            flat = pipe.execute()[-1]
            tags = flat[1::3] if count > 0 else []
            count -= batch


def cost(batch, depth, held=0, queues=1):
    """Redis' CPU time, in µs a message: to push it; to fetch and acknowledge it; to fetch it and settle it with a result."""
    count = max(min(size('MESSAGES', 6_000, 2_000), depth) // batch, 1) * batch
    with Server() as server:
        play = Play(server.client, queues)
        play.hold(held)

        def measured(work, messages):
            before = server.cost()['cpu']
            work()
            return (server.cost()['cpu'] - before) / messages * 1e6

        figures = [measured(lambda: play.push(depth), depth)]
        for stored in (False, True):
            # What else the machine does only adds: the least is the nearest.
            some = []
            for _ in range(REPETITIONS):
                some.append(measured(lambda: play.work(count, batch, lambda pipe, tags: play.settle(pipe, tags, stored)), count))
                play.push(count)
            figures.append(min(some))
    return figures


def main():
    print('| messages a call | queued | held by others | queues | push | fetch and acknowledge | fetch and settle with a result '
          '| tasks/s on one core of Redis |\n' + '|---' * 8 + '|')
    cases = [(batch, depth, 0, 1) for depth in DEPTHS[:2 if QUICK else 3] for batch in BATCHES]
    cases += [(8, 10_000, held, 1) for held in HELD] + [(8, 10_000, 0, queues) for queues in QUEUES]
    for batch, depth, held, queues in cases:
        push, plain, stored = cost(batch, depth, held, queues)
        values = [f'{batch}', f'{depth:,}', f'{held:,}', f'{queues}', f'{push:.1f}', f'{plain:.1f}', f'{stored:.1f}']
        print('| ' + ' | '.join([*values, f'{1e6 / (push + stored):,.0f}']) + ' |', flush=True)


main()
