"""The demo tasks in plain Python Celery, under the names of the Rust worker's.

Two uses: the worker of the reference (`E2E_REFERENCE=python`), which consumes the default queue in the Rust worker's
place, and the Python worker that stands beside the Rust one in the tests of mixed workers.
"""
import os
import time

from celery import Celery

app = Celery("e2e", broker=os.environ["E2E_BROKER_URL"], backend=os.environ["E2E_RESULT_BACKEND"])
_visibility = float(os.environ.get("VISIBILITY_TIMEOUT") or 3600)
_transport = {"visibility_timeout": _visibility}
if _visibility < 60:
    # kombu looks for abandoned messages seldom; with a short timeout it should look often.
    _transport.update(unacked_restore_interval=1, unacked_restore_throttle=1)
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options=_transport,
    task_acks_late=os.environ.get("TASK_ACKS_LATE") == "1",
    result_extended=True,
    worker_hijack_root_logger=False,
)


@app.task(name="demo.add")
def add(x, y):
    return x + y


@app.task(name="demo.echo")
def echo(value):
    return value


@app.task(name="demo.sleep")
def sleep(seconds):
    time.sleep(seconds)
    return seconds


@app.task(name="demo.fail")
def fail(message):
    raise ValueError(message)


@app.task(name="demo.progress", bind=True)
def progress(self, steps, seconds):
    for step in range(1, steps + 1):
        time.sleep(seconds / steps)
        self.update_state(state="PROGRESS", meta={"current": step, "total": steps})
    return steps


@app.task(name="e2e.multiply")
def multiply(x, y):
    return x * y


@app.task(name="e2e.add_elsewhere", bind=True)
def add_elsewhere(self, x, y):
    """Sends a task to the default queue from within a task, and tells both ids."""
    child = app.send_task("demo.add", [x, y], queue="celery")
    return {"self": self.request.id, "child": child.id}
