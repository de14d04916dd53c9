"""The load generator for a machine without a C compiler: the words of load.c, spoken slower.

Rules: see load.c. It is so much dearer than the server is cheap that the table says who generated the load.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time

STALLED = 10.0
SOURCES = 64


class Connection:
    """One client."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.unread = 0
        self.sock = self.dial()

    def dial(self) -> socket.socket:
        """A new connection, watched."""
        self.load.dialled += 1
        source = (f"127.0.0.{2 + self.load.dialled % SOURCES}", 0) if self.load.churn else None
        sock = socket.create_connection(("127.0.0.1", self.load.port), STALLED, source)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.load.selector.register(sock, selectors.EVENT_READ, self)
        return sock

    def hang_up(self) -> None:
        """Close it."""
        self.load.selector.unregister(self.sock)
        self.sock.close()

    def begin(self) -> None:
        """Ask once."""
        if self.sock.fileno() < 0:
            self.sock = self.dial()
        self.unread = self.load.size
        self.sock.sendall(self.load.payload)

    def step(self) -> bool:
        """Read; whether the answer is complete."""
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError("the server closed a connection")
        self.unread -= len(data)
        if not self.unread and self.load.churn:
            self.hang_up()
        return not self.unread


class Load:
    """All clients."""

    def __init__(self, mode: str, port: int, count: int, size: int) -> None:
        self.churn, self.port, self.size = mode == "accept", port, size
        self.payload = bytes(size)
        self.dialled = 0
        self.selector = selectors.DefaultSelector()
        self.connections = [Connection(self) for _ in range(count)]

    def run(self, seconds: float) -> str:
        """Load for so long; the answer line."""
        begun, cpu = time.perf_counter(), time.process_time()
        requests, busy = 0, len(self.connections)
        for connection in self.connections:
            connection.begin()
        while busy:
            ready = self.selector.select(STALLED)
            if not ready:
                raise TimeoutError(f"no answer for {STALLED} s")
            more = time.perf_counter() - begun < seconds
            for key, _ in ready:
                if not key.data.step():
                    continue
                requests += 1
                if more:
                    key.data.begin()
                else:
                    busy -= 1
        return f"{requests} {time.perf_counter() - begun:.9f} {time.process_time() - cpu:.9f} 0"


def main(mode: str, port: str, count: str, size: str) -> None:
    """Answer each line of standard input. It sleeps while it waits, whatever it is told."""
    load = Load(mode, int(port), int(count), int(size))
    print("ready", flush=True)
    for line in sys.stdin:
        print(load.run(float(line.split()[0]) / 1000), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
