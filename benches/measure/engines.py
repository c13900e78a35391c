"""The workers that are compared, and what their processes cost."""
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from .messages import META, QUEUE, message

HERE = Path(__file__).resolve().parent.parent
TICK = 1e9


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


class Worker:
    """A worker that runs, with its child processes."""

    def __init__(self, engine, server, concurrency=2, late=False, results=True, events=False):
        self.engine, self.server = engine, server
        command = list(engine.command)
        if engine.name == 'celery':
            # Hundreds at once are what its threads are for.
            command += ['-P', 'prefork' if concurrency <= 16 else 'threads', '-c', str(concurrency)]
        # Nothing of the caller's own settings reaches a worker.
        environment = {name: os.environ[name] for name in ('PATH', 'HOME', 'MODEL_DIR', 'LANG') if name in os.environ} | {
            'BROKER_URL': server.url, 'RESULT_BACKEND': server.url, 'WORKER_CONCURRENCY': str(concurrency),
            'WORKER_PREFETCH_MULTIPLIER': '4', 'TASK_ACKS_LATE': str(int(late)), 'STORE_RESULTS': str(int(results)),
            'WORKER_SEND_TASK_EVENTS': str(int(events)), 'PYTHONPATH': str(HERE), 'PYTHONDONTWRITEBYTECODE': '1',
            'C_FORCE_ROOT': '1',
        }
        self.log = open(os.path.join(server.folder.name, 'worker.log'), 'w+')
        self.process = subprocess.Popen(
            command, env=environment, cwd=HERE, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)

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

    def check(self):
        if self.process.poll() is not None:
            self.log.seek(0)
            raise RuntimeError(f'{self.engine.name} has ended: {self.log.read()[-2000:]}')

    def __exit__(self, *_):
        for how in (signal.SIGTERM, signal.SIGKILL):
            try:
                # A session of its own, made above: nobody else is in it.
                os.killpg(self.process.pid, how)
                self.process.wait(10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
        self.log.close()

    def tree(self):
        """The process ids of the worker and its children."""
        parents = {}
        for folder in Path('/proc').glob('[0-9]*'):
            try:
                parents[int(folder.name)] = int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
            except OSError:
                continue
        found, new = set(), {self.process.pid}
        while new:
            found |= new
            new = {pid for pid, parent in parents.items() if parent in found} - found
        return found

    def cpu(self):
        """CPU seconds of all threads."""
        total = 0
        for pid in self.tree():
            for task in Path(f'/proc/{pid}/task').glob('*'):
                try:
                    total += int((task / 'schedstat').read_text().split()[0])
                except OSError:
                    continue
        return total / TICK

    def pss(self):
        """Memory in MiB, what is shared counted in parts."""
        total = 0
        for pid in self.tree():
            try:
                lines = Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith('Pss:'))
        return total / 1024


def wait_for(condition, patience, worker=None, pause=0.005):
    """Waits until it holds; gives how often it was asked."""
    end, asked = time.monotonic() + patience, 0
    while True:
        asked += 1
        if condition():
            return asked
        if time.monotonic() > end:
            raise RuntimeError(f'not done within {patience} s')
        if worker:
            worker.check()
        time.sleep(pause)
