"""No request is lost: not when generations take over from one another under load, and not when the last one stops.

The clients are threads with sockets of their own, so that they know exactly what had reached them when they sent. A
request is lost if it was sent before the end of the connection had arrived, and got no full answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from plait import Application
from plait.net import Server, streams
from plait.net.sockets import Registry
from test_server import BufferedEcho, FixedEcho, echo

SWITCHES = 15
STOPS = 40
ANSWER_TIMEOUT = 10.0


class Load:
    """Clients in threads, of one address."""

    def __init__(self, address: Any, ways: str) -> None:
        self.answered = dict.fromkeys(ways.split(), 0)
        self.lost: list[str] = []
        self.stopping = threading.Event()
        self._address = address
        self._threads = [threading.Thread(target=self._run, args=(way,)) for way in self.answered]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, way: str) -> None:
        while not self.stopping.is_set():
            try:
                sock = self._connect()
            except (ConnectionRefusedError, FileNotFoundError, TimeoutError):
                continue  # refused, or its first packet was dropped; the other tests say when that may be
            with sock:
                try:
                    while self._request(sock, way) and way not in ("new", "slow"):
                        pass
                except OSError as error:
                    self.lost.append(f"{way}: {error!r}")

    def _connect(self) -> socket.socket:
        if isinstance(self._address, tuple):
            sock = socket.create_connection(self._address, timeout=0.5)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(0.5)
            try:
                sock.connect(self._address)
            except BaseException:
                sock.close()
                raise
        sock.settimeout(ANSWER_TIMEOUT)
        return sock

    def _request(self, sock: socket.socket, way: str) -> bool:
        """Whether another can follow."""
        if self.stopping.is_set() or has_ended(sock):
            return False
        line = b"%d " % self.answered[way] * (5000 if way == "large" else 1) + b"\n"
        request = line * 3 if way == "pipeline" else line
        if way == "slow":
            time.sleep(0.003)
        if not self._send(sock, request, way):
            return False
        answer = b""
        while len(answer) < len(request) and (data := sock.recv(65536)):
            answer += data
        if answer != request:
            self.lost.append(f"{way}: {len(answer)} of {len(request)} bytes")
            return False
        self.answered[way] += 1
        return True

    def _send(self, sock: socket.socket, request: bytes, way: str) -> bool:
        try:
            if way == "pieces":
                sock.sendall(request[:1])
                time.sleep(random.choice((0, 0.001)))
                sock.sendall(request[1:])
            else:
                sock.sendall(request)
        except BrokenPipeError:
            if sock.family != socket.AF_UNIX:
                raise
            return False  # a unix socket says so at once: this was not sent
        return True


def has_ended(sock: socket.socket) -> bool:
    """Whether the other side's end has arrived."""
    sock.settimeout(0)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    finally:
        sock.settimeout(ANSWER_TIMEOUT)


@asynccontextmanager
async def under_load(address: Any, ways: str) -> AsyncIterator[Load]:
    """The threads are joined without holding up the loop, which has to serve them."""
    load = Load(address, ways)
    load.__enter__()
    try:
        yield load
    finally:
        await asyncio.to_thread(load.__exit__)


async def generation(registry: Registry, listen: str, serve: Any = echo, **more: Any) -> tuple[Application, Server]:
    """One that has started."""
    app = Application("generation")
    app.provide(Registry, registry)
    server = app.add(Server(listen, serve, **more), name="server", drain_timeout=20)
    await app.start()
    return app, server


class SlottedLines(asyncio.Protocol):
    """A protocol that answers each line, and ends between two."""

    __slots__ = ("is_ending", "rest", "transport")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.rest = b""
        self.is_ending = False

    def data_received(self, data: bytes) -> None:
        lines, newline, self.rest = (self.rest + data).rpartition(b"\n")
        self.transport.write(lines + newline)
        if self.is_ending and not self.rest:
            self.transport.close()

    def drain(self) -> None:
        self.is_ending = True
        if not self.rest:
            self.transport.close()


class Lines(SlottedLines):
    """With a __dict__."""


class FixedLines(Lines):
    """Behind a relay."""

    __setattr__ = FixedEcho.__setattr__


WAYS = "new slow keep-alive large pieces pipeline"


@pytest.mark.parametrize(
    ("serve", "most"),
    [(echo, None), (echo, 3), (Lines, None), (SlottedLines, None), (FixedLines, None), (BufferedEcho, None)],
)
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
async def test_no_request_is_lost_between_generations(serve: Any, most: int | None, unix: bool, tmp_path: Any) -> None:
    """A connection a request, slow senders, keep-alive, large ones, requests in pieces and pipelines, all at once."""
    registry, listen = Registry(), f"unix://{tmp_path}/s" if unix else "tcp://127.0.0.1:0"
    old, server = await generation(registry, listen, serve, max_connections=most)
    endpoint = server.endpoints[0]
    address = endpoint.path if unix else (endpoint.host, endpoint.port)
    cut = 0
    async with under_load(address, WAYS if serve is not BufferedEcho else "new slow keep-alive pipeline") as load:
        for _ in range(SWITCHES):
            new, after = await generation(registry, listen, serve, max_connections=most)
            assert after.endpoints == (endpoint,)
            await old.stop()
            cut += server.stats.cut
            old, server = new, after
            await asyncio.sleep(0.02)
    await old.stop()
    assert load.lost == []
    assert cut == 0
    assert sum(load.answered.values()) > 10 * SWITCHES


async def test_no_request_is_lost_when_the_last_one_stops() -> None:
    """Whoever could connect is answered, also who did so between the last accept and the close."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = sock.getsockname()
    async with under_load(address, "new slow keep-alive pieces pipeline") as load:
        for _ in range(STOPS):
            app, _server = await generation(Registry(), f"tcp://127.0.0.1:{address[1]}")
            await asyncio.sleep(0.02)
            await app.stop()
    assert load.lost == []
    assert sum(load.answered.values()) > STOPS


BREAKS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "without a cork": lambda patch: patch.setattr(streams, "cork", lambda transport: None),
    "ended at once": lambda patch: patch.setattr(streams.Stream, "_idle_in", lambda self, transport: 0.0),
}


@pytest.mark.parametrize("how", BREAKS)
async def test_this_load_finds_what_it_is_for(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any one of the means that keep requests, some are lost."""
    BREAKS[how](monkeypatch)
    lost: list[str] = []
    deadline = time.monotonic() + 20
    while not lost and time.monotonic() < deadline:
        registry = Registry()
        old, server = await generation(registry, "tcp://127.0.0.1:0")
        endpoint = server.endpoints[0]
        async with under_load((endpoint.host, endpoint.port), WAYS) as load:
            for _ in range(5):
                new, _ = await generation(registry, "tcp://127.0.0.1:0")
                with contextlib.suppress(Exception):
                    await old.stop()
                old = new
                await asyncio.sleep(0.01)
        await old.stop()
        lost = load.lost
    assert lost
