"""The workers that are compared."""
import os
import sys
import time
import uuid
from dataclasses import dataclass

from .messages import META, QUEUE, message
from .processes import HERE, Processes, own_environment, wait_for


@dataclass(frozen=True)
class Engine:
    name: str
    command: tuple
    events: bool = True
    canvas: bool = True


def engines():
    """Those that are there."""
    found = []
    if worker := os.environ.get('BENCH_WORKER'):
        found.append(Engine('petiole', (worker, '-l', 'error')))
    celery = (sys.executable, '-m', 'celery', '-A', 'python_celery', 'worker', '-l', 'ERROR')
    found.append(Engine('celery', celery))
    if peer := os.environ.get('BENCH_RUSTY_CELERY'):
        found.append(Engine('rusty-celery', (peer,), events=False, canvas=False))
    wanted = os.environ.get('ENGINES')
    return [engine for engine in found if not wanted or engine.name in wanted.split(',')]


class Worker(Processes):
    """A worker that runs, with its child processes."""

    def __init__(self, engine, server, concurrency=2, late=False, results=True, events=False):
        self.engine, self.server = engine, server
        command = list(engine.command)
        if engine.name == 'celery':
            # Hundreds at once are what its threads are for.
            command += ['-P', 'prefork' if concurrency <= 16 else 'threads', '-c', str(concurrency)]
        super().__init__(engine.name, command, server.folder.name, own_environment() | {
            'BROKER_URL': server.url, 'RESULT_BACKEND': server.url, 'WORKER_CONCURRENCY': str(concurrency),
            'WORKER_PREFETCH_MULTIPLIER': '4', 'TASK_ACKS_LATE': str(int(late)), 'STORE_RESULTS': str(int(results)),
            'WORKER_SEND_TASK_EVENTS': str(int(events)), 'C_FORCE_ROOT': '1',
        })

    def __enter__(self):
        begun = time.perf_counter()
        try:
            self.run_one(60)
        except BaseException:
            self.__exit__()
            raise
        self.first_task = time.perf_counter() - begun
        return self

    def run_one(self, patience):
        """Has it run a task, and waits for the result."""
        task_id = str(uuid.uuid4())
        self.server.client.lpush(QUEUE, message('demo.echo', ['ready'], task_id))
        wait_for(lambda: self.server.client.delete(META + task_id), patience, self)
