"""A paused client keeps its connection and gives it to nobody; and its health says whether it is connected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from plait import Application, Group, State
from plait.errors import ClientGaveUp, ServicePaused
from plait.net import Client, Server
from test_client import client_of, free_port
from test_server import Echo, echo


class Remote:
    """A server that hears how its connections do, and can end them."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.lines: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        async for line in reader:
            self.lines.append(line)
            writer.write(line)

    def hang_up(self) -> None:
        """End every connection."""
        for writer in self.writers:
            writer.close()


@asynccontextmanager
async def connected(*args: Any, **more: Any) -> AsyncIterator[tuple[Client, Remote]]:
    """A client, and the server it is connected to."""
    remote = Remote()
    app = Application("test")
    server = app.add(Server("tcp://127.0.0.1:0", remote), name="server")
    async with app:
        client = app.add(client_of(server.endpoints[0].port, *args, **more), name="client")
        await client.start()
        await until(lambda: client.is_connected and bool(remote.writers))
        yield client, remote


async def until(condition: Callable[[], Any]) -> None:
    """Wait for it."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def a_while() -> None:
    """Some turns of the loop, in which a waiter that is done would have gone on."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("serve", [None, Echo], ids=["streams", "protocol"])
async def test_whoever_asks_while_it_is_held_waits_for_the_resume(serve: Any) -> None:
    """And is given the connection that was there all the time."""
    async with connected(serve) as (client, remote):
        connection = await client.connected()
        await client.pause()
        assert client.is_connected
        waiting = [asyncio.create_task(client.connected()) for _ in range(3)]
        await a_while()
        assert not any(task.done() for task in waiting)
        await client.resume()
        assert await asyncio.wait_for(asyncio.gather(*waiting), 5) == [connection] * 3
        assert await client.connected() is connection
        assert len(remote.writers) == 1


@pytest.mark.parametrize("own", [False, True], ids=["asked of it", "its own"])
async def test_whoever_asks_while_it_refuses_is_told(own: bool) -> None:
    """At once, and also who was waiting already."""
    async with connected(pause_mode="refuse" if own else "hold") as (client, remote):
        server: Any = client.application["server"]  # type: ignore[index]
        await server.pause("refuse")
        remote.hang_up()
        await until(lambda: not client.is_connected)
        waiting = asyncio.create_task(client.connected())
        await asyncio.sleep(0)
        await client.pause(None if own else "refuse")
        with pytest.raises(ServicePaused, match="service 'client' is paused, and gives its connection to nobody"):
            await asyncio.wait_for(client.connected(), 5)
        with pytest.raises(ServicePaused):
            await waiting
        await client.resume()
        await server.resume()
        await client.connected()


async def test_the_connection_is_kept_and_its_user_may_go_on() -> None:
    """What somebody has already is not taken from him."""
    async with connected() as (client, remote):
        reader, writer = await client.connected()
        await client.pause()
        writer.write(b"going on\n")
        assert await reader.readline() == b"going on\n"
        assert remote.lines == [b"going on\n"]


async def test_a_connection_that_is_lost_while_it_is_paused_is_made_again_and_given_at_the_resume() -> None:
    """So that it is there when work begins."""
    async with connected() as (client, remote):
        first = await client.connected()
        await client.pause()
        remote.hang_up()
        await until(lambda: len(remote.writers) == 2 and client.is_connected)
        waiting = asyncio.create_task(client.connected())
        await a_while()
        assert not waiting.done()
        await client.resume()
        assert await waiting is not first


async def test_no_session_is_begun_while_it_is_paused() -> None:
    """One that is under way goes on and hears nothing, unless it asks."""
    sessions: list[int] = []
    go_on = asyncio.Event()

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sessions.append(len(sessions))
        await go_on.wait()

    async with connected(session) as (client, remote):
        await until(lambda: sessions)
        await client.pause()
        go_on.set()
        await until(lambda: not client.is_connected)
        await asyncio.sleep(0.05)  # five times the delay after which it would connect again
        assert sessions == [0]
        assert len(remote.writers) == 1
        await client.resume()
        await until(lambda: len(sessions) > 1)


async def test_a_session_is_not_begun_if_the_pause_comes_while_it_connects() -> None:
    """It begins at the resume, on that connection."""
    sessions: list[int] = []

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sessions.append(1)
        await reader.read()

    app = Application("test")
    server = app.add(Server("tcp://127.0.0.1:0", echo), name="server")
    async with app:
        await server.pause()
        client = app.add(client_of(server.endpoints[0].port, session), name="client")
        await client.start()
        await client.pause()  # the kernel connects, but the client has not heard of it yet
        await server.resume()
        await until(lambda: client.is_connected)
        await a_while()
        assert sessions == []
        await client.resume()
        await until(lambda: sessions)


async def test_a_session_may_ask_for_itself() -> None:
    """A method of a subclass awaits `unpaused()` before it takes work."""
    taken: list[int] = []

    class Consumer(Client):
        def __init__(self, port: int) -> None:
            super().__init__(f"tcp://127.0.0.1:{port}", self.consume)

        async def consume(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await self.unpaused()
                taken.append(1)
                await asyncio.sleep(0.001)

    app = Application("test")
    server = app.add(Server("tcp://127.0.0.1:0", echo), name="server")
    async with app:
        consumer = app.add(Consumer(server.endpoints[0].port), name="consumer")
        await consumer.start()
        await until(lambda: taken)
        await consumer.pause()
        await asyncio.sleep(0.002)
        before = len(taken)
        await asyncio.sleep(0.01)
        assert len(taken) == before
        await consumer.resume()
        await until(lambda: len(taken) > before)


async def test_one_that_starts_paused_connects_and_gives_nothing() -> None:
    """Until it is resumed."""
    app = Application("test")
    server = app.add(Server("tcp://127.0.0.1:0", echo), name="server")
    async with app:
        client = app.add(client_of(server.endpoints[0].port), name="client")
        await client.pause()
        await client.start()
        assert client.state is State.PAUSED
        await until(lambda: client.is_connected)
        waiting = asyncio.create_task(client.connected())
        await a_while()
        assert not waiting.done()
        await client.resume()
        await waiting


async def test_whoever_waits_is_told_when_it_stops_or_gives_up_while_it_is_paused() -> None:
    """Nobody waits for ever; and it gives its connection again when it starts anew."""
    async with connected() as (client, _):
        await client.pause()
        waiting = asyncio.create_task(client.connected())
        await a_while()
        await client.stop()
        with pytest.raises(ClientGaveUp, match="has stopped"):
            await waiting
        await client.start()
        assert client.state is State.RUNNING
        await asyncio.wait_for(client.connected(), 5)
    app = Application("test")
    client = app.add(client_of(free_port(), attempts=2), name="client", restart="never")
    await client.pause()
    async with app:
        with pytest.raises(ClientGaveUp, match="in 2 attempts"):
            await client.connected()
        await until(lambda: client.state is State.FAILED)


async def test_a_group_pauses_its_client_and_its_server_in_one_mode() -> None:
    """hold and refuse mean the same to both: who comes waits, or is sent away."""
    app = Application("test")
    group = app.add(Group(), name="group")
    server = group.add(Server("tcp://127.0.0.1:0", echo), name="server")
    async with app:
        client = group.add(client_of(server.endpoints[0].port), name="client")
        await client.start()
        await client.connected()
        assert await group.pause("refuse") == ()
        assert server.endpoints == ()
        with pytest.raises(ServicePaused):
            await client.connected()


# -- health ------------------------------------------------------------------------------------------------------------


async def test_it_is_degraded_until_it_is_connected_and_when_the_connection_is_lost() -> None:
    """Ready as a service at once; the reason names the endpoint and what went wrong last."""
    app = Application("test")
    port = free_port()
    client = app.add(client_of(port), name="client")
    async with app:
        assert client.state is State.RUNNING
        assert client.health.level.value == "degraded"
        await until(lambda: "refused" in client.health.reason.lower() or "Connect call failed" in client.health.reason)
        assert f"not connected to tcp://127.0.0.1:{port}: " in client.health.reason
        assert "client: not connected" in app.health.reason
        remote = Remote()
        server = app.add(Server(f"tcp://127.0.0.1:{port}", remote), name="server")
        await server.start()
        await client.connected()
        assert client.health.level.value == app.health.level.value == "ready"
        await server.pause("refuse")
        remote.hang_up()
        await until(lambda: client.health.level.value == "degraded")
        assert client.health.reason == f"not connected to tcp://127.0.0.1:{port}: the connection was lost"


async def test_a_session_that_returns_is_no_loss() -> None:
    """One that breaks is."""
    breaks = asyncio.Event()
    levels: list[str] = []
    over = 0

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal over
        levels.append(client.health.level.value)
        over += 1
        if breaks.is_set():
            await reader.readexactly(1)

    app = Application("test")
    remote = Remote()
    server = app.add(Server("tcp://127.0.0.1:0", remote), name="server")
    async with app:
        client = app.add(client_of(server.endpoints[0].port, session), name="client")
        events: list[Any] = []
        await client.start()
        await until(lambda: over >= 1)
        app.subscribe(events.append)
        await until(lambda: over >= 3)
        assert "HealthChanged" not in [type(event).__name__ for event in events]
        breaks.set()
        count = over
        await until(lambda: over > count)
        remote.hang_up()
        await until(lambda: client.health.level.value == "degraded")
        assert "not connected to" in client.health.reason
    assert set(levels) == {"ready"}


async def test_limits_are_taken_live() -> None:
    """From the next attempt on."""
    app = Application("test")
    port = free_port()
    client = app.add(client_of(port), name="client", restart="never")
    async with app:
        with pytest.raises(ValueError, match="attempts is 0"):
            await client.on_reload(f"tcp://127.0.0.1:{port}", attempts=0, first_delay=0.01)
        await client.on_reload(f"tcp://127.0.0.1:{port}", attempts=1, first_delay=0.01)
        await until(lambda: client.state is State.FAILED)
