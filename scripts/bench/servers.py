"""The servers that are compared, and how each is started. Peers get a good configuration: the same
cores, the same backlog, no access log, no limit on requests per connection."""

import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from . import machine

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BACKLOG = 4096
STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
START_LIMIT_SECONDS = 5.0
# Below the ephemeral ports; the start varies, so that scripts side by side rarely meet.
PORT_FIRST, PORT_COUNT = 18_000, 12_000
PORTS = itertools.count(random.randrange(PORT_COUNT))


def fresh_port():
    """A port that this script has not used and nobody listens on."""
    for _ in range(PORT_COUNT):
        port = PORT_FIRST + next(PORTS) % PORT_COUNT
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT does not matter
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
            return port
    raise SystemExit(f"no free port from {PORT_FIRST} to {PORT_FIRST + PORT_COUNT - 1}")


def release(name, folder=""):
    """What cargo has built in `folder`; $CARGO_TARGET_DIR moves it."""
    package = os.path.join(ROOT, folder)
    target = os.environ.get("CARGO_TARGET_DIR") or "target"
    return os.path.join(package, target, "release", name)


def acceptor(service, *options):
    return lambda port, _: [
        release("acceptor"), service, "--listen", f"0.0.0.0:{port}", "--workers", "1", *options
    ]


def bare(mode, *options):
    return lambda port, _: [release("examples/bare_ring"), f"0.0.0.0:{port}", mode, *options]


def filled(template, folder, **values):
    """The path of a configuration of benches/peers with its values in."""
    with open(os.path.join(ROOT, "benches", "peers", template)) as file:
        text = file.read()
    values |= {"BACKLOG": BACKLOG, "FOLDER": folder}
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    path = os.path.join(folder, template)
    with open(path, "w") as file:
        file.write(text)
    return path


def nginx(option=""):
    return lambda port, folder: [
        "nginx", "-c", filled("nginx.conf", folder, PORT=port, OPTION=option)
    ]


def haproxy(port, folder):
    return ["haproxy", "-f", filled("haproxy.cfg", folder, PORT=port)]


def proxy(*options):
    return lambda port, _, backend: [
        release("acceptor"), "proxy", "--listen", f"0.0.0.0:{port}", "--workers", "1",
        "--to", f"127.0.0.1:{backend}", *options
    ]


def nginx_stream(port, folder, backend):
    path = filled("nginx-stream.conf", folder, PORT=port, BACKEND=backend, MODULE=STREAM_MODULE)
    return ["nginx", "-c", path]


def haproxy_tcp(option=""):
    return lambda port, folder, backend: [
        "haproxy", "-f",
        filled("haproxy-tcp.cfg", folder, PORT=port, BACKEND=backend, OPTION=option),
    ]


def peer(runtime, mode):
    path = release(f"{runtime}_peer", "benches/peers")
    return lambda port, _: [path, f"0.0.0.0:{port}", mode]


# name: (services it can do, how it is started)
SERVERS = {
    "bare ring": ("echo", bare("echo")),
    "bare ring http": ("http", bare("http")),
    "inline": ("echo", acceptor("echo", "--acceptors", "0")),
    "dedicated": ("echo", acceptor("echo", "--acceptors", "1")),
    "inline http": ("http", acceptor("http", "--acceptors", "0")),
    "dedicated http": ("http", acceptor("http", "--acceptors", "1")),
    "inline epoll": ("echo", acceptor("echo", "--acceptors", "0", "--engine", "epoll")),
    "dedicated epoll": ("echo", acceptor("echo", "--acceptors", "1", "--engine", "epoll")),
    "inline http epoll": ("http", acceptor("http", "--acceptors", "0", "--engine", "epoll")),
    "dedicated http epoll": ("http", acceptor("http", "--acceptors", "1", "--engine", "epoll")),
    "inline http defer": ("http", acceptor("http", "--acceptors", "0", "--defer-accept")),
    "dedicated http defer": ("http", acceptor("http", "--acceptors", "1", "--defer-accept")),
    "nginx": ("http", nginx()),
    "nginx defer": ("http", nginx("deferred")),
    "haproxy": ("http", haproxy),
    "tokio": ("echo", peer("tokio", "echo")),
    "tokio http": ("http", peer("tokio", "http")),
    "monoio": ("echo", peer("monoio", "echo")),
    "monoio http": ("http", peer("monoio", "http")),
    "glommio": ("echo", peer("glommio", "echo")),
    "glommio http": ("http", peer("glommio", "http")),
    "compio": ("echo", peer("compio", "echo")),
    "compio http": ("http", peer("compio", "http")),
}


# Those that pass connections on, to a backend on the client's CPU.
PROXIES = {
    "proxy inline": proxy("--acceptors", "0"),
    "proxy dedicated": proxy("--acceptors", "1"),
    "proxy inline epoll": proxy("--acceptors", "0", "--engine", "epoll"),
    "nginx stream": nginx_stream,
    "haproxy tcp": haproxy_tcp(),
    "haproxy splice": haproxy_tcp("option splice-auto"),
}


def command(name, port, folder, backend=None):
    if name in PROXIES:
        return PROXIES[name](port, folder, backend)
    return SERVERS[name][1](port, folder)


def missing(name):
    """Why a server cannot run here, or None."""
    if name == "nginx stream" and not os.path.exists(STREAM_MODULE):
        return f"{STREAM_MODULE} is not there: libnginx-mod-stream has it"
    with tempfile.TemporaryDirectory() as folder:
        program = command(name, 1, folder, 1)[0]
    if shutil.which(program):
        return None
    hint = "; --build-peers builds it" if program.endswith("_peer") else ""
    return f"{os.path.relpath(program, ROOT) if os.path.isabs(program) else program} is not there{hint}"


class Running:
    """A server on one CPU, on a port of its own, that ends with the block. `backend`: the server that
    a proxy passes connections on to; it runs on the other CPU and is not counted."""

    def __init__(self, name, cpu=0, backend=None):
        self.name, self.cpu = name, cpu
        self.port = fresh_port()
        self.backend = Running(backend, 1 - cpu) if backend else None

    def __enter__(self):
        if self.backend:
            self.backend.__enter__()
        self.folder = tempfile.TemporaryDirectory(prefix="compare-")
        behind = self.backend.port if self.backend else None
        self.process = subprocess.Popen(
            ["taskset", "-c", str(self.cpu), *self.command(behind)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        try:
            self.wait_until_listening()
        except BaseException:  # also Ctrl-C: nothing may stay behind
            self.end()
            raise
        return self

    def command(self, behind):
        return command(self.name, self.port, self.folder.name, behind)

    @property
    def pid(self):
        return self.process.pid

    def wait_until_listening(self):
        deadline = time.monotonic() + START_LIMIT_SECONDS
        needle = f":{self.port:04X} 00000000:0000 0A"
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                text = self.process.stderr.read().decode(errors="replace")
                raise SystemExit(f"{self.name} did not start: {text.strip()}")
            with open("/proc/net/tcp") as file:
                if needle in file.read():
                    return
            time.sleep(0.02)
        raise SystemExit(f"{self.name} does not listen on port {self.port}")

    def cpu_seconds(self):
        return machine.cpu_seconds(machine.family(self.process.pid))

    def __exit__(self, *_):
        self.end()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stderr.close()
        self.folder.cleanup()
        if self.backend:
            self.backend.end()
