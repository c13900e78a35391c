"""The page `docs/celery-parity.md` tells what is so: the lists are Celery's, and the worker agrees."""
import json
import os
import subprocess

import pytest

import parity
from waiting import SOON


@pytest.fixture(scope="module")
def told(client, stack):
    """What the worker's own command line says of its flags."""
    program = f"/proc/{client.worker()[1]['pid']}/exe"
    if stack.is_reference or not os.path.exists(program):
        pytest.skip("the stack's worker is no Rust program of this machine")
    done = subprocess.run([os.path.realpath(program), "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_is_as_celery_s_lists_say():
    assert parity.main() == 0


def test_every_flag_is_taken(told):
    for flag, names in parity.flags().items():
        missing = [name for name in names if name not in told]
        assert not missing, f"{flag}: {missing} not in --help"


def test_settings_that_are_here_are_told_by_conf(client, worker):
    own = client.app.control.inspect(timeout=SOON, destination=[worker]).conf()[worker]
    here = [name for name in parity.settings() if parity.verdict("settings", name)[0] == "yes" and not name.startswith("beat_")]
    assert len(here) > 25 and not [name for name in here if name not in own]


def test_commands_that_are_here_are_known(client, worker):
    for name in parity.commands():
        if name in ("shutdown", "pool_restart"):
            continue
        reply = client.app.control.broadcast(name, destination=[worker], reply=True, timeout=SOON,
                                             arguments={"surplus-only-for-the-check": 1})
        assert "KeyError" not in json.dumps(reply[0][worker]), name
