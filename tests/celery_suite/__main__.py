"""Celery's own integration suite against a worker that is another process.

python tests/celery_suite --worker target/release/conformance-worker [-c 2,2,2,8] [--part short] [PYTEST ARGUMENTS…]

Fetches the source archive of Celery, starts a Redis of its own and the worker, and runs `t/integration` as it was shipped.
The worker stays the same as long as the number of its slots does: `-c 2,2,2,8` runs the suite three times against one worker
with two slots, and once against another with eight. Exit status 0 only if every test passed in every run.
"""
import argparse
import contextlib
import importlib.metadata
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
VERSION = "5.7.0"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "petiole"
PATIENCE = float(os.environ.get("E2E_PATIENCE") or 1)
OUTCOMES = ("passed", "failed", "skipped", "expected to fail", "begun", "not run")


class Trouble(Exception):
    """Why there can be no run."""


# What is needed

def suite():
    """The folder with the suite, from the source archive; fetched once."""
    target = CACHE / f"celery-suite-{VERSION}"
    if (target / "t/integration/conftest.py").is_file():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".celery-suite-", dir=CACHE) as work:
        fetched = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", "celery",
             "--dest", work, f"celery=={VERSION}"], capture_output=True, text=True)
        archives = list(Path(work).glob("*.tar.gz"))
        if fetched.returncode or len(archives) != 1:
            raise Trouble(f"the source archive of Celery {VERSION} cannot be had: {fetched.stderr.strip() or 'pip brought none'}")
        tree, inside = Path(work) / "tree", f"celery-{VERSION}/"
        with tarfile.open(archives[0]) as archive:
            # Not the package itself: the tests are to import the one that is installed.
            for member in archive.getmembers():
                if member.name.startswith((inside + "t/", inside + "pyproject.toml")):
                    member.name = member.name.removeprefix(inside)
                    archive.extract(member, tree, filter="data")
        if not (tree / "t/integration/conftest.py").is_file():
            raise Trouble(f"the source archive of Celery {VERSION} has no t/integration")
        with contextlib.suppress(OSError):
            # Another run may have been faster.
            tree.rename(target)
    return target


def requirements():
    for line in (HERE / "requirements.txt").read_text().splitlines():
        package, _, wanted = line.partition("==")
        if line.startswith("#") or not wanted:
            continue
        package = package.partition("[")[0]
        try:
            found = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found = "none"
        if package in ("celery", "kombu") and found != wanted or found == "none":
            raise Trouble(f"{package} {wanted} is needed, there is {found}: pip install -r {HERE / 'requirements.txt'}")


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


# What runs beside the tests

@contextlib.contextmanager
def redis_server(folder):
    """A Redis without a password: the suite's own connections know none."""
    command = shlex.split(os.environ.get("REDIS_SERVER") or "redis-server")
    port = free_port()
    try:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--logfile", "redis.log"],
            stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        raise Trouble(f"Redis cannot be started by {shlex.join(command)} (setting REDIS_SERVER): {error}") from None
    try:
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > end:
                raise Trouble(f"Redis did not start: {last_lines(Path(folder, 'redis.log'))}")
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


class Worker:
    """The worker under test, from its first ping until it has ended by itself."""

    def __init__(self, command, folder, port, slots, more):
        self.name = f"suite-{slots}@{socket.gethostname()}"
        self.slots = slots
        self.log = Path(folder, f"worker-{slots}.log")
        environment = {**os.environ, **more, "WORKER_NAME": self.name, "WORKER_CONCURRENCY": str(slots),
                       "RESULT_EXTENDED": "1", "WORKER_SEND_TASK_EVENTS": "1", "C_FORCE_ROOT": "1"}
        flags = ["-c", str(slots), "-n", self.name, "-E"]
        with open(self.log, "wb") as log:
            try:
                self.process = subprocess.Popen(
                    [*command, *flags], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
            except OSError as error:
                raise Trouble(f"the worker cannot be started by {shlex.join(command)}: {error}") from None
        self.url = more["BROKER_URL"]

    def __enter__(self):
        from celery import Celery

        app = Celery(broker=self.url, backend=self.url, set_as_current=False)
        end = time.monotonic() + 30 * PATIENCE
        try:
            while (answers := sorted(app.control.inspect(timeout=1).ping() or {})) != [self.name]:
                if answers:
                    raise Trouble(f"other workers answer than {self.name}: {answers}")
                if self.process.poll() is not None:
                    raise Trouble(f"the worker ended at once: {last_lines(self.log)}")
                if time.monotonic() > end:
                    raise Trouble(f"the worker answers no ping: {last_lines(self.log)}")
        except BaseException:
            self.kill()
            raise
        finally:
            app.close()
        return self

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def __exit__(self, kind, *_):
        """A worker that is asked to go does so, whatever it has been through."""
        code = self.process.poll()
        if code is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self.process.wait(30 * PATIENCE)
        self.kill()
        if code != 0 and kind is None:
            said = "did not end within 30 s of being asked" if code is None else f"ended with status {code}"
            raise Trouble(f"the worker {said}: {last_lines(self.log)}")


def last_lines(log, count=20):
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
    except OSError as error:
        return str(error)


# The tests

def pytest(tests, worker, folder, more, options):
    """Runs the suite once; gives how many tests ended how, and the seconds."""
    book = Path(folder, "book.json")
    book.unlink(missing_ok=True)
    environment = {
        **os.environ, **more, "TEST_BROKER": more["BROKER_URL"], "TEST_BACKEND": more["RESULT_BACKEND"],
        "CELERY_SUITE_NODE": worker.name, "CELERY_SUITE_PART": options.part, "CELERY_SUITE_BOOK": str(book),
        "CELERY_SUITE_SLOTS": str(worker.slots),
        "CELERY_SUITE_SECONDS": str(options.seconds * PATIENCE)}
    command = [
        sys.executable, "-m", "pytest", "-p", "outside_worker", "-p", "celery.contrib.pytest", "-p", "no:cacheprovider",
        "-c", str(tests / "pyproject.toml"), "--rootdir", str(tests), "--basetemp", str(Path(folder, "pytest")),
        "-q", "--tb=short", "-rfE", "--timeout-method=signal",
        # What Celery expects to fail may pass.
        "-o", "xfail_strict=false", "t/integration", *options.pytest]
    begun = time.monotonic()
    process = subprocess.Popen(command, cwd=tests, env=environment, stdin=subprocess.DEVNULL)
    overdue = threading.Event()

    def watch():
        """Without the worker, or for ever, the tests need not go on."""
        while process.poll() is None:
            if worker.process.poll() is not None or time.monotonic() - begun > options.limit:
                overdue.set()
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(30)
                process.kill()
                return
            time.sleep(0.2)
    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    watcher.join()
    seconds = time.monotonic() - begun
    if overdue.is_set():
        if worker.process.poll() is None:
            raise Trouble(f"the suite took more than {options.limit} s")
        raise Trouble(f"the worker ended with status {worker.process.poll()} in the middle of it: {last_lines(worker.log)}")
    if status not in (0, 1) or not book.exists():
        raise Trouble(f"pytest ended with status {status}")
    return json.loads(book.read_text()), seconds


def summary(name, book, seconds):
    found = list(book["outcomes"].values())
    counts = {outcome: found.count(outcome) for outcome in OUTCOMES}
    shown = ", ".join(f"{outcome} {count}" for outcome, count in counts.items() if count or outcome in ("passed", "failed"))
    bad = counts["failed"] + counts["begun"] + counts["not run"]
    return f"celery suite: {name}: {shown} of {len(found)} in {seconds:.0f} s", bad or not counts["passed"]


def arguments():
    parser = argparse.ArgumentParser(prog="python tests/celery_suite", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--worker", help="command that starts the worker; it is given -c, -n and -E")
    which.add_argument("--reference", action="store_true", help="Python's worker with the suite's own tasks")
    parser.add_argument("-c", dest="slots", default="2", help="slots of the worker, one number for each run (default 2)")
    parser.add_argument("--part", choices=("short", "all"), default="all", help="short: what takes a minute (times.toml)")
    parser.add_argument("--seconds", type=float, default=45, help="limit of a test, where times.toml names no longer one")
    parser.add_argument("--limit", type=float, default=2400, help="limit of a run, in seconds")
    parser.add_argument("--slowest", type=int, default=0, help="show so many of the slowest tests of each run")
    parser.add_argument("--keep-logs", action="store_true", help="leave the folder with the logs of worker and Redis")
    parser.add_argument("pytest", nargs="*", help="more for pytest, after --: -- -k chord -x")
    return parser.parse_args()


def run(options, folder):
    tests = suite()
    command = shlex.split(options.worker or "")
    if options.reference:
        command = [sys.executable, "-m", "celery", "-A", "python_worker", "worker", "-l", "INFO"]
    elif not shutil.which(command[0]):
        raise Trouble(f"there is no program {command[0]}: cargo build -p petiole-conformance")
    slots = [int(count) for count in options.slots.split(",")]
    lines, failed = [], False
    with redis_server(folder) as port:
        url = f"redis://127.0.0.1:{port}/0"
        more = {
            "BROKER_URL": url, "RESULT_BACKEND": url, "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(port), "REDIS_PASSWORD": "",
            "PYTHONPATH": f"{tests}:{HERE}", "PYTHONDONTWRITEBYTECODE": "1"}
        turn = 0
        while turn < len(slots):
            same = next((n for n in range(turn, len(slots)) if slots[n] != slots[turn]), len(slots)) - turn
            with Worker(command, folder, port, slots[turn], more) as worker:
                for count in range(turn, turn + same):
                    book, seconds = pytest(tests, worker, folder, more, options)
                    line, bad = summary(f"run {count + 1} of {len(slots)} (-c {slots[count]})", book, seconds)
                    print(line, flush=True)
                    for name, took in sorted(book["seconds"].items(), key=lambda item: -item[1])[:options.slowest]:
                        print(f"  {took:6.1f} s  {name}")
                    lines.append(line)
                    failed = failed or bad
            turn += same
    if len(lines) > 1:
        print("\n".join(["", *lines]))
    return 1 if failed else 0


def main():
    options = arguments()
    folder = tempfile.mkdtemp(prefix="petiole-celery-suite-")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    status = 2
    try:
        requirements()
        status = run(options, folder)
    except Trouble as trouble:
        print(f"celery suite: {trouble}", file=sys.stderr)
    except Exception:
        traceback.print_exc()
    finally:
        if options.keep_logs or status == 1:
            print(f"celery suite: logs are in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return status


sys.exit(main())
