"""The machine: what it is, its kernel's counters, the CPU time of processes. Reads /proc only."""

import glob
import os
import platform
import subprocess

from . import peers

NANOSECONDS = 1e9


def cpu_seconds(pids):
    """CPU time of all threads of these processes, from schedstat (nanoseconds)."""
    total = 0
    for pid in pids:
        for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
            try:
                with open(path) as file:
                    total += int(file.read().split()[0])
            except OSError:
                pass  # the thread has just ended
    return total / NANOSECONDS


def family(pid):
    """The process and its children, as worker processes are counted too."""
    children = []
    for path in glob.glob(f"/proc/{pid}/task/*/children"):
        try:
            with open(path) as file:
                children += [int(child) for child in file.read().split()]
        except OSError:
            pass  # the thread has just ended
    return [pid] + [member for child in children for member in family(child)]


def kernel_counters():
    """Counters of this network namespace that tell whether a window can be trusted."""
    wanted = {"PassiveOpens", "RetransSegs", "ListenOverflows", "ListenDrops", "TCPTimeWaitOverflow"}
    counters = {}
    for path in ("/proc/net/snmp", "/proc/net/netstat"):
        with open(path) as file:
            lines = file.read().splitlines()
        for names, values in zip(lines[::2], lines[1::2]):
            for name, value in zip(names.split()[1:], values.split()[1:]):
                if name in wanted and names.startswith(("Tcp:", "TcpExt:")):
                    counters[name] = int(value)
    return counters


def difference(before, after):
    return {name: after[name] - before[name] for name in after}


def sysctl(name):
    try:
        with open("/proc/sys/" + name.replace(".", "/")) as file:
            return " ".join(file.read().split())
    except OSError:
        return None


def first_line(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        text = (done.stdout or done.stderr).strip()
        return text.splitlines()[0] if text else None
    except (OSError, subprocess.TimeoutExpired):
        return None


def cpu_model():
    with open("/proc/cpuinfo") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return models[0] if models else platform.machine()


def card():
    """What a reader has to know of the machine to judge a figure."""
    names = [
        "net.core.somaxconn",
        "net.ipv4.tcp_max_syn_backlog",
        "net.ipv4.tcp_tw_reuse",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_fastopen",
    ]
    return {
        "kernel": platform.release(),
        "cpu": cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "sysctls": {name: sysctl(name) for name in names},
        "versions": {
            "rustc": first_line(["rustc", "--version"]),
            "wrk": first_line(["wrk", "-v"]),
            **peers.versions(),
        },
        "commit": first_line(["git", "rev-parse", "--short", "HEAD"]),
    }
