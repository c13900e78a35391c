"""The tables."""
from statistics import median

LIMIT = 'Redis limit'
# Of these more is better; of the others less.
HIGHER = {'rate', 'of the ideal'}
ORDER = ['petiole', 'celery', 'rusty-celery', LIMIT]


def medians(runs):
    """{(scenario, engine): [figures]} → the same with the median of each figure."""
    return {
        key: {name: median(run[name] for run in some if name in run) for name in {name for run in some for name in run}}
        for key, some in runs.items() if some
    }


def number(value):
    if value is None:
        return ''
    if abs(value) >= 100:
        return f'{value:,.0f}'
    return f'{value:.3g}'


def ratio(name, mine, other):
    """How many times better, whatever the unit."""
    if not mine or not other:
        return ''
    times = mine / other if name in HIGHER else other / mine
    return f'{times:.2f}' if times < 10 else f'{times:.0f}'


def comparison(scenarios, figures):
    lines = ['| what | unit | Petiole | Python Celery | rusty-celery | Redis limit | × Celery | × rusty-celery | of the limit |',
             '|---|---|---|---|---|---|---|---|---|']
    for scenario in scenarios:
        names = {name for engine in ORDER for name in figures.get((scenario.name, engine), {})}
        shown = [scenario.headline] + sorted(
            names - {scenario.headline, 'rate', 'worker µs', 'redis µs', 'commands', 'bytes'})
        for name in shown:
            values = [figures.get((scenario.name, engine), {}).get(name) for engine in ORDER]
            mine, celery, rusty, limit = values
            share = ratio(name, mine, limit)
            lines.append('| ' + ' | '.join([
                scenario.name, 'tasks/s' if name == 'rate' else name, *map(number, values), ratio(name, mine, celery),
                ratio(name, mine, rusty), f'{float(share) * 100:.0f} %' if share else '']) + ' |')
    return '\n'.join(lines)


def costs(scenarios, figures):
    lines = ['| what, a task | engine | worker µs | Redis µs | Redis commands | bytes to and from Redis |', '|---|---|---|---|---|---|']
    for scenario in scenarios:
        for engine in ORDER:
            one = figures.get((scenario.name, engine), {})
            if 'redis µs' in one:
                values = [number(one.get(name)) for name in ('worker µs', 'redis µs', 'commands', 'bytes')]
                lines.append('| ' + ' | '.join([scenario.name, engine, *values]) + ' |')
    return '\n'.join(lines)
