"""Clients generated from the API's description: it passes a linter, they compile, and they do the tour (tests/clients)."""
import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs_api

RUN = Path(__file__).parent.parent / "clients" / "run.sh"


def node_is_there():
    if not (shutil.which("node") and shutil.which("npm")):
        return False
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout
    return tuple(int(part) for part in version.strip().lstrip("v").split(".")[:2]) >= (20, 19)


@pytest.mark.skipif(not node_is_there(), reason="there is no Node 20.19 with npm here")
def test_generated_clients_do_the_tour(stack):
    environment = {**os.environ, "API_KEY": stack.api_key or ""}
    done = subprocess.run([RUN, stack.api_url], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=1200)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    for language in ("Python", "TypeScript"):
        assert f"the {language} client did the tour" in done.stdout
