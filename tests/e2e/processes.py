"""What can be learned of this machine's processes from /proc."""
import os
import signal

from waiting import wait_until


def _read(pid, name):
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""


def _link(pid, name):
    try:
        return os.readlink(f"/proc/{pid}/{name}")
    except OSError:
        return ""


def alive(pid):
    """Whether the process exists and is more than a zombie."""
    stat = _read(pid, "stat").rsplit(b") ", 1)
    return len(stat) == 2 and stat[1][:1] not in (b"Z", b"X")


def listener(port):
    """Id of the process that listens on this TCP port of the machine, or None."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as file:
                rows = file.read().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            columns = row.split()
            if columns[3] == "0A" and int(columns[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(f"socket:[{columns[9]}]")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        if any(_link(pid, f"fd/{d}") in inodes for d in descriptors):
            return int(pid)
    return None


def of_stack(marker, folder):
    """[(pid, command line)] of what carries `marker` in its environment or runs in or out of `folder`."""
    inside = os.path.realpath(folder) + "/"
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid() or not alive(name):
            continue
        command = _read(name, "cmdline")
        at_home = any((_link(name, what) + "/").startswith(inside) for what in ("exe", "cwd"))
        if at_home or inside.encode() in command or marker.encode() in _read(name, "environ").split(b"\0"):
            found.append((int(name), command.replace(b"\0", b" ").decode("utf-8", "replace")[:120]))
    return found


def end(processes):
    """Ends processes that were left behind, each by its id: TERM, then KILL."""
    for number, seconds in ((signal.SIGTERM, 8), (signal.SIGKILL, 5)):
        for pid, _ in processes:
            try:
                os.kill(pid, number)
            except OSError:
                pass
        try:
            wait_until(lambda: not any(alive(pid) for pid, _ in processes), "the processes end", seconds)
            return
        except AssertionError:
            continue
