"""What every script does before it starts and when it ends: limits, builds, signals."""

import os
import resource
import signal
import subprocess
import sys
import textwrap

from . import servers

FAILED, USAGE, INTERRUPTED = 1, 2, 130


def fail(reason, status=FAILED):
    """Ends the script with a reason; what is running ends with it."""
    print(f"{os.path.basename(sys.argv[0])}: {reason}", file=sys.stderr)
    raise SystemExit(status)


def skipped(what, why):
    print(f"SKIPPED: {what}: {why}", file=sys.stderr)


def documentation(text):
    """A script's docstring as its --help."""
    return textwrap.dedent(text).strip()


def check_machine(open_files=4096):
    """Two CPUs, and enough open files; raises the soft limit, which children inherit."""
    if not {0, 1} <= os.sched_getaffinity(0):
        fail("CPUs 0 and 1 are needed: one for the server, one for the client")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < open_files:
        fail(f"{open_files} open files are needed, the hard limit is {hard}: see ulimit -Hn")
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def build(*what, folder=""):
    """cargo build of `what`, such as --bins, as it is started: with --release."""
    optimized = ["--release"] if servers.profile == "release" else []
    command = ["cargo", "build", *optimized, "--quiet", "--locked", *what]
    try:
        done = subprocess.run(command, cwd=os.path.join(servers.ROOT, folder))
    except FileNotFoundError:
        fail("cargo is not on PATH")
    if done.returncode != 0:
        fail(f"{' '.join(command)} failed with status {done.returncode}")


def build_servers():
    """What of this package is compared with others."""
    build("--bins", *(word for name in servers.EXAMPLES for word in ("--example", name)))


def run(main):
    """Runs a script: SIGTERM and Ctrl-C unwind it, so that everything it started ends."""
    signal.signal(signal.SIGTERM, terminated)
    try:
        main()
    except KeyboardInterrupt:
        print("\ninterrupted; what was started has been ended", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(FAILED) from None


def terminated(*_):
    """Once: timeout(1) sends the signal twice, and the second must not end what the first one began."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt
