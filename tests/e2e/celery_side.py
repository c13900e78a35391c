"""Celery's side of the tests: the Python client, the event stream, and what lies on Redis."""
import threading
import time

from celery import Celery, signature
from celery.exceptions import TimeoutError as NoResult
from kombu import pools
import redis

from waiting import PATIENCE, SOON, wait_until

# Names of workers that the tests themselves start begin so; every other worker is the stack's.
OWN_WORKER = "e2e-python"
PRIORITY_LISTS = ("", "\x06\x163", "\x06\x166", "\x06\x169")


class Client:
    """A Celery application without tasks of its own, as a stranger would write it."""

    def __init__(self, stack, **conf):
        self.stack = stack
        self.known_worker = None
        self.app = Celery("stranger", broker=stack.broker_url, backend=stack.backend_url)
        self.app.conf.update(broker_connection_retry_on_startup=True, **conf)
        self.broker = redis.Redis.from_url(stack.broker_url, socket_timeout=10)
        self.backend = redis.Redis.from_url(stack.backend_url, socket_timeout=10)

    def reconnect(self):
        """After the broker was away."""
        pools.reset()
        self.__init__(self.stack)

    # --- calling ---

    def send(self, task, *args, kwargs=None, **options):
        return self.app.send_task(task, list(args), kwargs or {}, **options)

    def sig(self, task, *args, **options):
        return signature(task, args=args, app=self.app, **options)

    def result(self, task_id):
        return self.app.AsyncResult(task_id)

    def error_of(self, result, seconds=SOON):
        """The exception that `get()` raises."""
        try:
            value = result.get(timeout=seconds)
        except NoResult:
            raise AssertionError(f"no result; state {result.state}") from None
        except Exception as error:
            return error
        raise AssertionError(f"get() returned {value!r} instead of raising")

    # --- the stack's worker ---

    def worker(self):
        """(name, stats) of the worker that the stack runs."""
        def found():
            # A reply is only waited out when nobody is named, so ask the one that is known.
            known = [self.known_worker] if self.known_worker else None
            answers = self.app.control.inspect(timeout=1 * PATIENCE, destination=known).stats() or {}
            pairs = [pair for pair in answers.items() if not pair[0].startswith(OWN_WORKER)]
            self.known_worker = pairs[0][0] if pairs else None
            return pairs[0] if pairs else None
        return wait_until(found, "the stack's worker answers `inspect stats`", 60)

    def control(self, command, worker, **arguments):
        answers = self.app.control.broadcast(
            command, arguments=arguments, destination=[worker], reply=True, timeout=SOON)
        assert answers, f"no reply to control {command}"
        return answers[0][worker]

    # --- Redis ---

    def queue_length(self, queue="celery"):
        return sum(self.broker.llen(queue + suffix) for suffix in PRIORITY_LISTS)

    def on_the_broker(self, queue="celery"):
        """Lengths of the queue, of `unacked` and of `unacked_index`."""
        return self.queue_length(queue), self.broker.hlen("unacked"), self.broker.zcard("unacked_index")

    def wait_empty(self, seconds=20):
        wait_until(lambda: self.on_the_broker() == (0, 0, 0),
                   lambda: f"queue, unacked and unacked_index empty (they hold {self.on_the_broker()})", seconds)

    def has_stored(self, task_id):
        return bool(self.backend.exists(f"celery-task-meta-{task_id}"))


class EventRecorder:
    """Keeps every event that workers send, from a thread of its own."""

    def __init__(self, stack):
        self.stack = stack
        self.events = []
        self.changed = threading.Condition()
        self.closing = False
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.closing:
            try:
                app = Celery("recorder", broker=self.stack.broker_url)
                with app.connection_for_read() as connection:
                    receiver = app.events.Receiver(connection, handlers={"*": self.keep})
                    with receiver.consumer_context() as (own, _channel, _consumers):
                        self.ready.set()
                        while not self.closing:
                            try:
                                own.drain_events(timeout=0.5)
                            except TimeoutError:
                                pass
            except Exception:
                # The broker is away, as in the tests of restarts: try again.
                time.sleep(0.2)

    def keep(self, event):
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()

    def mark(self):
        with self.changed:
            return len(self.events)

    def find(self, since=0, **fields):
        with self.changed:
            return [event for event in self.events[since:] if all(event.get(k) == v for k, v in fields.items())]

    def wait_for(self, seconds=15, since=0, **fields):
        """The first event with these fields."""
        deadline = time.monotonic() + seconds * PATIENCE
        with self.changed:
            while True:
                for event in self.events[since:]:
                    if all(event.get(k) == v for k, v in fields.items()):
                        return event
                left = deadline - time.monotonic()
                if left <= 0:
                    same = [event["type"] for event in self.events if event.get("uuid") == fields.get("uuid")]
                    raise AssertionError(f"no event {fields}; of this task came {same}")
                self.changed.wait(left)

    def close(self):
        self.closing = True
        self.thread.join(3)
