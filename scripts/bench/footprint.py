"""Memory, start and size of a server: what it costs before it has done anything."""

import json
import os
import re
import shutil
import socket
import subprocess
import time

from . import machine, page, process, servers, statistics

CONNECTIONS, STARTS = 2000, 20
WARM_UP_CONNECTIONS = 100
SETTLE_SECONDS, START_LIMIT_SECONDS = 1.0, 10.0
QUIET = ["--idle-timeout", "10m", "--first-byte-timeout", "10m"]
# Those that hold connections open without a word, and what each stands for; one worker each.
ROWS = ["default http", "dedicated http", "nginx", "system nginx", "haproxy", "system haproxy", "tokio http",
        "monoio http", "glommio http", "compio http", "proxy default", "nginx stream", "system nginx stream",
        "haproxy tcp", "system haproxy tcp", "envoy", "traefik", "tokio proxy", "monoio proxy", "pingora proxy"]
HEADS = ["server", "binary, MB", "exec to listening, ms (median)", "RSS when idle, MB", "PSS when idle, MB",
         "user bytes per idle connection", "all RSS per idle connection"]
NOTE = ("One worker each, over {connections} silent connections; a proxied connection is a pair. User bytes are the "
        "growth of RssAnon, all RSS is with shared memory and files; what the kernel keeps for sockets is in neither. "
        "Sums over all processes: RSS counts a page twice that two of them share, PSS half for each. Ours is the "
        "binary of `cargo build --profile dist`. Taken {taken}.")


def is_ours(words):
    return os.path.basename(words[0]) == "acceptor"


def released(words):
    """A command line with our program as it is handed out, and without its deadlines."""
    if not is_ours(words):
        return words
    quiet = QUIET[:2] if words[1] == "proxy" else QUIET
    return [servers.release("acceptor", "dist"), *words[1:], *quiet]


class Measured(servers.Running):
    """A server that knows how long it took from exec to the first connection that it could have accepted."""

    def __init__(self, name):
        super().__init__(name, backend="inline" if name in servers.PROXIES else None)

    def command(self, behind):
        variables, words = super().command(behind)
        self.binary = released(words)[0]
        return variables, released(words)

    def wait_until_listening(self):
        """By connecting, again and again: nothing is as quick to tell."""
        start = time.monotonic()
        while time.monotonic() - start < START_LIMIT_SECONDS:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    self.start_seconds = time.monotonic() - start
                    return
            if self.process.poll() is not None:
                raise SystemExit(f"{self.name} did not start: {self.process.stderr.read().decode().strip()}")
        raise SystemExit(f"{self.name} does not listen on port {self.port}")


def memory(pid):
    """Bytes of all processes of a server: anonymous, all that is resident, and its proportional share."""
    sums = {"anonymous": 0, "rss": 0, "pss": 0}
    for member in machine.family(pid):
        with open(f"/proc/{member}/status") as file:
            status = file.read()
        with open(f"/proc/{member}/smaps_rollup") as file:
            rollup = file.read()
        for key, text, field in (("anonymous", status, "RssAnon"), ("rss", status, "VmRSS"), ("pss", rollup, "Pss")):
            sums[key] += 1024 * int(re.search(rf"^{field}:\s+(\d+)", text, re.M)[1])
    return sums


def idle(name, count):
    """Memory of a server without connections, and of `count` that say nothing."""
    with Measured(name) as server:
        time.sleep(SETTLE_SECONDS)
        alone = memory(server.pid)
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(WARM_UP_CONNECTIONS)]
        time.sleep(SETTLE_SECONDS)
        before = memory(server.pid)
        clients += [socket.create_connection(("127.0.0.1", server.port)) for _ in range(count)]
        time.sleep(SETTLE_SECONDS)
        after = memory(server.pid)
        for client in clients:
            client.close()
        binary = os.path.getsize(os.path.realpath(shutil.which(server.binary)))
    return {"binary_bytes": binary, "idle": alone,
            "per_connection": {key: (after[key] - before[key]) / count for key in after}}


def start_seconds(name, starts):
    found = []
    for _ in range(starts):
        with Measured(name) as server:
            found.append(server.start_seconds)
    return statistics.median(found)


def row(name, shown):
    mega, each = (lambda count: f"{count / 1e6:.1f}"), shown["per_connection"]
    return [name, mega(shown["binary_bytes"]), f"{1e3 * shown['start_seconds']:.1f}", mega(shown["idle"]["rss"]),
            mega(shown["idle"]["pss"]), f"{each['anonymous']:.0f}", f"{each['rss']:.0f}"]


def measure(connections=CONNECTIONS, starts=STARTS, names=None):
    """The document that is kept: heads, rows and a note of a table, and all figures."""
    build()
    os.sched_setaffinity(0, {1})  # not where the servers start
    figures = {}
    for name in names or ROWS:
        why = servers.missing(name)
        if why:
            process.skipped(name, why)
            continue
        figures[name] = {**idle(name, connections), "start_seconds": start_seconds(name, starts)}
    taken = time.strftime("%Y-%m-%d")
    return {"heads": HEADS, "rows": [row(*item) for item in figures.items()], "machine": machine.card(),
            "note": NOTE.format(connections=connections, taken=taken), "figures": figures}


def build():
    command = ["cargo", "build", "--profile", "dist", "--quiet", "--locked", "--bin", "acceptor"]
    if subprocess.run(command, cwd=servers.ROOT).returncode != 0:
        process.fail(f"{' '.join(command)} failed")


def keep(folder, document):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, page.FOOTPRINT), "w") as file:
        json.dump(document, file, indent=1)
