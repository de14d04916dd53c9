"""Server: protocols and coroutines, limits, and connections that go wrong alone."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import pytest

from plait import Application
from plait.errors import EndpointError
from plait.net import Server, serving
from plait.net.echo import Echo

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Line by line."""
    async for line in reader:
        writer.write(line)
        await writer.drain()


class SlottedEcho(asyncio.Protocol):
    """Without a __dict__."""

    __slots__ = ("transport",)

    connection_made, data_received, drain = Echo.connection_made, Echo.data_received, Echo.drain


class BufferedEcho(asyncio.BufferedProtocol):
    """Reading into its own buffer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.buffer = bytearray(1024)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.buffer[:nbytes]))

    def drain(self) -> None:
        self.transport.close()


class FixedEcho(Echo):
    """One whose class cannot be replaced, as that of a type written in C."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "__class__":
            raise TypeError("__class__ assignment only supported for mutable types")
        super().__setattr__(name, value)


@asynccontextmanager
async def running(serve: Any, listen: str = "tcp://127.0.0.1:0", **more: Any) -> AsyncIterator[Server]:
    """An application of one server."""
    policy = {name: more.pop(name) for name in ("drain_timeout", "stop_timeout") if name in more}
    app = Application("test")
    server = app.add(Server(listen, serve, **more), name="server", **policy)
    async with app:
        yield server


async def connect(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client."""
    endpoint = server.endpoints[0]
    if endpoint.scheme == "unix":
        return await asyncio.open_unix_connection(endpoint.path)
    return await asyncio.open_connection(endpoint.host, endpoint.port)


async def close(writer: asyncio.StreamWriter) -> None:
    """For good."""
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@pytest.mark.parametrize(
    "serve", [echo, partial(echo), Echo, SlottedEcho, BufferedEcho, FixedEcho, lambda: Echo()],
    ids=["handler", "partial", "protocol", "slots", "buffered", "fixed", "factory"],
)  # fmt: skip
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
async def test_every_kind_of_serving_answers_and_is_counted(serve: Any, unix: bool, tmp_path: Any) -> None:
    """And leaves nothing behind."""
    async with running(serve, f"unix://{tmp_path}/s" if unix else "tcp://127.0.0.1:0") as server:
        clients = [await connect(server) for _ in range(3)]
        for number, (reader, writer) in enumerate(clients):
            writer.write(b"%d\n" % number)
            assert await reader.readline() == b"%d\n" % number
        assert (server.stats.open, server.stats.accepted) == (3, 3)
        await close(clients[0][1])
        while server.stats.open == 3:
            await asyncio.sleep(0)
    assert (server.stats.open, server.stats.cut, server.stats.failed) == (0, 0, 0)
    for reader, writer in clients[1:]:
        assert await reader.read() == b""
        await close(writer)


def test_a_counted_protocol_is_still_of_its_class() -> None:
    """isinstance, its name, its module; its reads are its own."""
    from plait.net.counting import count

    class Counter:
        classes: dict[type, type] = {}

    one, two = count(Echo(), Counter(), None), count(Echo(), Counter(), None)  # type: ignore[arg-type]
    assert type(one) is type(two)
    assert isinstance(one, Echo)
    assert type(one).__name__ == "Echo"
    assert type(one).data_received is Echo.data_received


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3), KeyboardInterrupt()])
async def test_a_handler_that_raises_ends_its_connection_alone(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """Logged with its peer, and counted; the next one is served."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if line == b"raise\n":
            raise error
        writer.write(line)

    async with running(handler) as server:
        reader, writer = await connect(server)
        writer.write(b"raise\n")
        assert await reader.read() == b""
        await close(writer)
        reader, writer = await connect(server)
        writer.write(b"fine\n")
        assert await reader.read() == b"fine\n"
        await close(writer)
        assert server.stats.failed == 1
    assert "failed; its connection is closed" in caplog.text


async def test_a_client_that_goes_away_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Neither by a reset nor in the middle of what was expected."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(10)

    async with running(handler) as server:
        for abort in (False, True):
            _, writer = await connect(server)
            writer.write(b"half")
            await writer.drain()
            while server.stats.open != 1:
                await asyncio.sleep(0)
            if abort:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            await close(writer)
            while server.stats.open:
                await asyncio.sleep(0)
        assert server.stats.failed == 0
    assert "Traceback" not in caplog.text


async def test_a_protocol_whose_connection_made_raises_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    """Left open, it would hold a place for ever."""

    class Broken(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            raise ValueError("broken")

    async with running(Broken) as server:
        reader, writer = await connect(server)
        await asyncio.gather(reader.read(), return_exceptions=True)
        await close(writer)
        assert (server.stats.failed, server.stats.open) == (1, 0)
    assert "connection_made of a connection failed" in caplog.text


async def test_a_factory_that_makes_no_protocol_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """And the server goes on."""
    async with running(lambda: "no protocol") as server:
        reader, writer = await connect(server)
        await asyncio.gather(reader.read(), return_exceptions=True)
        await close(writer)
        assert server.stats.failed == 1
    assert "which is no asyncio protocol" in caplog.text


async def test_at_the_limit_it_stops_accepting_and_nobody_is_dropped() -> None:
    """The third client waits in the kernel's queue, and is served when the first has gone."""
    async with running(echo, max_connections=2) as server:
        clients = [await connect(server) for _ in range(3)]
        for _, writer in clients:
            writer.write(b"hello\n")
        for reader, _ in clients[:2]:
            assert await reader.readline() == b"hello\n"
        assert server.stats.accepted == 2
        await close(clients[0][1])
        assert await clients[2][0].readline() == b"hello\n"
        for _, writer in clients[1:]:
            await close(writer)


async def test_a_protocol_that_hands_its_transport_on_does_not_keep_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As WebSocket upgrades do: set_protocol takes connection_lost away from the counted one."""

    class Switching(Echo):
        def data_received(self, data: bytes) -> None:
            other = Echo()
            other.transport = self.transport
            self.transport.set_protocol(other)
            other.data_received(data)

    monkeypatch.setattr(serving, "LIMIT_RECHECK_PERIOD", 0.02)
    async with running(Switching, max_connections=1) as server:
        for _ in range(3):
            reader, writer = await connect(server)
            writer.write(b"hello\n")
            assert await asyncio.wait_for(reader.readline(), 5) == b"hello\n"
            await close(writer)
        reader, writer = await connect(server)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
    assert server.stats.cut == 0
    assert await reader.read() == b""
    await close(writer)


async def test_a_slow_reader_holds_up_the_handler_and_nobody_else() -> None:
    """writer.drain waits; another client is answered meanwhile, and all arrives in the end."""
    size = 4_000_000

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readline() == b"much\n":
            for _ in range(size // 1000):
                writer.write(b"x" * 1000)
                await writer.drain()
        else:
            writer.write(b"little")

    async with running(flood) as server:
        slow_reader, slow_writer = await connect(server)
        slow_writer.write(b"much\n")
        reader, writer = await connect(server)
        writer.write(b"little\n")
        assert await reader.read() == b"little"
        await close(writer)
        assert len(await slow_reader.read()) == size
        await close(slow_writer)


async def test_a_half_closed_client_gets_its_answer() -> None:
    """It has said all it wanted, and waits."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"%d bytes" % len(await reader.read()))

    async with running(handler) as server:
        reader, writer = await connect(server)
        writer.write(b"12345")
        writer.write_eof()
        assert await reader.read() == b"5 bytes"
        await close(writer)


@pytest.mark.parametrize(
    ("listen", "message"),
    [
        ("udp://127.0.0.1:0", "use plait.net.DatagramServer"),
        ("tls://127.0.0.1:0", "TLS needs a certificate; add cert=FILE&key=FILE"),
        ("nonsense", "it has no port"),
    ],
)
def test_an_endpoint_it_cannot_listen_on_is_refused_when_it_is_made(listen: str, message: str) -> None:
    """Not when it starts."""
    with pytest.raises(EndpointError, match=message):
        Server(listen, echo)


def test_other_wrong_arguments_are_refused() -> None:
    """With what they may be."""
    with pytest.raises(TypeError, match="neither a coroutine function nor a protocol factory"):
        Server("h:1", "echo")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="above zero, or None"):
        Server("h:1", echo, max_connections=0)


async def test_a_subclass_may_call_its_attributes_what_it_likes() -> None:
    """A file composes subclasses, so they are the normal case."""

    class Mine(Server):
        def __init__(self) -> None:
            super().__init__("tcp://127.0.0.1:0", self._serve)
            self._connections = self._endpoint = self._failed = self._loop = None

        async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"mine")

    app = Application("test")
    mine = app.add(Mine())
    async with app:
        reader, writer = await connect(mine)
        assert await reader.read() == b"mine"
        await close(writer)
