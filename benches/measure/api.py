"""The API beside FastAPI with SQLAlchemy and Celery, under load by wrk; and its search beside PostgreSQL's own time."""
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from statistics import mean, median

import psycopg

from .messages import META, QUEUE
from .processes import HERE, Processes, own_environment, wait_for
from .server import Server, free_port

QUICK = os.environ.get('QUICK') == '1'
SECONDS = int(os.environ.get('SECONDS_EACH') or (2 if QUICK else 5))
REPETITIONS = int(os.environ.get('REPETITIONS') or (1 if QUICK else 3))
CONNECTIONS = int(os.environ.get('CONNECTIONS') or 32)
KEY = uuid.uuid4().hex
HEAD = {'Authorization': f'Bearer {KEY}', 'Content-Type': 'application/json'}
MS = {'us': 1e-3, 'ms': 1.0, 's': 1e3, 'm': 6e4}
# A stored result that is asked for again and again
TASK = str(uuid.uuid4())
TASK_BODY = json.dumps({'task': 'demo.add', 'args': [1, 2]})
EVENT_BODY = json.dumps({'type': 'text.extract', 'data': {'text': 'Pay 20 EUR by 2030-03-12.'}})
# Name, method, path, body
REQUESTS = {
    'tasks': ('POST', '/v1/tasks', TASK_BODY),
    'state': ('GET', f'/v1/tasks/{TASK}', None),
    'events': ('POST', '/v1/events', EVENT_BODY),
}
ENGINES = {
    'petiole': [os.environ.get('BENCH_API', '')],
    'fastapi': [sys.executable, '-m', 'uvicorn', 'fastapi_celery:api', '--host', '127.0.0.1', '--port', 'PORT', '--workers', '2',
                '--no-access-log', '--log-level', 'warning'],
}


class Database:
    """A database of one's own on the server of DATABASE_URL."""

    def __init__(self):
        self.name = f'bench_{uuid.uuid4().hex}'
        self.url = os.environ['DATABASE_URL'].rpartition('/')[0] + '/' + self.name

    def __enter__(self):
        self.ask(f'CREATE DATABASE {self.name}')
        return self

    def __exit__(self, *_):
        self.ask(f'DROP DATABASE {self.name} WITH (FORCE)')

    def ask(self, sql, url=None):
        with psycopg.connect(url or os.environ['DATABASE_URL'], autocommit=True) as connection:
            found = connection.execute(sql)
            return found.fetchone()[0] if found.description else None


class Api(Processes):
    """A server that answers."""

    def __init__(self, engine, server, database_url):
        self.port = free_port()
        command = [str(self.port) if word == 'PORT' else word for word in ENGINES[engine]]
        environment = own_environment() | {
            'BROKER_URL': server.url, 'RESULT_BACKEND': server.url, 'DATABASE_URL': database_url, 'API_KEYS': KEY,
            'API_HOST': '127.0.0.1', 'API_PORT': str(self.port), 'LOG_LEVEL': 'warn'}
        if engine == 'fastapi':
            subprocess.run([sys.executable, '-m', 'fastapi_celery'], env=environment, cwd=HERE, check=True)
        super().__init__(engine, command, server.folder.name, environment)

    def __enter__(self):
        try:
            wait_for(self.answers, 60, self)
        except BaseException:
            self.__exit__()
            raise
        return self

    def answers(self):
        try:
            # The tables must be there, too.
            return self.ask('GET', '/v1/events' if self.name == 'petiole' else '/health')[0] == 200
        except OSError:
            return False

    def ask(self, method, path, body=None, connection=None):
        asked = connection or http.client.HTTPConnection('127.0.0.1', self.port, timeout=30)
        asked.request(method, path, body, HEAD)
        answer = asked.getresponse()
        status, text = answer.status, answer.read()
        if connection is None:
            asked.close()
        return status, text

    def load(self, method, path, body):
        """Requests a second, and times in ms, under load."""
        script = [f'wrk.method = "{method}"'] + [f'wrk.headers["{name}"] = "{value}"' for name, value in HEAD.items()]
        if body:
            script.append(f'wrk.body = {json.dumps(body)}')
        with tempfile.NamedTemporaryFile('w', suffix='.lua') as file:
            file.write('\n'.join(script))
            file.flush()
            said = subprocess.run(
                ['wrk', '-t1', f'-c{CONNECTIONS}', f'-d{SECONDS}s', '--latency', '-s', file.name, f'http://127.0.0.1:{self.port}{path}'],
                capture_output=True, text=True, check=True, timeout=SECONDS + 60).stdout
        bad = re.search(r'Non-2xx or 3xx responses: \d+|Socket errors: .*', said)
        if bad:
            raise RuntimeError(bad.group(0))
        times = {part: float(value) * MS[unit] for part, value, unit in re.findall(r'(50|99)%\s+([\d.]+)(us|ms|s|m)\b', said)}
        return {
            'requests': int(re.search(r'(\d+) requests in', said).group(1)),
            'rate': float(re.search(r'Requests/sec:\s+([\d.]+)', said).group(1)), 'p50': times['50'], 'p99': times['99']}


def measure(engine, name):
    method, path, body = REQUESTS[name]
    with Server() as server, Database() as database, Api(engine, server, database.url) as api:
        meta = {'status': 'SUCCESS', 'result': 3, 'traceback': None, 'children': [], 'task_id': TASK,
                'date_done': '2026-01-01T00:00:00+00:00'}
        server.client.set(META + TASK, json.dumps(meta))
        status, text = api.ask(method, path, body)
        if status not in (200, 202):
            raise RuntimeError(f'answered {status}: {text[:200]}')
        before = api.cpu()
        figures = api.load(method, path, body)
        cpu, requests = api.cpu() - before, figures.pop('requests') + 1
        # What was accepted is there: in the queue, and in the database.
        if method == 'POST':
            wait_for(lambda: server.client.llen(QUEUE) >= requests, 120, api, 0.05)
        if name == 'events':
            table = 'events' if engine == 'petiole' else 'python_events'
            stored = database.ask(f'SELECT count(*) FROM {table}', database.url)
            if stored < requests:
                raise RuntimeError(f'{requests} were accepted and {stored} stored')
        return figures | {'µs': cpu / requests * 1e6}


def beside_fastapi(names):
    runs, failed = {}, []
    for repetition in range(REPETITIONS):
        for name in names:
            for engine in ENGINES:
                try:
                    figures = measure(engine, name)
                except Exception as error:  # what one cannot do, the other may
                    failed.append(f'{name}, {engine}: {error}')
                    print(failed[-1], file=sys.stderr)
                    continue
                runs.setdefault((name, engine), []).append(figures)
                print(f'{repetition + 1}/{REPETITIONS} {name}: {engine} {figures["rate"]:,.0f}/s', file=sys.stderr)
    middle = {key: {what: median(run[what] for run in some) for what in some[0]} for key, some in runs.items()}
    print('| request | | requests/s | p50, ms | p99, ms | server CPU, µs | × FastAPI |\n|---|---|---|---|---|---|---|')
    for (name, engine), figures in middle.items():
        other = middle.get((name, 'fastapi'), {}).get('rate')
        ratio = f'{figures["rate"] / other:.1f}' if other else ''
        print(f'| `{REQUESTS[name][0]} {REQUESTS[name][1].replace(TASK, "{id}")}` | {engine} | {figures["rate"]:,.0f} | '
              f'{figures["p50"]:.2f} | {figures["p99"]:.2f} | {figures["µs"]:.0f} | {ratio} |')
    return failed


def questions():
    lines = (HERE / 'retrieval' / 'queries.tsv').read_text().splitlines()
    return [line.split('\t')[1] for line in lines]


def search(url, log):
    """Of each way to search: how long the API takes, and how much of that is PostgreSQL's own."""
    name = url.rpartition('/')[2]
    with Server() as server:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE {name} SET log_min_duration_statement = 0')
            count = connection.execute('SELECT count(*) FROM chunks').fetchone()[0]
        print(f'\n| search over {count:,} passages | p50, ms | p95, ms | PostgreSQL\'s own, ms | above it |\n|---|---|---|---|---|')
        with Api('petiole', server, url) as api:
            connection = http.client.HTTPConnection('127.0.0.1', api.port, timeout=30)
            for mode in ('vector', 'keyword', 'hybrid'):
                times = []
                for round_ in range(6):
                    if round_ == 1:
                        # The first round warms what is kept.
                        times, start = [], log.stat().st_size
                    for question in questions():
                        body, begun = json.dumps({'query': question, 'mode': mode, 'top_k': 10}), time.perf_counter()
                        status, text = api.ask('POST', '/v1/search', body, connection)
                        times.append((time.perf_counter() - begun) * 1e3)
                        if status != 200 or (mode != 'keyword' and not json.loads(text)['hits']):
                            raise RuntimeError(f'answered {status}: {text[:200]}')
                time.sleep(0.5)
                own = sum(statements(log, start, name)) / len(times)
                times.sort()
                p50, p95 = times[len(times) // 2], times[len(times) * 95 // 100]
                print(f'| {mode} | {p50:.1f} | {p95:.1f} | {own:.1f} | {mean(times) - own:.1f} |')


def statements(log, start, database):
    """How long each statement about passages took PostgreSQL, of what was logged since."""
    with open(log, 'rb') as file:
        file.seek(start)
        entries = re.split(rb'^(?=\d{4}-\d\d-\d\d )', file.read(), flags=re.M)
    for entry in entries:
        took = re.search(rb'@' + database.encode() + rb' LOG:  duration: ([\d.]+) ms', entry)
        # Those of the relay, which looks at its outbox, are none of it.
        if took and b'outbox' not in entry:
            yield float(took.group(1))


def main():
    names = sys.argv[1:] or [*REQUESTS, 'search']
    unknown = [name for name in names if name not in [*REQUESTS, 'search']]
    if unknown:
        sys.exit(f'there is no {unknown[0]}; there are {", ".join(REQUESTS)} and search')
    loads = [name for name in names if name in REQUESTS]
    failed = beside_fastapi(loads) if loads else []
    if 'search' in names:
        said = subprocess.run([os.environ['BENCH_RETRIEVAL'], '--keep', '--database-url', os.environ['DATABASE_URL']],
                              cwd=HERE.parent, check=True, stdout=subprocess.PIPE, text=True).stdout
        print('\n' + said)
        search(re.search(r'^Kept: (.*)$', said, re.M).group(1), Path(os.environ['POSTGRES_LOG']))
    sys.exit(any(', petiole: ' in line for line in failed))


main()
