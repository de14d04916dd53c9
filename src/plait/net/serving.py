"""One incarnation of a Server: its connections, from the first accept to the last close.

Rules:
- What goes wrong in one connection is logged with its peer, counted, and ends that connection alone.
- Leaving the sockets, at a pause in mode "refuse" and at the end: where another generation listens on them, it takes
  all that queue. Where none does, newcomers are let in no more, those who queue or are connecting are accepted, and
  served as there is room, and the sockets closed: who comes later is refused, instead of waiting in vain.
- Holding, at a pause in mode "hold": nobody is accepted, and the kernel queues. Whoever still queues when a held server
  stops was never taken, and is reset.
- Open connections hear nothing of a pause. On drain each ends where nothing is lost, handshakes beside it: a stream
  knows where; the `drain()` of a protocol is called when its client has been silent for a while, or right after a read,
  if nothing that was sent is unread. From then on what it writes last and the end of the connection leave together.
- What is left when the time to drain is over is cut, counted and said.

    OPEN ⇄ HELD        OPEN ─→ LEAVING ─→ AWAY ─→ OPEN        HELD ─→ AWAY (at the end)
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any

from plait.net.accepting import Acceptor, Log
from plait.net.counting import count, hear, hear_end
from plait.net.forwarding import EndingTransport
from plait.net.sockets import Lease
from plait.net.streams import GRACE, RECHECK_DELAY, Ending, Stream, is_of_connection

LIMIT_RECHECK_PERIOD = 1.0
"""Seconds between two looks, while a server of protocols is full, for connections that were handed on and are gone."""

HANDSHAKE_GRACE = 1.0
"""Seconds, once draining has begun, for TLS handshakes and PROXY headers that are under way."""

TURNS_TO_READ = 3
"""Turns of the loop in which it reads what the sockets held when the drain began."""

BUSY_PERIOD = 1.0
"""A server is busy if it accepted within so many seconds."""

SWEEP_MOST = 4096
"""How many are taken at most from the queue of one socket, unless its backlog is larger: those who had queued."""


class Intake(Enum):
    """What becomes of those who connect."""

    OPEN = "they are accepted"
    HELD = "the kernel queues them"
    LEAVING = "those who queue are accepted, then the sockets are closed"
    AWAY = "they are refused"


class _Connection:
    """One open connection: its protocol and its transport; on drain, how that of a protocol ends."""

    __slots__ = ("ending", "protocol", "seen", "transport")

    def __init__(self, protocol: Any, transport: Any) -> None:
        self.protocol = protocol
        self.transport = transport
        self.ending: Ending | None = None
        self.seen: EndingTransport | None = None
        """What its protocol has for a transport, on a unix socket."""

    def gone(self) -> None:
        """Nobody looks at it any more."""
        if self.ending is not None:
            self.ending.over()
            self.ending = None

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
        self._left: asyncio.Future[None] | None = None
        self._intake = Intake.AWAY
        self._connecting: asyncio.TimerHandle | None = None
        """Until it is due, some who connected before newcomers were refused may still come."""
        self._swept_from = 0
        """How many had been accepted when the sweep of the queues began."""
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
            settled=self._settled,
            log=log,
        )

    async def __aenter__(self) -> Serving:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def open(self) -> int:
        """How many connections there are, those whose handshake is under way included."""
        return len(self._connections) + self.acceptor.adopting

    @property
    def taken(self) -> int:
        """How many connections there are, those that wait for room included."""
        return self.open + self.acceptor.waiting

    def limit(self, most: int | None) -> None:
        """From now on at most so many are served at a time; whoever is there stays."""
        self._most = most
        self.acceptor.has_room = self._has_room if most is not None else _always
        self._go_on()

    @property
    def is_listening(self) -> bool:
        """Whether a client can still connect."""
        return bool(self._lease.sockets)

    # -- who connects ------------------------------------------------------------------------------------------------

    def accept(self) -> None:
        """Take whoever connects, from now on; the sockets of the lease are there again."""
        if self._is_draining:  # a stop came between
            self._lease.close()
            return
        self._intake = Intake.OPEN
        self._go_on()

    def hold(self) -> None:
        """Take nobody; the kernel queues."""
        if not self._is_draining:
            self._intake = Intake.HELD
            self.acceptor.off()

    async def refuse(self) -> None:
        """Take who queues now, then close the sockets; return when that is done. The lease can be taken up again."""
        if not self._is_draining:
            self._leave()
        if self.is_listening:
            self._left = self._loop.create_future()
            await self._left

    def _leave(self) -> None:
        self._intake = Intake.LEAVING
        self._swept_from = self.acceptor.accepted
        self.acceptor.off()
        grace = 0.0 if self._lease.is_shared else self._lease.refuse()
        if grace and self._loop.time() - self.acceptor.accepted_last < BUSY_PERIOD:
            self._connecting = self._loop.call_later(grace, self._connected)
        self._sweep()

    def _connected(self) -> None:
        """Whoever was connecting when newcomers were refused has, by now."""
        self._connecting = None
        self.acceptor.off()
        self._sweep()

    def _sweep(self) -> None:
        """Take who queues, a batch a turn; when nobody does, or another generation takes them, close."""
        if self._intake is not Intake.LEAVING or self.acceptor.is_resting:
            return
        if self._lease.is_shared or self._has_swept_enough():
            self._go_away()
        elif not self.acceptor.sweep():
            self._loop.call_soon(self._sweep)
        elif self._connecting is None:
            self._go_away()
        else:
            self.acceptor.on()

    def _has_swept_enough(self) -> bool:
        """Whether all who had queued were taken, though others have come since."""
        most = max(SWEEP_MOST, self._lease.endpoint.backlog) * len(self._lease.sockets)
        return self.acceptor.accepted - self._swept_from > most

    def _go_away(self) -> None:
        self._intake = Intake.AWAY
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        self.acceptor.off()
        self._lease.leave()
        if self._left is not None and not self._left.done():
            self._left.set_result(None)
        self._look_whether_over()

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
        connection = self._connections[id(protocol)] = _Connection(protocol, transport)
        if self._is_draining:
            self._loop.call_soon(self._drain_one, connection)
        if header is not None:
            from plait.net.proxy import ProxiedTransport

            transport = ProxiedTransport(transport, header)
        if self._lease.is_unix and not self._is_handler and hasattr(protocol, "drain"):
            transport = connection.seen = EndingTransport(transport)
        return transport

    def failed_in(self, transport: Any) -> None:
        """A protocol's connection_made has raised."""
        self.failed += 1
        self._log.exception("connection_made of a connection failed; it is closed")
        transport.abort()

    def closed(self, protocol: Any) -> None:
        """A connection is gone."""
        connection = self._connections.pop(id(protocol), None)
        if connection is not None:
            connection.gone()
        if self._is_draining or self._most is not None:
            self._go_on()

    def _settled(self) -> None:
        """Connections are there, or did not come about."""
        if self._is_draining or self._most is not None:
            self._go_on()

    def _go_on(self) -> None:
        """There is room again."""
        self.acceptor.seat()
        if self._intake is Intake.OPEN:
            self.acceptor.on()
        self._sweep()
        self._look_whether_over()

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
                connection.gone()
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
        if self._intake is Intake.OPEN:
            self._leave()
        elif self._intake is Intake.HELD:
            self._go_away()
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

    def _drain_one(self, connection: _Connection) -> None:
        """End it where nothing is lost."""
        protocol, transport = connection.protocol, connection.transport
        if isinstance(protocol, Stream):
            protocol.drain()
        elif id(protocol) in self._connections and hasattr(protocol, "drain"):
            connection.ending = ending = Ending(transport)
            if connection.seen is not None:
                connection.seen.may_close = partial(self._may_close, connection, ending)
            hear(protocol, transport, ending.cork, partial(self._heard, connection, ending))
            self._drain_when_idle(connection, ending)

    def _heard(self, connection: _Connection, ending: Ending) -> None:
        """It has read: if that was all, what it answered and the end of the connection can leave together."""
        if not ending.unread:
            self._tell_to_drain(connection, ending)
        ending.flush()

    def _may_close(self, connection: _Connection, ending: Ending) -> bool:
        """Whether a unix socket may be closed now: not if its client sent something that is not read yet."""
        if ending.is_shut:
            return True
        ending.shut_unix()
        if not ending.unread or not connection.transport.is_reading():
            return True
        own = hear_end(connection.protocol, connection.transport, lambda: self._read_out(connection, ending, own))
        return False

    def _read_out(self, connection: _Connection, ending: Ending, end: Callable[[], Any]) -> None:
        """All is read that could be sent: its protocol closes when it has answered, or is told of the end."""
        ending.is_told = False
        self._tell_to_drain(connection, ending)
        if connection.ending is ending:
            ending.look_again(GRACE, lambda: None if end() else connection.transport.close())

    def _drain_when_idle(self, connection: _Connection, ending: Ending) -> None:
        wait = ending.due_in()
        if wait <= 0:
            ending.cork()
            self._tell_to_drain(connection, ending)
        if not ending.is_told and connection.ending is ending:
            ending.look_again(max(wait, RECHECK_DELAY), partial(self._drain_when_idle, connection, ending))

    def _tell_to_drain(self, connection: _Connection, ending: Ending) -> None:
        protocol, transport = connection.protocol, connection.transport
        if ending.is_told or transport.is_closing():
            return
        ending.is_told = True
        ending.over()
        try:
            protocol.drain()
        except (Exception, SystemExit):
            self.failed += 1
            self._log.exception("drain() of a connection failed; it is closed")
            transport.abort()

    def _look_whether_over(self) -> None:
        if self._over is not None and not self._over.done() and not self.is_listening and not self.taken:
            self._over.set_result(None)

    async def _until_over(self) -> None:
        while self.is_listening or self.taken:
            self._over = self._loop.create_future()
            await self._over

    async def stop(self) -> None:
        """Close the sockets, and cut what is left."""
        self._is_draining = True
        self._go_away()
        if self._recheck is not None:
            self._recheck.cancel()
        self._follow_switched()
        self.cut = self.taken
        if self.cut:
            self._log.warning("%d connections were still open, and have been cut", self.cut)
        self.acceptor.dismiss()
        self.acceptor.abandon()
        for key, connection in tuple(self._connections.items()):
            connection.transport.abort()
            if isinstance(connection.protocol, Stream):
                connection.protocol.cancel()
            elif connection.was_switched:
                connection.gone()
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
