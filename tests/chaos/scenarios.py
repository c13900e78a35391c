"""What happens, and what must hold. Each gives whether it held, and its figures."""
import signal
import time

import celery

from cluster import TASKS, wait


# Messages that a worker may have run and not acknowledged: twice what it fetches ahead of quick tasks.
HELD = 64


def books(house, sent, may_double=0):
    """Sent, finished, twice, lost."""
    runs = house.runs()
    lost, doubled = sent - len(runs), sum(1 for times in runs.values() if times > 1)
    return lost == 0 and doubled <= may_double, f"sent {sent}, finished {len(runs)}, lost {lost}, more than once {doubled}"


def strike(house, options, load, **settings):
    """Gives three workers a load and kills one of them in the middle of it, again and again. Gives how many messages they had
    begun and not acknowledged at the kills, at most: twice what they fetch ahead of quick tasks (WORKER_LOOKAHEAD, 32), all of
    which may have ended just before."""
    names = ["a", "b", "c"]
    for name in names:
        house.start(name, **settings)
    house.ready(*names)
    share = -(-options.tasks // options.kills)
    for turn in range(options.kills):
        load(turn * share, min(share, options.tasks - turn * share))
        time.sleep(house.random.uniform(0, share / 4000))
        victim = house.random.choice(names)
        house.kill(victim)
        house.start(victim, **settings)
        time.sleep(house.random.uniform(0, 0.3))
    return HELD * options.kills


def slow(n):
    """A task that takes a little: a chain's first part sleeps, the second writes."""
    return [0.01 + (n % 7) / 200]


def kill(house, options):
    running = strike(house, options, lambda first, count: house.send(count, first=first),
                     TASK_ACKS_LATE=1, VISIBILITY_TIMEOUT=30)
    emptied = house.drained(90)
    held, told = books(house, options.tasks, may_double=running)
    return held and emptied, f"{told}; {options.kills} kills"


def kill_long(house, options):
    """Messages of 16 kB and more are fetched in another way; of those that come between them some are short."""
    def load(first, count):
        house.send(count // 2, first=first, argsrepr="x" * 16_000)
        house.send(count - count // 2, first=first + count // 2)

    running = strike(house, options, load, TASK_ACKS_LATE=1, VISIBILITY_TIMEOUT=30)
    emptied = house.drained(90)
    held, told = books(house, options.tasks, may_double=running)
    return held and emptied, f"{told}; {options.kills} kills"


def kill_early(house, options):
    running = strike(house, options, lambda first, count: house.send(count, first=first),
                     TASK_ACKS_LATE=0, VISIBILITY_TIMEOUT=30)
    emptied = house.drained(90)
    _, told = books(house, options.tasks)
    lost = options.tasks - len(house.runs())
    return lost <= running and emptied, f"{told}; {options.kills} kills"


def kill_idle(house, options):
    """Workers that wait: messages come one by one, and just when one has come a worker is killed, or all connections are cut."""
    names, settings = ["a", "b", "c"], {"TASK_ACKS_LATE": 1, "VISIBILITY_TIMEOUT": 30}
    for name in names:
        house.start(name, **settings)
    house.ready(*names)
    share = -(-options.tasks // options.kills)
    for n in range(options.tasks):
        house.send(1, first=n)
        if n % share == share - 1:
            if house.random.random() < 0.3:
                house.redis.client_kill_filter(_type="normal", skipme=True)
            else:
                victim = house.random.choice(names)
                house.kill(victim)
                house.start(victim, **settings)
        elif house.random.random() < 0.7:
            time.sleep(house.random.uniform(0, 0.006))
    emptied = house.drained(90)
    # What ran when it struck, in each of a worker's slots; when connections are cut, in those of all.
    held, told = books(house, options.tasks, may_double=12 * options.kills)
    return held and emptied, f"{told}; {options.kills} kills and cuts"


def kill_confirmed(house, options):
    running = strike(house, options, lambda first, count: house.send(count, first=first),
                     TASK_ACKS_LATE=0, TASK_ACKS_CONFIRMED=1, VISIBILITY_TIMEOUT=30)
    emptied = house.drained(90)
    _, told = books(house, options.tasks)
    runs = house.runs()
    once = all(times == 1 for times in runs.values())
    return options.tasks - len(runs) <= running and once and emptied, f"{told}; {options.kills} kills"


def chain(house, options):
    sleeping = lambda n: house.app.signature(TASKS + "sleeping", args=slow(n), immutable=True)  # noqa: E731
    echo = lambda n: house.app.signature(  # noqa: E731
        TASKS + "write_to_file_and_return_int", args=house.entry(n), immutable=True)

    def load(first, count):
        for n in range(first, first + count):
            celery.chain(sleeping(n), echo(n), app=house.app).apply_async(ignore_result=True)

    running = strike(house, options, load, TASK_ACKS_LATE=1, VISIBILITY_TIMEOUT=30)
    emptied = house.drained(90)
    held, told = books(house, options.tasks, may_double=running)
    return held and emptied, f"chains: {told}; {options.kills} kills"


def stall(house, options):
    settings = {"TASK_ACKS_LATE": 1}
    house.start("a", **settings)
    house.ready("a")
    count = 8
    house.send(count, "sleeping", lambda n: [1.0])
    wait("it holds them", lambda: house.redis.hlen("unacked") == count)
    house.signal(house.workers["a"], signal.SIGSTOP)
    house.start("b", **settings)
    began = time.monotonic()
    emptied = house.drained(60)
    taken = time.monotonic() - began
    house.send(20)
    wait("the other one works", lambda: len(house.runs()) == 20)
    house.signal(house.workers["a"], signal.SIGCONT)
    house.ready("a", "b")
    time.sleep(3)
    processed = house.app.control.inspect(timeout=2).stats()
    totals = {node: sum(stats["total"].values()) for node, stats in (processed or {}).items()}
    held, told = books(house, 20)
    with open(f"{house.folder}/a.log") as log:
        noticed = log.read().count("another worker has")
    left = house.redis.hlen("unacked")
    return held and emptied and not left and noticed > 0, (
        f"taken over after {taken:.0f} s, {noticed} given up by the one that stalled, {left} left; {told}; ran {totals}")


def deploy(house, options):
    settings = {"TASK_ACKS_LATE": 1}
    for name in ("a", "b"):
        house.start(name, **settings)
    house.ready("a", "b")
    codes, share = [], options.tasks // options.kills
    for turn in range(options.kills):
        house.send(share, first=turn * share)
        time.sleep(house.random.uniform(0, share / 4000))
        name = "ab"[turn % 2]
        codes.append(house.terminate(name))
        house.start(name, **settings)
    emptied = house.drained(60)
    held, told = books(house, share * options.kills)
    return held and emptied and not any(codes), f"{told}; {len(codes)} stops, exit codes {sorted(set(codes))}"


def poison(house, options):
    settings = {"TASK_ACKS_LATE": 1, "TASK_MAX_REDELIVERIES": 2}
    house.start("a", **settings)
    house.ready("a")
    for text in ("garbage", '{"properties": {}}'):
        house.redis.lpush("celery", text)
    house.send(50, "no_such_task", lambda n: [n])
    house.send(20)
    wait("the others finish", lambda: len(house.runs()) == 20)
    # It runs whenever its worker is killed: each time it comes again.
    house.send(1, "sleeping", lambda n: [3600])
    deaths = 0
    while not any(letter.startswith("{") and "sleeping" in letter for letter in house.redis.hvals("petiole:dead:letters")):
        wait("the poison runs, or is given up", lambda: house.redis.hlen("unacked") or house.redis.llen("celery") == 0, 40)
        time.sleep(1)
        if not house.redis.hlen("unacked"):
            continue
        house.kill("a")
        deaths += 1
        if deaths > 5:
            return False, "the poison comes again and again"
        house.start("a", **settings)
        house.ready("a")
        wait("it comes again", lambda: house.redis.hlen("petiole:dead:letters") > 2 or int(
            next(iter(house.redis.hvals("petiole:redeliveries")), 0)) >= deaths, 40)
    house.send(20, first=100)
    wait("the worker lives on", lambda: len(house.runs()) == 40)
    dead = house.redis.hlen("petiole:dead:letters")
    return house.drained(20) and dead == 3, f"{deaths} deaths, then a dead letter; {dead} dead letters in all"


ALL = {scenario.__name__: scenario
       for scenario in (kill, kill_long, kill_idle, kill_early, kill_confirmed, chain, stall, deploy, poison)}
