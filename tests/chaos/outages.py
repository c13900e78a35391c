"""What happens to Redis, and to the way there."""
import os
import signal
import subprocess
import threading
import time

import redis as client

from cluster import wait
from proxy import Proxy
from scenarios import HELD, books

LATE = {"TASK_ACKS_LATE": 1}
# Redis usable again → consuming again.
SOON = 5


def workers(house, *names, **settings):
    for name in names:
        house.start(name, **{**LATE, **settings})
    house.ready(*names)


def consuming_again(house, before):
    """Seconds until more tasks have run than before."""
    began = time.monotonic()
    wait("they consume again", lambda: len(house.runs()) > before or not house.redis.llen("celery"), 40)
    return time.monotonic() - began


def answers(house, *names):
    """Seconds until the workers answer."""
    began = time.monotonic()
    house.ready(*names)
    return time.monotonic() - began


def redis(house, options):
    workers(house, "a", "b")
    slowest, turns = 0.0, options.kills
    share = options.tasks // turns
    for turn in range(turns):
        house.send(share, first=turn * share)
        time.sleep(house.random.uniform(0, share / 4000))
        house.server.send_signal(signal.SIGKILL if turn % 2 else signal.SIGTERM)
        house.server.wait()
        time.sleep(house.random.uniform(0.1, 1.5))
        before = len(house.runs())
        house.start_redis()
        slowest = max(slowest, consuming_again(house, before))
    pinged = answers(house, "a", "b")
    emptied = house.drained(60)
    held, told = books(house, share * turns, may_double=HELD * turns)
    return held and emptied and slowest <= SOON, (
        f"{told}; {turns} restarts, consuming again within {slowest:.1f} s, answering after {pinged:.1f} s")


def cut(house, options):
    workers(house, "a", "b")
    slowest, share = 0.0, options.tasks // options.kills
    for turn in range(options.kills):
        house.send(share, first=turn * share)
        time.sleep(house.random.uniform(0, share / 8000))
        for kind in ("normal", "pubsub"):
            house.redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        slowest = max(slowest, consuming_again(house, len(house.runs())))
    pinged = answers(house, "a", "b")
    emptied = house.drained(60)
    held, told = books(house, share * options.kills)
    return held and emptied and slowest <= SOON, (
        f"{told}; {options.kills} times all connections cut, consuming again within {slowest:.1f} s, answering after {pinged:.1f} s")


def still(house, options, seconds, stop, go):
    """Redis answers nobody for some seconds, with long tasks in hand and others waiting."""
    workers(house, "a", "b")
    long = seconds + 8
    house.send(8, "sleeping", lambda n: [long])
    wait("they run", lambda: house.redis.hlen("unacked") == 8)
    house.send(options.tasks)
    # Nothing of these can run before the long ones end, for they have all slots.
    cpu = house.cpu("a") + house.cpu("b")
    stop()
    time.sleep(seconds)
    go()
    busy = (house.cpu("a") + house.cpu("b") - cpu) / seconds
    pinged = answers(house, "a", "b")
    before = len(house.runs())
    wait("they consume again", lambda: len(house.runs()) > before, 60)
    emptied = house.drained(60)
    held, told = books(house, options.tasks)
    totals = house.app.control.inspect(timeout=2).stats()
    slept = sum(stats["total"].get("t.integration.tasks.sleeping", 0) for stats in totals.values())
    return held and emptied and slept == 8 and pinged <= SOON and busy < 0.5, (
        f"{told}; {seconds} s without an answer: 8 long tasks in hand ran {slept} times, answering {pinged:.1f} s after, "
        f"{busy * 100:.0f} % of a core meanwhile")


def pause(house, options):
    """CLIENT PAUSE."""
    seconds = 10
    return still(house, options, seconds, lambda: house.redis.execute_command("CLIENT", "PAUSE", seconds * 1000, "ALL"),
                 lambda: None)


def frozen(house, options):
    """SIGSTOP, for longer than a worker's claims hold: those who could not renew them are not dead."""
    return still(house, options, 25, lambda: house.server.send_signal(signal.SIGSTOP),
                 lambda: house.server.send_signal(signal.SIGCONT))


def full(house, options):
    """maxmemory is reached, with noeviction: nothing can be written for a while."""
    workers(house, "a", "b")
    quarter = options.tasks // 4
    house.send(quarter, ignore_result=False)
    # Long ones are fetched in another way.
    house.send(options.tasks // 2 - quarter, first=quarter, ignore_result=False, argsrepr="x" * 16_000)
    house.redis.config_set("maxmemory-policy", "noeviction")
    house.redis.config_set("maxmemory", house.redis.info("memory")["used_memory"])
    before = len(house.runs())
    time.sleep(6)
    after = len(house.runs())
    cpu = house.cpu("a")
    time.sleep(1)
    busy = house.cpu("a") - cpu
    alive = all(house.workers[name].poll() is None for name in "ab")
    house.redis.config_set("maxmemory", 0)
    house.send(options.tasks // 2, first=options.tasks // 2, ignore_result=False)
    emptied = house.drained(60)
    pinged = answers(house, "a", "b")
    held, told = books(house, options.tasks // 2 * 2)
    stored = sum(1 for _ in house.redis.scan_iter("celery-task-meta-*", 5000))
    return held and emptied and alive and stored == options.tasks // 2 * 2, (
        f"{told}; {stored} results stored; no memory for 7 s ({after - before} ran in that time, {busy * 100:.0f} % of a core), "
        f"answering {pinged:.1f} s after")


def faulty(house, options):
    """The way to Redis stalls, is reset, is closed on one side."""
    way = Proxy(house.port, options.seed)
    url = f"redis://127.0.0.1:{way.port}/0"
    try:
        workers(house, "a", "b", BROKER_URL=url, RESULT_BACKEND=url)
        share = options.tasks // options.kills
        for turn in range(options.kills):
            house.send(share, first=turn * share, ignore_result=False)
            time.sleep(house.random.uniform(0, share / 4000))
            way.strike()
            time.sleep(house.random.uniform(0, 1))
        began = time.monotonic()
        emptied = house.drained(60)
        taken = time.monotonic() - began
        pinged = answers(house, "a", "b")
        held, told = books(house, share * options.kills)
        kinds = ", ".join(f"{count} × {kind}" for kind, count in way.kinds.items())
        return held and emptied, f"{told}; {kinds}; done {taken:.1f} s after the last, answering {pinged:.1f} s after that"
    finally:
        way.close()


def sentinel(house, options):
    """The master dies and a replica takes over, by Sentinel: one master, one replica, three Sentinels."""
    processes, ports = {}, [house.port, house.free_port()]
    replica = start_replica(house, ports)
    processes[ports[1]] = replica
    watchers = []
    sentinels = [house.free_port() for _ in range(3)]
    for at, port in enumerate(sentinels):
        path = os.path.join(house.folder, f"sentinel{at}.conf")
        with open(path, "w") as file:
            file.write(f"port {port}\nbind 127.0.0.1\ndir {house.folder}\nlogfile sentinel{at}.log\n"
                       f"sentinel monitor chaos 127.0.0.1 {house.port} 2\nsentinel down-after-milliseconds chaos 1000\n"
                       "sentinel failover-timeout chaos 5000\nsentinel parallel-syncs chaos 1\n")
        watchers.append(subprocess.Popen(["redis-server", path, "--sentinel"]))
    processes[ports[0]] = house.server
    try:
        known = client.Sentinel([("127.0.0.1", port) for port in sentinels])
        look = client.Redis(port=sentinels[0], decode_responses=True)
        wait("the Sentinels know one another and the replica", lambda: sighted(look), 40)
        url = ";".join(f"sentinel://127.0.0.1:{port}" for port in sentinels)
        settings = {"BROKER_URL": url, "RESULT_BACKEND": url, "BROKER_TRANSPORT_OPTIONS": '{"master_name": "chaos"}'}
        workers(house, "a", "b", **settings)
        share, slowest, elections = options.tasks // 2, 0.0, 0.0
        for turn in range(2):
            house.send(share, first=turn * share)
            # What nobody else has would be gone with the master: that is Redis, and not what is tested.
            house.redis.execute_command("WAIT", 1, 5000)
            old = known.discover_master("chaos")
            processes[old[1]].kill()
            processes[old[1]].wait()
            began = time.monotonic()
            wait("another one is the master", lambda: master(known) not in (old, None), 60)
            elections = max(elections, time.monotonic() - began)
            house.port = known.discover_master("chaos")[1]
            house.connect()
            slowest = max(slowest, consuming_again(house, len(house.runs())))
            emptied = house.drained(60)
            processes[old[1]] = start_replica(house, [house.port, old[1]])
            wait("it is a replica", lambda: sighted(look), 60)
        pinged = answers(house, "a", "b")
        held, told = books(house, share * 2, may_double=HELD * 4)
        return held and emptied and slowest <= SOON, (
            f"{told}; 2 failovers of {elections:.1f} s at most, consuming again within {slowest:.1f} s of it, "
            f"answering after {pinged:.1f} s")
    finally:
        for process in [*processes.values(), *watchers]:
            process.kill()
            process.wait()


def start_replica(house, ports):
    folder = os.path.join(house.folder, f"replica{ports[1]}")
    os.makedirs(folder, exist_ok=True)
    return subprocess.Popen(
        ["redis-server", "--port", str(ports[1]), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "yes",
         "--logfile", "redis.log", "--replicaof", "127.0.0.1", str(ports[0]), "--repl-diskless-sync-delay", "0"])


def master(known):
    """Where the Sentinels say the master is; none while they elect."""
    try:
        return known.discover_master("chaos")
    except client.exceptions.RedisError:
        return None


def sighted(look):
    """Do the Sentinels know two others, and a replica that is in step?"""
    try:
        master = look.execute_command("SENTINEL", "MASTER", "chaos")
        fields = master if isinstance(master, dict) else dict(zip(master[::2], master[1::2]))
        replicas = look.execute_command("SENTINEL", "REPLICAS", "chaos")
        steady = [dict(zip(r[::2], r[1::2])) if isinstance(r, list) else r for r in replicas]
        return int(fields["num-other-sentinels"]) == 2 and any(
            r["master-link-status"] == "ok" and "down" not in r["flags"] for r in steady)
    except (client.exceptions.RedisError, KeyError):
        return False


ALL = {scenario.__name__: scenario for scenario in (redis, cut, pause, frozen, full, faulty, sentinel)}
