"""Fixtures: one stack for the whole session, and the clients of it."""
import contextlib
import os
import signal
import subprocess
import sys
import uuid

import httpx
import pytest

from celery_side import OWN_WORKER, Client, EventRecorder
from stack import HERE, make_stack
from waiting import PATIENCE, wait_until

# Restarts come last: the other files need the stack as it was started.
ORDER = ("test_client", "test_canvas", "test_bad_messages", "test_cli", "test_operator", "test_events", "test_flower", "test_serializers",
         "test_control", "test_worker_life", "test_parity", "test_mixed_workers", "test_beat", "test_http", "test_workflows", "test_documents",
         "test_answers", "test_traces", "test_page", "test_restart", "test_backup")


def pytest_configure():
    # Ended from outside, the tests stop their stack all the same.
    def interrupted(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupted)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: ORDER.index(item.module.__name__) if item.module.__name__ in ORDER else -1)


@pytest.fixture(scope="session")
def stack():
    one = make_stack()
    try:
        one.start()
        yield one
    finally:
        one.close()


@pytest.fixture(autouse=True)
def left_out(request, stack):
    """Leaves out what this form of the stack cannot do, and says so."""
    if request.node.get_closest_marker("needs_api") and not stack.has_api:
        pytest.skip("there is no API here")
    if request.node.get_closest_marker("needs_scripts") and not stack.restartable:
        pytest.skip("this stack was started by somebody else")
    if request.node.get_closest_marker("beyond_celery") and stack.is_reference:
        pytest.skip("stock Celery itself fails here")


@pytest.fixture(scope="session")
def client(stack):
    one = Client(stack)
    one.worker()
    # Events are on as soon as Flower asks for them; ask as well, so that nothing depends on who is first.
    one.app.control.enable_events()
    return one


@pytest.fixture(scope="session")
def recorder(stack):
    one = EventRecorder(stack)
    one.ready.wait(10)
    yield one
    one.close()


@pytest.fixture(scope="session")
def events(recorder, client):
    """The event stream, once it is known to flow."""
    def flows():
        probe = client.send("demo.add", 1, 1)
        probe.get(timeout=20 * PATIENCE)
        try:
            return recorder.wait_for(1, uuid=probe.id, type="task-succeeded")
        except AssertionError:
            client.app.control.enable_events()
            return None
    wait_until(flows, "the worker sends task events", 20)
    return recorder


@pytest.fixture
def worker(client):
    """The name of the stack's worker."""
    return client.worker()[0]


@pytest.fixture
def queue():
    """The name of a queue that nobody consumes."""
    return f"e2e-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def held_queue(client, queue):
    """A queue that nobody consumes yet, and the context in which the stack's worker does."""
    @contextlib.contextmanager
    def consumed():
        name, _ = client.worker()
        assert "ok" in client.control("add_consumer", name, queue=queue)
        try:
            yield
        finally:
            client.control("cancel_consumer", name, queue=queue)
    return queue, consumed


@pytest.fixture(scope="session")
def celery_command(stack):
    """Runs the real `celery` command; gives its output."""
    def run(*arguments, status=0, seconds=60):
        done = subprocess.run(
            [sys.executable, "-m", "celery", "-b", stack.broker_url, "--result-backend", stack.backend_url, *arguments],
            capture_output=True, text=True, timeout=seconds * PATIENCE, stdin=subprocess.DEVNULL,
            env={**os.environ, "NO_COLOR": "1", "TERM": "dumb"},
        )
        output = done.stdout + done.stderr
        assert done.returncode == status, f"celery {' '.join(arguments)}: exit {done.returncode}: {output[-2000:]}"
        return output
    return run


@pytest.fixture(scope="session")
def python_worker(stack, client, tmp_path_factory):
    """The name of the queue of a Python worker that runs beside the stack's."""
    tag = uuid.uuid4().hex[:8]
    queue, name = f"e2e-python-{tag}", f"{OWN_WORKER}-{tag}@here"
    log = tmp_path_factory.mktemp("python-worker") / "log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "python_tasks", "worker", "-P", "threads", "-c", "4", "-E",
             "-n", name, "-Q", queue, "-l", "INFO"],
            cwd=HERE, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "E2E_BROKER_URL": stack.broker_url,
                 "E2E_RESULT_BACKEND": stack.backend_url},
        )
    try:
        wait_until(lambda: client.app.control.inspect(timeout=1, destination=[name]).ping(),
                   lambda: f"the Python worker answers: {log.read_text()[-2000:]}", 60)
        yield queue
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def http(stack):
    """A client of the HTTP API."""
    if not stack.has_api:
        pytest.skip("there is no API here")
    headers = {"Authorization": f"Bearer {stack.api_key}"} if stack.api_key else {}
    with httpx.Client(base_url=stack.api_url, headers=headers, timeout=30 * PATIENCE) as one:
        yield one


@pytest.fixture(scope="session")
def flower(stack):
    """A browser's view of Flower."""
    with httpx.Client(base_url=stack.flower_url, auth=stack.flower_auth, timeout=30 * PATIENCE,
                      follow_redirects=True) as one:
        def up():
            try:
                return one.get("/healthcheck").status_code == 200
            except httpx.TransportError:
                return False
        wait_until(up, "Flower answers", 60)
        yield one
