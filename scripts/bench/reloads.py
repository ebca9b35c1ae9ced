"""Proxies that are replaced while they run: how each is started, how it is asked, and when it is done.

Each is asked as its manual says: HAProxy's master with SIGUSR2, and listening sockets handed over (`expose-fd
listeners`); nginx's master with SIGHUP for a new configuration, or with USR2, WINCH and QUIT for a new binary.
"""

import contextlib
import dataclasses
import glob
import os
import re
import shutil
import signal
import time
import typing

from . import keeper, machine, servers

# Until a successor listens and nobody of before does, and of nginx until there is one.
RELOAD_LIMIT_SECONDS, SUCCESSOR_LIMIT_SECONDS = 10.0, 3.0
# A proxy that has ignored so many requests in a row is not asked again.
IGNORED_LIMIT = 3
POLL_SECONDS = 0.005


class Ignored(Exception):
    """Why a proxy was not replaced."""


def is_alive(pid):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    return False


def listening_inodes(port):
    found = set()
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(path) as file:
            lines = [line.split() for line in file]
            found |= {line[9] for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "0A"}
    return {f"socket:[{inode}]" for inode in found}


def holds(pid, inodes):
    """Whether a process has one of these sockets."""
    for path in glob.iglob(f"/proc/{pid}/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(path) in inodes:
                return True
    return False


def memory_bytes(pids):
    """Their proportional share of memory."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:
            total += 1024 * int(re.search(r"^Pss:\s+(\d+)", file.read(), re.M)[1])
    return total


def wait(condition, seconds, why):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Ignored(why)
        time.sleep(POLL_SECONDS)


# How each is asked. They return the process that stays, if one is meant to.

def ask_acceptor(proxy):
    os.kill(proxy.newest_listener(), signal.SIGUSR2)


def ask_haproxy(proxy):
    master = proxy.first
    os.kill(master, signal.SIGUSR2)
    return master


def ask_nginx(proxy):
    master = proxy.told_pid()
    os.kill(master, signal.SIGHUP)
    return master


def ask_nginx_binary(proxy):
    master = proxy.told_pid()
    os.kill(master, signal.SIGUSR2)
    wait(lambda: proxy.told_pid() not in (None, master), SUCCESSOR_LIMIT_SECONDS, "USR2 was ignored")
    successor = proxy.told_pid()
    wait(lambda: machine.family(successor)[1:], SUCCESSOR_LIMIT_SECONDS, "the successor has no workers")
    os.kill(master, signal.SIGWINCH)
    os.kill(master, signal.SIGQUIT)


# How each is started: from a servers.Start to a command line.

def start_haproxy(name, option=""):
    return lambda start: [*servers.program(name), "-W", "-S", f"{start.folder}/master.sock", "-f", servers.filled(
        "haproxy-reload.cfg", start.folder, PORT=start.port, BACKEND=start.backend, WORKERS=start.workers,
        OPTION=option)]


def start_nginx(name, option=""):
    module = f"load_module {servers.STREAM_MODULE};" if name == "system nginx" else ""
    return lambda start: [*servers.program(name), "-e", f"{start.folder}/error.log", "-c", servers.filled(
        "nginx-reload.conf", start.folder, PORT=start.port, BACKEND=start.backend, WORKERS=start.workers,
        MODULE=module, OPTION=option)]


@dataclasses.dataclass(frozen=True)
class Row:
    """A proxy and a way to replace it. `version` is the name under which peers.versions() has it."""

    version: str
    start: typing.Callable
    ask: typing.Callable


def rows(stop_seconds):
    """All of them. Peers leave connections to their old processes; "and stop" is the same with the end of these
    after `stop_seconds`, as their settings have it."""
    found = {"acceptor upgrade": Row("commit", servers.proxy(), ask_acceptor)}
    stop = (f"hard-stop-after {stop_seconds}s", f"worker_shutdown_timeout {stop_seconds}s;")
    settings = {"": ("", ""), " and stop": stop}
    for system in ("", "system "):
        for suffix, (haproxy, nginx) in settings.items():
            name = f"{system}haproxy"
            found[f"{name} reload{suffix}"] = Row(name, start_haproxy(name, haproxy), ask_haproxy)
        for suffix, (haproxy, nginx) in settings.items():
            name = f"{system}nginx"
            found[f"{name} reload{suffix}"] = Row(name, start_nginx(name, nginx), ask_nginx)
            found[f"{name} upgrade{suffix}"] = Row(name, start_nginx(name, nginx), ask_nginx_binary)
    return found


class Proxy(servers.Running):
    """One of the rows, behind a keeper, before a backend that echoes."""

    def __init__(self, name, row, layout):
        super().__init__(name, layout, backend="inline")
        self.row = row
        # Old processes that have been seen without the listening sockets: not looked through again.
        self.let_go = set()

    def command(self, behind):
        start = servers.Start(self.port, self.folder.name, behind or "127.0.0.1:1", self.layout.workers)
        words = self.row.start(start)
        variables, program = servers.split(words)
        # With its path: a program that executes itself again may not look for it.
        program[0] = shutil.which(program[0]) or program[0]
        told = [f"{name}={value}" for name, value in variables.items()]
        return {}, keeper.command(self.cpus, os.path.join(self.folder.name, "log"), [*told, *program])

    def __enter__(self):
        super().__enter__()
        self.first = self.pids()[0]
        return self

    def pids(self):
        """All processes of the proxy."""
        return [pid for pid in machine.family(self.process.pid)[1:] if is_alive(pid)]

    def told_pid(self):
        """What nginx's file says, which is not there for a moment when it is renamed."""
        with contextlib.suppress(OSError, ValueError), open(os.path.join(self.folder.name, "nginx.pid")) as file:
            return int(file.read())
        return None

    def newest_listener(self):
        inodes = listening_inodes(self.port)
        found = [pid for pid in self.pids() if holds(pid, inodes)]
        if not found:
            raise Ignored("nobody listens")
        return max(found, key=began)

    def replace(self):
        """Asks for a replacement and waits until a successor has the listening sockets and nobody of before has, but
        who stays. How many seconds it took, and who is old now."""
        before, start = self.pids(), time.monotonic()
        stays = self.row.ask(self)
        old = [pid for pid in before if pid != stays]
        left, fresh = set(old) - self.let_go, set()

        def done():
            inodes = listening_inodes(self.port)
            if not fresh:
                fresh.update(pid for pid in self.pids() if pid not in before and holds(pid, inodes))
            if fresh:
                self.let_go.update(pid for pid in left if not (is_alive(pid) and holds(pid, inodes)))
            return fresh and left <= self.let_go

        wait(done, RELOAD_LIMIT_SECONDS, "who listened before still does" if fresh else "there is no successor")
        return time.monotonic() - start, old


def began(pid):
    """When a process began, in ticks."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
        return int(file.read().rsplit(")", 1)[1].split()[19])
    return 0


def missing(row):
    """Why a row cannot run here, or None."""
    if row.version == "system nginx" and not os.path.exists(servers.STREAM_MODULE):
        return f"{servers.STREAM_MODULE} is not there: libnginx-mod-stream has it"
    return servers.absent(row.start)
