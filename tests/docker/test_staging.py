"""Staging: production's images and rules, on localhost."""
import json

import httpx
import pytest

from engine import SERVICES, Project, docker, wait_until
from test_refusals import GOOD

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def staging():
    project = Project("staging")
    try:
        project.output = project.start("--scale", "worker=2").stdout
        yield project
    finally:
        project.close()


@pytest.fixture(scope="module")
def api(staging):
    headers = {"Authorization": f"Bearer {staging.secrets()['API_KEYS']}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{staging.ports['API_PORT']}", headers=headers, timeout=30, trust_env=False) as client:
        yield client


def test_weak_secrets_are_refused_and_good_ones_are_not_touched(copy):
    project = copy("staging")
    env = project.folder / "docker/.env"
    given = {**GOOD, "REDIS_PASSWORD": "changeme"}
    env.write_text("".join(f"{name}={value}\n" for name, value in given.items()))
    done = project.start(check=False)
    assert done.returncode != 0 and "REDIS_PASSWORD is a well-known word" in done.stdout
    assert "POSTGRES_PASSWORD" not in done.stdout and not project.ids(stopped=True)
    assert all(f"{name}={value}\n" in env.read_text() for name, value in given.items())


def test_all_are_healthy_on_localhost_and_secrets_were_made(staging):
    for service in SERVICES:
        assert staging.healthy(service, 2 if service == "worker" else 1), service
    assert not staging.ids("caddy", stopped=True)
    assert f"http://127.0.0.1:{staging.ports['API_PORT']}" in staging.output
    published = {}
    for one in staging.inspect():
        for bindings in filter(None, one["NetworkSettings"]["Ports"].values()):
            published.setdefault(one["Config"]["Labels"]["com.docker.compose.service"], set()).update(b["HostIp"] for b in bindings)
    assert published == {"api": {"127.0.0.1"}, "flower": {"127.0.0.1"}}
    secrets = staging.secrets()
    for name in GOOD:
        assert len(secrets[name]) >= 24 and secrets[name].split(":")[-1] not in staging.output, name
    status = staging.script("status.sh")
    assert status.stdout.count("(healthy)") == 6


def test_the_api_asks_for_its_key(api):
    assert api.get("/v1/events", headers={"Authorization": ""}).status_code == 401
    task = api.post("/v1/tasks", json={"task": "demo.add", "args": [2, 3]}).json()["task_id"]
    assert api.get(f"/v1/tasks/{task}?wait=20").json()["result"] == 5


def test_flower_asks_for_its_password(staging):
    url = f"http://127.0.0.1:{staging.ports['FLOWER_PORT']}/"
    user, password = staging.secrets()["FLOWER_BASIC_AUTH"].split(":")
    assert httpx.get(url, trust_env=False).status_code == 401
    assert httpx.get(url, auth=(user, "wrong"), trust_env=False).status_code == 401
    page = httpx.get(url, auth=(user, password), trust_env=False)
    assert page.status_code == 200 and page.text.count("celery@") >= 2
    # Neither does its own API tell anything.
    assert httpx.get(f"{url}api/workers", trust_env=False).status_code == 401


def test_logs_are_json_with_the_id_of_the_request(staging, api):
    answer = api.post("/v1/tasks", json={"task": "demo.add", "args": [1, 2]})
    name = answer.headers["x-request-id"]
    for service in ("api", "worker"):
        lines = wait_until(lambda service=service: [line for line in staging.logs(service).splitlines() if name in line],
                           f"the id in the log of {service}", 20)
        assert all(json.loads(line)["span"]["request_id"] == name for line in lines)
    for service in ("api", "worker"):
        for line in staging.logs(service).splitlines():
            assert {"timestamp", "level", "target"} <= json.loads(line).keys()


def test_each_worker_has_its_figures(staging):
    """Reached from within alone."""
    code = ("import socket, urllib.request\n"
            "for address in sorted({a[4][0] for a in socket.getaddrinfo('worker', 9808, proto=socket.IPPROTO_TCP)}):\n"
            "    page = urllib.request.urlopen(f'http://{address}:9808/metrics', timeout=10).read().decode()\n"
            "    print(address, 'petiole_worker_redis_connected 1\\n' in page, 'petiole_worker_queue_length{queue=\"celery\"} ' in page)\n")
    lines = staging.execute("flower", "python", "-c", code).stdout.split("\n")[:-1]
    assert len(lines) == 2 and all(line.endswith(" True True") for line in lines), lines


def test_an_update_leaves_what_is_up_to_date(staging):
    before = staging.ids("api"), staging.ids("worker")
    said = staging.script("update.sh", "--no-build").stdout
    assert "worker is up to date" in said
    assert before == (staging.ids("api"), staging.ids("worker"))


def test_secrets_are_files_alone(staging):
    values = [staging.secrets()[name].split(":")[-1] for name in GOOD]
    told = json.dumps(staging.inspect())
    for service in SERVICES:
        told += docker("exec", staging.ids(service)[0], "env").stdout
    assert not [value for value in values if value in told]
