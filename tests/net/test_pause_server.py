"""Paused servers: they hold or refuse who comes, serve who is there, and listen again where they listened."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from plait import Application, Group, State
from plait.errors import EndpointError, ListenError, PauseFailed
from plait.net import Endpoint, Server
from plait.net.sockets import Registry
from test_server import Echo, close, connect, echo, running
from test_tls import Files

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def ask(connection: Pair, line: bytes = b"hello\n") -> None:
    """One request that is answered."""
    reader, writer = connection
    writer.write(line)
    assert await asyncio.wait_for(reader.readline(), 5) == line


async def a_while(connection: Pair) -> None:
    """Time in which the server would have accepted, if it did: it serves another connection meanwhile."""
    for _ in range(5):
        await ask(connection)


async def reaches(service: Any, state: State) -> None:
    """Wait for it."""
    async with asyncio.timeout(5):
        while service.state is not state:
            await asyncio.sleep(0)


async def connect_to(endpoint: Endpoint) -> Pair:
    """A client of an address."""
    if endpoint.scheme == "unix":
        return await asyncio.open_unix_connection(endpoint.path)
    return await asyncio.open_connection(endpoint.host, endpoint.port)


def port_of(server: Server) -> int:
    """Where it listens."""
    return server.endpoints[0].port


def listenings(events: list[Any]) -> list[str]:
    """Where a service said that it listens."""
    return [event.endpoint for event in events if type(event).__name__ == "Listening"]


@pytest.mark.parametrize("serve", [echo, Echo], ids=["handler", "protocol"])
@pytest.mark.parametrize("most", [None, 2])
async def test_hold_keeps_newcomers_in_the_queue_and_serves_who_is_there(serve: Any, most: int | None) -> None:
    """They can connect and send, and are answered after the resume; the socket stays where it is."""
    async with running(serve, max_connections=most) as server:
        old, endpoints = await connect(server), server.endpoints
        await ask(old)
        assert await server.pause() == ()
        assert server.state is State.PAUSED
        new = await connect(server)
        new[1].write(b"early\n")
        await a_while(old)
        assert server.stats.accepted == 1
        assert server.endpoints == endpoints
        await server.resume()
        assert await asyncio.wait_for(new[0].readline(), 5) == b"early\n"
        await ask(old)
    for _, writer in (old, new):
        await close(writer)


@pytest.mark.parametrize("serve", [echo, Echo], ids=["handler", "protocol"])
async def test_a_place_that_becomes_free_is_not_given_while_it_is_held(serve: Any) -> None:
    """max_connections and hold: room is not enough."""
    async with running(serve, max_connections=2) as server:
        leaving, staying = await connect(server), await connect(server)
        await ask(leaving)
        await ask(staying)
        await server.pause()
        waiting = await connect(server)
        await close(leaving[1])
        while server.stats.open == 2:
            await a_while(staying)
        await a_while(staying)
        assert server.stats.accepted == 2
        await server.resume()
        await ask(waiting)
    for _, writer in (staying, waiting):
        await close(writer)


@pytest.mark.parametrize("where", ["tcp://127.0.0.1:0", "tcp://localhost:0", "unix"])
async def test_refuse_sends_newcomers_away_and_listens_again_at_the_same_address(where: str, tmp_path: Path) -> None:
    """Port 0 keeps the port that it got; where it listens is said anew, and nowhere while it is paused."""
    listen = f"unix://{tmp_path}/s" if where == "unix" else where
    async with running(echo, listen, pause_mode="refuse") as server:
        events: list[Any] = []
        server.application.subscribe(events.append)  # type: ignore[attr-defined]
        old, endpoints = await connect(server), server.endpoints
        await server.pause()
        assert server.endpoints == ()
        assert server.application.snapshot().services[0].endpoints == ()  # type: ignore[attr-defined]
        for endpoint in endpoints:
            with pytest.raises(FileNotFoundError if where == "unix" else ConnectionRefusedError):
                await connect_to(endpoint)
        await ask(old)
        await server.resume()
        assert server.endpoints == endpoints
        new = await connect(server)
        await ask(new)
        await ask(old)
    assert listenings(events) == [endpoint.address for endpoint in endpoints] * 2
    for _, writer in (old, new):
        await close(writer)


@pytest.mark.parametrize("serve", [echo, Echo], ids=["handler", "protocol"])
async def test_refuse_takes_those_who_queue_before_it_closes(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though there is no room: they are served as others leave, paused or not; newcomers are refused meanwhile."""
    monkeypatch.setattr("plait.net.serving.LIMIT_RECHECK_PERIOD", 0.02)
    async with running(serve, max_connections=1) as server:
        port = port_of(server)
        clients = [await connect(server) for _ in range(5)]
        for number, (_, writer) in enumerate(clients):
            writer.write(b"%d\n" % number)
        assert await clients[0][0].readline() == b"0\n"
        assert server.stats.open == 1
        await server.pause("refuse")
        assert (server.stats.open, server.stats.accepted) == (5, 5)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        for number, (reader, writer) in enumerate(clients[:4]):
            if number:
                assert await asyncio.wait_for(reader.readline(), 5) == b"%d\n" % number
            await close(writer)
        await server.resume()
        last = await connect(server)
        last[1].write(b"last\n")
        assert await asyncio.wait_for(clients[4][0].readline(), 5) == b"4\n"  # in the order in which they came
        await close(clients[4][1])
        assert await asyncio.wait_for(last[0].readline(), 5) == b"last\n"
    await close(last[1])


async def test_those_who_wait_for_a_place_are_served_when_it_stops_and_cut_if_that_takes_too_long() -> None:
    """As any connection that was accepted; what is cut is counted, and its client told."""
    for cut in (False, True):
        async with running(echo, max_connections=1, drain_timeout=0.2 if cut else 30) as server:
            clients = [await connect(server) for _ in range(3)]
            for number, (_, writer) in enumerate(clients):
                writer.write(b"%d\n" % number)
            assert await clients[0][0].readline() == b"0\n"
            clients[0][1].write(b"half a line")
            if not cut:
                clients[0][1].write_eof()
            await server.pause("refuse")
        answers = [await asyncio.gather(reader.read(), return_exceptions=True) for reader, _ in clients]
        for _, writer in clients:
            await close(writer)
        if cut:
            assert server.stats.cut == 3
            assert not any(b"1\n" in answer or b"2\n" in answer for answer in answers)
        else:
            assert answers == [[b"half a line"], [b"1\n"], [b"2\n"]]
            assert server.stats.cut == 0


async def test_the_mode_said_to_pause_goes_before_the_servers_own() -> None:
    """Both ways; and a group's goes down to its servers."""
    app = Application("test")
    group = app.add(Group(), name="group")
    server = group.add(Server("tcp://127.0.0.1:0", echo, pause_mode="refuse"), name="server")
    async with app:
        port = port_of(server)
        await server.pause("hold")
        holding = await asyncio.open_connection("127.0.0.1", port)
        await server.resume()
        await ask(holding)
        await group.pause("hold")
        assert server.endpoints != ()
        await group.resume()
        await group.pause()
        assert server.endpoints == ()
        await close(holding[1])
        with pytest.raises(ValueError, match="cannot pause in mode 'hang'; it knows hold, refuse"):
            await server.pause("hang")


async def test_an_address_that_was_taken_meanwhile_fails_the_resume() -> None:
    """With the address and the cure; it is a failure of the service, which starts again once it is free."""
    app = Application("test")
    server = app.add(Server("tcp://127.0.0.1:0", echo), name="server")
    async with app:
        port = port_of(server)
        await server.pause("refuse")
        with socket.create_server(("127.0.0.1", port)):
            with pytest.raises(PauseFailed) as caught:
                await server.resume()
            (error,) = caught.value.exceptions
            assert isinstance(error, ListenError)
            assert f"cannot listen on tcp://127.0.0.1:{port}: the port is in use; stop what listens there" in str(error)
        assert server.state is State.BACKOFF
        await reaches(server, State.RUNNING)
        connection = await connect(server)
        await ask(connection)
        await close(connection[1])


# -- starting, stopping and restarting while it is paused --------------------------------------------------------------


async def test_one_that_starts_paused_in_mode_refuse_binds_nothing_before_it_is_resumed() -> None:
    """Another program may have the address until then."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        app = Application("test")
        server = app.add(Server(f"tcp://127.0.0.1:{port}", echo), name="server")
        await server.pause("refuse")
        await app.start()
        assert (server.state, server.endpoints) == (State.PAUSED, ())
    await server.resume()
    connection = await connect(server)
    await ask(connection)
    await close(connection[1])
    await app.stop()


async def test_one_that_starts_paused_in_mode_hold_listens_and_accepts_nobody() -> None:
    """Who comes waits for the resume."""
    app = Application("test")
    server = app.add(Server("tcp://127.0.0.1:0", echo), name="server")
    other = app.add(Server("tcp://127.0.0.1:0", echo), name="other")
    await server.pause()
    async with app:
        assert server.state is State.PAUSED
        waiting, barrier = await connect(server), await connect(other)
        waiting[1].write(b"hello\n")
        await a_while(barrier)
        assert server.stats.accepted == 0
        await server.resume()
        assert await asyncio.wait_for(waiting[0].readline(), 5) == b"hello\n"
    for _, writer in (waiting, barrier):
        await close(writer)


async def test_a_restart_while_it_refuses_keeps_the_port_of_port_0() -> None:
    """It comes back paused, and listens at the resume where its clients know it."""
    async with running(echo, pause_mode="refuse") as server:
        port = port_of(server)
        await server.pause()
        await server.restart()
        assert (server.state, server.endpoints) == (State.PAUSED, ())
        await server.resume()
        assert port_of(server) == port


async def test_port_0_is_another_port_where_the_old_one_was_taken() -> None:
    """After a restart: any port will do."""
    async with running(echo) as server:
        port = port_of(server)
        await server.stop()
        with socket.create_server(("127.0.0.1", port)):
            await server.start()
            assert port_of(server) not in (0, port)


async def test_who_queues_when_a_held_server_stops_is_reset(caplog: pytest.LogCaptureFixture) -> None:
    """It was never taken; who was is served to the end, and nothing waits for the deadline."""
    async with running(echo, drain_timeout=30) as server:
        old = await connect(server)
        await ask(old)
        await server.pause("hold")
        new = await connect(server)
        new[1].write(b"never\n")
        await new[1].drain()
        old[1].write(b"last\n")
        await server.stop()
        assert await old[0].read() == b"last\n"
        with pytest.raises(ConnectionResetError):
            await new[0].read()
        assert (server.stats.accepted, server.stats.cut) == (1, 0)
        assert "still draining" not in caplog.text
    for _, writer in (old, new):
        await close(writer)


@pytest.mark.parametrize("mode", ["hold", "refuse"])
@pytest.mark.parametrize("what", ["pause", "resume", "first resume"])
async def test_a_stop_comes_between_at_any_moment_of_a_pause_and_of_a_resume(
    what: str, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It stops before its deadline, and leaves nothing open: neither sockets nor tasks."""
    for turns in range(12):
        app = Application("test")
        server = app.add(Server("tcp://localhost:0", echo, max_connections=1), name="server", drain_timeout=30)
        if what == "first resume":
            await server.pause(mode)
        await app.start()
        clients = [await connect(server) for _ in range(2)] if server.endpoints else []
        if what == "resume":
            await server.pause(mode)
        going = asyncio.create_task(server.pause(mode) if what == "pause" else server.resume())
        for _ in range(turns):
            await asyncio.sleep(0)
        for _, writer in clients:
            await close(writer)
        await app.stop()
        await asyncio.gather(going, return_exceptions=True)
        assert (server.state, server.endpoints) == (State.STOPPED, ())
    assert "still draining" not in caplog.text


async def test_a_subclass_that_takes_long_to_start_accepts_nobody_where_it_starts_paused() -> None:
    """Its own on_start goes on after the server's."""
    began, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Server):
        async def on_start(self) -> None:
            await super().on_start()
            began.set()
            await go_on.wait()

    app = Application("test")
    server = app.add(Slow("tcp://127.0.0.1:0", echo), name="server")
    other = app.add(Server("tcp://127.0.0.1:0", echo), name="other")
    await server.pause()
    starting = asyncio.create_task(app.start())
    await began.wait()
    await reaches(other, State.RUNNING)
    waiting, barrier = await connect(server), await connect(other)
    await a_while(barrier)
    assert server.stats.accepted == 0
    go_on.set()
    await starting
    await app.stop()
    for _, writer in (waiting, barrier):
        await close(writer)


# -- generations -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def generations(count: int, **more: Any) -> AsyncIterator[list[Server]]:
    """So many trees that share a registry, and so a port."""
    registry, servers, apps = Registry(), [], []
    for number in range(count):
        app = Application(f"generation{number}")
        app.provide(Registry, registry)
        servers.append(app.add(Server("tcp://127.0.0.1:0", echo, **more), name="server", drain_timeout=30))
        apps.append(app)
    for app in apps:
        await app.start()
    yield servers
    for app in apps:
        await app.stop()


async def test_one_generation_refuses_and_the_other_takes_all_until_it_refuses_too() -> None:
    """Each gives back its own duplicate; the last one's refuses. Resumed, both listen on one port again."""
    async with generations(2) as (first, second):
        port = port_of(first)
        queued = [await connect(first) for _ in range(10)]
        await first.pause("refuse")
        for _ in range(5):
            queued.append(await asyncio.open_connection("127.0.0.1", port))
        for connection in queued:
            await ask(connection)
        assert first.stats.accepted + second.stats.accepted == len(queued)
        assert second.stats.accepted >= 5
        await second.pause("refuse")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        for connection in queued:
            await ask(connection)
        await second.resume()
        await first.resume()
        assert port_of(first) == port_of(second) == port
        for _, writer in queued:
            await close(writer)


async def test_a_generation_that_starts_paused_takes_over_a_refused_port_0() -> None:
    """The old one is gone when the new one is resumed, and the port is still the same."""
    registry = Registry()
    apps = [Application(f"generation{number}") for number in range(2)]
    old, new = (app.add(Server("tcp://127.0.0.1:0", echo, pause_mode="refuse"), name="server") for app in apps)
    for app in apps:
        app.provide(Registry, registry)
    await apps[0].start()
    port = port_of(old)
    await old.pause()
    await new.pause()
    await apps[1].start()
    await apps[0].stop()
    await new.resume()
    assert port_of(new) == port
    await apps[1].stop()


async def test_those_whom_one_held_generation_leaves_are_kept_by_the_next() -> None:
    """They queue on, and are served when that is resumed."""
    async with generations(2) as (first, second):
        await first.pause("hold")
        await second.pause("hold")
        waiting = await connect(first)
        waiting[1].write(b"hello\n")
        await first.stop()
        await second.resume()
        assert await asyncio.wait_for(waiting[0].readline(), 5) == b"hello\n"
        await close(waiting[1])


# -- inherited sockets -------------------------------------------------------------------------------------------------


async def test_an_inherited_socket_can_only_hold_which_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """When the server is made, when it is asked for by itself; with its group it holds, and says so."""
    with socket.create_server(("127.0.0.1", 0)) as passed:
        listen = f"fd://{passed.fileno()}"
        with pytest.raises(EndpointError, match=r"inherited cannot be closed and bound again, so .* can only hold"):
            Server(listen, echo, pause_mode="refuse")
        app = Application("test")
        group = app.add(Group(), name="group")
        server = group.add(Server(listen, echo), name="server")
        other = group.add(Server("tcp://127.0.0.1:0", echo), name="other")
        async with app:
            with pytest.raises(ValueError, match="cannot pause in mode 'refuse'; it knows hold"):
                await server.pause("refuse")
            await group.pause("refuse")
            assert other.endpoints == ()
            assert "cannot pause in mode 'refuse', only in mode hold" in caplog.text
            waiting = await asyncio.open_connection(*passed.getsockname())
            waiting[1].write(b"hello\n")
            await group.resume()
            assert await asyncio.wait_for(waiting[0].readline(), 5) == b"hello\n"
            await close(waiting[1])


def test_a_mode_that_is_none_is_refused() -> None:
    """When it is made."""
    with pytest.raises(ValueError, match="pause_mode is 'wait'; it may be hold, refuse"):
        Server("h:1", echo, pause_mode="wait")  # type: ignore[arg-type]


# -- limits ------------------------------------------------------------------------------------------------------------


async def test_a_handshake_that_fails_gives_its_place_back(tmp_path: Path) -> None:
    """At the limit, the next one is accepted when it is over, though no connection was ever made."""
    files = Files(tmp_path)
    async with running(echo, files.listen, max_connections=1) as server:
        port = port_of(server)
        with socket.create_connection(("127.0.0.1", port)) as silent:
            while server.stats.open == 0:
                await asyncio.sleep(0)
            opening = asyncio.create_task(asyncio.open_connection("127.0.0.1", port, ssl=files.trust()))
            silent.send(b"this is no handshake")
            connection = await asyncio.wait_for(opening, 5)
        await ask(connection)
        await close(connection[1])


@pytest.mark.parametrize("paused", [False, True])
async def test_a_limit_is_taken_live(paused: bool) -> None:
    """Raised it lets in who waits, lowered it cuts nobody; a paused server stays paused."""
    async with running(echo, max_connections=1) as server:
        clients = [await connect(server) for _ in range(3)]
        await ask(clients[0])
        if paused:
            await server.pause()
        await server.on_reload("tcp://127.0.0.1:0", echo, max_connections=2)
        if paused:
            await a_while(clients[0])
            assert server.stats.accepted == 1
            await server.resume()
        await ask(clients[1])
        await a_while(clients[0])
        assert server.stats.accepted == 2
        await server.on_reload("tcp://127.0.0.1:0", echo, max_connections=None)
        await ask(clients[2])
        await server.on_reload("tcp://127.0.0.1:0", echo, max_connections=1)
        for connection in clients:
            await ask(connection)
        for _, writer in clients:
            await close(writer)


async def test_a_queue_that_never_empties_does_not_hold_up_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """All who had queued are taken; when that is done it closes, though others come: the system may not stop them."""
    monkeypatch.setattr("plait.net.serving.SWEEP_MOST", 100)
    monkeypatch.setattr("plait.net.sockets.refuse_newcomers", lambda sock: False)
    clients: list[socket.socket] = []
    keeps_coming = False

    def serve() -> Echo:
        if keeps_coming:  # for each that is accepted another one queues
            clients.append(socket.create_connection(("127.0.0.1", port)))
        return Echo()

    async with running(serve, "tcp://127.0.0.1:0?backlog=50") as server:
        port = port_of(server)
        await server.pause()
        clients += [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        keeps_coming = True
        await server.resume()
        await asyncio.wait_for(server.pause("refuse"), 10)
        assert server.stats.accepted >= 100
        for client in clients:
            client.close()
