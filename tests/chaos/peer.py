"""The tasks of the scenarios for Python's Celery."""
import os
import time

from celery import Celery

app = Celery("t.integration.tasks", broker=os.environ["BROKER_URL"], backend=os.environ["RESULT_BACKEND"])
app.conf.update(
    task_acks_late=os.environ.get("TASK_ACKS_LATE") == "1",
    broker_transport_options={"visibility_timeout": float(os.environ.get("VISIBILITY_TIMEOUT", "3600"))},
    worker_prefetch_multiplier=4, broker_connection_retry_on_startup=True)


@app.task(name="t.integration.tasks.write_to_file_and_return_int")
def write_to_file_and_return_int(file_name, i):
    with open(file_name, "a") as book:
        book.write(f"{i}\n")
    return i


@app.task(name="t.integration.tasks.sleeping")
def sleeping(i, **_):
    time.sleep(i)


@app.task(name="t.integration.tasks.identity")
def identity(x):
    return x


@app.task(name="t.integration.tasks.add")
def add(x, y, z=None):
    return x + y + (z or 0)
