"""Where the stack is that `docker/start.sh` started: the settings in the order in which the product reads them."""
from pathlib import Path
from urllib.parse import quote, urlsplit


def read_env_file(path):
    found = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return found
    for line in lines:
        line = line.strip().removeprefix("export ")
        if not line or line.startswith("#") or "=" not in line:
            continue
        name, value = (part.strip() for part in line.split("=", 1))
        if len(value) > 1 and value[0] in "\"'" and value[-1] == value[0]:
            value = value[1:-1]
        else:
            value = value.split(" #")[0].strip()
        found[name] = value
    return found


def urls(folder, env, app_env="development"):
    """The addresses of API, Flower, broker and result backend, and the passwords to enter."""
    settings = {
        **read_env_file(f"{folder}/.env.{app_env}"),
        **read_env_file(f"{folder}/docker/.env"),
        **{name: value for name, value in env.items() if value},
    }
    redis_port = settings.get("REDIS_PORT") or "6379"

    def reachable(url):
        """A URL that means this machine and this port, rather than the name of a container."""
        if not url or "$" in url:
            return None
        parts = urlsplit(url)
        here = parts.hostname in ("127.0.0.1", "localhost") and str(parts.port) == redis_port
        return url if here else None

    password = settings.get("REDIS_PASSWORD")
    login = f":{quote(password, safe='')}@" if password else ""
    broker = reachable(settings.get("BROKER_URL")) or f"redis://{login}127.0.0.1:{redis_port}/0"
    return {
        "API_URL": f"http://127.0.0.1:{settings.get('API_PORT') or 8080}",
        "FLOWER_URL": f"http://127.0.0.1:{settings.get('FLOWER_PORT') or 5555}",
        "BROKER_URL": broker,
        "RESULT_BACKEND": reachable(settings.get("RESULT_BACKEND")) or broker,
        "FLOWER_AUTH": settings.get("FLOWER_BASIC_AUTH") or "",
        "API_KEY": (settings.get("API_KEYS") or "").split(",")[0].split(":")[0].strip(),
    }
