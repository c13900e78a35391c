"""Runs the scenarios, the engines in turn, and prints the tables."""
import os
import sys
import time

from .engines import engines
from .report import LIMIT, comparison, costs, medians
from .scenarios import QUICK, SCENARIOS


def main():
    wanted = sys.argv[1:]
    scenarios = [one for one in SCENARIOS if not wanted or any(one.name.startswith(name) for name in wanted)]
    if not scenarios:
        names = '\n  '.join(one.name for one in SCENARIOS)
        sys.exit(f'no scenario begins with {" or ".join(wanted)}; there are:\n  {names}')
    repetitions = int(os.environ.get('REPETITIONS') or (1 if QUICK else 3))
    runs, failed = {}, []
    for repetition in range(repetitions):
        for scenario in scenarios:
            for engine in [*engines(), None]:
                if not scenario.fits(engine):
                    continue
                name, begun = engine.name if engine else LIMIT, time.monotonic()
                try:
                    figures = scenario.run(engine)
                except Exception as error:  # what one engine cannot do, the others may
                    failed.append(f'{scenario.name}, {name}: {error}')
                    print(failed[-1], file=sys.stderr)
                    continue
                runs.setdefault((scenario.name, name), []).append(figures)
                headline = figures[scenario.headline]
                print(f'{repetition + 1}/{repetitions} {scenario.name}: {name} {headline:,.3g} {scenario.headline}'
                      f' ({time.monotonic() - begun:.0f} s)', file=sys.stderr)
    figures = medians(runs)
    print(f'Medians of {repetitions}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the end.\n')
    print(comparison(scenarios, figures) + '\n\n' + costs(scenarios, figures))
    if failed:
        print('\nFailed:\n' + '\n'.join(f'- {line}' for line in failed))
    # A peer may fail, as it does outside; Petiole may not.
    sys.exit(any(', petiole: ' in line for line in failed))


main()
