"""Runs a server and keeps all that comes of it: python3 keeper.py CPUS LOG COMMAND...

A server that is replaced is not one process: successors are children of who they replace, or of nobody once those have
ended. What loses its parent is given to the keeper instead of to init, so the processes of a server are those below
its keeper, whatever they do. It ends when none is left; on SIGTERM, or with whoever started it, it ends them all.
"""

import contextlib
import ctypes
import os
import signal
import sys

if __package__:
    from . import machine
else:
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from bench import machine

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
# Of the log, when nothing is left to run: the reason stands at its end.
TOLD_BYTES = 2000


def command(cpus, log, words):
    """The command line of a keeper; `words` may begin with NAME=VALUE."""
    return [sys.executable, os.path.abspath(__file__), cpus, log, "env", *words]


def prctl(option, value):
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def end_all(*_):
    """Again and again, since a process that is about to end may have made another."""
    while below := machine.family(os.getpid())[1:]:
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)
    os._exit(0)


def keep(cpus, log, words):
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the script's business, which ends this then
    signal.signal(signal.SIGTERM, end_all)
    os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    with open(log, "ab") as file:
        files = [(os.POSIX_SPAWN_DUP2, file.fileno(), 1), (os.POSIX_SPAWN_DUP2, file.fileno(), 2)]
        os.posix_spawnp(words[0], words, os.environ, file_actions=files, setsigdef=[signal.SIGINT])
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    with open(log, "rb") as file:
        sys.stderr.write(file.read()[-TOLD_BYTES:].decode(errors="replace"))
    return 1


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1], sys.argv[2], sys.argv[3:]))
