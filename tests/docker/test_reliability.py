"""What breaks, is replaced, is saved and comes back, in production. Runs after test_production.py, on the same stack."""
import contextlib
import json
import os
import threading
import time
import uuid

import pytest

from engine import docker, wait_until

pytestmark = pytest.mark.engine


@contextlib.contextmanager
def load(production, threads=4):
    """Requests that go on meanwhile; gives those that failed, and how many there were."""
    failed, count, end = [], [0], threading.Event()

    def go(number):
        with production.client() as client:
            while not end.is_set():
                try:
                    if number % 2:
                        answer = client.get("/v1/events")
                    else:
                        answer = client.post("/v1/tasks", json={"task": "demo.add", "args": [1, 2]},
                                             headers={"Idempotency-Key": uuid.uuid4().hex})
                    if answer.status_code not in (200, 202):
                        failed.append(f"{answer.status_code} {answer.text[:200]}")
                except Exception as error:  # noqa: BLE001: whatever it is, a request was lost
                    failed.append(repr(error))
                count[0] += 1
                time.sleep(0.02)

    running = [threading.Thread(target=go, args=(number,)) for number in range(threads)]
    for one in running:
        one.start()
    try:
        yield failed, count
    finally:
        end.set()
        for one in running:
            one.join()


@pytest.fixture
def three(production):
    production.start("--no-build", "--scale", "api=3")
    assert production.healthy("api", 3)
    yield production.ids("api")
    production.start("--no-build")
    assert production.healthy("api", 1)


def upstreams(production, since):
    found = set()
    for line in docker("logs", "--since", since, production.ids("caddy")[0]).stdout.splitlines():
        entry = json.loads(line)
        if entry.get("request", {}).get("uri", "").startswith("/v1/"):
            found.add(entry.get("upstream"))
    return found


def test_requests_are_spread_and_a_killed_replica_loses_none(production, three):
    since = str(int(time.time()))
    with load(production) as (failed, count):
        time.sleep(5)
        assert len(upstreams(production, since)) == 3
        before = docker("inspect", "-f", "{{.RestartCount}}", three[0]).stdout
        production.crash(three[0])
        time.sleep(3)
        # One that the operator ends stays away.
        docker("kill", three[1])
        time.sleep(8)
    assert count[0] > 100
    assert not failed, (count, failed[:5])
    assert docker("inspect", "-f", "{{.RestartCount}}", three[0]).stdout != before


def test_several_workers_send_each_periodic_task_once(production, http):
    production.start("--no-build", "--scale", "worker=3")
    assert production.healthy("worker", 3)
    name = f"tick-{uuid.uuid4().hex[:8]}"
    schedule = {"name": name, "task": "demo.echo", "args": [name], "interval": 1}
    made = http.post("/v1/schedules", json=schedule)
    assert made.status_code == 201, made.text

    def sent():
        text = "".join(production.logs("worker"))
        return [json.loads(line) for line in text.splitlines() if "Sending due task" in line and name in line]
    wait_until(lambda: len(sent()) >= 3, "the schedule has begun", 60)
    begun, before = time.monotonic(), len(sent())
    time.sleep(15)
    count, seconds = len(sent()) - before, time.monotonic() - begun
    assert seconds - 3 <= count <= seconds + 2, (count, seconds)
    # The one that sends them is lost: another goes on, and none comes twice.
    senders = [one for one in production.ids("worker") if f"Sending due task {name}" in docker("logs", one).stdout]
    assert len(senders) == 1, senders
    docker("kill", senders[0])
    wait_until(sent, "another worker sends", 60)
    assert http.delete(f"/v1/schedules/{made.json()['id']}").status_code == 204
    production.start("--no-build")
    assert production.healthy("worker", 1)


def test_an_update_under_load_fails_no_request_and_loses_no_task(production, http):
    old = {service: production.ids(service) for service in ("api", "worker", "database", "redis", "caddy")}
    slow = http.post("/v1/tasks", json={"task": "demo.sleep", "args": [6]}).json()["task_id"]
    wait_until(lambda: http.get(f"/v1/tasks/{slow}").json()["state"] == "STARTED", "the slow task has begun")
    with load(production) as (failed, count):
        said = production.script("update.sh", "--no-build", "--force", seconds=900).stdout
    assert not failed, (count, failed[:5], said)
    assert count[0] > 50
    for service in ("api", "worker"):
        assert production.healthy(service) and not set(production.ids(service)) & set(old[service]), service
    for service in ("database", "redis", "caddy"):
        assert production.ids(service) == old[service], service
    assert http.get(f"/v1/tasks/{slow}?wait=20").json()["state"] == "SUCCESS"
    # A second one has nothing to do.
    again = production.ids("api"), production.ids("worker")
    said = production.script("update.sh", "--no-build").stdout
    assert "api is up to date" in said and "worker is up to date" in said
    assert again == (production.ids("api"), production.ids("worker"))


def test_an_update_that_is_not_healthy_is_taken_back(production, http):
    old = production.ids("api"), production.ids("worker")
    done = production.script("update.sh", "--no-build", check=False, env={"WORKER_CONCURRENCY": "many"})
    assert done.returncode != 0 and "WORKER_CONCURRENCY" in done.stdout, done.stdout
    assert (production.ids("api"), production.ids("worker")) == old
    assert http.get("/ready").status_code == 200


def test_a_worker_out_of_memory_comes_back_and_its_task_is_done(production, http):
    worker = production.ids("worker")[0]
    # Acknowledged late: a large document takes a while to embed.
    text = "\n\n".join(f"The {number}th harbour pilot climbs aboard every large vessel before it enters the port." for number in range(2000))
    document = http.post("/v1/documents", json={"title": "Pilots", "text": text}).json()["id"]
    wait_until(lambda: http.get(f"/v1/documents/{document}").json()["state"] == "processing", "it has begun", every=0.05)
    # Somebody else in the container takes the memory; the kernel is told to take the worker first.
    for pid in docker("top", worker, "-eo", "pid").stdout.split()[1:]:
        with open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as score:
            score.write("1000")
    docker("exec", worker, "sh", "-c", "echo 0 >/proc/self/oom_score_adj 2>/dev/null; exec tail /dev/zero", check=False)
    wait_until(lambda: docker("inspect", "-f", "{{.RestartCount}}", worker).stdout.strip() != "0", "the worker was started again", 60)
    wait_until(lambda: production.healthy("worker"), "it is healthy", 120)
    state = wait_until(lambda: (one := http.get(f"/v1/documents/{document}").json()["state"]) in ("ready", "failed") and one,
                       "the document is done", 240)
    assert state != "failed"


def test_backup_and_restore(production, http):
    kept = http.post("/v1/documents", json={"title": "Kept", "text": "Petioles carry water into the blade of the leaf."}).json()["id"]
    wait_until(lambda: http.get(f"/v1/documents/{kept}").json()["state"] == "ready", "the document is ready", 120)
    task = http.post("/v1/tasks", json={"task": "demo.add", "args": [20, 22]}).json()["task_id"]
    assert http.get(f"/v1/tasks/{task}?wait=20").json()["result"] == 42
    folder = production.script("backup.sh", "--to", str(production.home / "backups")).stdout.strip().splitlines()[-1]
    assert sorted(os.listdir(folder)) == ["SHA256SUMS", "postgres.dump", "redis.rdb"]
    assert os.stat(folder).st_mode & 0o077 == 0

    assert http.delete(f"/v1/documents/{kept}").status_code in (200, 204)
    later = http.post("/v1/documents", json={"title": "Later", "text": "This one came after the backup."}).json()["id"]
    production.redis("DEL", f"celery-task-meta-{task}")
    assert production.script("restore.sh", folder, input="no\n", check=False).returncode != 0
    assert http.get(f"/v1/documents/{kept}").status_code == 404

    production.script("restore.sh", folder, "--yes")
    assert http.get(f"/v1/documents/{kept}").json()["state"] == "ready"
    assert http.get(f"/v1/documents/{later}").status_code == 404
    hits = http.post("/v1/search", json={"query": "water in leaves"}).json()["hits"]
    assert any(hit["document_id"] == kept for hit in hits)
    assert http.get(f"/v1/tasks/{task}").json()["result"] == 42
    # And it goes on: from its append-only file, after another start.
    docker("restart", production.ids("redis")[0])
    wait_until(lambda: production.healthy("redis"), "redis is healthy")
    assert production.redis("EXISTS", f"celery-task-meta-{task}") == "1"

    (production.home / "backups" / os.path.basename(folder) / "redis.rdb").write_bytes(b"REDIS, but not quite")
    damaged = production.script("restore.sh", folder, "--yes", check=False)
    assert damaged.returncode != 0 and "damaged" in damaged.stdout
    wait_until(lambda: http.get("/ready").status_code == 200, "all is ready")


def test_a_start_that_fails_says_why(production):
    done = production.start("--no-build", check=False, env={"WORKER_CONCURRENCY": "many"})
    assert done.returncode != 0
    assert 'WORKER_CONCURRENCY holds "many"' in done.stdout.replace("\\", "")
    assert production.script("status.sh", check=False).returncode != 0
    production.start("--no-build")
    assert production.script("status.sh").returncode == 0


def test_a_changed_password_takes_effect(production, http):
    """By a file, in the place of the value: servers and programs agree on it after one start."""
    secret = production.home / "postgres-password"
    secret.write_text("Nw6zP1yBq9Ke4'\\\"$x\n")
    env = production.folder / "docker/.env"
    new = {"POSTGRES_PASSWORD=": f"POSTGRES_PASSWORD_FILE={secret}", "REDIS_PASSWORD=": "REDIS_PASSWORD=Vu2dM8rXc5Ga7%@"}
    lines = [next((text for name, text in new.items() if line.startswith(name)), line) for line in env.read_text().splitlines()]
    env.write_text("\n".join(lines) + "\n")
    before = production.ids("database")
    production.start("--no-build")
    wait_until(lambda: http.get("/ready").status_code == 200, "all is ready")
    assert production.ids("database") == before
    assert production.redis("PING") == "PONG" and "%@" in production.execute("redis", "cat", "/run/secrets/redis_password").stdout
    shell = 'PGPASSWORD="$1" psql -h 127.0.0.1 -U petiole -d petiole -XAtc "SELECT current_user"'
    assert production.execute("database", "sh", "-c", shell, "sh", secret.read_text()[:-1]).stdout.strip() == "petiole"


def test_stop_keeps_the_data_and_asks_before_it_does_not(production):
    volumes = docker("volume", "ls", "-q", "--filter", f"label=com.docker.compose.project={production.name}").stdout.split()
    assert len(volumes) == 3
    refused = production.script("stop.sh", "--volumes", check=False, input="\n")
    assert refused.returncode != 0 and production.healthy("api")
    production.script("stop.sh")
    assert not production.ids(stopped=True)
    left = docker("volume", "ls", "-q", "--filter", f"label=com.docker.compose.project={production.name}").stdout.split()
    assert left == volumes
    production.script("stop.sh", "--volumes", input="yes\n")
    assert not docker("volume", "ls", "-q", "--filter", f"label=com.docker.compose.project={production.name}").stdout.split()
