"""DatagramServer: every kind of handler, back-pressure, and nothing in the buffer is lost."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from plait import Application
from plait.errors import EndpointError, StartFailed
from plait.net import Datagram, DatagramServer
from plait.net.accepting import BATCH
from plait.net.datagram import DatagramTransport
from plait.net.sockets import Registry


@asynccontextmanager
async def running(serve: Any, **more: Any) -> AsyncIterator[tuple[DatagramServer, socket.socket]]:
    """An application of one server, and a socket that is connected to it."""
    app = Application("test")
    server = app.add(DatagramServer("udp://127.0.0.1:0", serve, **more), name="udp")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        async with app:
            client.connect(("127.0.0.1", server.endpoints[0].port))
            yield server, client


def reply(datagram: Datagram) -> None:
    """Upper case."""
    datagram.reply(datagram.data.upper())


async def reply_later(datagram: Datagram) -> None:
    """As a coroutine."""
    await asyncio.sleep(0)
    reply(datagram)


class Replying(asyncio.DatagramProtocol):
    """As a protocol."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data.upper(), addr)


@pytest.mark.parametrize(
    "serve", [reply, reply_later, Replying, lambda: Replying()], ids=["function", "coroutine", "class", "factory"]
)
async def test_every_kind_of_serving_replies(serve: Any) -> None:
    """To where the datagram came from."""
    async with running(serve) as (server, client):
        loop = asyncio.get_running_loop()
        for data in (b"one", b"two"):
            client.send(data)
            assert await asyncio.wait_for(loop.sock_recv(client, 100), 5) == data.upper()
        assert (server.stats.received, server.stats.failed) == (2, 0)


@pytest.mark.parametrize("slow", [False, True])
async def test_what_the_socket_holds_is_handled_before_the_end(slow: bool) -> None:
    """Sent while the loop does nothing else; also when more come than may be at work at once."""
    seen: list[bytes] = []

    async def handle(datagram: Datagram) -> None:
        if slow:
            await asyncio.sleep(0.001)
        seen.append(datagram.data)

    async with running(handle, max_tasks=3) as (_, client):
        for number in range(100):
            client.send(b"%d" % number)
    assert sorted(map(int, seen)) == list(range(100))


async def test_it_stops_reading_at_max_tasks() -> None:
    """The kernel queues, until there is room again."""
    at_work: list[int] = [0, 0]

    async def handle(datagram: Datagram) -> None:
        at_work[0] += 1
        at_work[1] = max(at_work)
        await asyncio.sleep(0.001)
        at_work[0] -= 1

    async with running(handle, max_tasks=5) as (server, client):
        for _ in range(50):
            client.send(b"x")
        while server.stats.received < 50 or at_work[0]:
            await asyncio.sleep(0.001)
    assert at_work[1] == 5


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(1)])
async def test_a_handler_that_raises_harms_no_other_datagram(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """Logged with the peer, and counted."""

    async def handle(datagram: Datagram) -> None:
        if datagram.data == b"bad":
            raise error
        datagram.reply(b"fine")

    async with running(handle) as (server, client):
        client.send(b"bad")
        client.send(b"good")
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 100), 5) == b"fine"
        assert server.stats.failed == 1
    assert "the handler of a datagram from ('127.0.0.1'," in caplog.text


async def test_a_reply_to_nobody_is_no_failure() -> None:
    """The system reports it at the next call; others are served on."""
    async with running(reply) as (server, client):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.connect(("127.0.0.1", server.endpoints[0].port))
            gone.send(b"x")
        client.send(b"hello")
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 100), 5) == b"HELLO"


def test_an_endpoint_of_connections_is_refused() -> None:
    """With the class to use."""
    with pytest.raises(EndpointError, match=r"use plait\.net\.Server"):
        DatagramServer("tcp://127.0.0.1:0", reply)


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(1)])
async def test_a_function_that_raises_harms_no_other_datagram(error: BaseException) -> None:
    """It is called by the loop itself, which SystemExit would end."""

    def handle(datagram: Datagram) -> None:
        if datagram.data == b"bad":
            raise error
        datagram.reply(b"fine")

    async with running(handle) as (server, client):
        client.send(b"bad")
        client.send(b"good")
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 100), 5) == b"fine"
        assert server.stats.failed == 1


async def test_a_sender_that_never_pauses_does_not_hold_up_the_stop() -> None:
    """There is a bound to what is read once the stop has begun."""
    stopped = False

    async def send(client: socket.socket) -> None:
        while not stopped:
            with contextlib.suppress(OSError):
                for _ in range(BATCH):
                    client.send(b"x")
            await asyncio.sleep(0)

    async with running(lambda datagram: None) as (server, client):
        sending = asyncio.create_task(send(client))
        while server.stats.received < 1000:
            await asyncio.sleep(0)
        began = time.monotonic()
        await server.stop()
        assert time.monotonic() - began < 4
        stopped = True
        await sending


async def test_generations_share_the_socket_and_lose_no_datagram() -> None:
    """Each is read by one of them."""
    registry, seen = Registry(), set[bytes]()

    async def start() -> tuple[Application, DatagramServer]:
        app = Application("test")
        app.provide(Registry, registry)
        server = app.add(DatagramServer("udp://127.0.0.1:0", lambda datagram: seen.add(datagram.data)), name="udp")
        await app.start()
        return app, server

    app, server = await start()
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", server.endpoints[0].port))
        for _ in range(20):
            new, _ = await start()
            for _ in range(20):
                client.send(b"%d" % sent)
                sent += 1
            await app.stop()
            app = new
    await app.stop()
    assert len(seen) == sent == 400


async def test_a_subclass_whose_start_fails_after_ours_leaves_nothing() -> None:
    """Not even a reader on a socket that is closed."""

    class Failing(DatagramServer):
        async def on_start(self) -> None:
            await super().on_start()
            raise ValueError("no")

    app = Application("test")
    server = app.add(Failing("udp://127.0.0.1:0", reply))
    with pytest.raises(StartFailed):
        await app.start()
    assert server.endpoints == ()


async def test_a_protocol_is_told_of_its_end() -> None:
    """connection_lost, once, with no error."""
    ends: list[Exception | None] = []

    class Ending(Replying):
        def connection_lost(self, exc: Exception | None) -> None:
            ends.append(exc)

    async with running(Ending):
        assert ends == []
    assert ends == [None]


async def test_what_does_not_fit_into_the_systems_buffer_is_sent_later() -> None:
    """In order, and before the end; an error of one datagram harms no other."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    failed: list[OSError] = []
    with ours, theirs:
        ours.setblocking(False)
        transport = DatagramTransport(asyncio.get_running_loop(), ours, failed.append)
        connected = Connected(transport, ours)
        for number in range(1000):
            connected.send(b"%d" % number)
        flushing = asyncio.create_task(transport.flushed())
        got = [await asyncio.to_thread(theirs.recv, 100) for _ in range(1000)]
        await flushing
        assert got == [b"%d" % number for number in range(1000)]
        assert not failed
        transport.close()
        transport.close()
        connected.send(b"too late")
        assert transport.is_closing()


class Connected:
    """A transport whose socket is connected, so that no address is given."""

    def __init__(self, transport: DatagramTransport, sock: socket.socket) -> None:
        self._transport = transport
        transport._sock = self  # type: ignore[assignment]
        self._sock = sock

    def send(self, data: bytes) -> None:
        self._transport.sendto(data)

    def sendto(self, data: bytes, _addr: Any) -> int:
        return self._sock.send(data)

    def fileno(self) -> int:
        return self._sock.fileno()
