"""A connection served by a coroutine, `async def handler(reader, writer)`.

Rules: the handler's task belongs to the server. When it ends, the writer is flushed and closed; a connection is over
when its client is gone and its handler has returned. On drain the reader comes to the end of its stream where no
request is lost by it:

- never while the handler waits for the rest of a request of which it has a part;
- at once, if the client has been silent for a while and nothing that it sent is unread;
- else between two requests, when the handler, having answered, waits for the next. The answer and the end of the
  connection leave in one segment (TCP_CORK), so a client that has the one knows the other;
- for a handler that never answers, a while later, once all that had been sent when the drain began is read.

A unix socket is shut for reading at these moments: what was sent before is read, and a client's next send fails, so
that it knows.

All of this is looked at on drain alone; a read costs nothing more before.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, SupportsIndex

from plait.net.counting import hear

LIMIT = 2**16
"""Bytes a reader buffers before the transport stops reading, and the longest line of `readline`."""

GRACE = 0.5
"""Seconds without a word after which a connection is idle."""

PATIENCE = 2.0
"""Seconds into a drain for a client that is never silent: a long request may be under way."""

RECHECK_DELAY = 0.05
"""Seconds until a connection that still has something to read is looked at again, while it drains."""

# Offsets in struct tcp_info (linux/tcp.h): milliseconds since data last came, or since the connect; two counts.
_LAST_DATA_RECV, _BYTES_ACKED, _TCP_INFO_SIZE = 52, 120, 136


class Owner(Protocol):
    """The server, as a stream sees it."""

    def opened(self, protocol: Any, transport: Any, header: Any) -> Any: ...
    def closed(self, protocol: Any) -> None: ...
    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None: ...


def unread(transport: asyncio.BaseTransport) -> int:
    """Bytes that the client has sent and nobody has read, in the socket's buffer; 0 where that cannot be told."""
    sock = transport.get_extra_info("socket")
    try:
        return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, b"\0\0\0\0"))[0])
    except (OSError, ValueError, AttributeError):
        return 0


@dataclass(frozen=True, slots=True)
class _Flow:
    """What the system knows of a TCP connection: seconds of `silence` of the client, bytes it `acked`, `received`."""

    silence: float
    acked: int
    received: int


def _flow(transport: asyncio.BaseTransport) -> _Flow | None:
    """None where the system does not tell, as for unix sockets."""
    sock = transport.get_extra_info("socket")
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
        (silent,) = struct.unpack_from("=I", info, _LAST_DATA_RECV)
        acked, received = struct.unpack_from("=QQ", info, _BYTES_ACKED)
    except (OSError, ValueError, AttributeError, struct.error):
        return None
    return _Flow(silent / 1000, acked, received)


class Ending:
    """A connection that is to end where nothing its client sends is lost; what it writes leaves with its end.

    Made when the drain begins; its maker says when something was `heard`, and when it is `over`. `waits_for_answers`:
    it does not end in the middle of a request, however long that takes.
    """

    __slots__ = (
        *("_began", "_is_corked", "_is_in_request", "_last_heard", "_loop", "_owed", "_timer", "_transport"),
        *("is_shut", "is_told"),
    )

    def __init__(self, transport: asyncio.BaseTransport, *, waits_for_answers: bool = False) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._began = self._last_heard = self._loop.time()
        self._is_corked = False
        self._timer: asyncio.TimerHandle | None = None
        self.is_shut = False
        """Whether the client of a unix socket can send no more."""
        self.is_told = False
        """Whether its protocol was told to drain."""
        flow = _flow(transport)
        self._owed = flow.received if flow is not None else 0
        """How many bytes the client had sent by then, since the connection was made."""
        is_answered = flow is not None and flow.acked > 0 and not _is_tls(transport)  # a handshake is no answer
        self._is_in_request = waits_for_answers and is_answered

    def heard(self) -> None:
        """Something was read; the system says so itself for TCP."""
        self._last_heard = self._loop.time()

    def cork(self) -> None:
        """Hold back what is written, 200 ms at most, so that the last of it leaves in one segment with the end."""
        if not self._is_corked:
            self._is_corked = True
            _cork(self._transport, True)

    def flush(self) -> None:
        """Let what was written go: it was not the last, or says itself that it is, as TLS does."""
        if not self._is_corked:
            return
        if not self._transport.is_closing():
            _cork(self._transport, False)
            _cork(self._transport, True)
        elif _is_tls(self._transport):  # the FIN waits for the client's answer
            _cork(self._transport, False)

    @property
    def unread(self) -> int:
        """Bytes that were sent and nobody has read."""
        return unread(self._transport)

    def look_again(self, delay: float, look: Callable[[], None]) -> None:
        """Call `look` in so many seconds, unless it is over by then."""
        self._timer = self._loop.call_later(delay, look)

    def over(self) -> None:
        """Nobody looks at it any more."""
        if self._timer is not None:
            self._timer.cancel()

    def due_in(self, *, answers: bool = False, is_paused: bool = False) -> float:
        """Seconds after which to look again; 0 or less where nothing is lost by ending now.

        That is when the client has been silent for a while. One that never is may send for ever and wait for no answer:
        then it is when all is read that it had sent when the drain began, some time into that.
        """
        flow, rest, now = _flow(self._transport), self.unread, self._loop.time()
        if not rest and not is_paused:
            return GRACE - (flow.silence if flow is not None else now - self._last_heard)
        is_owed = flow is not None and flow.received - rest < self._owed
        if answers or is_owed or self._is_in_request or now - self._began < PATIENCE:
            return RECHECK_DELAY
        return 0.0

    def shut_unix(self) -> None:
        """Let nothing more be sent by the client of a unix socket."""
        if not self.is_shut:
            self.is_shut = True
            shut_unix(self._transport)


class _Reader(asyncio.StreamReader):
    """A StreamReader that can come to its end between two requests."""

    _eof: bool
    _paused: bool
    _buffer: bytearray
    _transport: asyncio.BaseTransport
    _waiter: asyncio.Future[None] | None

    answers = False
    """Once the server drains: whether the handler has written since the drain began."""

    answered = False
    """Once the server drains: whether the handler has written since the client last sent something."""

    @property
    def is_within_a_request(self) -> bool:
        """Whether the handler waits for the rest of something, a line perhaps, of which it has a part."""
        return self._waiter is not None and bool(self._buffer)

    async def _wait_for_data(self, func_name: str) -> None:
        if self.answered and not self._buffer and not unread(self._transport):
            _end(self._transport, self)
        if not self._eof:
            await super()._wait_for_data(func_name)  # type: ignore[misc]

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """Take what was read, unless the end has been told already."""
        if not self._eof:
            self.answered = False
            super().feed_data(data)


class _LastWriter(asyncio.StreamWriter):
    """Tells the reader that a request was answered; a writer becomes one when its server drains."""

    _reader: _Reader

    def write(self, data: Any) -> None:
        """Send, and so answer."""
        self._reader.answers = self._reader.answered = True
        super().write(data)

    def writelines(self, data: Iterable[Any]) -> None:
        """Send, and so answer."""
        self._reader.answers = self._reader.answered = True
        super().writelines(data)


class Stream(asyncio.StreamReaderProtocol):
    """The protocol between a transport and a handler's reader and writer."""

    def __init__(self, owner: Owner, header: Any) -> None:
        self._own_loop = loop = asyncio.get_running_loop()
        self._reader = _Reader(limit=LIMIT, loop=loop)
        super().__init__(self._reader, loop=loop)
        self._client_connected_cb = owner.handle  # by which StreamWriter.start_tls knows that it is the server
        self._owner = owner
        self._header = header
        self.data_received = self._reader.feed_data  # type: ignore[method-assign]
        self.task: asyncio.Task[None] | None = None
        self._is_lost = False
        self._ending: Ending | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there: start its handler."""
        seen: asyncio.Transport = self._owner.opened(self, transport, self._header)
        self._transport = seen
        self._over_ssl = seen.get_extra_info("sslcontext") is not None
        self._reader.set_transport(seen)
        self._writer = asyncio.StreamWriter(seen, self, self._reader, self._own_loop)
        self.task = self._own_loop.create_task(self._owner.handle(self._reader, self._writer))
        self.task.add_done_callback(self._handled)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; a handler that is at work finds out at its next read or write."""
        super().connection_lost(exc)
        self._is_lost = True
        if self._ending is not None:
            self._ending.over()
        if self.task is None or self.task.done():
            self._owner.closed(self)

    def _handled(self, _task: asyncio.Task[None]) -> None:
        if self._ending is not None:
            self._ending.flush()
        if self._is_lost:
            self._owner.closed(self)

    def cancel(self) -> None:
        """Cancel the handler."""
        if self.task is not None:
            self.task.cancel()

    # -- drain -------------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Come to the end of the stream where no request is lost; see the module's rules."""
        transport = self._transport
        if transport is None or self._reader._eof:
            return
        self._ending = Ending(transport, waits_for_answers=True)
        self._ending.cork()
        if _is_unix(transport):
            hear(self, transport, _nothing, self._ending.heard)
        self._writer.__class__ = _LastWriter
        self._end_when_idle()

    def _end_when_idle(self) -> None:
        transport, ending, reader = self._transport, self._ending, self._reader
        if ending is None or transport is None or transport.is_closing() or reader._eof:
            return
        wait = ending.due_in(answers=reader.answers, is_paused=reader._paused)
        if reader.is_within_a_request:
            ending.look_again(RECHECK_DELAY, self._end_when_idle)
        elif wait <= 0:
            _end(transport, reader)
        else:
            ending.look_again(wait, self._end_when_idle)


def _end(transport: asyncio.BaseTransport, reader: _Reader) -> None:
    """Come to the end now; on a unix socket the system does, once what was sent before is read."""
    if _is_unix(transport):
        shut_unix(transport)
    else:
        reader.feed_eof()


def shut_unix(transport: asyncio.BaseTransport) -> None:
    """Let nothing more be sent by the client of a unix socket; what it has sent can still be read."""
    with (
        contextlib.suppress(OSError),
        socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as sock,
    ):
        sock.shutdown(socket.SHUT_RD)


def _is_unix(transport: asyncio.BaseTransport) -> bool:
    sock = transport.get_extra_info("socket")
    return sock is not None and sock.family == socket.AF_UNIX


def _is_tls(transport: asyncio.BaseTransport) -> bool:
    return transport.get_extra_info("sslcontext") is not None


def _nothing() -> None:
    pass


def _cork(transport: asyncio.BaseTransport, on: bool) -> None:
    if hasattr(socket, "TCP_CORK") and not _is_unix(transport):
        with contextlib.suppress(OSError, AttributeError):
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)


def is_of_connection(error: BaseException, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Whether an error says that this connection broke, and not that something else failed, a database's perhaps."""
    if isinstance(error, asyncio.IncompleteReadError):
        return reader.at_eof()
    return error is reader.exception() or (isinstance(error, ConnectionError) and writer.is_closing())
