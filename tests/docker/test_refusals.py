"""No start with a secret that is none. Needs an engine, which is never asked for anything."""
import pytest

pytestmark = pytest.mark.engine

GOOD = {
    "POSTGRES_PASSWORD": "Zk3vT9qLr0Xw5", "POSTGRES_ADMIN_PASSWORD": "Qp8sN2hVd6Yk1", "REDIS_PASSWORD": "Hb4mW7cJf3Tz9",
    "API_KEYS": "9f86d081884c7d659a2feaa0", "FLOWER_BASIC_AUTH": "operator:Lx5gR1nKe8Ua2",
}


def refused(project, **values):
    (project.folder / "docker/.env").write_text("".join(f"{name}={value}\n" for name, value in {**GOOD, **values}.items()))
    done = project.script("start.sh", project.environment, check=False)
    assert done.returncode != 0 and not project.ids(stopped=True)
    return done.stdout


@pytest.mark.parametrize("environment", ("staging", "production"))
def test_all_of_them_are_named_at_once_and_none_is_shown(copy, environment):
    weak = {
        "POSTGRES_PASSWORD": "", "POSTGRES_ADMIN_PASSWORD": "short-one", "REDIS_PASSWORD": "postgres123456789",
        "API_KEYS": "too-short-key-17c:read", "FLOWER_BASIC_AUTH": "operator:change-me-please-now",
    }
    said = refused(copy(environment), **weak)
    for name, why in (
        ("POSTGRES_PASSWORD", "is empty"), ("POSTGRES_ADMIN_PASSWORD", "has 9 characters"), ("REDIS_PASSWORD", "is a well-known word"),
        ("API_KEYS", "has 17 characters"), ("FLOWER_BASIC_AUTH", "is a well-known word"),
    ):
        assert any(name in line and why in line for line in said.splitlines()), (name, said)
    for value in weak.values():
        assert not value or value.split(":")[-1] not in said


@pytest.mark.parametrize("name", GOOD)
def test_each_alone(copy, name):
    said = refused(copy("production"), **{name: ""})
    assert f"{name} is empty" in said
    assert not [other for other in GOOD if other != name and f"  {other} " in said]


def test_a_secret_in_a_file_that_is_not_there(copy):
    said = refused(copy("production"), REDIS_PASSWORD="", REDIS_PASSWORD_FILE="/nowhere/at/all")
    assert "REDIS_PASSWORD_FILE" in said and "/nowhere/at/all" in said


def test_an_unknown_environment(copy):
    done = copy("production").script("start.sh", "no-such-environment", check=False)
    assert done.returncode != 0 and "no-such-environment" in done.stdout


@pytest.mark.parametrize("script", ("start.sh", "stop.sh", "logs.sh", "status.sh", "backup.sh", "restore.sh", "update.sh", "containers.sh",
                                    "native.sh", "test.sh", "fetch-models.sh"))
def test_help_from_any_directory(copy, script):
    project = copy("production")
    assert f"docker/{script}" in project.script(script, "--help", cwd="/").stdout
    assert not project.ids(stopped=True)
