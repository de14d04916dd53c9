"""DatagramServer: takes datagrams and gives each to a function, or to an asyncio.DatagramProtocol.

Rules:
- It reads the socket itself, up to 64 datagrams at a wake, so that it can stop reading: at `max_tasks` handlers at work
  the kernel queues, and drops by its own rules.
- Leaving the sockets, at a pause in mode "refuse" and at the end: all that their buffers hold is read and handled, and
  the handlers at work have replied, before they are closed; unless another generation reads them, which goes on. What a
  server that is held has not read when it stops was never taken, and is gone.
- What a handler raises is logged and counted, and harms no other datagram.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from plait._kernel.service import Service
from plait.net.accepting import BATCH, Log
from plait.net.endpoints import Endpoint
from plait.net.server import (
    PAUSE_MODES,
    PauseMode,
    bound_endpoint,
    checked_pause_mode,
    is_inherited,
    listening,
    mode_of,
    say_otherwise,
)
from plait.net.sockets import Lease, Registry

LARGEST = 65_536
"""Bytes of the largest datagram there is, and one."""

LAST_MOST = 10_000
"""Datagrams that are read at most once the sockets are being left: a sender that never pauses shall hold up nothing."""


class Datagram:
    """One datagram: `data`, and the address `peer` it came from."""

    __slots__ = ("_transport", "data", "peer")

    def __init__(self, data: bytes, peer: Any, transport: DatagramTransport) -> None:
        self.data = data
        self.peer = peer
        self._transport = transport

    def reply(self, data: bytes) -> None:
        """Send `data` back to where this came from."""
        self._transport.sendto(data, self.peer)


@dataclass(frozen=True, slots=True)
class DatagramStats:
    """What a datagram server has done since its incarnation began: `received` datagrams, `failed` handlers."""

    received: int = 0
    failed: int = 0


class DatagramTransport(asyncio.DatagramTransport):
    """Sends from the server's socket; queues where the system's buffer is full."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, failed: Callable[[OSError], None]) -> None:
        super().__init__({"socket": sock, "sockname": sock.getsockname()})
        self._loop = loop
        self._sock = sock
        self._failed = failed
        self._queue: deque[tuple[bytes, Any]] = deque()
        self._is_closing = False
        self._flushed: asyncio.Future[None] | None = None

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Send a datagram, now or as soon as there is room; an error of one is logged, and harms no other."""
        if not self._is_closing and (self._queue or not self._send(data, addr)):
            self._queue.append((bytes(data), addr))
            if len(self._queue) == 1:
                self._loop.add_writer(self._sock, self._flush)

    def _send(self, data: Any, addr: Any) -> bool:
        """Whether there was room."""
        try:
            self._sock.sendto(data, addr)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._failed(error)
        return True

    def _flush(self) -> None:
        while self._queue and self._send(*self._queue[0]):
            self._queue.popleft()
        if not self._queue:
            self._loop.remove_writer(self._sock)
            if self._flushed is not None and not self._flushed.done():
                self._flushed.set_result(None)

    async def flushed(self) -> None:
        """Until everything was sent."""
        while self._queue and not self._is_closing:
            self._flushed = self._loop.create_future()
            await self._flushed

    def is_closing(self) -> bool:
        """Whether it has been closed."""
        return self._is_closing

    def close(self) -> None:
        """Send nothing more."""
        if not self._is_closing:
            self._is_closing = True
            if self._queue:
                self._loop.remove_writer(self._sock)

    abort = close


class _Intake(Enum):
    """What becomes of datagrams that come."""

    OPEN = "they are read"
    HELD = "the kernel keeps them"
    AWAY = "the last are read, or the sockets are closed"


class _Receiving:
    """One incarnation of a DatagramServer: its sockets, and the handlers at work."""

    def __init__(self, lease: Lease, serve: Any, *, makes_protocol: bool, most: int, log: Log) -> None:
        self._loop = asyncio.get_running_loop()
        self._lease = lease
        self._serve = serve
        self._makes_protocol = makes_protocol
        self._most = most
        self._log = log
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ports: list[_Port] = []
        self._intake = _Intake.AWAY
        self._is_reading = False
        self._is_draining = False
        self.received = 0
        self.failed = 0

    async def __aenter__(self) -> _Receiving:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def is_listening(self) -> bool:
        """Whether datagrams can come."""
        return bool(self._lease.sockets)

    # -- whether it reads --------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Take up the sockets of the lease, and read nothing yet."""
        for sock in self._lease.sockets:
            self._ports.append(self._port(sock))

    def _port(self, sock: socket.socket) -> _Port:
        transport = DatagramTransport(self._loop, sock, self._not_sent)
        if not self._makes_protocol:
            return _Port(sock, transport, None)
        protocol = self._serve()
        protocol.connection_made(transport)
        return _Port(sock, transport, protocol)

    def accept(self) -> None:
        """Read, from now on."""
        if not self._is_draining:  # a stop may have come between
            self._intake = _Intake.OPEN
            self._on()

    def hold(self) -> None:
        """Read nothing; the kernel keeps as much as its buffer holds."""
        if not self._is_draining:
            self._intake = _Intake.HELD
            self._off()

    async def refuse(self) -> None:
        """Handle what has come, then close the sockets. The lease can be taken up again."""
        await self._leave(LAST_MOST)
        if not self._is_draining:
            self._close()

    async def drain(self) -> None:
        """Handle what has come, unless it was held, and return when the handlers at work have replied."""
        self._is_draining = True
        await self._leave(0 if self._intake is _Intake.HELD else LAST_MOST)

    def limit(self, most: int) -> None:
        """From now on at most so many handlers are at work."""
        self._most = most
        self._on()

    def _on(self) -> None:
        if self._intake is _Intake.OPEN and not self._is_reading:
            self._is_reading = True
            for port in self._ports:
                self._loop.add_reader(port.sock, self._read, port)

    def _off(self) -> None:
        if self._is_reading:
            self._is_reading = False
            for port in self._ports:
                self._loop.remove_reader(port.sock)

    async def _leave(self, most: int) -> None:
        """Read and handle at most so many, unless another generation reads them, and wait for the handlers at work."""
        self._intake = _Intake.AWAY
        self._off()
        left = 0 if self._lease.is_shared else most
        while True:
            for port in tuple(self._ports):
                left -= await self._empty(port, left)
            if not self._tasks:
                break
            await asyncio.wait(self._tasks)
        for port in tuple(self._ports):
            await port.transport.flushed()

    async def _empty(self, port: _Port, most: int) -> int:
        """Read what one socket holds; how many there were."""
        number = 0
        while number < most:
            while len(self._tasks) >= self._most:
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            read = self._read(port)
            if not read:
                break
            number += read
            await asyncio.sleep(0)
        return number

    def _close(self) -> None:
        ports, self._ports = self._ports, []
        for port in ports:
            port.transport.close()
            if port.protocol is not None:
                port.protocol.connection_lost(None)
        self._lease.leave()

    async def stop(self) -> None:
        """Cut what is left, and close."""
        self._is_draining = True
        self._intake = _Intake.AWAY
        self._off()
        if self._tasks:
            self._log.warning("%d datagrams were still being handled, and have been cut", len(self._tasks))
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._close()

    # -- one batch ---------------------------------------------------------------------------------------------------

    def _read(self, port: _Port) -> int:
        """Read one batch; how many datagrams it had."""
        for number in range(BATCH):
            if len(self._tasks) >= self._most:
                self._off()
                return number
            try:
                data, peer = port.sock.recvfrom(LARGEST)
            except (BlockingIOError, InterruptedError):
                return number
            except OSError as error:  # of a datagram sent before: nobody listens there
                self._not_received(port, error)
                continue
            self.received += 1
            self._give(port, data, peer)
        return BATCH

    def _give(self, port: _Port, data: bytes, peer: Any) -> None:
        try:
            if port.protocol is not None:
                port.protocol.datagram_received(data, peer)
                return
            result = self._serve(Datagram(data, peer, port.transport))
            if inspect.isawaitable(result):
                task = self._loop.create_task(self._handle(result, peer))
                self._tasks.add(task)
                task.add_done_callback(self._handled)
        except (Exception, SystemExit):
            self._failed_at(peer)

    async def _handle(self, work: Awaitable[None], peer: Any) -> None:
        try:
            await work
        except (Exception, SystemExit, KeyboardInterrupt):
            self._failed_at(peer)

    def _failed_at(self, peer: Any) -> None:
        self.failed += 1
        self._log.exception("the handler of a datagram from %s failed", peer)

    def _handled(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if len(self._tasks) < self._most:
            self._on()

    def _not_received(self, port: _Port, error: OSError) -> None:
        if port.protocol is not None:
            port.protocol.error_received(error)
        else:
            self._log.info("a datagram that was sent did not arrive: %s", error)

    def _not_sent(self, error: OSError) -> None:
        self._log.warning("a datagram was not sent: %s", error)


class DatagramServer(Service):
    """Receives datagrams on an endpoint.

    `serve` is called with each Datagram; it is a function, or an `async def`, of which `max_tasks` are at work at
    most. Or it is a factory of asyncio.DatagramProtocol, which takes no argument (a class will do). EndpointError if
    `listen` is none to listen on; ListenError, at the start, if it cannot.

    While it is paused it reads nothing. `pause_mode="hold"`: the kernel keeps what comes, as far as its buffer goes.
    `"refuse"`: what has come is handled and replied to, then the sockets are closed, and senders are told that nobody
    listens; a resume binds the same addresses again, or fails with ListenError, and a factory makes a new protocol.
    `pause(mode=...)` overrides it. Sockets that were inherited can only hold.
    """

    pause_modes: tuple[str, ...] = PAUSE_MODES
    live_parameters: ClassVar[tuple[str, ...]] = ("max_tasks", "pause_mode")

    def __init__(
        self,
        listen: str | Endpoint,
        serve: Callable[[Datagram], Awaitable[None] | None] | Any,
        *,
        max_tasks: int = 1000,
        pause_mode: PauseMode = "hold",
    ) -> None:
        self.__endpoint = listening(listen, stream=False)
        if not callable(serve):
            raise TypeError(f"a datagram server serves {serve!r}, which is neither a function nor a protocol factory")
        self.__serve: Any = serve
        self.__most = _checked_most(max_tasks)
        self.__pause_mode = checked_pause_mode(pause_mode, self.__endpoint)
        if is_inherited(self.__endpoint):
            self.pause_modes = ("hold",)
        self.__receiving: _Receiving | None = None
        self.__endpoints: tuple[Endpoint, ...] = ()

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where it listens, with the real port; empty while it does not."""
        return self.__endpoints if self.__receiving is not None and self.__receiving.is_listening else ()

    @property
    def stats(self) -> DatagramStats:
        """What its incarnation, or the last one, has done."""
        receiving = self.__receiving
        return DatagramStats(receiving.received, receiving.failed) if receiving is not None else DatagramStats()

    async def on_start(self) -> None:
        """Bind, and begin to read. What it holds is entered, so it is let go however the incarnation ends."""
        registry = self.application.resource(Registry)
        lease = registry.lease(self.__endpoint, path=self.path, tree=self.application)
        self.__lease = await self.enter(lease)
        makes_protocol = _takes_nothing(self.__serve)
        self.__receiving = _Receiving(
            lease, self.__serve, makes_protocol=makes_protocol, most=self.__most, log=self.log
        )
        await self.enter(self.__receiving)
        if not self._starts_paused or self.__mode() == "hold":
            await self.__listen(self.__receiving)
        if not self._starts_paused:
            self.__receiving.accept()

    async def on_drain(self) -> None:
        """Read and handle what is there. What is left at drain_timeout is cut, when the incarnation ends."""
        if self.__receiving is not None:
            await self.__receiving.drain()

    async def on_pause(self) -> None:
        """Read nothing more."""
        assert self.__receiving is not None
        say_otherwise(self, self._pause_mode)
        if self.__mode() == "hold":
            self.__receiving.hold()
        else:
            await self.__receiving.refuse()
            self._retract()

    async def on_resume(self) -> None:
        """Read again; ListenError if the address cannot be bound again."""
        assert self.__receiving is not None
        if not self.__receiving.is_listening:
            await self.__listen(self.__receiving)
        self.__receiving.accept()

    async def on_reload(
        self,
        listen: str | Endpoint,
        serve: Callable[[Datagram], Awaitable[None] | None] | Any,
        *,
        max_tasks: int = 1000,
        pause_mode: PauseMode = "hold",
    ) -> None:
        """Take a new limit, and how to pause next time."""
        self.__most, self.__pause_mode = _checked_most(max_tasks), checked_pause_mode(pause_mode, self.__endpoint)
        if self.__receiving is not None:
            self.__receiving.limit(self.__most)

    async def __listen(self, receiving: _Receiving) -> None:
        await self.__lease.listen()
        self.__lease.demand(stream=False)
        receiving.open()
        self.__endpoints = tuple(bound_endpoint(self.__endpoint, sock) for sock in self.__lease.sockets)
        for endpoint in self.__endpoints:
            self._announce(endpoint.address)

    def __mode(self) -> str:
        return mode_of(self, self._pause_mode, self.__pause_mode)


def _checked_most(most: int) -> int:
    if not isinstance(most, int) or most < 1:
        raise ValueError(f"max_tasks is {most!r}; it takes a number above zero")
    return most


def _takes_nothing(function: Any) -> bool:
    """Whether it is called without an argument, as a factory is, and not with a datagram."""
    if isinstance(function, type):
        return issubclass(function, asyncio.DatagramProtocol)
    try:
        return not inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


@dataclass(frozen=True, slots=True)
class _Port:
    """One bound socket, and what belongs to it."""

    sock: socket.socket
    transport: DatagramTransport
    protocol: Any
