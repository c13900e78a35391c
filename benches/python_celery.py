"""The tasks of the worker, for Python Celery."""
import os
import time

from celery import Celery

app = Celery('benches', broker=os.environ['BROKER_URL'], backend=os.environ['RESULT_BACKEND'])
app.conf.task_acks_late = os.environ.get('TASK_ACKS_LATE') == '1'
app.conf.worker_send_task_events = os.environ.get('WORKER_SEND_TASK_EVENTS') == '1'
app.conf.worker_prefetch_multiplier = int(os.environ.get('WORKER_PREFETCH_MULTIPLIER', '4'))


@app.task(name='demo.add')
def add(x, y):
    return x + y


@app.task(name='demo.echo')
def echo(value):
    return value


@app.task(name='demo.sleep')
def sleep(seconds):
    time.sleep(seconds)
    return seconds
