"""A Redis with its append-only file and some workers, as processes that can be struck."""
import base64
import json
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import time
import uuid

import kombu.exceptions
import redis
from celery import Celery
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

HERE = os.path.dirname(os.path.abspath(__file__))
TASKS = "t.integration.tasks."


def wait(what, until, seconds=60):
    """Waits until something is true."""
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def message(task, args, headers):
    task_id = str(uuid.uuid4())
    body = json.dumps([args, {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    return json.dumps({
        "body": base64.b64encode(body.encode()).decode(), "content-encoding": "utf-8", "content-type": "application/json",
        "headers": {
            "lang": "py", "task": task, "id": task_id, "shadow": None, "eta": None, "expires": None, "group": None,
            "group_index": None, "retries": 0, "timelimit": [None, None], "root_id": task_id, "parent_id": None,
            "argsrepr": repr(tuple(args)), "kwargsrepr": "{}", "origin": "gen1@chaos", "ignore_result": True,
            "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {}, **headers},
        "properties": {
            "correlation_id": task_id, "reply_to": "chaos", "delivery_mode": 2, "priority": 0, "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": "celery"}, "delivery_tag": str(uuid.uuid4())}})


class Cluster:
    def __init__(self, folder, command, seed):
        self.folder, self.command, self.random = folder, command, random.Random(seed)
        self.book = os.path.join(folder, "book")
        self.port = self.free_port()
        self.workers, self.server, self.app = {}, None, None
        self.fsync = "always"

    def free_port(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return free.getsockname()[1]

    def __enter__(self):
        self.start_redis()
        return self

    def __exit__(self, *_):
        for process in self.workers.values():
            self.signal(process, signal.SIGCONT)
            self.signal(process, signal.SIGKILL)
            process.wait()
        self.app.close()
        self.server.kill()
        self.server.wait()

    # Redis

    def start_redis(self, *more):
        self.server = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder, "--save", "",
             "--appendonly", "yes", "--appendfsync", self.fsync, "--logfile", "redis.log", *more])
        self.connect()
        wait("Redis answers", self.redis_answers)

    def connect(self):
        """Looks at Redis, and asks the workers, over its present port."""
        self.url = f"redis://127.0.0.1:{self.port}/0"
        again = Retry(ExponentialBackoff(0.5, 0.05), 6)
        self.redis = redis.Redis(port=self.port, decode_responses=True, retry=again, retry_on_error=[redis.exceptions.ConnectionError])
        if self.app:
            self.app.close()
        self.app = Celery(broker=self.url, backend=self.url)
        self.app.conf.broker_connection_retry_on_startup = True

    def redis_answers(self):
        try:
            return self.redis.ping()
        except redis.exceptions.RedisError:
            return False

    # Workers

    def start(self, name, python=False, **settings):
        """Starts a worker, or beside it one of Python's Celery; it is there when it answers."""
        environment = {
            **os.environ, "BROKER_URL": self.url, "RESULT_BACKEND": self.url, "WORKER_NAME": f"{name}@chaos",
            "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(self.port), "REDIS_PASSWORD": "", "WORKER_CONCURRENCY": "4",
            "PYTHONPATH": HERE, "C_FORCE_ROOT": "1", **{key: str(value) for key, value in settings.items()}}
        peer = shlex.join([sys.executable, "-m", "celery", "-A", "peer", "worker", "-c", "4", "-n", f"{name}@chaos"])
        command = peer if python or not self.command else self.command
        log = open(os.path.join(self.folder, f"{name}.log"), "ab")
        self.workers[name] = subprocess.Popen(
            ["bash", "-c", "exec " + command], env=environment, stdout=log, stderr=log, start_new_session=True)
        return self.workers[name]

    def ready(self, *names):
        """Waits until workers answer."""
        wanted = {f"{name}@chaos" for name in names}

        def answered():
            try:
                return wanted <= set(self.app.control.inspect(timeout=0.5).ping() or {})
            except (redis.exceptions.RedisError, OSError, kombu.exceptions.OperationalError):
                # The one who asks has been cut off as well.
                self.connect()
                return False
        wait(f"{names} answer", answered, 90)

    @staticmethod
    def signal(process, number):
        """To the worker and its children."""
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass

    def kill(self, name):
        process = self.workers[name]
        self.signal(process, signal.SIGKILL)
        process.wait()

    def rss(self, name):
        """What a worker holds in memory, in MB, its children included."""
        total = 0
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.getpgid(int(pid)) == self.workers[name].pid:
                    with open(f"/proc/{pid}/status") as status:
                        total += sum(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
            except (OSError, ProcessLookupError):
                pass
        return total / 1024

    def cpu(self, name):
        """The processor time that a worker has taken, in seconds."""
        with open(f"/proc/{self.workers[name].pid}/stat") as stat:
            fields = stat.read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def terminate(self, name, seconds=60):
        """Asks a worker to go; gives its exit code."""
        process = self.workers[name]
        process.send_signal(signal.SIGTERM)
        return process.wait(seconds)

    # The books

    def send(self, count, task="write_to_file_and_return_int", args=None, first=0, **headers):
        """Puts messages into the queue at one moment, as Celery's client writes them (protocol 2)."""
        args = args or self.entry
        for begin in range(0, count, 1000):
            numbers = range(begin, min(begin + 1000, count))
            self.redis.lpush("celery", *(message(TASKS + task, args(first + n), headers) for n in numbers))

    def entry(self, n):
        """The arguments of the task that enters its number in the book, a file: it needs no Redis."""
        return [self.book, n]

    def runs(self):
        """How often each task ran."""
        counts = {}
        if os.path.exists(self.book):
            with open(self.book) as book:
                for line in book:
                    counts[int(line)] = counts.get(int(line), 0) + 1
        return counts

    def drained(self, seconds):
        """Waits until nothing waits and nothing is held. False: something still is."""
        def empty():
            try:
                return not any(self.redis.llen(f"celery{step}") for step in ("", "\x06\x163", "\x06\x166", "\x06\x169")) \
                    and not self.redis.hlen("unacked") and not self.redis.zcard("petiole:waiting") \
                    and not self.redis.keys("petiole:fetched:*")
            except redis.exceptions.RedisError:
                return False
        try:
            wait("all is done", empty, seconds)
        except AssertionError:
            return False
        return True

    def show_logs(self):
        for name in sorted(os.listdir(self.folder)):
            if name.endswith(".log"):
                with open(os.path.join(self.folder, name), errors="replace") as log:
                    print(f"--- {name}\n" + "".join(log.readlines()[-15:]))
