"""loadgen: where it is, how it is called, and every access to its JSON. Nothing else reads it."""

import json
import os
import shutil
import signal
import subprocess
import tempfile

from . import servers

CPUS = "1"
GRACE_SECONDS = 60
# Exit codes that leave a result behind: all well, too many errors, figures that cannot be trusted.
WELL, TOO_MANY_ERRORS, INVALID = 0, 1, 4


def binary():
    """$LOADGEN, else the one of this build, else the one on PATH; None if there is none."""
    wanted = [os.environ.get("LOADGEN"), servers.release("loadgen"), "loadgen"]
    return next((path for path in map(shutil.which, filter(None, wanted)) if path), None)


def missing():
    """Why loadgen cannot run here, or None. A loadgen that does not know --help is not one."""
    path = binary()
    if path is None:
        return "loadgen is not there: cargo build --release --bins"
    try:
        done = subprocess.run([path, "--help"], capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{path} does not run: {error}"
    return None if done.returncode == 0 else f"{path} --help ended with status {done.returncode}"


def duration(seconds):
    return f"{round(1000 * seconds)}ms"


def run(mode, address, seconds, options=(), pid=None, keep=None, cpus=CPUS):
    """One run on the client's CPUs. `keep`: a path for its JSON. Fails when there is no result."""
    with tempfile.TemporaryDirectory(prefix="loadgen-") as folder:
        path = keep or os.path.join(folder, "result.json")
        command = ["taskset", "-c", cpus, binary(), mode, address, "-d", duration(seconds), *options]
        command += ["--server-pid", str(pid)] if pid else []
        command += ["--json", path, "-q"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"loadgen hangs: {' '.join(command)}") from None
        try:
            with open(path) as file:
                document = json.load(file)
        except (OSError, ValueError) as error:
            text = (done.stderr or done.stdout).strip() or error
            raise SystemExit(f"loadgen {mode} ended with status {done.returncode}: {text}") from None
    return Result(document, done.returncode)


class Background:
    """A run that is going on while the block does something else; it ends with the block, or when its time is over."""

    def __init__(self, mode, address, seconds, options=(), cpus=CPUS):
        self.folder = tempfile.TemporaryDirectory(prefix="loadgen-")
        self.path = os.path.join(self.folder.name, "result.json")
        self.command = ["taskset", "-c", cpus, binary(), mode, address, "-d", duration(seconds), *options,
                        "--json", self.path, "-q"]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE, text=True)
        return self

    def stop(self):
        """Its result up to now."""
        self.process.send_signal(signal.SIGINT)
        text = self.process.communicate(timeout=GRACE_SECONDS)[1]
        try:
            with open(self.path) as file:
                return Result(json.load(file), self.process.returncode)
        except (OSError, ValueError):
            raise SystemExit(f"loadgen ended with status {self.process.returncode}: {text.strip()}") from None

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        self.folder.cleanup()


def report(paths, html):
    """The HTML report of several results."""
    command = [binary(), "report", *paths, "--html", html]
    done = subprocess.run(command, capture_output=True, text=True, timeout=GRACE_SECONDS)
    if done.returncode != 0:
        raise SystemExit(f"loadgen report failed with status {done.returncode}: {done.stderr.strip()}")


class Result:
    """What a run has shown. The names of the fields are those of docs/loadgen-schema.md."""

    def __init__(self, document, status=WELL):
        self.document, self.status = document, status

    def count(self, name):
        return int(self.document["counts"].get(name) or 0)

    @property
    def seconds(self):
        return self.document["elapsed_ns"] / 1e9

    @property
    def completed(self):
        return self.count("completed")

    @property
    def failed(self):
        return self.count("failed")

    @property
    def faults(self):
        """What failed, by phase and reason."""
        return self.document["faults"]

    @property
    def statuses(self):
        """HTTP: whole answers by status."""
        return self.document["answers"]["statuses"]

    @property
    def not_started(self):
        return self.count("not_started")

    @property
    def due(self):
        """Operations of an open loop that were to start in the window."""
        return self.count("started") + self.not_started

    @property
    def rate(self):
        return self.completed / self.seconds if self.seconds else 0.0

    def latency_ms(self, quantile, kind="total"):
        """`quantile` is p50, p90, p99, p999 or max; None if nothing was completed."""
        summary = self.document["latencies"][kind]["summary"]
        return None if summary is None else summary[f"{quantile}_us"] / 1e3

    @property
    def server_cpu_us(self):
        """Per completed operation; None when no server was observed."""
        return self.document["server_cpu_us_per_operation"]

    @property
    def own_cpu_share(self):
        """The generator's own CPU time of the window: 1 is all that its threads can use."""
        return self.document["generator"]["cpu_share"]

    @property
    def dropped_syns(self):
        return sum(self.document["dropped_syns"].values())

    def kernel(self, name):
        """Growth of a counter over the window, over all network namespaces."""
        return sum(int(counters[name]) for counters in self.document["kernel"])

    @property
    def reasons(self):
        """Why the figures cannot be trusted; empty when they can."""
        return self.document["verdict"]["reasons"]

    @property
    def unusable(self):
        """Why this run must not be used at all, or None."""
        if self.status in (WELL, TOO_MANY_ERRORS, INVALID) and self.completed:
            return None
        return f"status {self.status}, {self.completed} completed, {self.failed} failed"
