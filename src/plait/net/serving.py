"""One incarnation of a Server: its connections, from the first accept to the last close.

Rules:
- What goes wrong in one connection is logged with its peer, counted, and ends that connection alone.
- Drain: stop accepting, and let each connection end where nothing is lost, handshakes beside it. Where another
  generation listens on the sockets, it takes all that queue. Where none does, those who queue are still served, and the
  sockets are closed as soon as nobody queues: who comes later is refused at once, instead of waiting in vain.
- What is left when the time to drain is over is cut, counted and said.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any

from plait.net.accepting import Acceptor, Log
from plait.net.counting import count
from plait.net.sockets import Lease
from plait.net.streams import GRACE, Stream, is_of_connection

LIMIT_RECHECK_PERIOD = 1.0
"""Seconds between two looks, while a server of protocols is full, for connections that were handed on and are gone."""

HANDSHAKE_GRACE = 1.0
"""Seconds, once draining has begun, for TLS handshakes and PROXY headers that are under way."""

TURNS_TO_READ = 3
"""Turns of the loop in which it reads what the sockets held when the drain began."""


class _Connection:
    """One open connection: its protocol, its transport, and the loop's time since when."""

    __slots__ = ("protocol", "since", "transport")

    def __init__(self, protocol: Any, transport: Any, since: float) -> None:
        self.protocol = protocol
        self.transport = transport
        self.since = since

    @property
    def was_switched(self) -> bool:
        """Whether its protocol has given the transport to another, and not only put TLS in between (start_tls)."""
        now = self.transport.get_protocol()
        return now is not self.protocol and type(now).__name__ != "SSLProtocol"


class Serving:
    """See the module's rules. `serve` is the handler or protocol factory, `most` the limit of connections."""

    def __init__(
        self,
        lease: Lease,
        serve: Any,
        *,
        is_handler: bool,
        most: int | None,
        context: Callable[[], ssl.SSLContext | None],
        log: Log,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._lease = lease
        self._serve = serve
        self._most = most
        self._log = log
        self._connections: dict[int, _Connection] = {}
        self._over: asyncio.Future[None] | None = None
        self._is_draining = False
        self._is_handler = is_handler
        self._recheck: asyncio.TimerHandle | None = None
        self.classes: dict[type, type | None] = {}
        self.failed = 0
        self.cut = 0
        self.acceptor = Acceptor(
            lease.sockets,
            lease.endpoint,
            make=self._make_stream if is_handler else self._make_protocol,
            context=context,
            has_room=self._has_room if most is not None else _always,
            rested=self._go_on,
            settled=self._look_whether_over,
            log=log,
        )

    async def __aenter__(self) -> Serving:
        """Accept."""
        self.acceptor.on()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def open(self) -> int:
        """How many connections there are, those whose handshake is under way included."""
        return len(self._connections) + self.acceptor.adopting

    @property
    def is_listening(self) -> bool:
        """Whether a client can still connect."""
        return bool(self._lease.sockets)

    def _has_room(self) -> bool:
        if self._most is None or self.open < self._most:
            return True
        if self._is_handler or self._recheck is not None:
            return False
        self._follow_switched()
        self._recheck = self._loop.call_later(LIMIT_RECHECK_PERIOD, self._look_again)
        return self.open < self._most

    def _look_again(self) -> None:
        self._recheck = None
        self._go_on()

    # -- what a connection tells -------------------------------------------------------------------------------------

    def _make_stream(self, header: Any) -> asyncio.BaseProtocol:
        return Stream(self, header)

    def _make_protocol(self, header: Any) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = count(self._serve(), self, header)
        return protocol

    def opened(self, protocol: Any, transport: Any, header: Any) -> Any:
        """A connection is there; the transport that its protocol is to see."""
        connection = self._connections[id(protocol)] = _Connection(protocol, transport, self._loop.time())
        if self._is_draining:
            self._loop.call_soon(self._drain_one, connection)
        if header is None:
            return transport
        from plait.net.proxy import ProxiedTransport

        return ProxiedTransport(transport, header)

    def failed_in(self, transport: Any) -> None:
        """A protocol's connection_made has raised."""
        self.failed += 1
        self._log.exception("connection_made of a connection failed; it is closed")
        transport.abort()

    def closed(self, protocol: Any) -> None:
        """A connection is gone."""
        self._connections.pop(id(protocol), None)
        if self._is_draining or self._most is not None:
            self._go_on()

    def _go_on(self) -> None:
        """There is room again."""
        if self._is_draining:
            self._sweep()
            self._look_whether_over()
        else:
            self.acceptor.on()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection's handler, from its first line to its last."""
        try:
            await self._serve(reader, writer)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            peer = _peer(writer)
            if is_of_connection(error, reader, writer):
                level = logging.INFO if getattr(error, "partial", b"") else logging.DEBUG
                self._log.log(level, "%s went away: %s", peer, str(error) or type(error).__name__)
            else:
                self.failed += 1
                self._log.exception("the handler of %s failed; its connection is closed", peer)
        finally:
            writer.close()

    def _follow_switched(self) -> None:
        """A protocol that gave its transport to another (set_protocol) hears no more of it: listen to that one."""
        for key, connection in tuple(self._connections.items()):
            if isinstance(connection.protocol, Stream) or not connection.was_switched:
                continue
            if connection.transport.is_closing():
                del self._connections[key]
                continue
            now = connection.transport.get_protocol()
            if count(now, self, None) is now:  # else a relay would have to be put in front of a running protocol
                del self._connections[key]
                connection.protocol = now
                self._connections[id(now)] = connection
                connection.transport.set_protocol(now)

    # -- the end -----------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Until nobody queues, and every connection has ended by itself."""
        before = tuple(self._connections.values())  # who comes from now on is told as it comes
        self._is_draining = True
        self.acceptor.off()
        self._sweep()
        late = self._loop.call_later(HANDSHAKE_GRACE, self.acceptor.abandon)
        try:
            for _ in range(TURNS_TO_READ):
                await asyncio.sleep(0)
            self._follow_switched()
            for connection in before:
                self._drain_one(connection)
            await self._until_over()
        finally:
            late.cancel()

    def _sweep(self) -> None:
        """Take who queues, a batch a turn; when nobody does, or another generation takes them, close."""
        if not self.is_listening or self.acceptor.is_resting:
            return
        if self._lease.is_shared or self.acceptor.sweep():
            self._lease.close()
            self._look_whether_over()
        elif self._has_room():
            self._loop.call_soon(self._sweep)

    def _drain_one(self, connection: _Connection) -> None:
        """End it where nothing is lost; a protocol is told by its drain(), a fresh one a moment later."""
        protocol = connection.protocol
        if isinstance(protocol, Stream):
            protocol.drain()
            return
        fresh = connection.since + GRACE - self._loop.time()
        if fresh > 0:
            self._loop.call_later(fresh, self._call_drain, connection)
        else:
            self._call_drain(connection)

    def _call_drain(self, connection: _Connection) -> None:
        drain = getattr(connection.protocol, "drain", None)
        if drain is not None and id(connection.protocol) in self._connections:
            try:
                drain()
            except (Exception, SystemExit):
                self.failed += 1
                self._log.exception("drain() of a connection failed; it is closed")
                connection.transport.abort()

    def _look_whether_over(self) -> None:
        if self._over is not None and not self._over.done() and not self.is_listening and not self.open:
            self._over.set_result(None)

    async def _until_over(self) -> None:
        while self.is_listening or self.open:
            self._over = self._loop.create_future()
            await self._over

    async def stop(self) -> None:
        """Close the sockets, and cut what is left."""
        self._is_draining = True
        self.acceptor.off()
        self._lease.close()
        if self._recheck is not None:
            self._recheck.cancel()
        self._follow_switched()
        self.cut = self.open
        if self.cut:
            self._log.warning("%d connections were still open, and have been cut", self.cut)
        self.acceptor.abandon()
        for key, connection in tuple(self._connections.items()):
            connection.transport.abort()
            if isinstance(connection.protocol, Stream):
                connection.protocol.cancel()
            elif connection.was_switched:
                del self._connections[key]  # nobody would tell of its end
        await self._until_over()


def _peer(writer: asyncio.StreamWriter) -> Any:
    """Who a connection is with; uvloop knows it only as long as it is open."""
    try:
        return writer.get_extra_info("peername") or "a client"
    except (OSError, ValueError):
        return "a client"


def _always() -> bool:
    return True
