"""The servers, clients and timers of application.internet in a tree of Plait's, on real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plait import Application, State
from plait.classic.application import internet, service, strports
from plait.classic.internet import endpoints, error, protocol, reactor, task
from plait.errors import StartFailed


class Echo(protocol.Protocol):
    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


async def until(condition: Callable[[], object]) -> None:
    async def turns() -> None:
        while not condition():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(turns(), 10)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        number: int = one.getsockname()[1]
        return number


def server(port: int) -> internet.TCPServer:
    return internet.TCPServer(port, protocol.Factory.forProtocol(Echo), interface="127.0.0.1")


async def test_a_client_is_degraded_until_it_is_connected() -> None:
    """Its health says so, at once and whenever the connection is lost; it connects again by itself."""
    port = free_port()
    endpoint = endpoints.clientFromString(reactor, f"tcp:127.0.0.1:{port}")
    client = internet.ClientService(endpoint, protocol.Factory.forProtocol(Echo), retryPolicy=lambda failures: 0.01)
    app = Application("shop")
    app.add(client, name="client")
    app.add(server(port), name="server")
    async with app:
        connection = await client.whenConnected().asFuture(asyncio.get_running_loop())
        assert str(app["client"].health) == "ready"
        connection.transport.abortConnection()
        await until(lambda: str(app["client"].health) == "degraded: not connected")
        await until(lambda: str(app["client"].health) == "ready")


async def test_a_client_that_is_paused_does_not_connect() -> None:
    """Nor does one that was connecting; resumed it connects."""
    port = free_port()
    endpoint = endpoints.clientFromString(reactor, f"tcp:127.0.0.1:{port}")
    client = internet.ClientService(endpoint, protocol.Factory.forProtocol(Echo), retryPolicy=lambda failures: 0.01)
    app = Application("shop")
    app.add(client, name="client")
    async with app:
        await app["client"].pause()
        app.add(server(port), name="server")
        await app["server"].start()
        waiting = client.whenConnected()
        for _ in range(20):
            await asyncio.sleep(0.002)
        assert not waiting.called
        await app["client"].resume()
        await waiting.asFuture(asyncio.get_running_loop())


async def test_a_timer_that_is_paused_makes_no_call() -> None:
    """Resumed it goes on, the first call one step later; the state is the kernel's."""
    calls: list[float] = []
    app = Application("shop")
    app.add(internet.TimerService(0.01, lambda: calls.append(reactor.seconds())), name="timer")
    async with app:
        await until(lambda: len(calls) > 1)
        await app.pause()
        assert app["timer"].state is State.PAUSED
        count = len(calls)
        await asyncio.sleep(0.05)
        assert len(calls) == count
        await app.resume()
        await until(lambda: len(calls) > count)


async def test_an_endpoint_service_listens_again() -> None:
    """After a pause and after a restart, where Twisted's cannot; its endpoint is told."""
    listener = strports.service("tcp:0:interface=127.0.0.1", protocol.Factory.forProtocol(Echo))
    app = Application("shop")
    app.add(listener, name="echo")

    async def answers() -> None:
        (endpoint,) = app.snapshot().services[0].endpoints
        reader, writer = await asyncio.open_connection("127.0.0.1", int(endpoint.rpartition(":")[2]))
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        await writer.wait_closed()

    async with app:
        await answers()
        await app.pause()
        assert app.snapshot().services[0].endpoints == ()
        await app.resume()
        await answers()
        await app["echo"].restart()
        await answers()


async def test_an_endpoint_that_cannot_listen_fails_its_start() -> None:
    """Also where a subclass drops what the base returns."""
    first = server(0)
    app = Application("shop")
    app.add(first, name="first")

    class Drops(internet.StreamServerEndpointService):
        def privilegedStartService(self) -> None:
            super().privilegedStartService()

        def startService(self) -> None:
            super().startService()

    async with app:
        port = first._port.getHost().port
        endpoint = endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1")
        app.add(Drops(endpoint, protocol.Factory.forProtocol(Echo)), name="second")
        with pytest.raises(StartFailed) as raised:
            await app["second"].start()
        assert isinstance(raised.value.exceptions[0], error.CannotListenError)


@pytest.mark.parametrize("kind", ["server", "endpoint"])
async def test_a_start_that_fails_after_listening_gives_the_port_back(kind: str) -> None:
    """A subclass that raises once the port is taken can be started again at the same port."""
    port, calls = free_port(), []

    class Fails:
        def startService(self) -> Any:
            calls.append(kind)
            if len(calls) == 1:
                raise OSError("not yet")
            return super().startService()  # type: ignore[misc]

    class FailsServer(Fails, internet.TCPServer):
        pass

    class FailsEndpoint(Fails, internet.StreamServerEndpointService):
        pass

    factory = protocol.Factory.forProtocol(Echo)
    listening = endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1")
    made: Any = (
        FailsServer(port, factory, interface="127.0.0.1") if kind == "server" else FailsEndpoint(listening, factory)
    )
    app = Application("shop")
    app.add(made, name="fails")
    with pytest.raises(StartFailed):
        async with app:
            pass
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
    async with app:
        assert app.snapshot().services[0].endpoints == (f"tcp://127.0.0.1:{port}",)


async def test_unix_sockets_and_datagrams_tell_where_they_are(tmp_path: Path) -> None:
    """As Plait writes endpoints; the socket's file is gone at the end."""
    path = tmp_path / "echo.sock"
    app = Application("shop")
    app.add(internet.UNIXServer(str(path), protocol.Factory.forProtocol(Echo)), name="unix")
    app.add(internet.UDPServer(0, protocol.DatagramProtocol(), interface="127.0.0.1"), name="udp")
    async with app:
        unix, udp = (each.endpoints[0] for each in app.snapshot().services)
        assert unix == f"unix://{path}"
        assert udp.startswith("udp://127.0.0.1:")
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"hi")
        assert await reader.readexactly(2) == b"hi"
        writer.close()
        await writer.wait_closed()
    assert not path.exists()


async def test_a_tcp_client_connects_and_disconnects() -> None:
    """From its start to its stop; a pause leaves the connection as it is."""
    made: list[Any] = []
    lost: list[Any] = []

    class Client(protocol.Protocol):
        def connectionMade(self) -> None:
            made.append(self)

        def connectionLost(self, reason: Any = None) -> None:
            lost.append(self)

    factory = protocol.ClientFactory.forProtocol(Client)
    listener = server(0)
    app = Application("shop")
    app.add(listener, name="server")
    async with app:
        port = listener._port.getHost().port
        app.add(internet.TCPClient("127.0.0.1", port, factory), name="client")
        await app["client"].start()
        await until(lambda: made)
        await app["client"].pause()
        assert not lost
        await app["client"].resume()
        assert len(made) == 1
        await app["client"].stop()
        await until(lambda: lost)


async def test_a_cooperator_runs_while_it_runs() -> None:
    """Iterators are run side by side, and no more after the stop."""
    done: list[int] = []
    cooperator = internet.CooperatorService()
    app = Application("shop")
    app.add(cooperator)
    async with app:
        running = cooperator.coiterate(done.append(number) for number in range(3))
        await running.asFuture(asyncio.get_running_loop())
    assert done == [0, 1, 2]


async def test_a_classic_application_in_one_of_plaits() -> None:
    """It is a group there: of its services, with its state."""
    inner = service.Application("inner")
    one = service.Service()
    one.setName("one")
    one.setServiceParent(inner)
    app = Application("outer")
    app.add(inner)
    async with app:
        assert [each.path for each in app.snapshot().walk()] == ["/", "inner", "inner/one"]
        assert one.running
        assert service.IService(inner).running
    assert not one.running


async def test_moving_a_service_between_collections_that_run() -> None:
    """It is stopped in the one and started in the other, without waiting in between."""
    diary: list[str] = []

    class Told(service.Service):
        def startService(self) -> None:
            diary.append("starts")

        def stopService(self) -> Any:
            return task.deferLater(reactor, 0.05, diary.append, "stops")

    first, second, one = service.MultiService(), service.MultiService(), Told()
    one.setServiceParent(first)
    app = Application("shop")
    app.add(first, name="first")
    app.add(second, name="second")
    async with app:
        one.setServiceParent(second)
        await until(lambda: diary.count("starts") == 2)
        assert "second/told" in app
        await until(lambda: "first/told" not in app)
    assert diary == ["starts", "stops", "starts", "stops"]
