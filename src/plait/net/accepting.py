"""The accept loop: from listening sockets to connections that the loop has taken over.

Rules:
- Each wake accepts up to 64 connections. At the limit it stops accepting, and the kernel queues; it never drops.
- Before the sockets close, all who queue are accepted (`sweep`). Those for whom there is no room then wait here instead
  of in the kernel, in the same order, and are handed over as others leave.
- A connection that was accepted and is not yet the loop's is known (`adopting`), and can be awaited: closing a
  listening socket never loses one (asyncio's Server does, CPython gh-109564).
- A plain connection is handed over without a task of its own: `connect_accepted_socket` is stepped by hand and a
  whole batch is settled by one callback, which is a fifth of what an accept costs. TLS and PROXY headers take a task.
- Where the system cannot accept (out of descriptors, of memory), it rests for a second, and says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from plait.errors import PlaitError
from plait.net.endpoints import Endpoint

BATCH = 64
"""Connections accepted at one wake: enough to empty a burst, few enough to let others run."""

EXHAUSTED_DELAY = 1.0
"""Seconds without accepting after the system could not: out of descriptors or memory, for instance."""

HANDSHAKE_TIMEOUT = 10.0
"""Seconds that a TLS handshake may take."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_GONE = (errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH)
"""What ended the next connection in the queue, and that one alone; accept(2)."""

Log = logging.LoggerAdapter[logging.Logger]
Factory = Callable[[Any], asyncio.BaseProtocol]
"""Makes the protocol of a connection from the PROXY header it began with, or None."""

Step = tuple[Coroutine[Any, Any, Any], Any, socket.socket]
"""A connection on its way: the coroutine that hands it over, what it waits for, and its socket."""


class Acceptor:
    """Accepts for one server.

    `has_room` is asked before each connection, `make` makes its protocol; `rested` is called when it may accept again,
    and `settled` when some that it has accepted are not on their way any more.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        endpoint: Endpoint,
        *,
        make: Factory,
        context: Callable[[], ssl.SSLContext | None],
        has_room: Callable[[], bool],
        rested: Callable[[], None],
        settled: Callable[[], None],
        log: Log,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = sockets
        self._proxy = endpoint.proxy
        self._context = context
        self._make = make
        self._make_plain = partial(make, None)
        self.has_room = has_room
        self._rested = rested
        self._settled = settled
        self._log = log
        self._is_plain = not endpoint.proxy and endpoint.scheme != "tls" and context() is None
        # libuv makes an accepted socket non-blocking and switches Nagle off; asyncio's own loop does neither.
        self._is_uvloop = type(self._loop).__module__.startswith("uvloop")
        self._nodelay = endpoint.nodelay
        self._resting: asyncio.TimerHandle | None = None
        self._stepped = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._seatless: deque[socket.socket] = deque()
        """Those that were accepted when there was no room."""
        self.is_on = False
        self.accepted = 0
        self.accepted_last = 0.0
        """When, in the loop's time."""
        self.failed = 0

    @property
    def is_resting(self) -> bool:
        """Whether it waits for the system to be able again."""
        return self._resting is not None

    @property
    def adopting(self) -> int:
        """How many connections were accepted, and are on their way to the loop."""
        return self._stepped + len(self._tasks)

    @property
    def waiting(self) -> int:
        """How many connections were accepted, and wait for room."""
        return len(self._seatless)

    def on(self) -> None:
        """Accept, unless it does already, or rests."""
        if not self.is_on and self._resting is None:
            self.is_on = True
            for sock in self._sockets:
                self._loop.add_reader(sock, self._accept, sock)

    def off(self) -> None:
        """Accept no more; what was accepted goes on."""
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        self._pause()

    def sweep(self) -> bool:
        """Accept a batch of what is in the queues now; whether they were emptied."""
        emptied = [self._accept(sock, is_sweep=True) for sock in self._sockets]
        return all(emptied)

    def seat(self) -> None:
        """Hand over those who wait, as far as there is room."""
        steps: list[Step] = []
        while self._seatless and self.has_room():
            self._take(self._seatless.popleft(), steps)
        self._settle_soon(steps)

    def abandon(self) -> None:
        """Cut the handshakes that are under way."""
        for task in self._tasks:
            task.cancel()

    def dismiss(self) -> None:
        """Close those who wait."""
        while self._seatless:
            self._seatless.popleft().close()

    def _pause(self) -> None:
        if self.is_on:
            self.is_on = False
            for sock in self._sockets:
                self._loop.remove_reader(sock)

    # -- one batch ---------------------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket, is_sweep: bool = False) -> bool:
        """Accept a batch, in a sweep also where there is no room; whether the queue is empty now."""
        family, kind, proto = listener.family, listener.type, listener.proto  # each read of these makes an enum
        accept = listener._accept  # type: ignore[attr-defined]  # accept() would read them again
        sets_nodelay = family != socket.AF_UNIX and self._nodelay and not self._is_uvloop
        steps: list[Step] = []
        is_empty = False
        for _ in range(BATCH):
            has_room = not self._seatless and self.has_room()
            if not has_room and not is_sweep:
                self._pause()
                break
            try:
                fd, _address = accept()
            except BlockingIOError:
                is_empty = True
                break
            except OSError as error:
                if error.errno in _GONE:
                    continue
                self._cannot_accept(error)
                break
            self.accepted += 1
            conn = socket.socket(family, kind, proto, fd)
            if not (self._is_uvloop and self._is_plain):
                conn.setblocking(False)
            if sets_nodelay:
                conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            if has_room:
                self._take(conn, steps)
            else:
                self._seatless.append(conn)
        self.accepted_last = self._loop.time()
        self._settle_soon(steps)
        return is_empty

    def _take(self, conn: socket.socket, steps: list[Step]) -> None:
        """Begin to hand a connection to the loop."""
        if self._is_plain:
            coro = self._loop.connect_accepted_socket(self._make_plain, conn)
            try:
                steps.append((coro, coro.send(None), conn))
                self._stepped += 1
            except StopIteration:
                self._attached(conn)
            except Exception as error:
                self._lose(conn, error)
        else:
            task = self._loop.create_task(self._adopt(conn))
            self._tasks.add(task)
            task.add_done_callback(self._adopted)

    def _settle_soon(self, steps: list[Step]) -> None:
        if steps:
            self._loop.call_soon(self._settle, steps)

    def _settle(self, steps: list[Step]) -> None:
        """The loop has called connection_made of them all by now."""
        for coro, waiter, conn in steps:
            waiter._asyncio_future_blocking = False
            if waiter.done():
                self._finish(coro, conn, waiter)
            else:
                waiter.add_done_callback(partial(self._finish, coro, conn))

    def _finish(self, coro: Coroutine[Any, Any, Any], conn: socket.socket, _waiter: Any) -> None:
        self._stepped -= 1
        try:
            coro.send(None)
        except StopIteration:
            self._attached(conn)
        except Exception as error:
            self._lose(conn, error)
        if not self._stepped:
            self._settled()

    def _attached(self, conn: socket.socket) -> None:
        if self._is_uvloop and not self._nodelay and conn.family != socket.AF_UNIX:
            with contextlib.suppress(OSError):  # it may be gone already
                conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, False)

    async def _adopt(self, conn: socket.socket) -> None:
        """The PROXY header, and the TLS handshake."""
        from plait.net.proxy import read_header

        try:
            header = await read_header(conn, self._proxy) if self._proxy else None
            context = self._context()
            await self._loop.connect_accepted_socket(
                partial(self._make, header),
                conn,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT if context else None,
            )
            self._attached(conn)
        except asyncio.CancelledError:
            conn.close()
            raise
        except Exception as error:
            self._lose(conn, error)

    def _adopted(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._settled()

    # -- what goes wrong ---------------------------------------------------------------------------------------------

    def _lose(self, conn: socket.socket, error: Exception) -> None:
        conn.close()
        self.failed += 1
        if isinstance(error, (OSError, PlaitError)):
            self._log.info("a connection did not come about: %s", str(error) or type(error).__name__)
        else:
            self._log.error("the protocol factory failed; the connection is closed", exc_info=error)

    def _cannot_accept(self, error: OSError) -> None:
        if self._resting is None:
            cure = "; the kernel queues until then" if error.errno in _EXHAUSTED else ""
            self._log.error("cannot accept: %s; trying again in %g s%s", error, EXHAUSTED_DELAY, cure)
            self._pause()
            self._resting = self._loop.call_later(EXHAUSTED_DELAY, self._rest_is_over)

    def _rest_is_over(self) -> None:
        self._resting = None
        self._rested()
