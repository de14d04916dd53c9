"""DatagramServer: every kind of handler, back-pressure, and nothing in the buffer is lost."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from plait import Application
from plait.errors import EndpointError
from plait.net import Datagram, DatagramServer


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
