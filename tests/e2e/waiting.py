"""Waiting: polls with a deadline instead of fixed sleeps."""
import os
import time

# Factor for every deadline, for slow machines.
PATIENCE = float(os.environ.get("E2E_PATIENCE") or 1)

# Seconds that an ordinary answer of the stack may take.
SOON = 20 * PATIENCE


def wait_until(probe, what, seconds=20, every=0.1):
    """Calls `probe` until it gives something true, and gives that. `what` says what was waited for."""
    deadline = time.monotonic() + seconds * PATIENCE
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            text = what() if callable(what) else what
            raise AssertionError(f"not within {seconds * PATIENCE:.0f} s: {text}")
        time.sleep(every)
