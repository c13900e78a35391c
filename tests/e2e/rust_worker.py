"""A second Rust worker: the program and the settings of the stack's own, with other flags and settings."""
import contextlib
import os
import subprocess
import uuid

import pytest

from waiting import wait_until


def settings_of(pid):
    """The environment of a running process of this machine, or None."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            pairs = [pair.split(b"=", 1) for pair in file.read().split(b"\0") if b"=" in pair]
    except OSError:
        return None
    return {name.decode(): value.decode() for name, value in pairs}


@contextlib.contextmanager
def rust_worker(stack, client, log, *flags, **settings):
    """Starts one that consumes a queue of its own; gives (queue, node name, process)."""
    if stack.is_reference:
        pytest.skip("there is no Rust worker here")
    pid = client.worker()[1]["pid"]
    env, program = settings_of(pid), f"/proc/{pid}/exe"
    if env is None or not os.path.exists(program):
        pytest.skip("the stack's worker is no process of this machine")
    tag = uuid.uuid4().hex[:8]
    queue, name = settings.get("WORKER_QUEUES", f"e2e-rust-{tag}"), f"e2e-python-rust-{tag}@here"
    env.update(BROKER_URL=stack.broker_url, RESULT_BACKEND=stack.backend_url, WORKER_NAME=name, WORKER_QUEUES=queue)
    env.update(settings)
    env.pop("METRICS_PORT", None)
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [os.path.realpath(program), *flags], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env)
    try:
        def answers():
            assert process.poll() is None, log.read_text()
            return client.app.control.inspect(timeout=1, destination=[name]).ping()
        wait_until(answers, lambda: f"the Rust worker answers: {log.read_text()[-2000:]}", float(settings.get("E2E_WAIT", 60)))
        yield queue, name, process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
