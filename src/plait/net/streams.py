"""A connection served by a coroutine, `async def handler(reader, writer)`.

Rules: the handler's task belongs to the server. When it ends, the writer is flushed and closed. On drain the reader
comes to the end of its stream once all that the client has sent, the part in the kernel's buffer included, has been
read; what arrives after that is left alone.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable, Iterable
from typing import Any, SupportsIndex

LIMIT = 2**16
"""Bytes a reader buffers before the transport stops reading, and the longest line of `readline`."""


def unread(transport: asyncio.BaseTransport) -> int:
    """Bytes that the client has sent and nobody has read, in the socket's buffer; 0 where that cannot be told."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return 0
    try:
        return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, b"\0\0\0\0"))[0])
    except OSError:
        return 0


class _Reader(asyncio.StreamReader):
    """A StreamReader that can come to its end while its client still sends."""

    _eof: bool
    _paused: bool

    resumed: Callable[[], None] | None = None
    """Called when reading goes on after the handler has caught up, once the server drains."""

    def _maybe_resume_transport(self) -> None:
        was_paused = self._paused
        super()._maybe_resume_transport()  # type: ignore[misc]
        if was_paused and not self._paused and self.resumed is not None:
            self.resumed()

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """Take what was read, unless the end has been told already."""
        if not self._eof:
            super().feed_data(data)


class Stream(asyncio.StreamReaderProtocol):
    """The protocol between a transport and a handler's reader and writer."""

    def __init__(self, server: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._reader = _Reader(limit=LIMIT, loop=loop)
        super().__init__(self._reader, loop=loop)
        self._server = server
        self._own_loop = loop
        self._ending = False
        self.received = False
        """Whether the client has sent anything yet."""
        self.header: Any = None
        """The PROXY header the connection began with, if it did."""
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there: start its handler."""
        seen: asyncio.Transport = self._server._opened(self, transport, self.header)
        self._transport = seen
        self._over_ssl = seen.get_extra_info("sslcontext") is not None
        self._reader.set_transport(seen)
        writer = asyncio.StreamWriter(seen, self, self._reader, self._own_loop)
        self.task = self._own_loop.create_task(self._server._handle(self._reader, writer))

    def data_received(self, data: bytes) -> None:
        """The client has sent something."""
        self.received = True
        self._reader.feed_data(data)
        if self._ending:
            self.end_input()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; a handler that is at work finds out at its next read or write."""
        super().connection_lost(exc)
        self._server._closed(self)

    def drain(self) -> None:
        """Come to the end of the stream once what has been sent is read."""
        self.end_after_next()
        self.end_input()

    def end_after_next(self) -> None:
        """As drain, once the client has sent something: for a connection that has not said anything yet."""
        self._ending = True
        self._reader.resumed = self._end_soon

    def _end_soon(self) -> None:
        self._own_loop.call_soon(self._own_loop.call_soon, self.end_input)  # what is there is read before

    def end_input(self) -> None:
        """Tell the reader the end of its stream, if nothing is left to read."""
        transport = self._transport
        if transport is None or self._reader._paused or unread(transport):
            return  # more comes, and asks again
        self._reader.feed_eof()
