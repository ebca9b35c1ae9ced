"""The servers that are compared, and how each is started. Peers get a good configuration: the same
cores, the same backlog, no access log, no limit on requests per connection."""

import dataclasses
import glob
import itertools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from . import machine, peers

ROOT = peers.ROOT
BACKLOG = 4096
STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
START_LIMIT_SECONDS, END_LIMIT_SECONDS = 10.0, 1.0
# What an echo and an HTTP server both answer.
PROBE = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
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
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise SystemExit(f"no free port from {PORT_FIRST} to {PORT_FIRST + PORT_COUNT - 1}")


# What is started beside the programs of the package.
EXAMPLES = ("bare_ring", "uneven")

# The folder of what is started: "debug" for a run that only shows that it works.
profile = "release"


def release(name, built=None):
    """What cargo has built of this package."""
    return os.path.join(peers.target(), built or profile, name)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Workers of a server, and on which CPUs it and its client run. One worker has CPU 0, and the client
    CPU 1; more of them share both CPUs with the client, free or pinned in turn."""

    workers: int = 1
    pinned: bool = False

    @property
    def server_cpus(self):
        return "0" if self.workers == 1 else "0,1"

    @property
    def client_cpus(self):
        return "1" if self.workers == 1 else "0,1"

    def __str__(self):
        if self.workers == 1:
            return "one worker on CPU 0, client on CPU 1"
        how = "pinned to CPUs 0 and 1 in turn" if self.pinned else "free"
        return f"{self.workers} workers, {how}, on the same CPUs 0 and 1 as the client"


ONE_WORKER = Layout()


@dataclasses.dataclass(frozen=True)
class Start:
    """What a server is told: its port, a folder for its files, the address of its backend
    (127.0.0.1:PORT or unix:PATH), and how many workers it has."""

    port: int
    folder: str
    backend: str = "127.0.0.1:1"
    workers: int = 1

    @property
    def listen(self):
        return f"127.0.0.1:{self.port}"


def filled(template, folder, **values):
    """The path of a configuration of benches/peers with its values in."""
    with open(os.path.join(ROOT, peers.PACKAGE, template)) as file:
        text = file.read()
    values |= {"BACKLOG": BACKLOG, "FOLDER": folder}
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    path = os.path.join(folder, template)
    with open(path, "w") as file:
        file.write(text)
    return path


# Each of these makes a function from a Start to a command line. What a program needs in its
# environment comes before it, as NAME=VALUE.

def acceptor(service, *options):
    return lambda start: [release("acceptor"), service, "--listen", start.listen,
                          "--workers", str(start.workers), *options]


def proxy(*options):
    return lambda start: [*acceptor("proxy")(start), "--to", start.backend, *options]


def bare(mode):
    return lambda start: [release("examples/bare_ring"), start.listen, mode]


def uneven(*options):
    return lambda start: [release("examples/uneven"), start.listen, str(start.workers), *options]


def program(name):
    """A peer's program with its environment; what is missing is told by its name alone."""
    if name.startswith("system "):
        return [name.removeprefix("system ")]
    path = peers.packaged(name)
    return [*(f"{key}={value}" for key, value in peers.variables(path).items()), path] if path else [name + "@"]


def nginx(name="nginx", option=""):
    return lambda start: [*program(name), "-e", "stderr", "-c", filled(
        "nginx.conf", start.folder, PORT=start.port, OPTION=option, WORKERS=start.workers)]


def haproxy(name="haproxy"):
    return lambda start: [*program(name), "-f", filled(
        "haproxy.cfg", start.folder, PORT=start.port, WORKERS=start.workers)]


def nginx_stream(name="nginx", option=""):
    module = f"load_module {STREAM_MODULE};" if name == "system nginx" else ""
    return lambda start: [*program(name), "-e", "stderr", "-c", filled(
        "nginx-stream.conf", start.folder, PORT=start.port, BACKEND=start.backend, MODULE=module,
        OPTION=option, WORKERS=start.workers)]


def haproxy_tcp(name="haproxy", option=""):
    return lambda start: [*program(name), "-f", filled(
        "haproxy-tcp.cfg", start.folder, PORT=start.port, OPTION=option, WORKERS=start.workers,
        BACKEND=start.backend.replace("unix:", "unix@"))]


def envoy(start):
    host, port = start.backend.split(":", 1)
    backend = (f"pipe: {{path: {port}}}" if host == "unix" else
               f"socket_address: {{address: {host}, port_value: {port}}}")
    path = filled("envoy.yaml", start.folder, PORT=start.port, BACKEND=backend)
    return [*program("envoy"), "-c", path, "--concurrency", str(start.workers), "--disable-hot-restart",
            "--log-level", "error"]


def traefik(start):
    filled("traefik-routes.yaml", start.folder, BACKEND=start.backend)
    path = filled("traefik.yaml", start.folder, PORT=start.port)
    return [f"GOMAXPROCS={start.workers}", *program("traefik"), f"--configFile={path}"]


def peer(runtime, mode):
    return lambda start: [peers.built(f"{runtime}_peer"), start.listen, mode, str(start.workers)]


def peer_proxy(runtime):
    return lambda start: [peers.built(f"{runtime}_proxy"), start.listen, start.backend, str(start.workers)]


# What our rows are called, and what is typed for it. `default` is what starts without --acceptors.
PLACEMENTS = {"default": [], "inline": ["--acceptors", "0"], "dedicated": ["--acceptors", "1"]}
RUNTIMES = ("tokio", "monoio", "glommio", "compio")


def ours(service):
    """name: how it is started, for each placement and engine."""
    suffix = "" if service == "echo" else f" {service}"
    found = {}
    for name, options in PLACEMENTS.items():
        found[name + suffix] = acceptor(service, *options)
        if name != "default":
            found[f"{name}{suffix} epoll"] = acceptor(service, *options, "--engine", "epoll")
            if service == "http":
                found[f"{name}{suffix} defer"] = acceptor(service, *options, "--defer-accept")
    return found


# name: (the service it does, how it is started)
SERVERS = {
    "bare ring": ("echo", bare("echo")),
    "bare ring http": ("http", bare("http")),
    **{name: ("echo", start) for name, start in ours("echo").items()},
    **{name: ("http", start) for name, start in ours("http").items()},
    "nginx": ("http", nginx()),
    "nginx defer": ("http", nginx(option="deferred")),
    "nginx reuseport": ("http", nginx(option="reuseport")),
    "haproxy": ("http", haproxy()),
    "system nginx": ("http", nginx("system nginx")),
    "system haproxy": ("http", haproxy("system haproxy")),
    **{name: ("echo", peer(name, "echo")) for name in RUNTIMES},
    **{f"{name} http": ("http", peer(name, "http")) for name in RUNTIMES},
    **{f"{name} uneven": ("uneven", uneven(*options[1:])) for name, options in PLACEMENTS.items()},
    **{f"{name} uneven": ("uneven", peer(name, "uneven")) for name in RUNTIMES},
}


# Those that pass connections on, to a backend on the client's CPUs.
PROXIES = {
    **{f"proxy {name}": proxy(*options) for name, options in PLACEMENTS.items()},
    "proxy inline epoll": proxy("--acceptors", "0", "--engine", "epoll"),
    "nginx stream": nginx_stream(),
    "nginx stream reuseport": nginx_stream(option="reuseport"),
    "haproxy tcp": haproxy_tcp(),
    "haproxy splice": haproxy_tcp(option="option splice-auto"),
    "envoy": envoy,
    "traefik": traefik,
    "tokio proxy": peer_proxy("tokio"),
    "monoio proxy": peer_proxy("monoio"),
    "pingora proxy": peer_proxy("pingora"),
    "system nginx stream": nginx_stream("system nginx"),
    "system haproxy tcp": haproxy_tcp("system haproxy"),
}
# They cannot have more than one worker, or differ from another row with more of them only.
ONE_WORKER_ONLY = ("bare ring", "bare ring http")
MANY_WORKERS_ONLY = ("nginx reuseport", "nginx stream reuseport")


def command(name, start):
    """(environment, command line)"""
    return split(PROXIES[name](start) if name in PROXIES else SERVERS[name][1](start))


def split(words):
    """(environment, command line) of words that may begin with NAME=VALUE"""
    first = next(index for index, word in enumerate(words) if not re.match(r"[A-Z_]+=", word))
    return dict(word.split("=", 1) for word in words[:first]), words[first:]


def missing(name):
    """Why a server cannot run here, or None."""
    if name == "system nginx stream" and not os.path.exists(STREAM_MODULE):
        return f"{STREAM_MODULE} is not there: libnginx-mod-stream has it"
    return absent(lambda start: command(name, start)[1])


def absent(make):
    """Why the program cannot run here whose command line this makes from a Start, or None."""
    with tempfile.TemporaryDirectory() as folder:
        path = split(make(Start(1, folder)))[1][0]
    if shutil.which(path):
        return None
    if path.endswith("@") or path.startswith(peers.target(peers.PACKAGE)):
        return f"{os.path.basename(path).removesuffix('@')} is not there; {peers.INSTALL} brings it"
    return f"{os.path.relpath(path, ROOT) if os.path.isabs(path) else path} is not there"


def spawn(words, cpus, environment):
    """A process on these CPUs. It inherits them, so that what is executed first is the program itself;
    when this returns, it has been."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    try:
        return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    finally:
        os.sched_setaffinity(0, own)


class Running:
    """A server on a port of its own, that ends with the block. `backend`: the server that a proxy passes
    connections on to, over a unix socket if `unix`; it runs on the client's CPUs and is not counted."""

    def __init__(self, name, layout=ONE_WORKER, cpus=None, backend=None, unix=False):
        self.name, self.layout = name, layout
        self.cpus = cpus or layout.server_cpus
        self.port = fresh_port()
        self.backend = Backend(backend, layout, unix) if backend else None

    def __enter__(self):
        if self.backend:
            self.backend.__enter__()
        self.folder, self.process = tempfile.TemporaryDirectory(prefix="compare-"), None
        try:
            os.chmod(self.folder.name, 0o755)  # a worker may be another user
            variables, words = self.command(self.backend.address if self.backend else None)
            self.process = spawn(words, self.cpus, {**os.environ, **variables})
            self.wait_until_listening()
            if self.backend:
                self.wait_until_forwarding()
            if self.layout.pinned:
                self.pin()
        except BaseException:  # also Ctrl-C: nothing may stay behind
            self.end()
            raise
        return self

    def command(self, behind):
        start = Start(self.port, self.folder.name, workers=self.layout.workers)
        return command(self.name, dataclasses.replace(start, backend=behind) if behind else start)

    @property
    def pid(self):
        return self.process.pid

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def is_listening(self):
        return any(listens_on(self.port, path) for path in ("/proc/net/tcp", "/proc/net/tcp6"))

    def wait_until_listening(self):
        deadline = time.monotonic() + START_LIMIT_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                text = self.process.stderr.read().decode(errors="replace")
                raise SystemExit(f"{self.name} did not start: {text.strip()}")
            if self.is_listening():
                return
            time.sleep(0.02)
        raise SystemExit(f"{self.name} does not listen on port {self.port}")

    def wait_until_forwarding(self):
        """Traefik listens before it knows where to; until then it answers HTTP by itself."""
        deadline = time.monotonic() + START_LIMIT_SECONDS
        while time.monotonic() < deadline:
            with socket.create_connection(("127.0.0.1", self.port), START_LIMIT_SECONDS) as probe:
                try:
                    probe.sendall(PROBE)
                    if re.match(rb"GET |HTTP/1.1 200 ", probe.recv(4096)):
                        return
                except ConnectionError:
                    pass
            time.sleep(0.02)
        raise SystemExit(f"{self.name} passes nothing on")

    def pin(self):
        """Threads that are called workers, or worker processes, to the CPUs in turn."""
        family = machine.family(self.pid)
        workers = family[1:] or [task for task in tasks(self.pid) if re.match(r"worker-\d|wrk:", task_name(task))]
        for index, task in enumerate(sorted(workers or tasks(self.pid))):
            os.sched_setaffinity(task, {index % 2})

    def cpu_seconds(self):
        return machine.cpu_seconds(machine.family(self.process.pid))

    def __exit__(self, *_):
        self.end()

    def end(self):
        if self.process:
            self.end_process()
        self.folder.cleanup()
        if self.backend:
            self.backend.end()

    def end_process(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(END_LIMIT_SECONDS)
        except subprocess.TimeoutExpired:  # Traefik takes 2 s
            for member in machine.family(self.pid):
                os.kill(member, signal.SIGKILL)
            self.process.wait()
        self.process.stderr.close()


class Backend(Running):
    """One of our servers behind a proxy."""

    def __init__(self, name, layout, unix):
        super().__init__(name, cpus=layout.client_cpus)
        self.unix = unix

    @property
    def path(self):
        return os.path.join(self.folder.name, "backend.sock")

    @property
    def address(self):
        return f"unix:{self.path}" if self.unix else super().address

    def command(self, behind):
        variables, words = super().command(behind)
        return variables, [f"unix:{self.path}" if self.unix and word == f"127.0.0.1:{self.port}" else word
                           for word in words]

    def is_listening(self):
        if not self.unix:
            return super().is_listening()
        with open("/proc/net/unix") as file:
            listens = any(line.rstrip().endswith(self.path) and line.split()[3] == "00010000" for line in file)
        if listens:
            os.chmod(self.path, 0o777)
        return listens


def listens_on(port, path):
    try:
        with open(path) as file:
            return re.search(rf":{port:04X} 0+:0000 0A", file.read()) is not None
    except OSError:
        return False  # without IPv6


def tasks(pid):
    return [int(os.path.basename(path)) for path in glob.glob(f"/proc/{pid}/task/*")]


def task_name(task):
    with open(f"/proc/{task}/comm") as file:
        return file.read()
