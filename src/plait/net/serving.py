"""One incarnation of a Server: its connections, from the first accept to the last close.

Rules:
- What goes wrong in one connection is logged with its peer, counted, and ends that connection alone.
- Drain: accept what has arrived, stop accepting, let each connection end where nothing is lost, handshakes beside it.
  Where no other generation listens on the sockets, those who queue for a place are still served, and the sockets are
  closed as soon as nobody queues: who comes later is refused at once, instead of waiting in vain.
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
from plait.net.streams import GRACE, Stream

LIMIT_RECHECK_PERIOD = 1.0
"""Seconds between two looks, while a server of protocols is full, for connections that were handed on and are gone."""

TURNS_TO_READ = 3
"""Turns of the loop in which it reads what the sockets held when the drain began."""


class _Connection:
    """One open connection: its protocol, its transport, and the loop's time since when."""

    __slots__ = ("protocol", "since", "transport")

    def __init__(self, protocol: Any, transport: Any, since: float) -> None:
        self.protocol = protocol
        self.transport = transport
        self.since = since


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
        self._empty: asyncio.Future[None] | None = None
        self._is_draining = False
        self._is_handler = is_handler
        self._recheck: asyncio.TimerHandle | None = None
        self.classes: dict[type, type] = {}
        self.failed = 0
        self.cut = 0
        self.acceptor = Acceptor(
            lease.sockets,
            lease.endpoint,
            make=self._make_stream if is_handler else self._make_protocol,
            context=context,
            has_room=self._has_room if most is not None else _always,
            log=log,
        )

    @property
    def open(self) -> int:
        """How many connections there are, those whose handshake is under way included."""
        return len(self._connections) + self.acceptor.adopting

    def _has_room(self) -> bool:
        if self._most is None or self.open < self._most:
            return True
        self._follow_switched()
        if self.open < self._most:
            return True
        if not self._is_handler and self._recheck is None:
            self._recheck = self._loop.call_later(LIMIT_RECHECK_PERIOD, self._look_again)
        return False

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
        self._connections[id(protocol)] = _Connection(protocol, transport, self._loop.time())
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
        if not self._connections and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)
        if self._most is not None:
            self._go_on()

    def _go_on(self) -> None:
        """There is room again."""
        if not self._is_draining:
            self.acceptor.on()
        elif self._lease.sockets and self._has_room():
            self._sweep()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection's handler, from its first line to its last."""
        try:
            await self._serve(reader, writer)
        except ConnectionError as error:
            self._log.debug("%s went away: %s", writer.get_extra_info("peername"), error)
        except asyncio.IncompleteReadError as error:
            level = logging.INFO if error.partial else logging.DEBUG
            self._log.log(level, "%s went away in the middle: %s", writer.get_extra_info("peername"), error)
        except (Exception, SystemExit, KeyboardInterrupt):
            self.failed += 1
            self._log.exception("the handler of %s failed; its connection is closed", writer.get_extra_info("peername"))
        finally:
            writer.close()

    def _follow_switched(self) -> None:
        """A protocol that gave its transport to another (set_protocol) hears no more of it: listen to that one."""
        for key, connection in tuple(self._connections.items()):
            now = connection.transport.get_protocol()
            if now is connection.protocol or isinstance(connection.protocol, Stream):
                continue
            if connection.transport.is_closing():
                del self._connections[key]
            elif count(now, self, None) is now:  # else a relay would have to be put in front of a running protocol
                del self._connections[key]
                self._connections[id(now)] = _Connection(now, connection.transport, connection.since)
                connection.transport.set_protocol(now)

    # -- the end -----------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Until every connection has ended by itself."""
        self._is_draining = True
        self.acceptor.off()
        if not self._lease.is_shared:
            self._sweep()
        for _ in range(TURNS_TO_READ):
            await asyncio.sleep(0)
        self._follow_switched()
        for connection in tuple(self._connections.values()):
            self._drain_one(connection)
        while self._connections or self.acceptor.adopting:
            await self.acceptor.settled()
            await self._emptied()

    def _sweep(self) -> None:
        """Take who queues; when nobody does, close."""
        if self.acceptor.sweep(self._lease.endpoint.backlog):
            self._lease.close()

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
            except Exception:
                self.failed += 1
                self._log.exception("drain() of a connection failed; it is closed")
                connection.transport.abort()

    async def _emptied(self) -> None:
        if self._connections:
            self._empty = self._loop.create_future()
            await self._empty

    async def stop(self) -> None:
        """Cut what is left, and close the sockets."""
        self._is_draining = True
        self.acceptor.off()
        self._follow_switched()
        self.cut = self.open
        if self.cut:
            self._log.warning("%d connections were still open, and have been cut", self.cut)
        await self.acceptor.abandon()
        tasks = [task for c in self._connections.values() if (task := getattr(c.protocol, "task", None)) is not None]
        for key, connection in tuple(self._connections.items()):
            connection.transport.abort()
            if (
                not isinstance(connection.protocol, Stream)
                and connection.transport.get_protocol() is not connection.protocol
            ):
                del self._connections[key]  # nobody would tell of its end
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._emptied()
        self._lease.close()
        if self._recheck is not None:
            self._recheck.cancel()


def _always() -> bool:
    return True
