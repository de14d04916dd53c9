"""A descriptor that is read and written through the reactor: the base of pipes, of UNIX connections and of your own.

Rules: what is written is kept until the descriptor takes it. A producer is paused when more than `bufferSize` bytes
are kept, and resumed when all are out. The descriptor ends once what was written is out, and a registered producer
that has more to give is done.
"""

from __future__ import annotations

import socket
import warnings
from collections.abc import Iterable
from typing import Any

from zope.interface import implementer

from plait.classic.internet import interfaces, main
from plait.classic.internet._default import default_reactor
from plait.classic.python.failure import Failure

_CONNECTION_DONE = Failure(main.CONNECTION_DONE)
_CONNECTION_DONE.cleanFailure()
_CONNECTION_LOST = Failure(main.CONNECTION_LOST)
_CONNECTION_LOST.cleanFailure()


def encoded(data: Any) -> bytes:
    """What `write` was given, as bytes: a str becomes UTF-8, with a warning. TypeError for anything else."""
    if isinstance(data, str):
        warnings.warn(
            "transport.write() was given a str, which is sent as UTF-8; give it bytes",
            category=DeprecationWarning,
            stacklevel=3,
        )
        return data.encode()
    return bytes(memoryview(data))


def joined(iovec: Iterable[Any]) -> bytes:
    """What `writeSequence` was given, as bytes. TypeError for a str among them."""
    pieces = list(iovec)
    for piece in pieces:
        if isinstance(piece, str):
            raise TypeError("Data must be bytes")
    return b"".join(pieces)


def prefix_of(what: Any) -> str:
    """What log lines call a protocol or a factory: its logPrefix, or its class."""
    if interfaces.ILoggingContext.providedBy(what):
        return str(what.logPrefix())
    return type(what).__name__


@implementer(
    interfaces.IPushProducer,
    interfaces.IReadWriteDescriptor,
    interfaces.IConsumer,
    interfaces.ITransport,
    interfaces.IHalfCloseableDescriptor,
)
class FileDescriptor:
    """See the module's rules. Override fileno, doRead and writeSomeData, and connectionLost to close it."""

    connected: bool | int = 0
    disconnected: bool | int = 0
    disconnecting: bool | int = 0
    producer: Any = None
    streamingProducer: bool | int = False
    producerPaused: bool | int = False
    bufferSize = 2**16
    SEND_LIMIT = 128 * 1024

    _writeDisconnecting = False
    _writeDisconnected = False

    def __init__(self, reactor: Any = None) -> None:
        self.reactor = default_reactor() if reactor is None else reactor
        self._buffer = bytearray()

    # -- for subclasses ---------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """The descriptor's number; -1 if it is closed."""
        return -1

    def doRead(self) -> Any:
        """There is something to read. An exception that is returned ends the descriptor."""

    def writeSomeData(self, data: bytes) -> Any:
        """Write some of it: how many bytes were taken, or an exception that ends the descriptor."""
        raise NotImplementedError(f"{type(self).__qualname__} does not implement writeSomeData")

    def logPrefix(self) -> str:
        """What log lines call it."""
        return "-"

    def getHost(self) -> Any:
        """This end's address."""
        raise NotImplementedError

    def getPeer(self) -> Any:
        """The other end's address."""
        raise NotImplementedError

    def connectionLost(self, reason: Failure) -> None:
        """It has ended. For an upcall: subclasses close what there is to close, and tell their protocol."""
        self.disconnected = 1
        self.connected = 0
        if self.producer is not None:
            self.producer.stopProducing()
            self.producer = None
        self.stopReading()
        self.stopWriting()
        self.reactor.removeReader(self)
        self.reactor.removeWriter(self)

    def readConnectionLost(self, reason: Failure) -> None:
        """There is nothing more to read."""
        self.connectionLost(reason)

    def writeConnectionLost(self, reason: Failure) -> None:
        """It takes nothing more."""
        self.connectionLost(reason)

    def _closeWriteConnection(self) -> Any:
        """End the direction to the other end alone."""
        return None

    def _postLoseConnection(self) -> Any:
        """What is out is out, and loseConnection was called: the reason to end with."""
        return main.CONNECTION_DONE

    # -- writing ------------------------------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        """Send bytes (or a str, with a warning), in order; never waits. Dropped when it is not connected."""
        if data.__class__ is not bytes:
            data = encoded(data)
        if not data or not self.connected or self._writeDisconnected:
            return
        self._buffer += data
        self._maybePauseProducer()
        self.startWriting()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Send several; a str among them is a TypeError."""
        self.write(joined(iovec))

    def _maybePauseProducer(self) -> None:
        if self.producer is not None and self.streamingProducer and len(self._buffer) > self.bufferSize:
            self.producerPaused = True
            self.producer.pauseProducing()

    def doWrite(self) -> Any:
        """Write what the descriptor takes; when all is out, let the producer produce, or end."""
        taken = self.writeSomeData(bytes(self._buffer[: self.SEND_LIMIT]))
        if isinstance(taken, BaseException) or taken < 0:
            return taken
        del self._buffer[:taken]
        if self._buffer:
            return None
        self.stopWriting()
        if self.producer is not None and (not self.streamingProducer or self.producerPaused):
            self.producerPaused = False
            self.producer.resumeProducing()
        elif self.disconnecting:
            return self._postLoseConnection()
        elif self._writeDisconnecting:
            self._writeDisconnected = True
            return self._closeWriteConnection()
        return None

    def loseConnection(self, _connDone: Failure = _CONNECTION_DONE) -> None:
        """Close, once what was written is out."""
        if self.connected and not self.disconnecting:
            self.disconnecting = 1
            self.stopReading()
            if self._writeDisconnected:  # nothing will be written that could end it
                self.stopWriting()
                self.reactor.callLater(0, self.connectionLost, _connDone)
            else:
                self.startWriting()

    def loseWriteConnection(self) -> None:
        """Send no more, once what was written is out."""
        self._writeDisconnecting = True
        self.startWriting()

    # -- flow ---------------------------------------------------------------------------------------------------------

    def startReading(self) -> None:
        """Read from now on."""
        self.reactor.addReader(self)

    def stopReading(self) -> None:
        """Read no more."""
        self.reactor.removeReader(self)

    def startWriting(self) -> None:
        """Call doWrite as soon as it can be written to."""
        self.reactor.addWriter(self)

    def stopWriting(self) -> None:
        """No more."""
        self.reactor.removeWriter(self)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take from this producer too: a push producer if `streaming`. RuntimeError if there is one."""
        if self.producer is not None:
            raise RuntimeError(f"Cannot register producer {producer}: producer {self.producer} was never unregistered.")
        if self.disconnected:
            producer.stopProducing()
            return
        self.producer = producer
        self.streamingProducer = streaming
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Take from it no more."""
        self.producer = None
        if self.connected and self.disconnecting:
            self.startWriting()

    def stopConsuming(self) -> None:
        """Let the producer go, and close."""
        self.unregisterProducer()
        self.loseConnection()

    def pauseProducing(self) -> None:
        """Read nothing until resumeProducing."""
        self.stopReading()

    def resumeProducing(self) -> None:
        """Read on."""
        if self.connected and not self.disconnecting:
            self.startReading()

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()


def isIPAddress(addr: str | bytes, family: int = socket.AF_INET) -> bool:
    """Whether a text is an address of this family, and no name."""
    if isinstance(addr, bytes):
        try:
            addr = addr.decode("ascii")
        except UnicodeDecodeError:
            return False
    if family == socket.AF_INET6:
        addr = addr.partition("%")[0]
    elif family != socket.AF_INET:
        raise ValueError(f"unknown address family {family!r}")
    try:
        socket.inet_pton(family, addr)
    except (ValueError, OSError):
        return False
    return True


def isIPv6Address(addr: str | bytes) -> bool:
    """Whether a text is an IPv6 address, with or without a scope."""
    return isIPAddress(addr, socket.AF_INET6)


__all__ = ["FileDescriptor", "isIPAddress", "isIPv6Address"]
