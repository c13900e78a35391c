"""Python's worker with the suite's own tasks, to be measured beside: `--reference`."""
import os

from celery import Celery

app = Celery("celery.tests", broker=os.environ["BROKER_URL"], backend=os.environ["RESULT_BACKEND"], include=["t.integration.tasks"])
# What the suite's own worker is given; of these, `inspect conf` is asked for those that have no say here.
app.conf.update(
    accept_content=["json"], broker_connection_retry_on_startup=True, broker_heartbeat=0, deprecated_settings=None, enable_utc=True,
    result_extended=True, task_create_missing_queues=False, timezone="UTC", worker_hijack_root_logger=False, worker_log_color=False)
app.set_default()
app.loader.import_default_modules()

from t.integration.tasks import ClassBasedAutoRetryTask  # noqa: E402

app.register_task(ClassBasedAutoRetryTask())
