"""Development: the source is mounted, and what changes is built and started. The first build takes minutes."""
import os
import re
import time

import pytest

from engine import SERVICES, Project, docker, wait_until

pytestmark = pytest.mark.engine

BUILD = 900


@pytest.fixture(scope="module")
def development():
    project = Project("development")
    try:
        project.start()
        yield project
    finally:
        project.close()


def started(project, *services):
    return {service: project.inspect(service)[0]["State"]["StartedAt"] for service in services}


def write(path, text):
    """As an editor does: aside, then in its place."""
    aside = path.with_name(path.name + "~")
    aside.write_text(text)
    os.replace(aside, path)


def programs(project, service):
    """How often that container has started its program."""
    return project.logs(service).count(f"watch: starting {service}")


def mark(source, text):
    marked, found = re.subn(r"(\bfn main\(\)[^{]*\{)", rf'\1 eprintln!("{text}");', source, count=1)
    assert found
    return marked


def test_all_are_healthy_on_localhost(development):
    for service in SERVICES:
        assert development.healthy(service), service
    for one in development.inspect():
        for bindings in one["NetworkSettings"]["Ports"].values():
            assert all(binding["HostIp"] == "127.0.0.1" for binding in bindings or [])


def test_a_change_of_the_api_builds_the_api(development):
    path = development.folder / "api/src/main.rs"
    source, servers = path.read_text(), started(development, "database", "redis", "api", "worker")
    worker = programs(development, "worker")
    write(path, mark(source, "marked-by-a-test"))
    wait_until(lambda: "marked-by-a-test" in development.logs("api").replace('eprintln!("marked-by-a-test")', ""), "the new API runs", BUILD, 1)
    wait_until(lambda: development.healthy("api"), "it is healthy")
    assert started(development, "database", "redis", "api", "worker") == servers, "a container was started anew"
    assert programs(development, "worker") == worker
    running = programs(development, "api")

    # What does not compile is shown, and the program before it runs on.
    write(path, source + "\nfn nonsense() -> u8 { \"none\" }\n")
    shown = wait_until(lambda: "mismatched types" in development.script("logs.sh", "api").stdout, "the error is shown", BUILD, 1)
    assert shown
    wait_until(lambda: "the program before it runs on" in development.logs("api"), "the watcher says so", 60)
    assert development.healthy("api") and programs(development, "api") == running
    write(path, source)
    wait_until(lambda: programs(development, "api") > running, "the old source runs again", BUILD, 1)


def test_a_change_of_the_worker_builds_the_worker(development):
    path = development.folder / "worker/src/lib.rs"
    source, api, worker = path.read_text(), programs(development, "api"), programs(development, "worker")
    write(path, source + "\n// changed\n")
    wait_until(lambda: programs(development, "worker") > worker, "the new worker runs", BUILD, 1)
    time.sleep(3)
    assert programs(development, "api") == api
    wait_until(lambda: development.healthy("worker"), "it is healthy")
    write(path, source)


def test_the_servers_alone_by_plain_compose(development):
    """Hybrid work: what docker/.env says is enough, and the ports are on localhost."""
    development.script("stop.sh")
    folder = development.folder / "docker"
    env = development.env
    docker("compose", "up", "-d", "--wait", "database", "redis", cwd=folder, env=env)
    try:
        assert development.healthy("database") and development.healthy("redis") and not development.ids("api", stopped=True)
        import socket
        for port in ("POSTGRES_PORT", "REDIS_PORT"):
            socket.create_connection(("127.0.0.1", development.ports[port]), 5).close()
    finally:
        docker("compose", "down", cwd=folder, env=env)
