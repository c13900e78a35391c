"""A stack in containers, of a copy of this checkout, under a project name of its own."""
import itertools
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

import httpx

CHECKOUT = Path(__file__).resolve().parents[2]
NUMBERS = itertools.count()
SERVICES = ("database", "redis", "api", "worker", "flower")
# What somebody's shell may hold and that would lead the scripts elsewhere.
FOREIGN = re.compile(r"^(API|APP|BROKER|CELERY|DATABASE|FLOWER|HTTPS?|OPENAI|POSTGRES|REDIS|RESULT|SITE|TASK|WORKER|COMPOSE|IMAGE)_|^TEST_")


def run(*command, seconds=300, check=True, **more):
    """A finished process; its output (with what went to standard error) is in `stdout`."""
    more.setdefault("stdin", subprocess.DEVNULL if "input" not in more else None)
    if more["stdin"] is None:
        del more["stdin"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                          timeout=seconds, check=False, **more)
    if check:
        assert done.returncode == 0, f"{' '.join(map(str, command))[:200]} ended with {done.returncode}:\n{done.stdout[-4000:]}"
    return done


def docker(*arguments, **more):
    return run("docker", *arguments, **more)


def there():
    """An engine with Compose answers."""
    try:
        return all(run("docker", *words, seconds=20, check=False).returncode == 0 for words in (["info"], ["compose", "version"]))
    except (OSError, subprocess.TimeoutExpired):
        return False


def wait_until(probe, what, seconds=60, every=0.2):
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(every)


def free_ports(count):
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


class Project:
    """A copy of the checkout, and the containers that its scripts start."""

    def __init__(self, environment, **settings):
        self.environment = environment
        self.home = Path(tempfile.mkdtemp(prefix="petiole-docker-"))
        self.home.chmod(0o755)
        self.folder = self.home / "petiole"
        # Two copies of one environment are two projects: one is stopped while the other runs.
        self.name = f"petiole-test-{os.getpid()}-{next(NUMBERS)}-{environment}"
        listed = run("git", "-c", f"safe.directory={CHECKOUT}", "-C", CHECKOUT, "ls-files", "-z", "--cached", "--others",
                     "--exclude-standard").stdout
        for name in filter(None, listed.split("\0")):
            if (CHECKOUT / name).is_file():
                (self.folder / name).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                shutil.copy2(CHECKOUT / name, self.folder / name)
        self.folder.chmod(0o755)
        self.env = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
        ports = ("API_PORT", "FLOWER_PORT", "POSTGRES_PORT", "REDIS_PORT", "HTTP_PORT", "HTTPS_PORT")
        self.ports = dict(zip(ports, free_ports(len(ports))))
        self.env.update({name: str(port) for name, port in self.ports.items()}, COMPOSE_PROJECT_NAME=self.name, **settings)

    # scripts

    def script(self, name, *arguments, check=True, seconds=900, cwd="/", **more):
        env = {**self.env, **more.pop("env", {})}
        return run(self.folder / "docker" / name, *arguments, cwd=cwd, env=env, seconds=seconds, check=check, **more)

    def start(self, *arguments, **more):
        # While one works on the tests: the images that are there.
        if os.environ.get("DOCKER_TEST_IMAGES") == "there" and self.environment != "development" and "--no-build" not in arguments:
            arguments = (*arguments, "--no-build")
        return self.script("start.sh", self.environment, *arguments, seconds=3600, **more)

    def close(self):
        self.script("stop.sh", "--volumes", "--yes", check=False)
        for kind, remove in (("ps -aq", "rm -f"), ("volume ls -q", "volume rm"), ("network ls -q", "network rm")):
            found = docker(*kind.split(), "--filter", f"label=com.docker.compose.project={self.name}", check=False)
            # Without an engine nothing was started.
            if found.returncode == 0 and found.stdout.split():
                docker(*remove.split(), *found.stdout.split(), check=False)
        shutil.rmtree(self.home, ignore_errors=True)

    # what runs

    def ids(self, service=None, stopped=False):
        filters = ["--filter", f"label=com.docker.compose.project={self.name}"]
        if service:
            filters += ["--filter", f"label=com.docker.compose.service={service}"]
        return docker("ps", "-q", "--no-trunc", *(["-a"] if stopped else []), *filters).stdout.split()

    def inspect(self, service=None):
        ids = self.ids(service)
        return json.loads(docker("inspect", *ids).stdout) if ids else []

    def healthy(self, service, count=1):
        states = [one["State"].get("Health", {}).get("Status") for one in self.inspect(service)]
        return len(states) == count and set(states) == {"healthy"}

    def execute(self, service, *command, **more):
        return docker("exec", *(["-i"] if "input" in more else []), self.ids(service)[0], *command, **more)

    def logs(self, service):
        return "".join(docker("logs", one).stdout for one in self.ids(service))

    def crash(self, container):
        """kill -9 from outside the engine: its restart policy answers to that."""
        pid = docker("inspect", "-f", "{{.State.Pid}}", container).stdout.strip()
        os.kill(int(pid), 9)

    def secrets(self):
        found = {}
        for line in (self.folder / "docker/.env").read_text().splitlines():
            name, _, value = line.partition("=")
            if value and not line.startswith("#"):
                found[name] = value
        return found

    def psql(self, statement, user="petiole_admin", database="petiole", check=True):
        return self.execute("database", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", user, "-d", database, "-c", statement, check=check)

    def redis(self, *command, operator=False):
        if operator:
            return self.execute("redis", "sh", "/etc/petiole/redis.sh", "operator", *command).stdout.strip()
        shell = 'REDISCLI_AUTH=$(cat /run/secrets/redis_password) redis-cli "$@"'
        return self.execute("redis", "sh", "-c", shell, "redis-cli", *command).stdout.strip()

    def client(self, **more):
        """Through Caddy, whose own issuer is trusted."""
        root = self.execute("caddy", "cat", "/data/caddy/pki/authorities/local/root.crt").stdout
        context = ssl.create_default_context(cadata=root)
        headers = {"Authorization": f"Bearer {self.secrets()['API_KEYS']}"}
        return httpx.Client(base_url=f"https://localhost:{self.ports['HTTPS_PORT']}", verify=context, headers=headers, timeout=30,
                            trust_env=False, **more)
