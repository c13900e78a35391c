"""The stack of production: what it lets through, what it keeps in, what it says."""
import json
import time

import pytest

from engine import SERVICES, docker, wait_until

pytestmark = pytest.mark.engine


def test_all_are_healthy_and_the_script_said_so(production):
    for service in (*SERVICES, "caddy"):
        assert production.healthy(service), service
    assert f"https://localhost:{production.ports['HTTPS_PORT']}" in production.output
    status = production.script("status.sh")
    assert status.stdout.count("(healthy)") == 6


def test_no_secret_is_seen(production):
    secrets = production.secrets()
    parts = {name: value.split(":")[-1] for name, value in secrets.items() if name in
             ("POSTGRES_PASSWORD", "POSTGRES_ADMIN_PASSWORD", "REDIS_PASSWORD", "API_KEYS", "FLOWER_BASIC_AUTH")}
    assert len(parts) == 5
    places = {"docker inspect": json.dumps(production.inspect()), "start.sh": production.output, "logs.sh": production.script("logs.sh").stdout}
    for service in ("api", "worker"):
        places[f"history of {service}"] = docker("history", "--no-trunc", production.inspect(service)[0]["Image"]).stdout
    for one in production.inspect():
        places["processes"] = places.get("processes", "") + docker("top", one["Id"], "-eo", "pid,args").stdout
    for place, text in places.items():
        assert not [name for name, value in parts.items() if value in text], place


def test_nobody_is_root_and_nothing_can_be_written(production):
    for service in (*SERVICES, "caddy"):
        container = production.ids(service)[0]
        users = {line.split()[0] for line in docker("top", container, "-eo", "uid,pid").stdout.splitlines()[1:]}
        assert users and "0" not in users, (service, users)
        assert docker("exec", container, "touch", "/here", check=False).returncode != 0, service
    for service in ("api", "worker"):
        status = production.execute(service, "cat", "/proc/1/status").stdout
        assert "CapEff:\t0000000000000000" in status and "NoNewPrivs:\t1" in status
        users = docker("top", production.ids(service)[0], "-eo", "uid,pid").stdout.splitlines()[1:]
        assert {line.split()[0] for line in users} == {"10001"}


def test_images_carry_labels(production):
    for service in ("api", "worker"):
        labels = production.inspect(service)[0]["Config"]["Labels"]
        prefix = "org.opencontainers.image."
        assert labels[f"{prefix}title"] == f"petiole-{service}" and labels[f"{prefix}licenses"] == "MIT OR Apache-2.0"
        assert labels[f"{prefix}version"] and labels[f"{prefix}revision"] and labels[f"{prefix}created"]


def test_a_bill_of_materials_names_crates_and_packages(production, tmp_path):
    production.script("sbom.sh", "--to", tmp_path, seconds=1800)
    for program in ("api", "worker"):
        bill = json.loads((tmp_path / f"{program}.cdx.json").read_text())
        crates = {part["name"]: part for part in bill["components"]}
        assert bill["bomFormat"] == "CycloneDX" and {"tokio", "serde_json", "redis"} <= set(crates), program
        assert crates["tokio"]["version"] and crates["tokio"]["licenses"]
    assert "ca-certificates " in (tmp_path / "base.txt").read_text()


def test_the_application_is_no_superuser(production):
    assert production.psql("SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles "
                           "WHERE rolname = 'petiole'").stdout.strip() == "f|f|f|f|f"
    assert production.psql("SELECT left(rolpassword, 14) FROM pg_authid WHERE rolname = 'petiole'").stdout.strip() == "SCRAM-SHA-256$"
    denied = production.psql("SET ROLE petiole; COPY (SELECT 1) TO PROGRAM 'cat'", check=False)
    assert denied.returncode != 0 and "permission denied" in denied.stdout
    # Over the network a password is asked for, and the application's does not open the administrator's door.
    shell = 'PGPASSWORD=$(cat /run/secrets/postgres_password) psql -h 127.0.0.1 -U "$1" -d postgres -XAtc "SELECT current_user"'
    refused = production.execute("database", "sh", "-c", shell, "sh", "petiole_admin", check=False)
    assert refused.returncode != 0 and "authentication failed" in refused.stdout


def test_redis_wants_a_password_and_does_nothing_dangerous(production):
    assert "NOAUTH" in production.execute("redis", "redis-cli", "ping").stdout
    assert production.redis("PING") == "PONG"
    for command in ("FLUSHALL", "FLUSHDB", "CONFIG GET dir", "KEYS *", "SHUTDOWN", "SAVE", "ACL LIST", "REPLICAOF a 1"):
        assert "NOPERM" in production.redis(*command.split()), command
    assert "appendonly" in production.redis("CONFIG", "GET", "appendonly", operator=True)


def test_caddy_ends_tls_and_redirects(production, http):
    answer = http.get("/health")
    assert answer.status_code == 200
    for name in ("strict-transport-security", "x-content-type-options", "x-frame-options", "content-security-policy", "referrer-policy"):
        assert name in answer.headers, name
    assert "server" not in answer.headers
    import httpx
    plain = httpx.get(f"http://localhost:{production.ports['HTTP_PORT']}/health", trust_env=False)
    assert plain.status_code in (301, 308) and plain.headers["location"].startswith("https://localhost")


def test_a_key_is_asked_for(http):
    assert http.get("/v1/events", headers={"Authorization": ""}).status_code == 401
    assert http.get("/v1/events").status_code == 200


def test_bodies_have_a_limit(http):
    answer = http.post("/v1/documents", content=b"x" * (61 * 10**6), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


def test_answers_are_compressed(http):
    answer = http.get("/openapi.json", headers={"Accept-Encoding": "gzip"})
    assert answer.status_code == 200 and answer.headers["content-encoding"] == "gzip"


def test_metrics_stay_inside(http):
    assert http.get("/metrics").status_code == 404


def test_flower_is_behind_a_password(production, http):
    assert http.get("/flower/", headers={"Authorization": ""}).status_code == 401
    assert http.get("/flower").headers["location"] == "/flower/"
    user, password = production.secrets()["FLOWER_BASIC_AUTH"].split(":")
    page = http.get("/flower/", headers={"Authorization": ""}, auth=(user, password))
    assert page.status_code == 200 and "celery@" in page.text
    # Its own links stay below the path.
    assert "/flower/static/" in page.text
    assert http.get("/flower/static/css/flower.css", headers={"Authorization": ""}, auth=(user, password)).status_code == 200


def test_events_are_passed_on_as_they_come(http):
    task = http.post("/v1/tasks", json={"task": "demo.progress", "args": [5, 2.5]}).json()
    begun, times = time.monotonic(), []
    with http.stream("GET", f"/v1/tasks/{task['task_id']}/events", headers={"Accept-Encoding": "gzip"}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream") and "content-encoding" not in stream.headers
        for line in stream.iter_lines():
            if line.startswith("event: progress") or line.startswith("event:progress"):
                times.append(time.monotonic() - begun)
    assert len(times) >= 4
    assert times[-1] - times[0] > 1, times


def test_one_id_from_caddy_to_the_task_and_no_credentials_in_the_log(production, http):
    name = f"trace-{time.time_ns()}"
    key = production.secrets()["API_KEYS"]
    answer = http.post("/v1/tasks?token=not-to-be-seen", json={"task": "demo.add", "args": [1, 2]},
                       headers={"X-Request-Id": name, "X-API-Key": key, "Cookie": "a=not-to-be-seen"})
    assert answer.headers["x-request-id"] == name

    def lines(service):
        found = []
        for line in production.logs(service).splitlines():
            if name in line:
                found.append(json.loads(line))
        return found

    for service in ("caddy", "api", "worker"):
        wait_until(lambda service=service: lines(service), f"the id in the log of {service}", 20)
    access = lines("caddy")[0]
    assert access["request_id"] == name and access["status"] in (200, 202) and access["request"]["method"] == "POST"
    assert "not-to-be-seen" not in json.dumps(access)
    # Without one, Caddy makes it.
    made = http.get("/v1/events").headers["x-request-id"]
    wait_until(lambda: f'"{made}"' in production.logs("caddy"), "the id that Caddy made", 20)


def test_logs_are_json(production):
    for service in ("caddy", "api", "worker"):
        lines = [line for line in production.logs(service).splitlines() if line]
        assert lines
        for line in lines:
            assert isinstance(json.loads(line), dict)


def test_what_is_not_meant_to_talk_does_not(production):
    code = ("import socket, sys\n"
            "for host, port in (('database', 5432), ('redis', 6379), ('1.1.1.1', 53)):\n"
            "    try:\n        socket.create_connection((host, port), 2).close(); print('open', host)\n"
            "    except OSError: print('closed', host)\n")
    image = production.inspect("flower")[0]["Config"]["Image"]

    def probe(network):
        return docker("run", "--rm", "--network", f"{production.name}_{network}", "--entrypoint", "python", image, "-c", code).stdout

    assert "open database" not in probe("edge") and "open redis" not in probe("edge")
    inside = probe("backend")
    assert "open database" in inside and "open redis" in inside and "closed 1.1.1.1" in inside


def test_logs_of_all_services_in_one_view(production):
    from engine import run
    plain = production.script("logs.sh").stdout
    assert "\x1b[" not in plain
    lines = plain.splitlines()
    assert {line.split("|")[0].strip().rsplit("-", 1)[0] for line in lines} >= {*SERVICES, "caddy"}
    stamps = [line.split("|", 1)[1].split()[0] for line in lines]
    assert stamps == sorted(stamps)
    assert all(stamp.startswith("20") and stamp.endswith("Z") for stamp in stamps)
    only = production.script("logs.sh", "redis", "--tail", "3").stdout.splitlines()
    assert len(only) == 3 and all(line.startswith("redis-") for line in only)
    assert production.script("logs.sh", "--since", "1s").stdout.count("\n") < len(lines)
    assert production.script("logs.sh", "nobody", check=False).returncode != 0
    # At a terminal: a colour for each service.
    command = f"{production.folder}/docker/logs.sh --tail 2"
    shown = run("script", "-qec", command, "/dev/null", env={**production.env, "TERM": "xterm"}).stdout
    colours = {line.split("m")[0] for line in shown.splitlines() if line.startswith("\x1b[")}
    assert len(colours) >= 5
    bare = run("script", "-qec", f"{command} --no-color", "/dev/null", env={**production.env, "TERM": "xterm"}).stdout
    assert "\x1b[3" not in bare
