"""Client: connects, connects again, and gives up only when told to."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from plait import Application, State
from plait.errors import ApplicationFailed, ClientGaveUp, EndpointError
from plait.net import Client, Connection, Server
from plait.net.sockets import Registry
from test_server import Echo, echo


def free_port() -> int:
    """One that nobody listens on, for the moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def client_of(port: int, *args: Any, **more: Any) -> Client:
    """One that tries again quickly."""
    return Client(f"tcp://127.0.0.1:{port}", *args, first_delay=0.01, **more)


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
async def test_it_connects_when_the_server_is_there_at_last(unix: bool, tmp_path: Path) -> None:
    """It is ready before that, and waits without holding anybody up."""
    listen = f"unix://{tmp_path}/s" if unix else f"tcp://127.0.0.1:{free_port()}"
    app = Application("test")
    client = app.add(Client(listen, first_delay=0.01), name="client")
    async with app:
        assert client.state is State.RUNNING
        assert not client.is_connected
        await app.add(Server(listen, echo), name="server").start()
        connection = await asyncio.wait_for(client.connected(), 5)
        assert isinstance(connection, Connection)
        connection.writer.write(b"hello\n")
        assert await connection.reader.readline() == b"hello\n"
        assert await client.connected() is connection


async def test_a_lost_connection_is_made_again() -> None:
    """A new one, when the server is back."""
    registry = Registry()
    app = Application("test")
    app.provide(Registry, registry)
    server = app.add(Server(f"tcp://127.0.0.1:{free_port()}", echo), name="server")
    async with app:
        client = app.add(client_of(server.endpoints[0].port), name="client")
        await client.start()
        first = await client.connected()
        await server.restart()
        while client.is_connected and await client.connected() is first:
            await asyncio.sleep(0.001)
        second = await asyncio.wait_for(client.connected(), 5)
        second.writer.write(b"again\n")
        assert await second.reader.readline() == b"again\n"


async def test_a_protocol_is_the_connection() -> None:
    """Made by its factory, connected, and told when it is over."""
    lost: list[object] = []

    class Asking(Echo):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.append(self)

    app = Application("test")
    server = app.add(Server("tcp://127.0.0.1:0", echo), name="server")
    async with app:
        client = app.add(client_of(server.endpoints[0].port, Asking), name="client", needs=["server"])
        await client.start()
        protocol = await asyncio.wait_for(client.connected(), 5)
        assert isinstance(protocol, Asking)
        assert protocol.transport is not None
    assert lost == [protocol]


async def test_a_session_is_the_life_of_a_connection() -> None:
    """When it returns, the connection is closed and made anew."""
    said: list[bytes] = []

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\n")
        said.append(await reader.readline())

    app = Application("test")
    server = app.add(Server("tcp://127.0.0.1:0", echo), name="server")
    async with app:
        await app.add(client_of(server.endpoints[0].port, session), name="client").start()
        while len(said) < 3:
            await asyncio.sleep(0.001)
    assert set(said) == {b"hello\n"}


async def test_it_gives_up_when_told_to_which_is_its_failure() -> None:
    """And whoever waits for a connection hears of it."""
    app = Application("test")
    client = app.add(client_of(free_port(), attempts=3), name="client", restart="never", significant=True)
    waiting: list[BaseException] = []

    async def wait() -> None:
        try:
            await client.connected()
        except ClientGaveUp as error:
            waiting.append(error)

    serving = asyncio.create_task(app.serve())
    await app.wait_ready()
    await asyncio.gather(wait())
    with pytest.raises(ApplicationFailed) as caught:
        await serving
    assert "could not connect to tcp://127.0.0.1" in str(caught.value.exceptions[0])
    assert "in 3 attempts" in str(caught.value.exceptions[0])
    assert waiting == [caught.value.exceptions[0]]


async def test_one_who_waits_may_have_less_patience_than_the_client() -> None:
    """The client goes on."""
    app = Application("test")
    client = app.add(client_of(free_port()), name="client")
    async with app:
        with pytest.raises(ClientGaveUp):
            await asyncio.wait_for(client.connected(attempts=2), 5)
        assert client.state is State.RUNNING
        waiting = asyncio.create_task(client.connected())
        await asyncio.sleep(0)
    with pytest.raises(ClientGaveUp, match="has stopped"):
        await waiting
    with pytest.raises(ClientGaveUp, match="connects to nothing"):
        await client.connected()


def test_the_delay_grows_is_capped_and_never_twice_the_same() -> None:
    """Half of to all of min(max, first x 2^n)."""
    client = Client("h:1", first_delay=1.0, max_delay=10.0)
    for tries, most in ((0, 1), (1, 2), (2, 4), (3, 8), (4, 10), (100, 10)):
        client._Client__tries = tries  # type: ignore[attr-defined]
        delays = [client._Client__delay() for _ in range(50)]  # type: ignore[attr-defined]
        assert all(most / 2 <= delay <= most for delay in delays)
        assert len(set(delays)) > 40


@pytest.mark.parametrize("connect", ["udp://h:1", "fd://3"])
def test_what_cannot_be_connected_to_is_refused(connect: str) -> None:
    """When it is made."""
    with pytest.raises(EndpointError, match="use tcp, tls or unix"):
        Client(connect)
