"""A part of a comparison: one work, measured in one way. It is kept in a file of its own, half round by
half round, so that what was interrupted goes on where it was, and a page can be made of what is there."""

import functools
import json
import os
import re
import sys
import time

from . import clients, latency, machine, process, servers, works

SCHEMA = 3
WARM_UP_SECONDS = 0.3


def slug(text):
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


class Part:
    """`document` is what is stored: what was asked for, the machine, and `halves`, each a list of blocks
    in the order in which they ran."""

    def __init__(self, work, kind, names, chosen, card):
        self.work, self.folder = works.WORKS[work], chosen.out
        self.layout = servers.Layout(chosen.workers, chosen.pinned)
        self.document = {
            "schema": SCHEMA, "work": work, "kind": kind, "mode": self.work.mode, "servers": names,
            "client": chosen.client, "connections": chosen.connections, "seconds": chosen.seconds,
            "workers": chosen.workers, "pinned": chosen.pinned, "layout": str(self.layout),
            "wanted": 2 * chosen.rounds, "machine": card, "seed": chosen.seed,
            "taken": time.strftime("%Y-%m-%d"), "knee": None, "halves": [],
        }

    @property
    def path(self):
        """Where it is kept, or None."""
        own, words = self.document, []
        words.append(slug(own["work"]))
        words += ["latency"] if own["kind"] == "latency" else []
        words += [own["client"]] if own["client"] != "loadgen" else []
        words += [f"{own['workers']}-workers"] if own["workers"] > 1 else []
        words += ["pinned"] if own["pinned"] else []
        words += [f"{own['connections']}-connections"] if own["connections"] != 64 else []
        return self.folder and os.path.join(self.folder, "-".join(words) + ".json")

    def is_done(self):
        return len(self.document["halves"]) >= self.document["wanted"]

    def resume(self):
        """Takes over what is kept of the same part, if it is done or was measured on the same machine."""
        if not self.path or not os.path.exists(self.path):
            return
        with open(self.path) as file:
            stored = json.load(file)
        own = self.document
        asked = [key for key in own if key not in ("machine", "seed", "taken", "knee", "halves", "wanted")]
        differs = [key for key in asked if stored.get(key) != own[key]]
        if len(stored["halves"]) < own["wanted"] and stored["machine"] != own["machine"]:
            differs.append("machine or commit")
        if differs:
            print(f"{self.path}: measured anew, since it has another {', '.join(differs)}", file=sys.stderr)
        else:
            self.document = {**stored, "wanted": own["wanted"]}

    def store(self):
        if not self.path:
            return
        os.makedirs(self.folder, exist_ok=True)
        with open(self.path + ".new", "w") as file:
            json.dump(self.document, file, indent=1)
        os.replace(self.path + ".new", self.path)

    def start(self, name):
        backend = self.work.backend if name in servers.PROXIES else None
        return servers.Running(name, self.layout, backend=backend, unix=self.work.unix)

    def measure(self):
        """All that is missing, in the order A B C, C B A."""
        own = self.document
        if own["kind"] == "latency" and own["knee"] is None:
            starts = {name: functools.partial(self.start, name) for name in own["servers"]}
            own["knee"] = latency.knee(starts, own["mode"], own["connections"])
            self.store()
        order = [own["servers"][0], *own["servers"]]  # the reference twice: A/A
        while not self.is_done():
            backwards = len(own["halves"]) % 2 == 1
            own["halves"].append([block for name in (order[::-1] if backwards else order)
                                  for block in self.blocks(name)])
            self.store()
            sys.stderr.write(".")
            sys.stderr.flush()

    def blocks(self, name):
        if self.document["kind"] == "cpu":
            return [self.cpu(name)]
        return [self.latency(name, fraction) for fraction in latency.fractions(self.document["mode"])]

    def latency(self, name, fraction):
        own = self.document
        with self.start(name) as server:
            shown = latency.offered(server, own["mode"], own["connections"], fraction * own["knee"]["rate"],
                                    own["seconds"])
        return {"server": name, "fraction": fraction, **shown}

    def cpu(self, name):
        """One window: CPU per operation, rate, and what the kernel counted."""
        client, mode, connections = (self.document[key] for key in ("client", "mode", "connections"))
        with self.start(name) as server:
            clients.load(client, server, mode, connections, WARM_UP_SECONDS)
            counters, cpu = machine.kernel_counters(), server.cpu_seconds()
            result = clients.load(client, server, mode, connections, self.document["seconds"])
            result["cpu_seconds"] = server.cpu_seconds() - cpu
            result["kernel"] = machine.difference(counters, machine.kernel_counters())
        if result["operations"] == 0:
            process.fail(f"{name} answered nothing")
        return {"server": name, **result, "cpu_us": 1e6 * result["cpu_seconds"] / result["operations"],
                "rate": result["operations"] / result["seconds"],
                "client_load": result["client_cpu_seconds"] / result["seconds"]}


def stored(folder):
    """The documents of a folder, in the order of the works; those of other scripts are left alone."""
    found = []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".json"):
            with open(os.path.join(folder, name)) as file:
                document = json.load(file)
            if document.get("schema") == SCHEMA and document.get("halves"):
                found.append((name.removesuffix(".json"), document))
    order = list(works.WORKS)
    return sorted(found, key=lambda one: (one[1]["workers"], order.index(one[1]["work"]), one[0]))
