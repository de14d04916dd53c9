"""Standard input and output as one connection.

Rules: reading and writing go through descriptors of their own; the connection ends when both have. A regular file is
read to its end like a pipe. That nothing waits on these descriptors is true of everybody who has them, a shell before
and after this program included; so it is as it was again once the connection has ended.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from typing import Any

from zope.interface import implementer

from plait.classic.internet import error, interfaces, main, process
from plait.classic.internet._default import default_reactor
from plait.classic.python import log
from plait.classic.python.failure import Failure


@implementer(interfaces.IAddress)
class PipeAddress:
    """Where a pipe leads: nobody knows."""


@implementer(interfaces.ITransport, interfaces.IPushProducer, interfaces.IConsumer, interfaces.IHalfCloseableDescriptor)
class StandardIO:
    """The connection of a protocol to standard input and output, or to two other descriptors."""

    disconnected: bool | int = False
    disconnecting: bool | int = False

    def __init__(self, proto: Any, stdin: int = 0, stdout: int = 1, reactor: Any = None) -> None:
        if reactor is None:
            reactor = default_reactor()
        self.protocol = proto
        self._blocked = {fd: os.get_blocking(fd) for fd in (stdin, stdout)}
        self._reader: Any = process.Reader(reactor, self, 0, os.dup(stdin))
        self._writer: Any = process.Writer(reactor, self, 1, os.dup(stdout), watched=_is_watched(stdout))
        self.protocol.makeConnection(self)

    def write(self, data: Any) -> None:
        """Write to standard output."""
        if self._writer is not None:
            self._writer.write(data)

    def writeSequence(self, data: Iterable[Any]) -> None:
        """Write several."""
        self.write(b"".join(data))

    def loseWriteConnection(self) -> None:
        """Close standard output, once what was written is out."""
        if self._writer is not None:
            self._writer.loseConnection()

    def loseConnection(self) -> None:
        """Close both, once what was written is out."""
        self.disconnecting = True
        if self._writer is not None:
            self._writer.loseConnection()
        if self._reader is not None:
            self._reader.loseConnection()

    def getPeer(self) -> PipeAddress:
        """A `PipeAddress`."""
        return PipeAddress()

    def getHost(self) -> PipeAddress:
        """A `PipeAddress`."""
        return PipeAddress()

    # -- what the descriptors say -------------------------------------------------------------------------------------

    def childDataReceived(self, fd: int, data: bytes) -> None:
        """Something was read."""
        self.protocol.dataReceived(data)

    def childConnectionLost(self, fd: int, reason: Failure) -> None:
        """One of the two is closed."""
        if self.disconnected:
            return
        if fd == 0:
            self._reader = None
            self._is_half_closed(reason, "readConnectionLost")
        else:
            self._writer = None
            self._is_half_closed(reason, "writeConnectionLost")
        if self._reader is None and self._writer is None:
            self.connectionLost(reason)

    def _is_half_closed(self, reason: Failure, told: str) -> None:
        half: Any = interfaces.IHalfCloseableProtocol(self.protocol, None)
        if half is not None:
            try:
                getattr(half, told)()
            except BaseException:
                log.err()
                self.connectionLost(Failure())
        elif told == "readConnectionLost" and not self.disconnecting:
            self.loseConnection()
        elif not self.disconnecting:
            self.connectionLost(reason if reason.check(error.ConnectionDone) is None else Failure(main.CONNECTION_LOST))

    def connectionLost(self, reason: Failure) -> None:
        """Both are closed, or the reactor is stopped: tell the protocol."""
        if self.disconnected:
            return
        self.disconnected = True
        for end in (self._reader, self._writer):
            if end is not None:
                end.connectionLost(reason)
        self._reader = self._writer = None
        for fd, blocked in self._blocked.items():
            with contextlib.suppress(OSError):  # it is closed
                os.set_blocking(fd, blocked)
        protocol, self.protocol = self.protocol, None
        try:
            protocol.connectionLost(reason)
        except BaseException:
            log.err()

    def readConnectionLost(self, reason: Failure) -> None:
        """Standard input has ended."""
        self.childConnectionLost(0, reason)

    def writeConnectionLost(self, reason: Failure) -> None:
        """Nobody reads standard output any more."""
        self.childConnectionLost(1, reason)

    # -- flow ---------------------------------------------------------------------------------------------------------

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let this producer write too."""
        if self._writer is None:
            producer.stopProducing()
        else:
            self._writer.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """No more."""
        if self._writer is not None:
            self._writer.unregisterProducer()

    def stopProducing(self) -> None:
        """Close both."""
        self.loseConnection()

    def pauseProducing(self) -> None:
        """Read nothing until resumeProducing."""
        self.stopReading()

    def resumeProducing(self) -> None:
        """Read on."""
        self.startReading()

    def stopReading(self) -> None:
        """Read nothing."""
        if self._reader is not None:
            self._reader.stopReading()

    def startReading(self) -> None:
        """Read on."""
        if self._reader is not None:
            self._reader.startReading()


def _is_watched(fd: int) -> bool:
    """Whether a descriptor tells that nobody reads it: a pipe or socket, no file and no terminal."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


__all__ = ["PipeAddress", "StandardIO"]
