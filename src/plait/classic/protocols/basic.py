"""Protocols that cut the stream into lines or strings, and a sender of files.

Rules: what was received of an unfinished line or string is kept until the rest comes. One that is longer than
`MAX_LENGTH` ends the connection, unless overridden, before it is kept whole. A protocol that was paused delivers
nothing, what is kept included, until it is resumed. What a handler does while it is called (change the mode, take the
buffer, close) counts for the very next byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from struct import calcsize, pack, unpack
from typing import Any

from zope.interface import implementer

from plait.classic.internet import defer, interfaces, protocol
from plait.classic.python import log

MAX_LENGTH = 99999


class _PauseableMixin:
    """A protocol that can be told to wait, together with its transport."""

    paused = False
    transport: Any

    def dataReceived(self, data: bytes) -> Any:
        raise NotImplementedError

    def pauseProducing(self) -> None:
        """Deliver nothing until resumeProducing."""
        self.paused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Deliver what was kept, and read on."""
        self.paused = False
        self.transport.resumeProducing()
        self.dataReceived(b"")

    def stopProducing(self) -> None:
        """Deliver nothing any more."""
        self.paused = True
        self.transport.stopProducing()


# -- lines ------------------------------------------------------------------------------------------------------


class LineOnlyReceiver(protocol.Protocol):
    """Cuts the stream into lines; for `LineReceiver`'s other mode see there."""

    _buffer = b""
    delimiter = b"\r\n"
    MAX_LENGTH = 16384

    def dataReceived(self, data: bytes) -> Any:
        """Cut it into lines."""
        *lines, self._buffer = (self._buffer + data).split(self.delimiter)
        for line in lines:
            if self.transport.disconnecting:
                return None
            if len(line) > self.MAX_LENGTH:
                return self.lineLengthExceeded(line)
            self.lineReceived(line)
        if len(self._buffer) >= self.MAX_LENGTH + len(self.delimiter):
            return self.lineLengthExceeded(self._buffer)
        return None

    def lineReceived(self, line: bytes) -> Any:
        """For subclasses: a line, without its delimiter."""
        raise NotImplementedError

    def sendLine(self, line: bytes) -> Any:
        """Send a line, and its delimiter."""
        return self.transport.writeSequence((line, self.delimiter))

    def lineLengthExceeded(self, line: bytes) -> Any:
        """A line is too long; unless overridden, the connection is closed."""
        return self.transport.loseConnection()


class LineReceiver(_PauseableMixin, protocol.Protocol):
    """Cuts the stream into lines, or in raw mode hands it on as it comes."""

    line_mode: bool | int = 1
    delimiter = b"\r\n"
    MAX_LENGTH = 16384

    _buffer = b""
    _taken = 0
    """How much of the buffer has been delivered."""
    _is_delivering = False

    def clearLineBuffer(self) -> bytes:
        """What was received and not delivered yet; it is not delivered any more."""
        rest = self._buffer[self._taken :]
        self._buffer, self._taken = b"", 0
        return rest

    def dataReceived(self, data: bytes) -> Any:
        """Deliver what can be delivered."""
        if self._is_delivering:  # a handler has fed us: the loop below goes on with it
            self._buffer += data
            return None
        self._is_delivering = True
        self._buffer = self._buffer[self._taken :] + data if self._buffer else data
        self._taken = 0
        try:
            while self._taken < len(self._buffer) and not self.paused:
                is_done, result = self._deliver_line() if self.line_mode else self._deliver_raw()
                if is_done:
                    return result
        finally:
            self._is_delivering = False
            if self._taken:
                self._buffer, self._taken = self._buffer[self._taken :], 0
        return None

    def _deliver_raw(self) -> tuple[bool, Any]:
        result = self.rawDataReceived(self.clearLineBuffer())
        return bool(result), result

    def _deliver_line(self) -> tuple[bool, Any]:
        """Whether to stop, and what for."""
        start = self._taken
        end = self._buffer.find(self.delimiter, start)
        if end < 0:
            if len(self._buffer) - start >= self.MAX_LENGTH + len(self.delimiter):
                return True, self.lineLengthExceeded(self.clearLineBuffer())
            return True, None
        if end - start > self.MAX_LENGTH:
            return True, self.lineLengthExceeded(self.clearLineBuffer())
        self._taken = end + len(self.delimiter)
        result = self.lineReceived(self._buffer[start:end])
        return bool(result or (self.transport and self.transport.disconnecting)), result

    def setLineMode(self, extra: bytes = b"") -> Any:
        """Cut into lines from here on, beginning with `extra`."""
        self.line_mode = 1
        return self.dataReceived(extra) if extra else None

    def setRawMode(self) -> None:
        """Hand on from here on."""
        self.line_mode = 0

    def rawDataReceived(self, data: bytes) -> Any:
        """For subclasses: bytes, in raw mode."""
        raise NotImplementedError

    def lineReceived(self, line: bytes) -> Any:
        """For subclasses: a line, without its delimiter."""
        raise NotImplementedError

    def sendLine(self, line: bytes) -> Any:
        """Send a line, and its delimiter."""
        return self.transport.write(line + self.delimiter)

    def lineLengthExceeded(self, line: bytes) -> Any:
        """A line is too long; unless overridden, the connection is closed. `line` is what was received of it, and
        what came behind it."""
        return self.transport.loseConnection()


# -- strings ----------------------------------------------------------------------------------------------------


class StringTooLongError(AssertionError):
    """A string is longer than its prefix can say."""


class NetstringParseError(ValueError):
    """What came is no netstring."""


class IncompleteNetstring(Exception):
    """The netstring is not whole yet."""


class NetstringReceiver(protocol.Protocol):
    """Strings as D. J. Bernstein's netstrings: `5:hello,`. What is none ends the connection."""

    MAX_LENGTH = MAX_LENGTH
    brokenPeer = 0

    _LENGTH = re.compile(rb"(0|[1-9][0-9]*):")
    _PART_OF_LENGTH = re.compile(rb"(0|[1-9][0-9]*)?\Z")
    _buffer = b""

    def makeConnection(self, transport: Any) -> None:
        """Begin anew."""
        super().makeConnection(transport)
        self._buffer = b""
        self.brokenPeer = 0

    def sendString(self, string: bytes) -> None:
        """Send a string."""
        self.transport.write(b"%d:%b," % (len(string), string))

    def dataReceived(self, data: bytes) -> None:
        """Deliver the strings that are whole."""
        if self.brokenPeer:
            return
        self._buffer += data
        taken = 0
        try:
            while taken < len(self._buffer):
                string, taken = self._next(taken)
                self.stringReceived(string)
        except IncompleteNetstring:
            pass
        except NetstringParseError:
            self._handleParseError()
        finally:
            self._buffer = self._buffer[taken:]

    def _next(self, start: int) -> tuple[bytes, int]:
        """The string that begins there, and where it ends."""
        buffer = self._buffer
        digits = len(str(self.MAX_LENGTH))
        head = buffer[start : start + digits + 1]
        matched = self._LENGTH.match(head)
        if matched is None:
            if len(head) <= digits and self._PART_OF_LENGTH.match(head):
                self._check(int(head or b"0"))
                raise IncompleteNetstring
            raise NetstringParseError(f"{head!r} does not begin with a length")
        length = int(matched[1])
        self._check(length)
        first = start + matched.end()
        end = first + length
        if len(buffer) <= end:
            raise IncompleteNetstring
        if buffer[end : end + 1] != b",":
            raise NetstringParseError("a netstring does not end with a comma")
        return buffer[first:end], end + 1

    def _check(self, length: int) -> None:
        if length > self.MAX_LENGTH:
            raise NetstringParseError(f"{length} bytes are more than MAX_LENGTH, {self.MAX_LENGTH}")

    def stringReceived(self, string: bytes) -> None:
        """For subclasses: a string."""
        raise NotImplementedError

    def _handleParseError(self) -> None:
        self.transport.loseConnection()
        self.brokenPeer = 1


class IntNStringReceiver(_PauseableMixin, protocol.Protocol):
    """Strings behind their length in bytes, whose format a subclass gives."""

    MAX_LENGTH = MAX_LENGTH
    structFormat: str
    prefixLength: int

    _buffer = b""
    _taken = 0
    _is_delivering = False

    @property
    def recvd(self) -> bytes:
        """What was received and not delivered yet; can be set."""
        return self._buffer[self._taken :]

    @recvd.setter
    def recvd(self, data: bytes) -> None:
        self._buffer, self._taken = data, 0

    def stringReceived(self, string: bytes) -> None:
        """For subclasses: a string."""
        raise NotImplementedError

    def lengthLimitExceeded(self, length: int) -> None:
        """A string is too long; unless overridden, the connection is closed."""
        self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Deliver the strings that are whole."""
        if self._is_delivering:
            self._buffer += data
            return
        self.recvd = self.recvd + data if self._buffer else data
        self._is_delivering = True
        try:
            while not self.paused and self._deliver_one():
                pass
        finally:
            self._is_delivering = False
            if self._taken:
                self.recvd = self.recvd

    def _deliver_one(self) -> bool:
        first = self._taken + self.prefixLength
        if len(self._buffer) < first:
            return False
        (length,) = unpack(self.structFormat, self._buffer[self._taken : first])
        if length > self.MAX_LENGTH:
            self.lengthLimitExceeded(length)
            return False
        end = first + length
        if len(self._buffer) < end:
            return False
        self._taken = end
        self.stringReceived(self._buffer[first:end])
        return True

    def sendString(self, string: bytes) -> None:
        """Send a string. `StringTooLongError` if its length does not fit into the prefix."""
        most = 2 ** (8 * self.prefixLength)
        if len(string) >= most:
            raise StringTooLongError(f"Try to send {len(string)} bytes whereas maximum is {most}")
        self.transport.write(pack(self.structFormat, len(string)) + string)


class Int32StringReceiver(IntNStringReceiver):
    """Lengths of four bytes."""

    structFormat = "!I"
    prefixLength = calcsize(structFormat)


class Int16StringReceiver(IntNStringReceiver):
    """Lengths of two bytes."""

    structFormat = "!H"
    prefixLength = calcsize(structFormat)


class Int8StringReceiver(IntNStringReceiver):
    """Lengths of one byte."""

    structFormat = "!B"
    prefixLength = calcsize(structFormat)


class StatefulStringProtocol:
    """Gives each string to the method named for the state, `proto_STATE`, which returns the next state.

    The state "done" closes the connection. To be mixed with a receiver of strings.
    """

    state = "init"
    transport: Any

    def stringReceived(self, string: bytes) -> None:
        """Give it to the method for the state."""
        handler = getattr(self, f"proto_{self.state}", None)
        if handler is None:
            log.msg(f"there is no proto_{self.state} for what came in state {self.state!r}")
            return
        self.state = handler(string)
        if self.state == "done":
            self.transport.loseConnection()


@implementer(interfaces.IPullProducer)
class FileSender:
    """Sends a file, as fast as its consumer takes it; nothing is read before it is asked for."""

    CHUNK_SIZE = 2**14
    lastSent: Any = ""
    deferred: defer.Deferred[Any] | None = None

    def beginFileTransfer(
        self, file: Any, consumer: Any, transform: Callable[[bytes], bytes] | None = None
    ) -> defer.Deferred[Any]:
        """Send what `file` still has, each piece through `transform`; a Deferred of the last byte sent."""
        self.file = file
        self.consumer = consumer
        self.transform = transform
        deferred: defer.Deferred[Any] = defer.Deferred()
        self.deferred = deferred
        self.consumer.registerProducer(self, False)
        return deferred

    def resumeProducing(self) -> None:
        """Send one piece; at the end, be done."""
        chunk = self.file.read(self.CHUNK_SIZE) if self.file else b""
        if not chunk:
            self.file = None
            self.consumer.unregisterProducer()
            deferred, self.deferred = self.deferred, None
            if deferred is not None:
                deferred.callback(self.lastSent)
            return
        if self.transform is not None:
            chunk = self.transform(chunk)
        self.consumer.write(chunk)
        self.lastSent = chunk[-1:]

    def pauseProducing(self) -> None:
        """It produces only when asked."""

    def stopProducing(self) -> None:
        """The consumer is gone: the Deferred fails."""
        deferred, self.deferred = self.deferred, None
        if deferred is not None:
            deferred.errback(Exception("Consumer asked us to stop producing"))


__all__ = [
    "FileSender",
    "Int8StringReceiver",
    "Int16StringReceiver",
    "Int32StringReceiver",
    "IntNStringReceiver",
    "LineOnlyReceiver",
    "LineReceiver",
    "NetstringParseError",
    "NetstringReceiver",
    "StatefulStringProtocol",
    "StringTooLongError",
]
