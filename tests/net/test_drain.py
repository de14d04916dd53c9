"""Drain: what has been sent is answered, nobody is lost between generations, and nothing holds up the end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from pathlib import Path
from typing import Any, cast

import pytest

from plait import Application
from plait.net import Server
from plait.net.sockets import Registry
from plait.net.streams import GRACE
from test_server import Echo, close, connect, echo, running

SWITCHES = 25


async def test_an_idle_connection_does_not_hold_up_the_stop() -> None:
    """A handler that loops on read sees the end of its stream."""
    async with running(echo, drain_timeout=30) as server:
        reader, writer = await connect(server)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        began = time.monotonic()
    assert time.monotonic() - began < 10
    assert server.stats.cut == 0
    assert await reader.read() == b""
    await close(writer)


async def test_all_that_was_sent_is_read_though_the_handler_is_slow_and_reading_is_paused() -> None:
    """What lies in the reader's buffer and what lies in the kernel's: the last line is answered, then comes the end."""
    lines = 3_000
    seen: list[bytes] = []

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            seen.append(line)
            if len(seen) % 100 == 0:
                await asyncio.sleep(0.001)

    async with running(slow, drain_timeout=30) as server:
        _, writer = await connect(server)
        writer.write(b"".join(b"%d %s\n" % (number, b"x" * 100) for number in range(lines)))
        await writer.drain()
        while not seen:
            await asyncio.sleep(0)
    assert len(seen) == lines
    await close(writer)


async def test_a_request_that_comes_in_pieces_across_the_drain_is_answered() -> None:
    """It began before, and ends after."""
    async with running(echo, drain_timeout=30) as server:
        reader, writer = await connect(server)
        writer.write(b"first\n")
        assert await reader.readline() == b"first\n"
        writer.write(b"sec")
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(2 * GRACE)  # an idle connection would have ended by then
        writer.write(b"ond\n")
        assert await reader.read() == b"second\n"
        await stopping
    await close(writer)


async def test_a_fresh_connection_is_given_a_moment_to_speak() -> None:
    """It was accepted before the drain, and sends its request a little later."""
    async with running(echo, drain_timeout=30) as server:
        reader, writer = await connect(server)
        while server.stats.open == 0:
            await asyncio.sleep(0)
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0.05)
        writer.write(b"late\n")
        assert await reader.read() == b"late\n"
        await stopping
    await close(writer)


async def test_what_will_not_end_is_cut_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    """At drain_timeout; the application stops cleanly all the same."""

    async def stubborn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"here\n")
        await asyncio.sleep(60)

    async with running(stubborn, drain_timeout=0.1) as server:
        reader, writer = await connect(server)
        assert await reader.readline() == b"here\n"
    assert server.stats.cut == 1
    assert "1 connections were still open, and have been cut" in caplog.text
    await close(writer)


async def test_a_protocols_drain_is_called_once_and_it_ends_when_it_likes() -> None:
    """Later than the call, and before the deadline."""
    drained: list[asyncio.Transport] = []

    class Polite(Echo):
        def drain(self) -> None:
            drained.append(self.transport)
            asyncio.get_running_loop().call_later(0.05, self.transport.close)

    async with running(Polite, drain_timeout=30) as server:
        reader, writer = await connect(server)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
    assert len(drained) == 1
    assert server.stats.cut == 0
    await close(writer)


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
async def test_a_protocol_is_told_when_nothing_that_was_sent_is_unread(
    unix: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However silent its client is: not while it has paused reading. So one that closes at once has answered all."""
    monkeypatch.setattr("plait.net.streams.GRACE", 0.02)
    made: list[Any] = []

    class Paused(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.Transport, transport)
            self.seen = b""

        def data_received(self, data: bytes) -> None:
            self.seen += data
            if not made:
                made.append(self)
                self.transport.pause_reading()

        def drain(self) -> None:
            self.transport.write(self.seen)
            self.transport.close()

    async with running(Paused, f"unix://{tmp_path}/s" if unix else "tcp://127.0.0.1:0", drain_timeout=30) as server:
        reader, writer = await connect(server)
        writer.write(b"hel")
        while not made:
            await asyncio.sleep(0)
        writer.write(b"lo\n")
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0.1)  # much longer than a client is silent who is idle
        assert not stopping.done()
        made[0].transport.resume_reading()
        assert await reader.read() == b"hello\n"
        await stopping
    await close(writer)


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize("serve", ["handler", "protocol"])
async def test_a_long_request_that_is_under_way_is_answered(unix: bool, serve: str, tmp_path: Path) -> None:
    """Its pieces come faster than a client is silent who is idle, for longer than that."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            writer.write(line)

    class Lines(Echo):
        rest = b""
        is_ending = False

        def data_received(self, data: bytes) -> None:
            self.rest += data
            if self.rest.endswith(b"\n"):
                self.transport.write(self.rest)
                if self.is_ending:
                    self.transport.close()

        def drain(self) -> None:
            self.is_ending = True
            if not self.rest:
                self.transport.close()

    listen = f"unix://{tmp_path}/s" if unix else "tcp://127.0.0.1:0"
    async with running(handler if serve == "handler" else Lines, listen, drain_timeout=30) as server:
        reader, writer = await connect(server)
        writer.write(b"begun ")
        while server.stats.open == 0:
            await asyncio.sleep(0)
        stopping = asyncio.create_task(server.stop())
        for _ in range(10):
            await asyncio.sleep(0.1)
            writer.write(b"more ")
        writer.write(b"end\n")
        assert await reader.read() == b"begun " + b"more " * 10 + b"end\n"
        await stopping
    await close(writer)


async def test_who_never_pauses_and_is_never_answered_ends_when_what_was_sent_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a syslog sender: there is no request to wait for the end of."""
    monkeypatch.setattr("plait.net.streams.PATIENCE", 0.1)
    loop = asyncio.get_running_loop()
    seen = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        while data := await reader.read(1000):
            seen += len(data)
            await asyncio.sleep(0)

    async def send(writer: asyncio.StreamWriter, enough: asyncio.Event) -> None:
        with contextlib.suppress(ConnectionError):
            while not enough.is_set():
                writer.write(b"x" * 100_000)
                await writer.drain()

    async with running(count, drain_timeout=5) as server:
        _, writer = await connect(server)
        enough = asyncio.Event()
        sending = loop.create_task(send(writer, enough))
        while not seen:
            await asyncio.sleep(0)
    assert server.stats.cut == 0
    enough.set()
    await asyncio.wait([sending])
    await close(writer)


async def test_a_flood_of_one_who_was_answered_before_is_a_request_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for, however long it takes."""
    monkeypatch.setattr("plait.net.streams.PATIENCE", 0.1)

    async def measure(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = 0
        while data := await reader.read(1000):
            size += len(data)
            if data.endswith(b"\n"):
                writer.write(b"%d\n" % size)

    loop = asyncio.get_running_loop()
    async with running(measure, drain_timeout=30) as server:
        reader, writer = await connect(server)
        writer.write(b"hello\n")
        assert await reader.readline() == b"6\n"
        stopping, size, end = None, 6, loop.time() + 0.6
        while loop.time() < end:
            writer.write(b"x" * 100_000)
            size += 100_000
            await writer.drain()
            stopping = stopping or asyncio.create_task(server.stop())
        writer.write(b"\n")
        assert await reader.read() == b"%d\n" % (size + 1)
        assert stopping is not None
        await stopping
    await close(writer)


async def test_a_busy_protocol_is_told_after_a_read_and_an_idle_one_when_it_has_been_silent() -> None:
    """The first may be in the middle of something; neither has to wait for the other."""
    told: list[str] = []

    class Lines(Echo):
        name = ""

        def data_received(self, data: bytes) -> None:
            self.name = self.name or data.decode().strip()
            super().data_received(data)

        def drain(self) -> None:
            told.append(self.name)
            self.transport.close()

    async with running(Lines, drain_timeout=30) as server:
        clients = {}
        for name in ("idle", "busy"):
            clients[name] = await connect(server)
            clients[name][1].write(name.encode() + b"\n")
            await clients[name][0].readline()
        stopping = asyncio.create_task(server.stop())
        reader, writer = clients["busy"]
        answer = b"more\n"
        while answer:  # never silent
            writer.write(b"more\n")
            answer = await reader.readline()
        assert told == ["busy"]
        await stopping
    assert told == ["busy", "idle"]
    for _, writer in clients.values():
        await close(writer)


async def test_what_a_protocol_writes_is_held_back_only_where_the_end_may_follow() -> None:
    """Not an answer that is owed when the drain begins; the one to the read after which it is told, with the end."""
    corked: list[bool] = []

    class Later(Echo):
        is_ending = False

        def data_received(self, data: bytes) -> None:
            asyncio.get_running_loop().call_later(0.05, self.answer, data)

        def answer(self, data: bytes) -> None:
            corked.append(bool(_is_corked(self.transport)))
            self.transport.write(data)
            if self.is_ending:
                self.transport.close()

        def drain(self) -> None:
            self.is_ending = True

    async with running(Later, drain_timeout=30) as server:
        reader, writer = await connect(server)
        while server.stats.open == 0:
            await asyncio.sleep(0)
        writer.write(b"one\n")
        await asyncio.sleep(0.02)
        stopping = asyncio.create_task(server.stop())
        assert await reader.readline() == b"one\n"
        writer.write(b"two\n")
        assert await reader.read() == b"two\n"
        await stopping
    assert corked == [False, True]
    await close(writer)


def _is_corked(transport: asyncio.Transport) -> int:
    return int(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))


async def test_a_protocol_that_closes_by_itself_is_not_told() -> None:
    """It is over already."""
    told: list[Any] = []

    class Once(Echo):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.close()

        def drain(self) -> None:
            told.append(self)

    async with running(Once, drain_timeout=30) as server:
        reader, writer = await connect(server)
        while server.stats.open == 0:
            await asyncio.sleep(0)
        stopping = asyncio.create_task(server.stop())
        for _ in range(10):
            await asyncio.sleep(0)
        writer.write(b"hello\n")
        assert await reader.read() == b"hello\n"
        await stopping
    assert told == []
    await close(writer)


@pytest.mark.parametrize("serve", [echo, Echo], ids=["handler", "protocol"])
async def test_a_client_that_leaves_is_waited_for_no_longer(serve: Any) -> None:
    """Not even by a timer."""
    async with running(serve, drain_timeout=30) as server:
        reader, writer = await connect(server)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        stopping = asyncio.create_task(server.stop())
        for _ in range(10):
            await asyncio.sleep(0)
        await close(writer)
        await stopping


async def test_a_drain_that_raises_ends_its_connection_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Logged and counted."""

    class Broken(Echo):
        def drain(self) -> None:
            raise ValueError("broken")

    async with running(Broken, drain_timeout=30) as server:
        reader, writer = await connect(server)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
    assert "drain() of a connection failed; it is closed" in caplog.text
    assert (server.stats.failed, server.stats.cut) == (1, 0)
    await close(writer)


async def test_a_protocol_without_drain_has_until_the_deadline() -> None:
    """Nobody can know when it is done."""

    class Plain(asyncio.Protocol):
        pass

    async with running(Plain, drain_timeout=0.1) as server:
        _, writer = await connect(server)
        while server.stats.open == 0:
            await asyncio.sleep(0)
    assert server.stats.cut == 1
    await close(writer)


async def test_those_who_queue_for_a_place_are_served_before_the_end() -> None:
    """They had connected, and sent their request."""
    async with running(echo, max_connections=1, drain_timeout=30) as server:
        clients = [await connect(server) for _ in range(4)]
        for number, (_, writer) in enumerate(clients):
            writer.write(b"%d\n" % number)
        assert await clients[0][0].readline() == b"0\n"
        assert server.stats.accepted == 1
    for number, (reader, writer) in enumerate(clients):
        assert await reader.read() == (b"" if number == 0 else b"%d\n" % number)
        await close(writer)


async def test_who_comes_during_the_last_drain_is_refused_at_once() -> None:
    """Instead of hanging in a queue that nobody empties."""
    let_go = asyncio.Event()

    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"here\n")
        await let_go.wait()

    async with running(busy, drain_timeout=30) as server:
        endpoint = server.endpoints[0]
        reader, writer = await connect(server)
        assert await reader.readline() == b"here\n"
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0.05)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(endpoint.host, endpoint.port)
        let_go.set()
        await stopping
    await close(writer)


class Client:
    """Asks again and again, in one of three ways. A request is lost if it was sent before the end was seen."""

    def __init__(self, way: str, port: int) -> None:
        self.way = way
        self.port = port
        self.answered = 0
        self.lost: list[str] = []
        self.enough = False

    async def run(self) -> None:
        """Until there is enough."""
        while not self.enough:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError as error:
                self.lost.append(repr(error))
                continue
            if self.way == "slow":
                await asyncio.sleep(0.003)
            try:
                await self.session(reader, writer)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.lost.append(repr(error))
            await close(writer)

    async def session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        while not self.enough and not reader.at_eof():
            request = b"%d\n" % self.answered
            writer.write(request)
            answer = await reader.readline()
            if answer != request:
                self.lost.append(f"{request!r}: {answer!r}")
                return
            self.answered += 1
            if self.way != "keep-alive":
                return
            await asyncio.sleep(0)  # the end may have come with the answer


async def test_no_request_is_lost_when_generations_switch_under_load() -> None:
    """A new connection a request, slow senders, and keep-alive, all at once, over two dozen switches."""
    registry = Registry()

    async def start(generation: int) -> tuple[Application, Any]:
        app = Application(f"generation{generation}")
        app.provide(Registry, registry)
        server = app.add(Server("tcp://127.0.0.1:0", echo), name="server", drain_timeout=30)
        await app.start()
        return app, server

    old, server = await start(0)
    port = server.endpoints[0].port
    clients = [Client(way, port) for way in ("new", "new", "slow", "slow", "keep-alive", "keep-alive", "keep-alive")]
    running_clients = [asyncio.create_task(client.run()) for client in clients]
    for generation in range(1, SWITCHES + 1):
        new, server = await start(generation)
        await old.stop()
        assert server.endpoints[0].port == port
        old = new
        await asyncio.sleep(0.02)
    for client in clients:
        client.enough = True
    await asyncio.gather(*running_clients)
    await old.stop()
    assert [client.lost for client in clients if client.lost] == []
    assert all(client.answered > SWITCHES for client in clients)
