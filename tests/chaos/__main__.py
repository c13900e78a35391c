"""Chaos: see README.md beside this file."""
import argparse
import concurrent.futures
import subprocess
import sys
import tempfile
import time

import cluster
import masses
import outages
import scenarios
import service
import times

ALL = {**scenarios.ALL, **times.ALL, **outages.ALL, **masses.ALL, **service.ALL}


def main():
    parser = argparse.ArgumentParser(prog="python3 tests/chaos", description="What production does to workers.")
    parser.add_argument("scenario", nargs="*", help=", ".join(ALL))
    parser.add_argument("--worker", help="command of a worker with Celery's fixture tasks (conformance-worker)")
    parser.add_argument("--peer", action="store_true", help="Python's Celery with the same tasks instead")
    parser.add_argument("--programs", help="the folder of the programs api and worker, for the scenarios of the service")
    parser.add_argument("--tasks", type=int, default=2000, help="tasks of a scenario")
    parser.add_argument("--kills", type=int, default=8, help="kills, restarts or stops of a scenario")
    parser.add_argument("--seed", type=int, default=1, help="where and when it strikes")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, from --seed on")
    parser.add_argument("--long", action="store_true", help="a million instead of thousands, where a scenario is about many")
    parser.add_argument("--jobs", type=int, default=1, help="so many scenarios at a time: most of them wait most of the time")
    options = parser.parse_args()
    if bool(options.worker) == options.peer:
        parser.error("give either --worker or --peer")
    unknown = set(options.scenario) - set(ALL)
    if unknown:
        parser.error(f"no scenario: {', '.join(sorted(unknown))}")
    chosen = options.scenario or [name for name in ALL if options.programs or name not in service.ALL]
    failed = side_by_side(chosen, options) if options.jobs > 1 else one_by_one(chosen, options)
    print("chaos: " + (f"failed {' '.join(failed)}" if failed else "every promise held"))
    sys.exit(bool(failed))


def side_by_side(chosen, options):
    """Each in a process of its own; what it says is shown when it has ended."""
    given = sys.argv[1:]
    for name in options.scenario:
        given.remove(name)

    def run(name):
        return subprocess.run([sys.executable, sys.argv[0], *given, "--jobs", "1", name], capture_output=True, text=True)
    failed = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        running = {pool.submit(run, name): name for name in chosen}
        for one in concurrent.futures.as_completed(running):
            done = one.result()
            lines = done.stdout.splitlines()
            # The last one is for all of them.
            print("\n".join(lines[:-1]), done.stderr, sep="\n" if done.stderr else "", flush=True)
            if done.returncode:
                failed.append(running[one])
    return failed


def one_by_one(chosen, options):
    failed, first = [], options.seed
    for name in chosen:
        for seed in range(first, first + options.seeds):
            options.seed = seed
            with tempfile.TemporaryDirectory(prefix="petiole-chaos-", ignore_cleanup_errors=True) as folder:
                with cluster.Cluster(folder, options.worker, options.seed) as house:
                    began = time.monotonic()
                    try:
                        held, told = ALL[name](house, options)
                    except Exception as error:  # whatever it is, the others are to run
                        held, told = False, f"{type(error).__name__}: {error}"
                    of_seed = f"seed {seed}, " if options.seeds > 1 else ""
                    print(f"{'ok  ' if held else 'FAIL'} {name:14} {told}  [{of_seed}{time.monotonic() - began:.0f} s]", flush=True)
                    if not held:
                        failed.append(name)
                        house.show_logs()
    return failed


main()
