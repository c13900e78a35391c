"""What each environment is made of, as Compose renders it. Needs Compose, no engine."""
import json
import shutil

import pytest

from engine import SERVICES, Project, run

ENVIRONMENTS = ("development", "staging", "production")


@pytest.fixture(scope="module")
def rendered():
    if not shutil.which("docker"):
        pytest.skip("docker compose is not installed")
    project = Project("production")
    project.script("start.sh", "nowhere", check=False)
    folder = project.folder / "docker"
    secrets = {name: f"{name.lower()}-0123456789abcdef" for name in ("POSTGRES_PASSWORD", "POSTGRES_ADMIN_PASSWORD", "REDIS_PASSWORD")}
    text = (folder / ".env.example").read_text()
    for name, value in secrets.items():
        text = text.replace(f"\n{name}=\n", f"\n{name}={value}\n")
    (folder / ".env").write_text(text)
    clean = {name: value for name, value in project.env.items() if name not in project.ports}
    found = {}
    for environment in ENVIRONMENTS:
        done = run("docker", "compose", "--project-directory", folder, "--env-file", project.folder / f".env.{environment}",
                   "--env-file", folder / ".env", "-f", folder / "docker-compose.yml", "-f",
                   folder / f"docker-compose.{environment}.yml", "config", "--format", "json", env=clean)
        # A variable that nobody sets is warned of.
        assert done.stdout.startswith("{"), done.stdout[:1000]
        found[environment] = (json.loads(done.stdout), done.stdout)
    yield found, secrets
    project.close()


def test_no_secret_is_in_a_rendered_file_of_staging_or_production(rendered):
    found, secrets = rendered
    for environment in ("staging", "production"):
        assert not [name for name, value in secrets.items() if value in found[environment][1]]


def test_the_same_services_everywhere(rendered):
    found, _ = rendered
    for environment in ENVIRONMENTS:
        more = {"caddy", "caddy-data"} if environment == "production" else set()
        assert set(found[environment][0]["services"]) == {*SERVICES, *more}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_service_is_confined(rendered, environment):
    for name, service in rendered[0][environment][0]["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        limits = service["deploy"]["resources"]["limits"]
        assert limits["memory"] and limits["cpus"] and limits["pids"], name
        if name != "caddy-data":
            assert service["restart"] == "unless-stopped", name
            assert service["healthcheck"]["test"], name
            assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name


def test_ports(rendered):
    def published(environment):
        services = rendered[0][environment][0]["services"]
        return {(name, port["published"], port.get("host_ip")) for name, one in services.items() for port in one.get("ports", [])}

    assert published("production") == {("caddy", "80", None), ("caddy", "443", None)}
    assert published("staging") == {("api", "8080", "127.0.0.1"), ("flower", "5555", "127.0.0.1")}
    assert published("development") == {
        ("api", "8080", "127.0.0.1"), ("flower", "5555", "127.0.0.1"), ("database", "5432", "127.0.0.1"), ("redis", "6379", "127.0.0.1"),
    }


@pytest.mark.parametrize("environment", ("staging", "production"))
def test_networks(rendered, environment):
    rendered = rendered[0][environment][0]
    members = {network: {name for name, one in rendered["services"].items() if network in one.get("networks", {})}
               for network in rendered["networks"]}
    assert members["backend"] == {*SERVICES}
    assert members["edge"] == {"api", "flower", *(["caddy"] if environment == "production" else [])}
    assert members["outside"] == {"worker"}
    assert [name for name, one in rendered["networks"].items() if one.get("internal")] == ["backend"]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_time_to_end_is_longer_than_what_the_programs_take(rendered, environment):
    services = rendered[0][environment][0]["services"]
    # API_SHUTDOWN_TIMEOUT is 30 s.
    assert services["api"]["stop_grace_period"] == "40s"
    assert services["worker"]["stop_grace_period"] == "2m0s"


@pytest.mark.parametrize("environment", ("staging", "production"))
def test_the_health_of_a_worker_is_asked_of_the_worker(rendered, environment):
    assert rendered[0][environment][0]["services"]["worker"]["healthcheck"]["test"] == ["CMD", "worker", "--ping"]
