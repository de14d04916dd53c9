"""No request is lost when generations take over from one another under load, or when the last server stops or pauses.

The clients are threads with sockets of their own, so that they know exactly what had reached them when they sent. A
request is lost if it was sent before the end of the connection had arrived, and got no full answer.
"""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import uvloop

from plait import Application
from plait.net import Server, serving, streams
from plait.net.sockets import Lease, Registry
from test_server import BufferedEcho, echo

SWITCHES = 15
STOPS = 15
ANSWER_TIMEOUT = 10.0
GOODBYE = b" close\n"


class Load:
    """Clients in threads, of one address, each asking in its own way."""

    def __init__(self, address: Any, ways: str, *, may_be_refused: bool = False) -> None:
        self.answered = dict.fromkeys(ways.split(), 0)
        self.may_be_refused = may_be_refused
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
            except OSError as error:
                if not self.may_be_refused:
                    self.lost.append(f"{way}: cannot connect: {error!r}")
                    return
                time.sleep(0.001)
                continue
            with sock:
                try:
                    while self._request(sock, way) and way not in ("new", "newer", "newest", "slow"):
                        pass
                except OSError as error:
                    self.lost.append(f"{way}: {error!r}")

    def _connect(self) -> socket.socket:
        is_tcp = isinstance(self._address, tuple)
        sock = socket.socket(socket.AF_INET if is_tcp else socket.AF_UNIX)
        sock.settimeout(0.3 if self.may_be_refused else ANSWER_TIMEOUT)  # its first packet may have been dropped
        try:
            sock.connect(self._address)
            if is_tcp:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            sock.close()
            raise
        return sock

    async def more(self, count: int) -> None:
        """Until so many more were answered."""
        enough = sum(self.answered.values()) + count
        while sum(self.answered.values()) < enough:
            await asyncio.sleep(0.001)

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
        if answer.removesuffix(GOODBYE) == request.removesuffix(b"\n"):
            self.answered[way] += 1
            return False
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
async def under_load(address: Any, ways: str, **more: Any) -> AsyncIterator[Load]:
    """The threads are joined without holding up the loop, which has to serve them."""
    load = Load(address, ways, **more)
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
    """A protocol that answers each line at once, and ends between two: at once, if it is there."""

    __slots__ = ("is_ending", "rest", "transport")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.rest = b""
        self.is_ending = False

    def data_received(self, data: bytes) -> None:
        lines, newline, self.rest = (self.rest + data).rpartition(b"\n")
        if newline:
            self.answer(lines + newline)

    def answer(self, lines: bytes) -> None:
        self.transport.write(lines)
        self.end_between()

    def end_between(self) -> None:
        if self.is_ending and not self.rest:
            self.transport.close()

    def drain(self) -> None:
        self.is_ending = True
        self.end_between()


class Lines(SlottedLines):
    """With a __dict__."""


class FixedLines(Lines):
    """Behind a relay."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "__class__":
            raise TypeError("__class__ assignment only supported for mutable types")
        super().__setattr__(name, value)


class LaterLines(Lines):
    """Answers a moment later, as one does that asks a database."""

    owed = 0

    def answer(self, lines: bytes) -> None:
        self.owed += 1
        asyncio.get_running_loop().call_later(0.001, self.answer_now, lines)

    def answer_now(self, lines: bytes) -> None:
        self.owed -= 1
        if not self.transport.is_closing():
            self.transport.write(lines)
            self.end_between()

    def end_between(self) -> None:
        if not self.owed:
            super().end_between()


class Polite(Lines):
    """Like HTTP: told to drain it answers the next request, says in the answer that it is the last, and closes."""

    def answer(self, lines: bytes) -> None:
        if self.is_ending:
            self.transport.write(lines.removesuffix(b"\n") + GOODBYE)
            self.transport.close()
        else:
            self.transport.write(lines)

    def drain(self) -> None:
        self.is_ending = True


class PoliteLater(Polite, LaterLines):
    """And that a moment later."""

    def answer(self, lines: bytes) -> None:
        LaterLines.answer(self, lines)

    def answer_now(self, lines: bytes) -> None:
        if not self.transport.is_closing():
            Polite.answer(self, lines)


WAYS = "new slow keep-alive large pieces pipeline"


@pytest.mark.parametrize(
    ("serve", "most", "ways"),
    [(echo, None, WAYS), (echo, 3, WAYS), (Lines, None, WAYS), (Lines, 3, WAYS), (SlottedLines, None, WAYS),
     (FixedLines, None, WAYS), (LaterLines, None, WAYS), (Polite, None, "new slow keep-alive pieces"),
     (PoliteLater, None, "new slow keep-alive pieces"), (BufferedEcho, None, "new slow keep-alive pipeline")],
    ids=["echo", "echo of 3", "lines", "lines of 3", "slots", "relay", "later", "polite", "polite later", "buffered"],
)  # fmt: skip
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
async def test_no_request_is_lost_between_generations(
    serve: Any, most: int | None, ways: str, unix: bool, tmp_path: Any
) -> None:
    """A connection a request, slow senders, keep-alive, large ones, requests in pieces and pipelines, all at once."""
    registry, listen = Registry(), f"unix://{tmp_path}/s" if unix else "tcp://127.0.0.1:0"
    old, server = await generation(registry, listen, serve, max_connections=most)
    endpoint = server.endpoints[0]
    address = endpoint.path if unix else (endpoint.host, endpoint.port)
    cut = 0
    async with under_load(address, ways) as load:
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


FRESH = "new newer newest slow keep-alive pieces"


async def stop_again_and_again(listen: str, count: int = STOPS) -> list[str]:
    """The only server of an address stops under load, and another starts; what was lost."""
    registry = Registry()
    app, server = await generation(registry, listen)
    (endpoint,) = server.endpoints
    address = endpoint.path if endpoint.scheme == "unix" else (endpoint.host, endpoint.port)
    async with under_load(address, FRESH, may_be_refused=True) as load:
        for _ in range(count):
            await load.more(100)
            await app.stop()
            app, _ = await generation(registry, listen)
    await app.stop()
    return load.lost


async def pause_again_and_again(listen: str, mode: str, count: int = STOPS) -> list[str]:
    """It pauses under load, and is resumed; what was lost."""
    app, server = await generation(Registry(), listen)
    (endpoint,) = server.endpoints
    address = endpoint.path if endpoint.scheme == "unix" else (endpoint.host, endpoint.port)
    async with under_load(address, FRESH, may_be_refused=mode == "refuse") as load:
        for _ in range(count):
            await load.more(100)
            await server.pause(mode)
            await server.resume()
    await app.stop()
    return load.lost


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize("what", ["stop", "hold", "refuse"])
async def test_no_request_is_lost_when_the_only_server_stops_or_pauses(unix: bool, what: str, tmp_path: Any) -> None:
    """Whoever could connect is answered, also who did so between the last accept and the close."""
    listen = f"unix://{tmp_path}/s" if unix else "tcp://127.0.0.1:0"
    lost = await (stop_again_and_again(listen) if what == "stop" else pause_again_and_again(listen, what))
    assert lost == []


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_without_refusing_newcomers_some_are_lost(unix: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """So this load finds what it is for. (asyncio's own loop is too slow to be caught often.)"""
    monkeypatch.setattr(Lease, "refuse", lambda self: 0.0)
    lost: list[str] = []
    deadline = time.monotonic() + 60
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        while not lost and time.monotonic() < deadline:
            listen = f"unix://{tmp_path}/s" if unix else "tcp://127.0.0.1:0"
            lost = runner.run(stop_again_and_again(listen, 5))
    assert lost


BREAKS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "without a cork": lambda patch: patch.setattr(streams, "_cork", lambda transport, on: None),
    "ended at once": lambda patch: patch.setattr(streams.Ending, "due_in", lambda self, **more: 0.0),
    "unix closed at once": lambda patch: patch.setattr(serving.Serving, "_may_close", lambda *args: True),
    "told of its end": lambda patch: patch.setattr(serving, "hear_end", lambda *args: lambda: True),
}


@pytest.mark.parametrize(
    ("how", "serve", "unix"),
    [("without a cork", echo, False), ("without a cork", Lines, False), ("ended at once", echo, False),
     ("ended at once", Lines, False), ("unix closed at once", Lines, True), ("told of its end", LaterLines, True)],
)  # fmt: skip
async def test_this_load_finds_what_it_is_for(
    how: str, serve: Any, unix: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Without any one of the means that keep requests, some are lost."""
    BREAKS[how](monkeypatch)
    listen = f"unix://{tmp_path}/s" if unix else "tcp://127.0.0.1:0"
    lost: list[str] = []
    deadline = time.monotonic() + 20
    while not lost and time.monotonic() < deadline:
        registry = Registry()
        old, server = await generation(registry, listen, serve)
        endpoint = server.endpoints[0]
        async with under_load(endpoint.path if unix else (endpoint.host, endpoint.port), WAYS) as load:
            for _ in range(5):
                new, _ = await generation(registry, listen, serve)
                await old.stop()
                old = new
                await asyncio.sleep(0.01)
        await old.stop()
        lost = load.lost
    assert lost
