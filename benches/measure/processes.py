"""Processes that are measured: a program with its children, and what they cost."""
import os
import signal
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
TICK = 1e9


def own_environment():
    """Nothing of the caller's own settings reaches what is measured."""
    kept = {name: os.environ[name] for name in ('PATH', 'HOME', 'MODEL_DIR', 'LANG') if name in os.environ}
    return kept | {'PYTHONPATH': str(HERE), 'PYTHONDONTWRITEBYTECODE': '1'}


class Processes:
    """A program that runs, with its child processes."""

    def __init__(self, name, command, folder, environment):
        self.name = name
        self.log = open(os.path.join(folder, f'{name}.log'), 'w+')
        self.process = subprocess.Popen(
            command, env=environment, cwd=HERE, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)

    def __enter__(self):
        return self

    def check(self):
        if self.process.poll() is not None:
            self.log.seek(0)
            raise RuntimeError(f'{self.name} has ended: {self.log.read()[-2000:]}')

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
        """The process ids of the program and its children."""
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


def wait_for(condition, patience, processes=None, pause=0.005):
    """Waits until it holds; gives how often it was asked."""
    end, asked = time.monotonic() + patience, 0
    while True:
        asked += 1
        if condition():
            return asked
        if time.monotonic() > end:
            raise RuntimeError(f'not done within {patience} s')
        if processes:
            processes.check()
        time.sleep(pause)
