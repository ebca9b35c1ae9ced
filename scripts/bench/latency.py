"""Latency from the planned start, in an open loop at parts of a rate that every row keeps up with."""

import concurrent.futures
import sys

from . import clients, loadgen

FRACTIONS = (0.5, 0.8)
UNEVEN_FRACTIONS = (0.5,)
QUANTILES = ("p50", "p99", "p999")
WARM_UP_SECONDS = 0.3
# When a rate is too high, as in `loadgen --find-knee`; tried once more before it counts.
P99_LIMIT_MS, NOT_COMPLETED_MAX = 20.0, 0.02
# The search rises from what a closed loop does, and then falls to what all can do.
SEARCH_UP, SEARCH_DOWN, SEARCH_SECONDS, SEARCH_STEPS_MAX = 1.25, 0.95, 0.7, 100

# The work `uneven`: of eight connections one burns CPU time, which the server sees by its size.
BURNING_SHARE, BURN_SECONDS = 1 / 8, 200e-6
BURNING = ["--request-size", "128", "--response-size", "128", "--close", "fin"]


def fractions(mode):
    return UNEVEN_FRACTIONS if mode == "uneven" else FRACTIONS


def offered(server, mode, connections, rate, seconds):
    """What loadgen has shown of the connections that are reported; those that burn are not."""
    runs = [(*clients.LOADGEN_MODES["crr" if mode == "uneven" else mode], rate)]
    if mode == "uneven":
        runs = [(*runs[0][:2], rate * (1 - BURNING_SHARE)), ("crr", BURNING, rate * BURNING_SHARE)]
    with concurrent.futures.ThreadPoolExecutor(len(runs)) as pool:
        done = list(pool.map(lambda run: at_rate(server, connections, seconds, *run), runs))
    own, every = done[0], sum(result.completed for result in done)
    return {
        **{f"{name}_us": 1e3 * own.latency_ms(name) for name in QUANTILES},
        "operations": own.completed, "rate": rate,
        "not_completed": max(1 - result.completed / max(result.due, 1) for result in done),
        # All servers' time of the window, which both clients have seen, by all connections.
        "cpu_us": own.server_cpu_us * own.completed / every,
        "client_load": sum(result.own_cpu_share for result in done),
        "late_us": max(1e3 * (result.latency_ms("p99", "lateness") or 0) for result in done),
        "reasons": [reason for result in done for reason in result.reasons],
    }


def at_rate(server, connections, seconds, name, options, rate):
    fixed = ["-c", str(connections)] if name == "rr" or options == [] else []
    result = loadgen.run(name, server.address, seconds, [
        *fixed, "--rate", f"{rate:.0f}", "--warm-up", loadgen.duration(WARM_UP_SECONDS), *options,
    ], pid=server.pid, cpus=server.layout.client_cpus)
    if result.unusable:
        raise SystemExit(f"loadgen, {server.name} at {rate:.0f}/s: {result.unusable}")
    return result


def holds(start, mode, connections, rate):
    """Whether a server keeps up with a rate; a machine that stood still gets a second chance."""
    for _ in range(2):
        with start() as server:
            shown = offered(server, mode, connections, rate, SEARCH_SECONDS)
        if shown["p99_us"] <= 1e3 * P99_LIMIT_MS and shown["not_completed"] <= NOT_COMPLETED_MAX:
            return True, shown
    return False, shown


def closed_loop(start, mode, connections):
    """Operations per second that the search may begin at."""
    plain = "crr" if mode == "uneven" else mode
    with start() as server:
        done = clients.load("loadgen", server, plain, connections, SEARCH_SECONDS)
        cpus = server.layout.workers if server.layout.workers < 2 else 2
    seconds = done["seconds"] / max(done["operations"], 1)
    return 1 / (seconds + (BURNING_SHARE * BURN_SECONDS / cpus if mode == "uneven" else 0))


def knee(starts, mode, connections):
    """The highest rate, to 5 %, that each of the servers keeps up with: the knee of the slowest. `starts`:
    name to a function that makes a server. The slowest in a closed loop comes first, at rates that rise
    until it breaks; those after it begin where the ones before them have ended."""
    possible, steps = {name: closed_loop(start, mode, connections) for name, start in starts.items()}, []

    def tried(name, rate):
        if len(steps) >= SEARCH_STEPS_MAX:
            raise SystemExit(f"no knee was found in {SEARCH_STEPS_MAX} steps; the last was {name} at {rate:.0f}/s")
        held, shown = holds(starts[name], mode, connections, rate)
        steps.append({"server": name, "held": held, **shown})
        sys.stderr.write("," if held else "!")
        sys.stderr.flush()
        return held

    names, rate = sorted(possible, key=possible.get), min(possible.values())
    while tried(names[0], rate):
        rate *= SEARCH_UP
    for name in names:
        rate *= SEARCH_DOWN if name == names[0] else 1
        while not tried(name, rate):
            rate *= SEARCH_DOWN
    broke = [step for step in steps if not step["held"]]
    return {"rate": rate, "slowest": broke[-1]["server"], "client_load": broke[-1]["client_load"], "steps": steps}
