"""The API, its database and its workers: what was accepted is worked on, whatever dies meanwhile."""
import concurrent.futures
import json
import os
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid

import cluster
from cluster import wait

HERE = os.path.dirname(os.path.abspath(__file__))


class Service:
    """PostgreSQL, API and workers beside a house's Redis."""

    def __init__(self, house, options):
        self.house, self.programs = house, options.programs
        # PostgreSQL may run as another user, who must be able to enter.
        self.database = tempfile.mkdtemp(prefix="petiole-chaos-postgres-")
        self.postgres_port, self.api_port = house.free_port(), house.free_port()
        self.environment = {
            **os.environ, "POSTGRES_PORT": str(self.postgres_port), "POSTGRES_PASSWORD": "chaos", "POSTGRES_USER": "petiole",
            "POSTGRES_DB": "petiole", "BROKER_URL": house.url, "RESULT_BACKEND": house.url, "API_PORT": str(self.api_port)}
        self.environment.pop("DATABASE_URL", None)
        self.api = None

    def __enter__(self):
        self.postgres("start")
        self.start_api()
        wait("the API is ready", lambda: self.get("/health")[0] == 200, 60)
        return self

    def __exit__(self, *_):
        self.api.kill()
        self.api.wait()
        self.postgres("stop")

    def postgres(self, what):
        with open(os.path.join(self.house.folder, "postgres.log"), "ab") as log:
            subprocess.run([os.path.join(HERE, "postgres.sh"), what, self.database], env=self.environment, check=True,
                           stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def start_api(self):
        with open(os.path.join(self.house.folder, "api.log"), "ab") as log:
            self.api = subprocess.Popen([os.path.join(self.programs, "api")], env=self.environment, stdout=log, stderr=log)

    def start_worker(self, name):
        settings = {"TASK_ACKS_LATE": "1", "POSTGRES_PORT": self.postgres_port, "POSTGRES_PASSWORD": "chaos",
                    "POSTGRES_USER": "petiole", "POSTGRES_DB": "petiole"}
        command, self.house.command = self.house.command, os.path.join(self.programs, "worker")
        self.house.start(name, **settings)
        self.house.command = command

    def request(self, method, path, body=None, **headers):
        """Status and body; 0 when nobody answers."""
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"http://127.0.0.1:{self.api_port}{path}", data, method=method, headers={
            "content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}})
        try:
            with urllib.request.urlopen(request, timeout=40) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            text = error.read()
            problem = "application/problem+json" in (error.headers.get("content-type") or "")
            return error.code, json.loads(text) if problem else None
        except (OSError, ValueError):
            return 0, None

    def get(self, path):
        return self.request("GET", path)

    def post(self, key):
        """An event that takes little; tried again until it is accepted. Gives its id, and the answers on the way."""
        data, answers = {"type": "text.extract", "data": {"text": f"Pay 20 EUR by 2030-03-12, {key}."}}, []
        while True:
            status, body = self.request("POST", "/v1/events", data, idempotency_key=key)
            if status == 202:
                return body["id"], answers
            answers.append((status, body))
            time.sleep(0.1)

    def ready(self):
        return self.get("/ready")[0] == 200

    def states(self, ids):
        with concurrent.futures.ThreadPoolExecutor(8) as many:
            return list(many.map(lambda one: (self.get(f"/v1/events/{one}")[1] or {}).get("state"), ids))

    def ended(self, ids, seconds):
        """Waits until every event has succeeded."""
        left = list(ids)

        def over():
            left[:] = [one for one, state in zip(left, self.states(left)) if state != "succeeded"]
            time.sleep(0.5)
            return not left
        try:
            wait("every event ends", over, seconds)
        except AssertionError:
            pass
        return left


def told(keys, found, left, answers):
    ids = {one for one, _ in found}
    kinds = {}
    for status, body in answers:
        kind = {0: "no connection"}.get(status, f"{status}{'' if body else ' without a problem document'}")
        kinds[kind] = kinds.get(kind, 0) + 1
    before = ", ".join(f"{count} × {kind}" for kind, count in sorted(kinds.items())) or "nothing else"
    good = len(ids) == keys and not left and set(kinds) <= {"no connection", "503"}
    return good, f"{keys} keys, {len(ids)} events accepted, {len(ids) - len(left)} succeeded, lost {len(left)}; answered before: {before}"


def load(service, keys, meanwhile):
    """Posts under so many keys while something happens. Gives ids, and the answers that were none of 202."""
    with concurrent.futures.ThreadPoolExecutor(16) as many:
        posted = [many.submit(service.post, key) for key in keys]
        meanwhile()
        found = [one.result() for one in posted]
    return found, [answer for _, answers in found for answer in answers]


def names(count):
    return [f"chaos-{uuid.uuid4()}" for _ in range(count)]


def api(house, options):
    """kill -9 of the API, again and again, under requests with keys: also between its commit and its publishing."""
    with Service(house, options) as service:
        service.start_worker("a")
        house.ready("a")
        keys = names(options.tasks // 2)

        def meanwhile():
            for _ in range(options.kills):
                time.sleep(house.random.uniform(0.05, 0.6))
                service.api.kill()
                service.api.wait()
                service.start_api()
                wait("the API is back", lambda: service.get("/health")[0] == 200, 30)
        found, answers = load(service, keys, meanwhile)
        left = service.ended([one for one, _ in found], 200)
        good, text = told(len(keys), found, left, answers)
        one_key = names(1)[0]
        with concurrent.futures.ThreadPoolExecutor(50) as many:
            same = {one for one, _ in many.map(lambda _: service.post(one_key), range(50))}
        return good and len(same) == 1, f"{text}; {options.kills} kills; one key 50 times at once: {len(same)} event"


def api_redis(house, options):
    """Redis is away while requests come in, and comes back."""
    with Service(house, options) as service:
        service.start_worker("a")
        house.ready("a")
        house.server.kill()
        house.server.wait()
        keys = names(1000)
        found, answers = load(service, keys, lambda: None)
        red = not service.ready()
        house.start_redis()
        began = time.monotonic()
        left = service.ended([one for one, _ in found], 400)
        taken = time.monotonic() - began
        wait("the API is ready again", service.ready, 30)
        good, text = told(len(keys), found, left, answers)
        return good and red and not answers, f"{text}; /ready was {'red' if red else 'green'} meanwhile; all done {taken:.1f} s after"


def api_wiped(house, options):
    """Redis loses everything that it held while no worker ran."""
    with Service(house, options) as service:
        found, answers = load(service, names(100), lambda: None)
        wait("they are published", lambda: house.redis.llen("celery") == 100, 30)
        house.redis.flushall()
        service.start_worker("a")
        left = service.ended([one for one, _ in found], 180)
        return told(100, found, left, answers)


def database(house, options):
    """PostgreSQL is stopped, or killed, and started, again and again, under load on API and workers."""
    with Service(house, options) as service:
        for name in ("a", "b"):
            service.start_worker(name)
        house.ready("a", "b")
        turns = max(2, options.kills // 2)

        def meanwhile():
            for turn in range(turns):
                time.sleep(house.random.uniform(0.3, 1))
                service.postgres("kill" if turn % 2 else "stop")
                time.sleep(house.random.uniform(0.2, 2))
                service.postgres("start")
        found, answers = load(service, names(options.tasks // 2), meanwhile)
        left = service.ended([one for one, _ in found], 300)
        wait("the API is ready", service.ready, 30)
        good, text = told(options.tasks // 2, found, left, answers)
        return good, f"{text}; {turns} restarts"


ALL = {scenario.__name__: scenario for scenario in (api, api_redis, api_wiped, database)}
