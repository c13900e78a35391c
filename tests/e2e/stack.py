"""The stack under test, in one of four forms.

* `NativeStack`: a copy of this checkout, started by its own `docker/start.sh` on free ports (the default);
* `RunningStack`: one that runs already, told by `E2E_STACK_URLS`;
* `WorkerStack`: Redis, Flower and one worker, told by `E2E_WORKER_CMD`; quick, for work on the worker alone;
* `ReferenceStack`: Redis, Flower and a worker of plain Python Celery with the same tasks (`E2E_REFERENCE=python`).
  It has no API. What passes with it is what Celery does; the Rust worker must do the same.
"""
import contextlib
import fcntl
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import processes
import settings
from waiting import PATIENCE, wait_until

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
PORTS = ("API_PORT", "FLOWER_PORT", "POSTGRES_PORT", "REDIS_PORT")

# Settings that somebody's shell may hold and that would lead the scripts elsewhere.
FOREIGN = (
    "BROKER_URL", "RESULT_BACKEND", "DATABASE_URL", "REDIS_URL", "API_KEYS", "FLOWER_BASIC_AUTH", "POSTGRES_USER",
    "POSTGRES_PASSWORD", "POSTGRES_DB", "REDIS_PASSWORD", "TASK_ACKS_LATE", "VISIBILITY_TIMEOUT", "WORKER_NAME",
)


def make_stack():
    if os.environ.get("E2E_REFERENCE") == "python":
        return ReferenceStack()
    if os.environ.get("E2E_WORKER_CMD"):
        return WorkerStack(shlex.split(os.environ["E2E_WORKER_CMD"]))
    if os.environ.get("E2E_STACK_URLS"):
        return RunningStack(os.environ["E2E_STACK_URLS"])
    return NativeStack()


def free_ports(count):
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Stack:
    """Addresses, and the means to start and stop."""

    has_api = True
    restartable = True
    is_reference = False
    folder = None

    def take_urls(self, found):
        self.api_url = found.get("API_URL", "").rstrip("/")
        self.flower_url = found.get("FLOWER_URL", "").rstrip("/")
        self.broker_url = found["BROKER_URL"]
        self.backend_url = found.get("RESULT_BACKEND") or self.broker_url
        login = found.get("FLOWER_AUTH")
        self.flower_auth = tuple(login.split(":", 1)) if login else None
        self.api_key = found.get("API_KEY") or None

    def start(self, env=None):
        """Starts what does not run, with more settings if given. Gives what the script printed."""

    def stop(self):
        """Ends everything; data stays."""

    def close(self):
        """Stops, and raises if anything still runs."""

    def worker_program(self):
        """The path of the worker's program, where the tests may start more of it."""

    def kill_worker(self, pid):
        """kill -9."""
        os.kill(pid, signal.SIGKILL)


class RunningStack(Stack):
    restartable = False

    def __init__(self, pairs):
        self.take_urls(dict(pair.split("=", 1) for pair in pairs.split()))


class NativeStack(Stack):
    def __init__(self):
        self.marker = f"E2E_STACK_ID={uuid.uuid4().hex}"
        home = os.environ.get("E2E_DIR") or f"{tempfile.gettempdir()}/petiole-e2e-{os.getuid()}"
        # Processes of pytest-xdist have a stack each.
        beside = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw").lstrip("0")
        home += f"-{beside}" if beside else ""
        self.home = Path(home)
        self.home.mkdir(mode=0o755, exist_ok=True)
        if self.home.is_symlink() or self.home.stat().st_uid != os.getuid():
            raise RuntimeError(f"{home} belongs to somebody else; set E2E_DIR")
        # PostgreSQL may run as another user, who must be able to enter.
        self.home.chmod(0o755)
        self.lock = open(self.home / "lock", "w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"another run of the end-to-end tests uses {home}; set E2E_DIR") from None
        self.folder = self.home / "petiole"
        self.log = self.home / "scripts.log"
        self.log.write_text("")
        self.env = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        name, value = self.marker.split("=")
        self.env[name] = value
        # No engine: the native way is taken whatever this machine has.
        self.env["DOCKER_HOST"] = f"unix://{self.home}/no-docker.sock"
        self.env["APP_ENV"] = "development"
        self.env.update(zip(PORTS, map(str, free_ports(len(PORTS)))))
        if (self.folder / "docker/stop.sh").exists():
            # What a run that was killed left behind.
            self.stop()
        copy_checkout(self.folder)

    def script(self, name, *arguments, env=None, seconds=300):
        """Runs `docker/<name>`; its output goes to a file, since what it starts may keep the output open."""
        begun = self.log.stat().st_size
        with open(self.log, "ab") as log:
            done = subprocess.run(
                [f"docker/{name}", *arguments], cwd=self.folder, env={**self.env, **(env or {})}, timeout=seconds,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )
        output = self.log.read_bytes()[begun:].decode("utf-8", "replace")
        assert done.returncode == 0, f"docker/{name} ended with {done.returncode}:\n{output[-4000:]}"
        return output

    def worker_program(self):
        return str(self.folder / "docker/.data/bin/worker")

    def start(self, env=None):
        # The first start of a machine builds everything.
        output = self.script("start.sh", "development", env=env, seconds=3600)
        self.take_urls(settings.urls(self.folder, self.env))
        return output

    def stop(self):
        return self.script("stop.sh")

    def close(self):
        problem = None
        try:
            self.stop()
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            problem = error
        left = processes.of_stack(self.marker, self.folder)
        processes.end(left)
        self.lock.close()
        assert not left, f"docker/stop.sh left behind: {left}"
        if problem:
            raise problem


def copy_checkout(folder):
    """Makes `folder` a copy of the checkout's own files, uncommitted changes included.

    The place is the same for each run and times are kept, so that cargo builds again only what changed. Everything
    else in it is what an earlier run left, and goes; build output stays.
    """
    listed = subprocess.run(
        ["git", "-C", str(CHECKOUT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True, check=True,
    ).stdout
    wanted = {name for name in listed.decode().split("\0") if name and (CHECKOUT / name).is_file()}
    kept_folders = {str(parent) for name in wanted for parent in Path(name).parents} | {"target"}
    folder.mkdir(mode=0o755, exist_ok=True)
    folder.chmod(0o755)
    for at, folders, files in os.walk(folder):
        inside = Path(at).relative_to(folder)
        for name in files:
            if str(inside / name) not in wanted:
                os.unlink(Path(at) / name)
        for name in list(folders):
            path = Path(at) / name
            if path.is_symlink():
                path.unlink()
            elif str(inside / name) not in kept_folders:
                shutil.rmtree(path)
        folders[:] = [name for name in folders if (Path(at) / name).is_dir() and str(inside / name) != "target"]
    for name in wanted:
        source, target = CHECKOUT / name, folder / name
        before, now = (target.stat() if target.exists() else None), source.stat()
        if before and (before.st_mtime_ns, before.st_size) == (now.st_mtime_ns, now.st_size):
            continue
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.copy2(source, target)


class WorkerStack(Stack):
    has_api = False

    def __init__(self, command):
        self.command = command
        self.home = Path(tempfile.mkdtemp(prefix="petiole-e2e-worker-"))
        self.redis_port, self.flower_port = free_ports(2)
        self.password = uuid.uuid4().hex
        self.take_urls({
            "BROKER_URL": f"redis://:{self.password}@127.0.0.1:{self.redis_port}/0",
            "FLOWER_URL": f"http://127.0.0.1:{self.flower_port}",
        })
        self.worker_env = {"BROKER_URL": self.broker_url, "RESULT_BACKEND": self.backend_url}
        self.running = {}

    def spawn(self, name, command, env=None):
        one = self.running.get(name)
        if one and one.poll() is None:
            return
        with open(self.home / f"{name}.log", "ab") as log:
            self.running[name] = subprocess.Popen(
                command, cwd=HERE, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
            )

    def start(self, env=None):
        import redis
        self.spawn("redis", ["redis-server", "--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", "",
                             "--appendonly", "no", "--requirepass", self.password, "--dir", str(self.home)])
        connection = redis.Redis.from_url(self.broker_url)

        def up():
            try:
                return connection.ping()
            except redis.ConnectionError:
                return False
        wait_until(up, "redis-server answers")
        self.spawn("worker", self.command, {**self.worker_env, **(env or {})})
        self.spawn("flower", [sys.executable, "-m", "celery", "flower", "--address=127.0.0.1",
                              f"--port={self.flower_port}"], {"CELERY_BROKER_URL": self.broker_url, "FLOWER_UNAUTHENTICATED_API": "true"})
        return f"Flower: {self.flower_url}"

    def stop(self):
        for name in ("worker", "flower", "redis"):
            one = self.running.get(name)
            if one and one.poll() is None:
                one.terminate()
                try:
                    one.wait(20 * PATIENCE)
                except subprocess.TimeoutExpired:
                    os.killpg(one.pid, signal.SIGKILL)
                    one.wait()

    def worker_program(self):
        return None if self.is_reference else self.command[0]

    def kill_worker(self, pid):
        # The pool's processes must not go on with their tasks.
        os.killpg(pid, signal.SIGKILL)
        self.running["worker"].wait()

    def close(self):
        self.stop()
        if os.environ.get("E2E_KEEP_LOGS"):
            print(f"logs: {self.home}")
        else:
            shutil.rmtree(self.home, ignore_errors=True)


class ReferenceStack(WorkerStack):
    is_reference = True

    def __init__(self):
        super().__init__([sys.executable, "-m", "celery", "-A", "python_tasks", "worker", "-P", "prefork", "-c", "2",
                          "-n", "reference@here", "-l", "INFO"])
        self.worker_env = {"E2E_BROKER_URL": self.broker_url, "E2E_RESULT_BACKEND": self.backend_url}
