"""Chaos: see README.md beside this file."""
import argparse
import sys
import tempfile
import time

import cluster
import scenarios


def main():
    parser = argparse.ArgumentParser(prog="python3 tests/chaos", description="What production does to workers.")
    parser.add_argument("scenario", nargs="*", help=", ".join(scenarios.ALL))
    parser.add_argument("--worker", help="command of a worker with Celery's fixture tasks (conformance-worker)")
    parser.add_argument("--peer", action="store_true", help="Python's Celery with the same tasks instead")
    parser.add_argument("--tasks", type=int, default=2000, help="tasks of a scenario")
    parser.add_argument("--kills", type=int, default=8, help="kills, restarts or stops of a scenario")
    parser.add_argument("--seed", type=int, default=1, help="where and when it strikes")
    options = parser.parse_args()
    if bool(options.worker) == options.peer:
        parser.error("give either --worker or --peer")
    unknown = set(options.scenario) - set(scenarios.ALL)
    if unknown:
        parser.error(f"no scenario: {', '.join(sorted(unknown))}")
    failed = []
    for name in options.scenario or scenarios.ALL:
        with tempfile.TemporaryDirectory(prefix="petiole-chaos-", ignore_cleanup_errors=True) as folder:
            with cluster.Cluster(folder, options.worker, options.seed) as house:
                began = time.monotonic()
                held, told = scenarios.ALL[name](house, options)
                print(f"{'ok  ' if held else 'FAIL'} {name:11} {told}  [{time.monotonic() - began:.0f} s]", flush=True)
                if not held:
                    failed.append(name)
                    house.show_logs()
    print("chaos: " + (f"failed {' '.join(failed)}" if failed else "every promise held"))
    sys.exit(bool(failed))


main()
