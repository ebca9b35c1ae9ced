"""A share of one CPU for a server: cgroups(7), version 2 or 1. Needs root and a CPU controller that can be written to."""

import contextlib
import os

ROOTS = ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup")
# A short one: who has used up its share waits for the next period.
PERIOD_US = 5000


def missing():
    """Why no share can be given; None if one can."""
    return None if root() else "no CPU controller of cgroups can be written to (root, cgroup v1 or v2)"


def root():
    return next((root for root in ROOTS if os.access(root, os.W_OK) and has_controller(root)), None)


def has_controller(root):
    if os.path.exists(os.path.join(root, "cpu.cfs_quota_us")):
        return True
    try:
        with open(os.path.join(root, "cgroup.subtree_control")) as file:
            return "cpu" in file.read().split()
    except OSError:
        return False


class Quota:
    """A group whose processes get so much of a CPU; its processes have to have ended before it does."""

    def __init__(self, share):
        self.folder = os.path.join(root(), f"bench-{os.getpid()}")
        self.share = share

    def __enter__(self):
        os.makedirs(self.folder, exist_ok=True)
        quota = int(self.share * PERIOD_US)
        if os.path.exists(os.path.join(self.folder, "cpu.cfs_quota_us")):
            self.write("cpu.cfs_period_us", PERIOD_US)
            self.write("cpu.cfs_quota_us", quota)
        else:
            self.write("cpu.max", f"{quota} {PERIOD_US}")
        return self

    def add(self, pids):
        for pid in pids:
            # One that has ended meanwhile needs no share.
            with contextlib.suppress(ProcessLookupError):
                self.write("cgroup.procs", pid)

    def write(self, name, value):
        with open(os.path.join(self.folder, name), "w") as file:
            file.write(str(value))

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            os.rmdir(self.folder)
