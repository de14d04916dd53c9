"""Paused datagram servers: the kernel keeps what comes, or senders are told that nobody listens."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from plait import Application, State
from plait.errors import EndpointError, PauseFailed
from plait.net import Datagram, DatagramServer
from plait.net.sockets import Registry
from test_datagram import Replying, reply, reply_later, running
from test_pause_server import listenings


async def answer_to(client: socket.socket, data: bytes) -> bytes:
    """Send, and wait for what comes back."""
    client.send(data)
    return await received(client)


async def received(client: socket.socket) -> bytes:
    """The next that comes back."""
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 100), 5)


@pytest.mark.parametrize("serve", [reply, reply_later, Replying], ids=["function", "coroutine", "protocol"])
async def test_hold_reads_nothing_until_it_is_resumed(serve: Any) -> None:
    """What came meanwhile is answered then; the socket stays where it is."""
    async with running(serve) as (server, client):
        other = server.application.add(DatagramServer("udp://127.0.0.1:0", reply), name="other")  # type: ignore[attr-defined]
        await other.start()
        assert await answer_to(client, b"one") == b"ONE"
        endpoints = server.endpoints
        await server.pause()
        client.send(b"two")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as barrier:
            barrier.setblocking(False)
            barrier.connect(("127.0.0.1", other.endpoints[0].port))
            for _ in range(3):
                assert await answer_to(barrier, b"x") == b"X"
        assert server.stats.received == 1
        assert server.endpoints == endpoints
        await server.resume()
        assert await received(client) == b"TWO"


@pytest.mark.parametrize("serve", [reply, reply_later, Replying], ids=["function", "coroutine", "protocol"])
async def test_refuse_handles_what_has_come_tells_senders_and_listens_there_again(serve: Any) -> None:
    """At the port that port 0 got; a protocol is made anew."""
    async with running(serve, pause_mode="refuse") as (server, client):
        events: list[Any] = []
        server.application.subscribe(events.append)  # type: ignore[attr-defined]
        endpoints = server.endpoints
        client.send(b"one")
        client.send(b"two")
        await server.pause()
        assert server.endpoints == ()
        assert {await received(client), await received(client)} == {b"ONE", b"TWO"}
        client.send(b"nobody")
        with pytest.raises(ConnectionRefusedError):
            await received(client)
        await server.resume()
        assert server.endpoints == endpoints
        assert await answer_to(client, b"three") == b"THREE"
        assert listenings(events) == [endpoints[0].address] * 2


async def test_refuse_lets_the_handlers_at_work_reply_and_takes_what_comes_while_they_do() -> None:
    """Only then is the socket closed."""
    at_work, go_on = asyncio.Event(), asyncio.Event()

    async def slow(datagram: Datagram) -> None:
        at_work.set()
        await go_on.wait()
        reply(datagram)

    async with running(slow, max_tasks=1) as (server, client):
        client.send(b"one")
        await at_work.wait()
        pausing = asyncio.create_task(server.pause("refuse"))
        await asyncio.sleep(0)
        client.send(b"two")
        assert server.state is State.PAUSING
        go_on.set()
        await pausing
        assert {await received(client), await received(client)} == {b"ONE", b"TWO"}


async def test_a_protocol_is_told_when_its_socket_is_closed() -> None:
    """Once, by the pause or by the stop; the next one is another."""
    made: list[Any] = []

    class Noting(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            made.append(self)
            self.lost = 0

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost += 1

    async with running(Noting, pause_mode="refuse") as (server, _):
        await server.pause()
        assert [protocol.lost for protocol in made] == [1]
        await server.resume()
        assert [protocol.lost for protocol in made] == [1, 0]
    assert [protocol.lost for protocol in made] == [1, 1]


async def test_what_a_held_server_has_not_read_when_it_stops_is_gone() -> None:
    """It was never taken."""
    seen: list[bytes] = []
    async with running(lambda datagram: seen.append(datagram.data)) as (server, client):
        await server.pause()
        client.send(b"never")
    assert seen == []


@pytest.mark.parametrize("mode", ["hold", "refuse"])
async def test_one_that_starts_paused_reads_nothing_before_it_is_resumed(mode: str) -> None:
    """In mode refuse another may have the address until then."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other, socket.socket(type=socket.SOCK_DGRAM) as client:
        other.bind(("127.0.0.1", 0))
        client.setblocking(False)
        client.connect(other.getsockname())
        if mode == "hold":
            other.close()
        app = Application("test")
        server = app.add(DatagramServer(f"udp://127.0.0.1:{client.getpeername()[1]}", reply), name="udp")
        await server.pause(mode)
        await app.start()
        assert server.state is State.PAUSED
        assert bool(server.endpoints) is (mode == "hold")
        other.close()
        if mode == "hold":
            client.send(b"early")
            await server.resume()
            assert await received(client) == b"EARLY"
        else:
            await server.resume()
            assert await answer_to(client, b"hello") == b"HELLO"
        await app.stop()


async def test_an_address_that_was_taken_meanwhile_fails_the_resume() -> None:
    """With the address, and what to do."""
    async with running(reply, pause_mode="refuse") as (server, client):
        await server.pause()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(client.getpeername())
            with pytest.raises(PauseFailed) as caught:
                await server.resume()
        assert f"udp://127.0.0.1:{client.getpeername()[1]}: the port is in use" in str(caught.value.exceptions[0])


async def test_another_generation_goes_on_reading_where_one_refuses() -> None:
    """They share the socket."""
    registry = Registry()
    servers, apps = [], []
    for number in range(2):
        app = Application(f"generation{number}")
        app.provide(Registry, registry)
        servers.append(app.add(DatagramServer("udp://127.0.0.1:0", reply), name="udp"))
        apps.append(app)
        await app.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(("127.0.0.1", servers[0].endpoints[0].port))
        await servers[0].pause("refuse")
        for _ in range(5):
            assert await answer_to(client, b"hello") == b"HELLO"
        assert (servers[0].stats.received, servers[1].stats.received) == (0, 5)
        await servers[1].pause("refuse")
        client.send(b"nobody")
        with pytest.raises(ConnectionRefusedError):
            await received(client)
    for app in apps:
        await app.stop()


async def test_a_stop_comes_between_at_any_moment_of_a_pause_and_of_a_resume() -> None:
    """It stops, and leaves nothing open."""
    for turns in range(10):
        for mode in ("hold", "refuse"):
            for resumes in (False, True):
                async with running(reply_later) as (server, client):
                    client.send(b"x")
                    if resumes:
                        await server.pause(mode)
                    going = asyncio.create_task(server.resume() if resumes else server.pause(mode))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                await asyncio.gather(going, return_exceptions=True)
                assert (server.state, server.endpoints) == (State.STOPPED, ())


async def test_it_listens_though_it_is_full() -> None:
    """Its endpoints do not come and go with its work."""
    at_work, go_on = asyncio.Event(), asyncio.Event()

    async def slow(datagram: Datagram) -> None:
        at_work.set()
        await go_on.wait()

    async with running(slow, max_tasks=1) as (server, client):
        endpoints = server.endpoints
        for _ in range(3):
            client.send(b"x")
        await at_work.wait()
        assert server.endpoints == endpoints != ()
        await server.on_reload("udp://127.0.0.1:0", slow, max_tasks=3)
        while server.stats.received < 3:  # a limit is taken live
            await asyncio.sleep(0)
        go_on.set()


def test_an_inherited_socket_can_only_hold() -> None:
    """Said when it is made."""
    with pytest.raises(EndpointError, match="can only hold"):
        DatagramServer("fd://3", reply, pause_mode="refuse")
