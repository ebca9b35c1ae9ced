"""What is compared: the kinds of work, and who takes part in each. The first row that is there is the
reference."""

import dataclasses

from . import servers

HTTP = [
    "nginx", "system nginx", "bare ring http", "default http", "inline http", "dedicated http",
    "inline http epoll", "dedicated http epoll", "inline http defer", "dedicated http defer", "nginx defer",
    "nginx reuseport", "haproxy", "system haproxy", "tokio http", "monoio http", "glommio http", "compio http",
]
# The bare ring closes after each answer, and accepting is not part of this work.
KEEP_ALIVE = [name for name in HTTP if name != "bare ring http" and not name.endswith("defer")]
ECHO = ["bare ring", "default", "inline", "dedicated", "inline epoll", "dedicated epoll", *servers.RUNTIMES]
UNEVEN = ["tokio uneven", "monoio uneven", "glommio uneven", "compio uneven",
          *(f"{name} uneven" for name in servers.PLACEMENTS)]
PROXIES = [
    "haproxy tcp", "system haproxy tcp", "proxy default", "proxy inline", "proxy dedicated", "proxy inline epoll",
    "nginx stream", "nginx stream reuseport", "system nginx stream", "envoy", "traefik", "tokio proxy",
    "monoio proxy", "pingora proxy",
]
SIDECARS = ["haproxy tcp", "proxy default", "proxy inline", "proxy dedicated", "nginx stream", "envoy"]


@dataclasses.dataclass(frozen=True)
class Work:
    """`mode` is that of bench/clients.py, `rows` the servers, `backend` what proxies pass connections on
    to, over a unix socket if `unix`; it should not be the limit. `kinds` is what is measured: `cpu` per
    operation at the most that the client can do, `latency` at planned rates."""

    mode: str
    rows: list
    backend: str | None = None
    unix: bool = False
    kinds: tuple = ("cpu", "latency")

    def servers(self, workers):
        left_out = servers.MANY_WORKERS_ONLY if workers == 1 else servers.ONE_WORKER_ONLY
        return [name for name in self.rows if name not in left_out]


WORKS = {
    "http, server closes": Work("http", HTTP),
    "http, keep-alive": Work("http-keep", KEEP_ALIVE),
    "connect, echo, client closes": Work("crr", ECHO),
    "echo on open connections": Work("rr", ECHO),
    "uneven": Work("uneven", UNEVEN, kinds=("latency",)),
    "proxy: connect, echo, client closes": Work("crr", PROXIES, "inline"),
    "proxy: HTTP, backend closes": Work("http", PROXIES, "inline http"),
    "proxy: echo on open connections": Work("rr", PROXIES, "inline"),
    "proxy: bulk, 64 KiB writes": Work("stream", ["haproxy splice", *PROXIES], "inline", kinds=("cpu",)),
    "proxy to a unix socket: connect, echo, client closes": Work("crr", SIDECARS, "inline", unix=True),
    "proxy to a unix socket: echo on open connections": Work("rr", SIDECARS, "inline", unix=True),
}
