"""What stands between a transport and any protocol: limits, timeouts, logs of traffic.

Rules: a wrapping factory makes, around each protocol of the factory it wraps, a wrapper that is the protocol to the
transport and the transport to the protocol. It knows the wrappers whose connections are open.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from zope.interface import directlyProvides, providedBy

from plait.classic.internet import error
from plait.classic.internet._default import default_reactor
from plait.classic.internet.abstract import prefix_of
from plait.classic.internet.protocol import ClientFactory, P, Protocol, ServerFactory
from plait.classic.python import log
from plait.classic.python.failure import Failure


class ProtocolWrapper(Protocol):
    """A protocol around another, and that one's transport. What it does not know, its own transport does."""

    disconnecting: bool | int = 0

    def __init__(self, factory: Any, wrappedProtocol: Any) -> None:
        self.wrappedProtocol: Any = wrappedProtocol
        self.factory = factory

    def logPrefix(self) -> str:
        """What log lines call it: the wrapped protocol, and itself."""
        return f"{prefix_of(self.wrappedProtocol)} ({type(self).__name__})"

    def makeConnection(self, transport: Any) -> None:
        """Keep the transport, and be one that provides what it does."""
        directlyProvides(self, providedBy(transport))
        Protocol.makeConnection(self, transport)
        self.factory.registerProtocol(self)
        self.wrappedProtocol.makeConnection(self)

    # -- the transport's part -----------------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        """Send it."""
        self.transport.write(data)

    def writeSequence(self, data: Iterable[Any]) -> None:
        """Send them."""
        self.transport.writeSequence(data)

    def loseConnection(self) -> None:
        """Close, once what was written is out."""
        self.disconnecting = 1
        self.transport.loseConnection()

    def getPeer(self) -> Any:
        """The other end's address."""
        return self.transport.getPeer()

    def getHost(self) -> Any:
        """This end's address."""
        return self.transport.getHost()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take from this producer too."""
        self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """Take from it no more."""
        self.transport.unregisterProducer()

    def stopConsuming(self) -> None:
        """Stop the producer, and close."""
        self.transport.stopConsuming()

    def __getattr__(self, name: str) -> Any:
        transport = self.__dict__.get("transport")
        if transport is None:
            raise AttributeError(f"{type(self).__name__!r} object, not connected, has no attribute {name!r}")
        return getattr(transport, name)

    # -- the protocol's part ------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> Any:
        """Hand it on."""
        return self.wrappedProtocol.dataReceived(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Hand it on."""
        self.factory.unregisterProtocol(self)
        self.wrappedProtocol.connectionLost(reason)
        self.wrappedProtocol = None  # the two refer to each other


class WrappingFactory(ClientFactory[P]):
    """Wraps each protocol of another factory; `protocol` says with what."""

    protocol: Any = ProtocolWrapper

    def __init__(self, wrappedFactory: Any) -> None:
        self.wrappedFactory = wrappedFactory
        self.protocols: dict[Any, int] = {}

    def logPrefix(self) -> str:
        """What log lines call it: the wrapped factory, and itself."""
        return f"{prefix_of(self.wrappedFactory)} ({type(self).__name__})"

    def doStart(self) -> None:
        """Start the wrapped one too."""
        self.wrappedFactory.doStart()
        ClientFactory.doStart(self)

    def doStop(self) -> None:
        """Stop the wrapped one too."""
        self.wrappedFactory.doStop()
        ClientFactory.doStop(self)

    def startedConnecting(self, connector: Any) -> None:
        """Hand it on."""
        self.wrappedFactory.startedConnecting(connector)

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        """Hand it on."""
        self.wrappedFactory.clientConnectionFailed(connector, reason)

    def clientConnectionLost(self, connector: Any, reason: Failure) -> None:
        """Hand it on."""
        self.wrappedFactory.clientConnectionLost(connector, reason)

    def buildProtocol(self, addr: Any) -> Any:
        """A wrapper around what the wrapped one builds; None if that builds none."""
        wrapped = self.wrappedFactory.buildProtocol(addr)
        return None if wrapped is None else self.protocol(self, wrapped)

    def registerProtocol(self, p: Any) -> None:
        """A connection of a wrapper is open."""
        self.protocols[p] = 1

    def unregisterProtocol(self, p: Any) -> None:
        """It has ended."""
        del self.protocols[p]


# -- limits -----------------------------------------------------------------------------------------------------


class ThrottlingProtocol(ProtocolWrapper):
    """Counts what it sends and receives, and waits when told to."""

    producer: Any = None

    def write(self, data: bytes) -> None:
        """Count and send it."""
        self.factory.registerWritten(len(data))
        ProtocolWrapper.write(self, data)

    def writeSequence(self, seq: Iterable[bytes]) -> None:
        """Count and send them."""
        pieces = list(seq)
        self.factory.registerWritten(sum(map(len, pieces)))
        ProtocolWrapper.writeSequence(self, pieces)

    def dataReceived(self, data: bytes) -> None:
        """Count it and hand it on."""
        self.factory.registerRead(len(data))
        ProtocolWrapper.dataReceived(self, data)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take from this producer too, which waits when writing is throttled."""
        self.producer = producer
        ProtocolWrapper.registerProducer(self, producer, streaming)

    def unregisterProducer(self) -> None:
        """Take from it no more."""
        self.producer = None
        ProtocolWrapper.unregisterProducer(self)

    def throttleReads(self) -> None:
        """Read nothing for now."""
        self.transport.pauseProducing()

    def unthrottleReads(self) -> None:
        """Read on."""
        self.transport.resumeProducing()

    def throttleWrites(self) -> None:
        """Let the producer wait."""
        if self.producer is not None:
            self.producer.pauseProducing()

    def unthrottleWrites(self) -> None:
        """Let it go on."""
        if self.producer is not None:
            self.producer.resumeProducing()


class ThrottlingFactory(WrappingFactory[P]):
    """Bounds the number of connections, and the bytes per second that all of them together read and write.

    Over a limit, all wait for as long as what was too much would have taken.
    """

    protocol = ThrottlingProtocol

    def __init__(
        self,
        wrappedFactory: Any,
        maxConnectionCount: int = sys.maxsize,
        readLimit: float | None = None,
        writeLimit: float | None = None,
    ) -> None:
        WrappingFactory.__init__(self, wrappedFactory)
        self.connectionCount = 0
        self.maxConnectionCount = maxConnectionCount
        self.readLimit = readLimit
        self.writeLimit = writeLimit
        self.readThisSecond = 0
        self.writtenThisSecond = 0
        self.unthrottleReadsID: Any = None
        self.checkReadBandwidthID: Any = None
        self.unthrottleWritesID: Any = None
        self.checkWriteBandwidthID: Any = None

    def callLater(self, period: float, func: Callable[[], Any]) -> Any:
        """The reactor's; tests override it."""
        return default_reactor().callLater(period, func)

    def registerWritten(self, length: int) -> None:
        """So many bytes were written."""
        self.writtenThisSecond += length

    def registerRead(self, length: int) -> None:
        """So many bytes were read."""
        self.readThisSecond += length

    def checkReadBandwidth(self) -> None:
        """Once a second: wait if too much was read."""
        if self.readLimit is not None and self.readThisSecond > self.readLimit:
            self.throttleReads()
            self.unthrottleReadsID = self.callLater(self.readThisSecond / self.readLimit - 1.0, self.unthrottleReads)
        self.readThisSecond = 0
        self.checkReadBandwidthID = self.callLater(1, self.checkReadBandwidth)

    def checkWriteBandwidth(self) -> None:
        """Once a second: wait if too much was written."""
        if self.writeLimit is not None and self.writtenThisSecond > self.writeLimit:
            self.throttleWrites()
            over = self.writtenThisSecond / self.writeLimit - 1.0
            self.unthrottleWritesID = self.callLater(over, self.unthrottleWrites)
        self.writtenThisSecond = 0
        self.checkWriteBandwidthID = self.callLater(1, self.checkWriteBandwidth)

    def throttleReads(self) -> None:
        """Let all wait with reading."""
        for p in list(self.protocols):
            p.throttleReads()

    def unthrottleReads(self) -> None:
        """Let all read on."""
        self.unthrottleReadsID = None
        for p in list(self.protocols):
            p.unthrottleReads()

    def throttleWrites(self) -> None:
        """Let all producers wait."""
        for p in list(self.protocols):
            p.throttleWrites()

    def unthrottleWrites(self) -> None:
        """Let all producers go on."""
        self.unthrottleWritesID = None
        for p in list(self.protocols):
            p.unthrottleWrites()

    def buildProtocol(self, addr: Any) -> Any:
        """None when there are too many."""
        if self.connectionCount == 0:
            if self.readLimit is not None:
                self.checkReadBandwidth()
            if self.writeLimit is not None:
                self.checkWriteBandwidth()
        if self.connectionCount >= self.maxConnectionCount:
            log.msg("Max connection count reached!")
            return None
        self.connectionCount += 1
        return WrappingFactory.buildProtocol(self, addr)

    def unregisterProtocol(self, p: Any) -> None:
        """A connection has ended; with the last, the clocks stop."""
        WrappingFactory.unregisterProtocol(self, p)
        self.connectionCount -= 1
        if self.connectionCount == 0:
            for name in ("unthrottleReadsID", "checkReadBandwidthID", "unthrottleWritesID", "checkWriteBandwidthID"):
                if getattr(self, name) is not None:
                    getattr(self, name).cancel()
                    setattr(self, name, None)


class LimitConnectionsByPeer(WrappingFactory[P]):
    """Bounds the number of connections of each host."""

    maxConnectionsPerPeer = 5

    def startFactory(self) -> None:
        """Begin to count."""
        self.peerConnections: Counter[str] = Counter()

    def buildProtocol(self, addr: Any) -> Any:
        """None when its host has enough."""
        if self.peerConnections[addr.host] >= self.maxConnectionsPerPeer:
            return None
        self.peerConnections[addr.host] += 1
        return WrappingFactory.buildProtocol(self, addr)

    def unregisterProtocol(self, p: Any) -> None:
        """A connection has ended."""
        host = p.getPeer().host
        self.peerConnections[host] -= 1
        if not self.peerConnections[host]:
            del self.peerConnections[host]
        WrappingFactory.unregisterProtocol(self, p)


class LimitTotalConnectionsFactory(ServerFactory[P]):
    """Bounds the number of connections; its protocol is wrapped so that it counts. Over the limit, a connection gets
    an `overflowProtocol`, or is dropped if there is none."""

    connectionCount = 0
    connectionLimit: int | None = None
    overflowProtocol: Any = None

    def buildProtocol(self, addr: Any) -> Any:
        """A counted protocol."""
        if self.connectionLimit is None or self.connectionCount < self.connectionLimit:
            protocol = self.protocol()
        elif self.overflowProtocol is not None:
            protocol = self.overflowProtocol()
        else:
            return None
        protocol.factory = self
        self.connectionCount += 1
        return ProtocolWrapper(self, protocol)

    def registerProtocol(self, p: Any) -> None:
        """A connection is open."""

    def unregisterProtocol(self, p: Any) -> None:
        """It has ended."""
        self.connectionCount -= 1


# -- timeouts ---------------------------------------------------------------------------------------------------


class TimeoutProtocol(ProtocolWrapper):
    """Closes the connection when nothing was sent or received for `timeoutPeriod` seconds."""

    def __init__(self, factory: Any, wrappedProtocol: Any, timeoutPeriod: float | None) -> None:
        ProtocolWrapper.__init__(self, factory, wrappedProtocol)
        self.timeoutCall: Any = None
        self.timeoutPeriod: float | None = None
        self.setTimeout(timeoutPeriod)

    def setTimeout(self, timeoutPeriod: float | None = None) -> None:
        """Count anew, from now, with this period if one is given."""
        self.cancelTimeout()
        self.timeoutPeriod = timeoutPeriod
        if timeoutPeriod is not None:
            self.timeoutCall = self.factory.callLater(timeoutPeriod, self.timeoutFunc)

    def cancelTimeout(self) -> None:
        """Count no more."""
        self.timeoutPeriod = None
        if self.timeoutCall is not None:
            try:
                self.timeoutCall.cancel()
            except (error.AlreadyCalled, error.AlreadyCancelled):
                pass
            self.timeoutCall = None

    def resetTimeout(self) -> None:
        """Count anew, from now."""
        if self.timeoutCall is not None:
            self.timeoutCall.reset(self.timeoutPeriod)

    def write(self, data: Any) -> None:
        """Send it, and count anew."""
        self.resetTimeout()
        ProtocolWrapper.write(self, data)

    def writeSequence(self, seq: Iterable[Any]) -> None:
        """Send them, and count anew."""
        self.resetTimeout()
        ProtocolWrapper.writeSequence(self, seq)

    def dataReceived(self, data: bytes) -> None:
        """Count anew, and hand it on."""
        self.resetTimeout()
        ProtocolWrapper.dataReceived(self, data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Count no more."""
        self.cancelTimeout()
        ProtocolWrapper.connectionLost(self, reason)

    def timeoutFunc(self) -> None:
        """The time is over: close. May be overridden."""
        self.loseConnection()


class TimeoutFactory(WrappingFactory[P]):
    """Closes connections that are silent for `timeoutPeriod` seconds."""

    protocol = TimeoutProtocol

    def __init__(self, wrappedFactory: Any, timeoutPeriod: float = 30 * 60) -> None:
        self.timeoutPeriod = timeoutPeriod
        WrappingFactory.__init__(self, wrappedFactory)

    def buildProtocol(self, addr: Any) -> Any:
        """One that counts."""
        wrapped = self.wrappedFactory.buildProtocol(addr)
        return None if wrapped is None else self.protocol(self, wrapped, timeoutPeriod=self.timeoutPeriod)

    def callLater(self, period: float, func: Callable[[], Any]) -> Any:
        """The reactor's; tests override it."""
        return default_reactor().callLater(period, func)


class TimeoutMixin:
    """For a protocol that says itself when the time begins anew: see `setTimeout`, `resetTimeout`."""

    timeOut: float | None = None
    __timeoutCall: Any = None
    transport: Any

    def callLater(self, period: float, func: Callable[[], Any]) -> Any:
        """The reactor's; tests override it."""
        return default_reactor().callLater(period, func)

    def resetTimeout(self) -> None:
        """Count anew, from now."""
        if self.__timeoutCall is not None and self.timeOut is not None:
            self.__timeoutCall.reset(self.timeOut)

    def setTimeout(self, period: float | None) -> float | None:
        """Call timeoutConnection when resetTimeout was not called for so many seconds, None for never; the period
        before this one."""
        previous, self.timeOut = self.timeOut, period
        if self.__timeoutCall is not None:
            if period is None:
                try:
                    self.__timeoutCall.cancel()
                except (error.AlreadyCalled, error.AlreadyCancelled):
                    pass
                self.__timeoutCall = None
            else:
                self.__timeoutCall.reset(period)
        elif period is not None:
            self.__timeoutCall = self.callLater(period, self.__timedOut)
        return previous

    def __timedOut(self) -> None:
        self.__timeoutCall = None
        self.timeoutConnection()

    def timeoutConnection(self) -> None:
        """The time is over: close. May be overridden."""
        self.transport.loseConnection()


# -- looking on -------------------------------------------------------------------------------------------------


class SpewingProtocol(ProtocolWrapper):
    """Logs what passes."""

    def dataReceived(self, data: bytes) -> None:
        """Log it, and hand it on."""
        log.msg(f"Received: {data!r}")
        ProtocolWrapper.dataReceived(self, data)

    def write(self, data: Any) -> None:
        """Log it, and send it."""
        log.msg(f"Sending: {data!r}")
        ProtocolWrapper.write(self, data)


class SpewingFactory(WrappingFactory[P]):
    """Logs what passes."""

    protocol = SpewingProtocol


class TrafficLoggingProtocol(ProtocolWrapper):
    """Writes what passes to a file, up to `lengthLimit` bytes of each piece."""

    def __init__(
        self, factory: Any, wrappedProtocol: Any, logfile: Any, lengthLimit: int | None = None, number: int = 0
    ) -> None:
        ProtocolWrapper.__init__(self, factory, wrappedProtocol)
        self.logfile = logfile
        self.lengthLimit = lengthLimit
        self._number = number

    def _log(self, line: str) -> None:
        self.logfile.write(line + "\n")
        self.logfile.flush()

    def _log_data(self, direction: str, data: Any) -> None:
        shown = data if self.lengthLimit is None or len(data) <= self.lengthLimit else data[: self.lengthLimit] + b"..."
        self._log(f"{direction} {self._number}: {shown!r}")

    def connectionMade(self) -> None:
        """Write it down."""
        self._log("*")

    def dataReceived(self, data: bytes) -> None:
        """Write it down, and hand it on."""
        self._log_data("C", data)
        ProtocolWrapper.dataReceived(self, data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Write it down, and hand it on."""
        self._log(f"C {self._number}: {reason!r}")
        ProtocolWrapper.connectionLost(self, reason)

    def write(self, data: Any) -> None:
        """Write it down, and send it."""
        self._log_data("S", data)
        ProtocolWrapper.write(self, data)

    def writeSequence(self, iovec: Iterable[Any]) -> None:
        """Write them down, and send them."""
        pieces = list(iovec)
        self._log(f"SV {self._number}: {pieces!r}")
        ProtocolWrapper.writeSequence(self, pieces)

    def loseConnection(self) -> None:
        """Write it down, and close."""
        self._log(f"S {self._number}: *")
        ProtocolWrapper.loseConnection(self)


class TrafficLoggingFactory(WrappingFactory[P]):
    """Writes what passes each connection to a file of its own, whose name begins with `logfilePrefix`."""

    protocol = TrafficLoggingProtocol
    _counter = 0

    def __init__(self, wrappedFactory: Any, logfilePrefix: str, lengthLimit: int | None = None) -> None:
        self.logfilePrefix = logfilePrefix
        self.lengthLimit = lengthLimit
        WrappingFactory.__init__(self, wrappedFactory)

    def open(self, name: str) -> Any:
        """The file of this name, to be written."""
        return open(name, "w")

    def buildProtocol(self, addr: Any) -> Any:
        """One that writes down."""
        wrapped = self.wrappedFactory.buildProtocol(addr)
        if wrapped is None:
            return None
        self._counter += 1
        logfile = self.open(f"{self.logfilePrefix}-{self._counter}")
        return self.protocol(self, wrapped, logfile, self.lengthLimit, self._counter)

    def resetCounter(self) -> None:
        """Number from the first again."""
        self._counter = 0


__all__ = [
    "LimitConnectionsByPeer",
    "LimitTotalConnectionsFactory",
    "ProtocolWrapper",
    "SpewingFactory",
    "SpewingProtocol",
    "ThrottlingFactory",
    "ThrottlingProtocol",
    "TimeoutFactory",
    "TimeoutMixin",
    "TimeoutProtocol",
    "TrafficLoggingFactory",
    "TrafficLoggingProtocol",
    "WrappingFactory",
]
