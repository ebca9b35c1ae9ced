"""Connections that are held open while a server is replaced, and what became of each.

python3 held.py sessions HOST:PORT COUNT SECONDS: COUNT connections, a message a second on each, which comes back.
python3 held.py streams HOST:PORT COUNT SECONDS BYTES: COUNT connections that carry BYTES a second each way.

Says "ready" when all are open. Reads lines: a name begins a phase, "join N" opens more sessions, "stop" or the end of
input ends it all, as SECONDS do. Then nothing more is sent, and what is on its way must still come. What became of the
connections comes on stdout as JSON. Every byte is checked. A connection is cut when it is reset, when a FIN comes, when
a byte is wrong, missing or doubled, or when what it waits for at the end does not come. None is opened again.

No stream half-closes: whether a proxy passes that on is another question.
"""

import contextlib
import heapq
import json
import os
import random
import select
import socket
import subprocess
import sys
import time

MESSAGE_BYTES = 64
INTERVAL_SECONDS = 1.0
# What a stream may send at once, and how often it is its turn.
TURN_SECONDS = 0.005
RECEIVE_BYTES = 256 * 1024
CONNECT_SECONDS, LAST_ANSWER_SECONDS = 10.0, 5.0
# A prime, so that a loss of whole buffers never falls on a whole period; twice in a row, so that a piece never wraps.
PERIOD_BYTES = 1_000_003
PATTERN = random.Random(1).randbytes(PERIOD_BYTES) * 2


def is_expected(position, data):
    """Whether these are the bytes of a stream from `position` on."""
    return PATTERN.startswith(data, position % PERIOD_BYTES)


class Cut(Exception):
    """Why a connection is over before its time."""


class Held:
    """One connection. Subclasses know what is sent and what must come."""

    def __init__(self, address):
        self.socket = socket.create_connection(address, CONNECT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)

    def receive(self):
        """What has come, b"" at the FIN, None if there is nothing."""
        try:
            return self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            raise Cut(type(error).__name__) from None

    def send(self, data):
        """How many bytes went."""
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise Cut(type(error).__name__) from None


class Session(Held):
    """One message in flight at most, so that its round trip is that of the path and not of a queue."""

    def __init__(self, address, number):
        super().__init__(address)
        self.number, self.count, self.waits_for, self.sent_at = number, 0, b"", None

    def ask(self, now):
        if self.sent_at is not None:
            return
        head = self.number.to_bytes(8, "big") + self.count.to_bytes(8, "big")
        self.count += 1
        begin = self.count * 48 % PERIOD_BYTES
        self.waits_for, self.sent_at = head + PATTERN[begin:begin + MESSAGE_BYTES - len(head)], now
        if self.send(self.waits_for) != MESSAGE_BYTES:
            raise Cut("no room for a message")

    def ready(self, now):
        """Takes what has come; the round trip if that is the whole answer."""
        data = self.receive()
        if data is None:
            return None
        if not data:
            raise Cut("FIN")
        if not self.waits_for.startswith(data):
            raise Cut("wrong bytes")
        self.waits_for = self.waits_for[len(data):]
        if self.waits_for:
            return None
        took, self.sent_at = now - self.sent_at, None
        return took

    def is_done(self):
        return self.sent_at is None


class Stream(Held):
    def __init__(self, address, bytes_per_second):
        super().__init__(address)
        self.rate, self.sent, self.received = bytes_per_second, 0, 0
        self.began = time.monotonic()

    def turn(self, now):
        due = min(self.rate * (now - self.began) - self.sent, PERIOD_BYTES)
        if due < 1:
            return
        begin = self.sent % PERIOD_BYTES
        self.sent += self.send(PATTERN[begin:begin + int(due)])

    def ready(self, _):
        data = self.receive()
        if data is None:
            return
        if not data:
            raise Cut(f"FIN behind {self.received} of {self.sent} bytes")
        if not is_expected(self.received, data):
            raise Cut(f"wrong bytes behind {self.received}")
        self.received += len(data)
        if self.received > self.sent:
            raise Cut(f"{self.received} bytes of {self.sent}")

    def is_done(self):
        return self.received == self.sent


class Load:
    """All connections of one kind, on one epoll."""

    def __init__(self, connections, seconds):
        self.poll, self.connections, self.cut = select.epoll(), {}, []
        self.phase, self.round_trips = "open", {}
        self.opened, self.is_over = len(connections), False
        self.deadline = time.monotonic() + seconds
        for held in connections:
            self.add(held)
        os.set_blocking(sys.stdin.fileno(), False)
        self.poll.register(sys.stdin, select.EPOLLIN)

    def add(self, held):
        self.connections[held.socket.fileno()] = held
        self.poll.register(held.socket, select.EPOLLIN)

    def told(self):
        text = os.read(sys.stdin.fileno(), 4096).decode()
        for line in text.splitlines():
            self.obey(*line.split())
        self.is_over = self.is_over or not text

    def obey(self, word, *_):
        self.phase, self.is_over = word, word == "stop"

    def attempt(self, held, act):
        """Does something with a connection, which may be its end."""
        try:
            return act()
        except Cut as why:
            self.forget(held, str(why))

    def forget(self, held, why):
        self.cut.append({"phase": self.phase, "why": why, "at": time.time()})
        del self.connections[held.socket.fileno()]
        held.socket.close()

    def wait(self, seconds):
        """Takes what has come, of which there may be nothing for so long."""
        for number, _ in self.poll.poll(max(0.0, seconds)):
            if number == sys.stdin.fileno():
                self.told()
            elif held := self.connections.get(number):
                now = time.monotonic()
                took = self.attempt(held, lambda: held.ready(now))
                if took is not None:
                    self.round_trips.setdefault(self.phase, []).append(took)
                if self.is_over and held.socket.fileno() == number and held.is_done():
                    self.poll.unregister(number)

    def go_on(self):
        return not self.is_over and time.monotonic() < self.deadline

    def end(self):
        """Waits for what must come yet, and tells all."""
        self.is_over = True
        deadline = time.monotonic() + LAST_ANSWER_SECONDS
        for held in self.connections.values():
            if held.is_done():
                self.poll.unregister(held.socket)
        while any(not held.is_done() for held in self.connections.values()) and time.monotonic() < deadline:
            self.wait(deadline - time.monotonic())
        for held in list(self.connections.values()):
            if not held.is_done():
                self.forget(held, "silent")
        trips = {phase: sorted(times) for phase, times in self.round_trips.items()}
        return {"opened": self.opened, "cut": self.cut, "round_trips": {
            phase: {"count": len(times), "p50_ms": 1e3 * times[len(times) // 2],
                    "p99_ms": 1e3 * times[len(times) * 99 // 100], "max_ms": 1e3 * times[-1]}
            for phase, times in trips.items()}}


class Sessions(Load):
    """Each is asked once in an interval, in turn: at any moment some are about to be."""

    def __init__(self, address, count, seconds):
        super().__init__([], seconds)
        self.address, self.due = address, []
        self.join(count)
        if self.cut:
            raise SystemExit(self.cut[0]["why"])

    def join(self, count):
        """Opens more of them."""
        for index in range(count):
            self.opened += 1
            try:
                held = Session(self.address, self.opened)
            except OSError as error:
                self.cut.append({"phase": self.phase, "why": f"not opened: {type(error).__name__}", "at": time.time()})
                continue
            self.add(held)
            heapq.heappush(self.due, (time.monotonic() + INTERVAL_SECONDS * index / count, self.opened, held))

    def obey(self, word, *count):
        if word == "join":
            self.join(int(count[0]))
        else:
            super().obey(word)

    def ask(self):
        """Asks whose turn it is; how many seconds there are until the next turn."""
        while self.due and self.due[0][0] <= time.monotonic():
            at, number, held = heapq.heappop(self.due)
            if held.socket.fileno() in self.connections:
                self.attempt(held, lambda: held.ask(time.monotonic()))
                heapq.heappush(self.due, (at + INTERVAL_SECONDS, number, held))
        return self.due[0][0] - time.monotonic() if self.due else INTERVAL_SECONDS


def sessions(address, count, seconds):
    load = Sessions(address, count, seconds)
    print("ready", flush=True)
    while load.go_on():
        load.wait(load.ask())
    return load.end()


def streams(address, count, seconds, bytes_per_second):
    load = Load([Stream(address, bytes_per_second) for _ in range(count)], seconds)
    print("ready", flush=True)
    while load.go_on():
        for held in list(load.connections.values()):
            load.attempt(held, lambda: held.turn(time.monotonic()))
        load.wait(TURN_SECONDS)
    told = load.end()
    told["bytes"] = sum(held.received for held in load.connections.values())
    return told


class Running:
    """One of these loads in a process of its own, which ends with the block."""

    def __init__(self, kind, address, count, seconds, *options, cpus):
        words = [kind, address, count, seconds, *options]
        self.command = ["taskset", "-c", cpus, sys.executable, os.path.abspath(__file__), *map(str, words)]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.process.stdout.readline() != "ready\n":
            self.__exit__()
            raise SystemExit(f"{' '.join(self.command)} could not open its connections")
        return self

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def stop(self):
        """What became of the connections."""
        with contextlib.suppress(BrokenPipeError):  # its time was over
            self.tell("stop")
        return json.loads(self.process.communicate(timeout=LAST_ANSWER_SECONDS + CONNECT_SECONDS)[0])

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def main(kind, address, count, seconds, *options):
    host, port = address.rsplit(":", 1)
    made = {"sessions": sessions, "streams": streams}[kind]
    print(json.dumps(made((host, int(port)), int(count), float(seconds), *map(int, options))))


if __name__ == "__main__":
    main(*sys.argv[1:])
