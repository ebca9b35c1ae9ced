"""The load of scripts/compare: which program makes it, and what it says. One CPU of its own.

Modes: `crr` connect, exchange, client closes; `rr` exchange on open connections; `http` one request
per connection, the server closes; `http-keep` requests on open connections; `stream` bytes as fast as
they go, which come back.
"""

import math
import re
import resource
import shutil
import subprocess

from . import loadgen

NAMES = ("loadgen", "wrk")
GRACE_SECONDS = 30


def missing(client, mode):
    """Why this client cannot make this load here, or None."""
    if client == "loadgen":
        return loadgen.missing()
    if not mode.startswith("http"):
        return "wrk speaks HTTP only"
    return None if shutil.which("wrk") else "wrk is not there"


def load(client, server, mode, connections, seconds):
    """Operations, seconds, errors, and the client's own CPU time."""
    before = children_cpu_seconds()
    if client == "loadgen":
        result = from_loadgen(server, mode, connections, seconds)
    else:
        result = from_wrk(server, mode, connections, seconds)
    result["client_cpu_seconds"] = children_cpu_seconds() - before
    return result


def children_cpu_seconds():
    """Of children that have been waited for; the server still runs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def pinned(command, seconds, cpus=loadgen.CPUS):
    command = ["taskset", "-c", cpus, *command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"the client hangs: {' '.join(command)}") from None
    if done.returncode != 0:
        text = (done.stderr or done.stdout).strip()
        raise SystemExit(f"the client failed with status {done.returncode}: {text}")
    return done.stdout


def from_wrk(server, mode, connections, seconds):
    whole = max(1, math.ceil(seconds))  # wrk knows whole seconds only
    url = f"http://127.0.0.1:{server.port}/"
    close = ["-H", "Connection: close"] if mode == "http" else []
    command = ["wrk", "-t1", f"-c{connections}", f"-d{whole}s", *close, url]
    return wrk_figures(pinned(command, whole, server.layout.client_cpus))


def wrk_figures(text):
    done = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)\b", text)
    if not done:
        raise SystemExit(f"wrk said something unexpected: {text.strip()}")
    unit = {"ms": 0.001, "s": 1.0, "m": 60.0}[done[3]]
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    errors = sum(map(int, sockets.groups())) if sockets else 0
    statuses = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors += int(statuses[1]) if statuses else 0
    return {"operations": int(done[1]), "seconds": float(done[2]) * unit, "errors": errors}


LOADGEN_MODES = {
    "crr": ("crr", ["--request-size", "64", "--response-size", "64", "--close", "fin"]),
    "rr": ("rr", ["--request-size", "64", "--response-size", "64"]),
    "http": ("http", ["--requests-per-connection", "1", "--close", "server"]),
    "http-keep": ("http", []),
    "stream": ("stream", ["--echo"]),
}


def from_loadgen(server, mode, connections, seconds):
    name, options = LOADGEN_MODES[mode]
    result = loadgen.run(name, server.address, seconds, ["-c", str(connections), "--warm-up", "0ms", *options],
                         pid=server.pid, cpus=server.layout.client_cpus)
    if result.unusable:
        raise SystemExit(f"loadgen: {result.unusable}")
    return {"operations": result.completed, "seconds": result.seconds, "errors": result.failed}
