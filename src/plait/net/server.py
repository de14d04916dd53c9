"""Server: accepts connections and serves each with a protocol or a coroutine.

Rules:
- The accept loop is Plait's own: a listening socket is never closed while a connection taken from it is on its way
  (asyncio's Server loses those, CPython gh-109564). Each wake accepts up to 64 connections.
- At the limit it stops accepting, and the kernel queues; it never drops.
- A protocol class is counted by a subclass made once for it: nothing is added to a read or a write.
- What goes wrong in one connection is logged with its peer, counted, and ends that connection alone.
- Drain: accept what has arrived, stop accepting, read what has been sent, answer it, end. Connections that have said
  nothing yet are given a moment to. What is left at `drain_timeout` is cut, counted and said.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from plait._kernel.service import Service
from plait.errors import EndpointError
from plait.net.counting import count
from plait.net.endpoints import Endpoint
from plait.net.proxy import Header, ProxiedTransport, ProxyError, read_header
from plait.net.sockets import Registry
from plait.net.streams import Stream
from plait.net.tls import RenewingContext

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ProtocolFactory = Callable[[], asyncio.BaseProtocol]

BATCH = 64
"""Connections accepted at one wake: enough to empty a burst, few enough to let others run."""

EXHAUSTED_DELAY = 1.0
"""Seconds without accepting after the system has run out of descriptors or memory."""

TURNS_TO_READ = 3
"""Turns of the loop in which it reads what the sockets held when the drain began."""

FRESH_GRACE = 0.5
"""Seconds that a connection which has sent nothing yet is given to do so, at most, once draining has begun."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass(frozen=True, slots=True)
class ServerStats:
    """What a server has done since its incarnation began, in connections; `open` is now.

    `failed`: the handler raised, or the handshake or PROXY header was wrong. `cut`: still open when the time to drain
    was over.
    """

    open: int
    accepted: int
    failed: int
    cut: int


class Server(Service):
    """Listens on an endpoint and serves each connection.

    `serve` is an `async def handler(reader, writer)`, or a factory of asyncio protocols (a class will do); a protocol
    may have a method `drain()`, called once when the server stops, and ends when it is done. `max_connections` is how
    many may be open at once; further ones wait in the kernel's queue. `tls` is an SSLContext in place of the files of
    a tls:// endpoint. EndpointError if `listen` is none to listen on; ListenError, at the start, if it cannot.
    """

    def __init__(
        self,
        listen: str | Endpoint,
        serve: Handler | ProtocolFactory,
        *,
        max_connections: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._endpoint = listening(listen, stream=True)
        if self._endpoint.scheme == "tls" and not self._endpoint.cert and tls is None:
            raise EndpointError(f"endpoint {str(self._endpoint)!r}: TLS needs a certificate; add cert=FILE&key=FILE")
        if not callable(serve):
            raise TypeError(f"a server serves {serve!r}, which is neither a coroutine function nor a protocol factory")
        if max_connections is not None and (not isinstance(max_connections, int) or max_connections < 1):
            raise ValueError(f"max_connections is {max_connections!r}; it takes a number above zero, or None")
        self._serve: Any = serve
        self._is_handler = inspect.iscoroutinefunction(serve) or inspect.iscoroutinefunction(
            getattr(serve, "__call__", None)  # noqa: B004
        )
        self._most = max_connections
        self._tls = tls
        self._endpoints: tuple[Endpoint, ...] = ()
        self._sockets: list[socket.socket] = []
        self._counted: dict[type, type] = {}
        self._forget()

    def _forget(self) -> None:
        self._accepted = self._failed = self._cut = 0
        self._connections: dict[int, _Connection] = {}
        self._adopting: set[asyncio.Task[Any]] = set()
        self._empty: asyncio.Future[None] | None = None
        self._is_accepting = False
        self._is_draining = False

    @property
    def stats(self) -> ServerStats:
        """What this incarnation has done so far."""
        return ServerStats(open=self._open, accepted=self._accepted, failed=self._failed, cut=self._cut)

    @property
    def _open(self) -> int:
        return len(self._connections) + len(self._adopting)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where it listens, with the real port; empty while it does not."""
        return self._endpoints

    async def on_start(self) -> None:
        """Bind, and begin to accept."""
        self._forget()
        self._loop = asyncio.get_running_loop()
        if self._endpoint.scheme == "tls" and self._tls is None:
            self._context: Callable[[], ssl.SSLContext | None] = RenewingContext(self._endpoint).get
        else:
            self._context = lambda: self._tls
        registry = self.application.resource(Registry)
        self._sockets = await self.enter(registry.listening(self._endpoint, path=self.path, tree=self.application))
        self._endpoints = tuple(bound_endpoint(self._endpoint, sock) for sock in self._sockets)
        self._accept_on()
        for endpoint in self._endpoints:
            self._announce(endpoint.address)

    async def on_drain(self) -> None:
        """Finish what has been taken. Cancelled at drain_timeout; on_stop does the rest."""
        self._is_draining = True
        for sock in self._sockets if self._is_accepting else ():
            self._accept(sock, most=self._endpoint.backlog)
        self._accept_off()
        while self._adopting:
            await asyncio.wait(self._adopting)
        for _ in range(TURNS_TO_READ):
            await asyncio.sleep(0)
        await self._drain_connections(min(FRESH_GRACE, self.effective_policy.drain_timeout / 2))
        await self._emptied()

    async def on_stop(self) -> None:
        """Cut what is left, and close the sockets."""
        self._is_draining = True
        self._accept_off()
        self._endpoints = ()
        self._cut = self._open
        if self._cut:
            self.log.warning("%d connections were still open, and have been cut", self._cut)
        tasks = set(self._adopting)
        for connection in tuple(self._connections.values()):
            connection.transport.abort()
            if isinstance(connection.protocol, Stream) and connection.protocol.task is not None:
                tasks.add(connection.protocol.task)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._emptied()

    async def _drain_connections(self, grace: float) -> None:
        now = self._loop.time()
        fresh = [c for c in self._connections.values() if now - c.since < grace and not c.has_sent]
        for connection in tuple(self._connections.values()):
            if connection not in fresh:
                self._drain_one(connection)
        if fresh:
            for connection in fresh:
                if isinstance(connection.protocol, Stream):
                    connection.protocol.end_after_next()
            await self._emptied(timeout=max(c.since for c in fresh) + grace - now)
            for connection in fresh:
                if id(connection.protocol) in self._connections:
                    self._drain_one(connection)

    def _drain_one(self, connection: _Connection) -> None:
        drain = getattr(connection.protocol, "drain", None)
        if drain is not None:
            try:
                drain()
            except Exception:
                self._failed += 1
                self.log.exception("drain() of a connection failed; it is closed")
                connection.transport.abort()

    async def _emptied(self, timeout: float | None = None) -> None:
        """Until no connection is open."""
        if self._connections:
            self._empty = self._loop.create_future()
            await asyncio.wait([self._empty], timeout=timeout)

    # -- accepting ---------------------------------------------------------------------------------------------------

    def _accept_on(self) -> None:
        if not self._is_accepting:
            self._is_accepting = True
            for sock in self._sockets:
                self._loop.add_reader(sock, self._accept, sock)

    def _accept_off(self) -> None:
        if self._is_accepting:
            self._is_accepting = False
            for sock in self._sockets:
                self._loop.remove_reader(sock)

    def _accept(self, sock: socket.socket, most: int = BATCH) -> None:
        for _ in range(most):
            if self._most is not None and self._open >= self._most:
                self._accept_off()
                return
            try:
                conn, _ = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._cannot_accept(error)
                return
            conn.setblocking(False)
            self._accepted += 1
            task = self._loop.create_task(self._adopt(conn))
            self._adopting.add(task)
            task.add_done_callback(self._adopted)

    def _cannot_accept(self, error: OSError) -> None:
        if error.errno not in _EXHAUSTED:
            self.log.error("accept failed: %s; the connection is lost", error)
            return
        self.log.error("cannot accept: %s; trying again in %g s, the kernel queues until then", error, EXHAUSTED_DELAY)
        self._accept_off()
        self._engine().deadlines.after(EXHAUSTED_DELAY, self._accept_again)

    def _accept_again(self) -> None:
        """Accept, if nothing speaks against it any more."""
        if not self._is_draining and (self._most is None or self._open < self._most):
            self._accept_on()

    def _adopted(self, task: asyncio.Task[Any]) -> None:
        self._adopting.discard(task)
        if not self._is_accepting:
            self._accept_again()

    async def _adopt(self, conn: socket.socket) -> None:
        """Give an accepted connection to the loop; from connection_made on it is known by its protocol."""
        try:
            header = await read_header(conn, self._endpoint.proxy) if self._endpoint.proxy else None
            if self._endpoint.nodelay and conn.family != socket.AF_UNIX:
                conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(partial(self._protocol, header), conn, ssl=self._context())
        except asyncio.CancelledError:
            conn.close()
            raise
        except (OSError, ProxyError, TimeoutError) as error:
            conn.close()
            self._failed += 1
            level = logging.WARNING if isinstance(error, (ProxyError, TimeoutError)) else logging.INFO
            self.log.log(level, "a connection did not come about: %s", str(error) or type(error).__name__)
        except Exception:
            conn.close()
            self._failed += 1
            self.log.exception("the protocol factory failed; the connection is closed")

    # -- connections -------------------------------------------------------------------------------------------------

    def _protocol(self, header: Header | None) -> asyncio.BaseProtocol:
        if self._is_handler:
            stream = Stream(self, self._loop)
            stream.header = header
            return stream
        protocol: asyncio.BaseProtocol = self._serve()
        return count(protocol, self, header)

    def _opened(self, protocol: Any, transport: Any, header: Header | None) -> Any:
        """A connection is there; the transport that its protocol is to see."""
        self._connections[id(protocol)] = _Connection(protocol, transport, self._loop.time())
        return transport if header is None else ProxiedTransport(transport, header)

    def _failed_in(self, transport: Any) -> None:
        self._failed += 1
        self.log.exception("connection_made of a connection failed; it is closed")
        transport.abort()

    def _closed(self, protocol: Any) -> None:
        """A connection is gone."""
        self._connections.pop(id(protocol), None)
        if not self._connections and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)
        if not self._is_accepting:
            self._accept_again()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection's handler, from its first line to its last."""
        try:
            await self._serve(reader, writer)
        except ConnectionError as error:
            self.log.debug("%s went away: %s", writer.get_extra_info("peername"), error)
        except (Exception, SystemExit, KeyboardInterrupt):
            self._failed += 1
            self.log.exception("the handler of %s failed; its connection is closed", writer.get_extra_info("peername"))
        finally:
            writer.close()


class _Connection:
    """One open connection: its protocol, its transport, and the loop's time since when."""

    __slots__ = ("protocol", "since", "transport")

    def __init__(self, protocol: Any, transport: Any, since: float) -> None:
        self.protocol = protocol
        self.transport = transport
        self.since = since

    @property
    def has_sent(self) -> bool:
        """Whether the client is known to have sent something."""
        return isinstance(self.protocol, Stream) and self.protocol.received


def listening(listen: str | Endpoint, *, stream: bool) -> Endpoint:
    """The endpoint, if a server of this kind can listen on it."""
    endpoint = Endpoint.parse(listen)
    if endpoint.scheme not in ("fd", "systemd") and endpoint.is_stream != stream:
        kind, other = ("connections", "DatagramServer") if stream else ("datagrams", "Server")
        raise EndpointError(f"endpoint {str(endpoint)!r} does not carry {kind}; use plait.net.{other} for it")
    return endpoint


def bound_endpoint(endpoint: Endpoint, sock: socket.socket) -> Endpoint:
    """The endpoint as it came to be: a real port, a real address."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return replace(endpoint, scheme="unix", path=os.fsdecode(name), fd=-1, name="")
    scheme = endpoint.scheme
    if scheme in ("fd", "systemd"):
        scheme = "tcp" if sock.type == socket.SOCK_STREAM else "udp"
    return replace(endpoint, scheme=scheme, host=name[0], port=name[1], fd=-1, name="")
