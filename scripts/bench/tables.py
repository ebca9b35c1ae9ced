"""What a part has shown, as tables: medians, ratios to the reference with their intervals, doubts."""

from . import latency, servers, statistics

# The client's and the kernel's count of connections may differ by those at the edges of the window.
COUNT_TOLERANCE = 0.02
# A generator that used more of its CPU than this may have been what limited a rate.
BUSY_GENERATOR = 0.9


def column(halves, name, value, which=0, fraction=None):
    return [[block[value] for block in half if block["server"] == name and block.get("fraction") == fraction][which]
            for half in halves]


def verdict(interval, noise):
    """A difference that counts, or none."""
    mean, low, high = interval
    if low <= 1 <= high or noise[1] <= mean <= noise[2]:
        return "no difference shown"
    return "less" if mean < 1 else "more"


def ratios(document, value="cpu_us", fraction=None, to=None):
    """name: (ratio, low, high) to the reference, or to the server `to`; and the reference against itself."""
    halves, names, seed = document["halves"], document["servers"], document["seed"]
    first = column(halves, to or names[0], value, 0, fraction)
    again = column(halves, names[0], value, 1, fraction)
    noise = statistics.ratio(again, column(halves, names[0], value, 0, fraction), seed)
    return {name: statistics.ratio(column(halves, name, value, 0, fraction), first, seed) for name in names}, noise


def between(interval):
    return "{:.2f} ({:.2f} to {:.2f})".format(*interval)


def tables(document):
    """Pieces as those of bench/page.py: ("table", heads, rows) and ("text", words)."""
    if document["kind"] == "cpu":
        return cpu(document)
    pieces = [("text", knee(document))]
    for fraction in latency.fractions(document["mode"]):
        pieces += at_rate(document, fraction)
    return pieces


def cpu(document):
    heads = ["server", "CPU us per operation (median)", "operations/s (median)", "client's CPU",
             "CPU ratio (95 % interval)", ""]
    halves, names, rows = document["halves"], document["servers"], []
    intervals, noise = ratios(document)
    for name in names:
        used, rate, client = (statistics.median(column(halves, name, value))
                              for value in ("cpu_us", "rate", "client_load"))
        words = "reference" if name == names[0] else verdict(intervals[name], noise)
        rows.append([name, f"{used:.1f}", f"{rate:,.0f}", f"{client:.0%}", between(intervals[name]), words])
    noted = [f"A/A ({names[0]} against itself): {between(noise)}.", *doubts(document)]
    return [("table", heads, rows), ("text", " ".join(noted))]


def knee(document):
    found = document["knee"]
    words = f"The highest rate that each row keeps up with: {found['rate']:,.0f}/s, the knee of {found['slowest']}."
    if found["client_load"] > BUSY_GENERATOR:
        words += f" Above it the generator used {found['client_load']:.0%} of its CPU, and may be what limits it."
    if document["mode"] == "uneven":
        words += (" One connection in eight burns 200 us of CPU time; the latencies are those of the others, "
                  "the CPU time is that of all.")
    return words


def at_rate(document, fraction):
    heads = ["server", *(f"{name} ms (median)" for name in latency.QUANTILES), "CPU us per operation",
             *(f"{name}, ratio (95 % interval)" for name in latency.QUANTILES), "CPU ratio (95 % interval)"]
    halves, names, rows = document["halves"], document["servers"], []
    values = [*(f"{name}_us" for name in latency.QUANTILES), "cpu_us"]
    shown = [ratios(document, value, fraction) for value in values]
    for name in names:
        medians = [statistics.median(column(halves, name, value, 0, fraction)) for value in values]
        rows.append([name, *(f"{value / 1e3:.3f}" for value in medians[:-1]), f"{medians[-1]:.1f}",
                     *(between(intervals[name]) for intervals, _ in shown)])
    rows.append([f"A/A ({names[0]})", *[""] * len(values), *(between(noise) for _, noise in shown)])
    blocks = [block for half in halves for block in half if block["fraction"] == fraction]
    text = f"At {fraction:.0%} of it, {fraction * document['knee']['rate']:,.0f}/s:"
    invalid = sum(bool(block["reasons"]) for block in blocks)
    late = statistics.median([block["late_us"] for block in blocks]) / 1e3
    after = (f"The generator itself started 1 % of its operations late by {late:.3f} ms or more (median of the "
             f"windows). Windows that loadgen calls invalid: {invalid} of {len(blocks)}.")
    return [("text", text), ("table", heads, rows), ("text", after)]


def doubts(document):
    """What the kernel and the client counted that a reader has to know."""
    blocks, lines = [block for half in document["halves"] for block in half], []
    for counter in ("ListenOverflows", "ListenDrops", "RetransSegs", "TCPTimeWaitOverflow"):
        total = sum(block["kernel"].get(counter, 0) for block in blocks)
        if total:
            lines.append(f"{counter} over all windows: {total}.")
    proxied = any(name in servers.PROXIES for name in document["servers"])  # the backend accepts too
    if document["mode"] in ("crr", "http") and not proxied:
        off = [block for block in blocks if abs(block["kernel"]["PassiveOpens"] - block["operations"])
               > COUNT_TOLERANCE * block["operations"] + block["errors"]]
        if off:
            lines.append(f"Windows in which the kernel's PassiveOpens and the client's count differ by more "
                         f"than {COUNT_TOLERANCE:.0%}: {len(off)} of {len(blocks)}. PassiveOpens are those of the "
                         "whole network namespace: other programs that accepted connections meanwhile count too.")
    return lines + [f"Client errors: {sum(block['errors'] for block in blocks)}."]
