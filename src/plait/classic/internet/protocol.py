"""Protocols, which speak over one connection, and factories, which make them.

Rules: a protocol is told of a connection with makeConnection, of bytes with dataReceived, and of the end with
connectionLost, once each way, and reaches the other end through `transport`. A factory outlives its protocols and is
started and stopped with the first and last port or connector that uses it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from zope.interface import implementer

from plait.classic.internet import defer, error, interfaces
from plait.classic.internet._default import default_reactor
from plait.classic.logger import Logger
from plait.classic.python import components
from plait.classic.python.failure import Failure

P = TypeVar("P")

log = Logger()


@implementer(interfaces.IProtocolFactory, interfaces.ILoggingContext)
class Factory(Generic[P]):
    """Makes protocols: set `protocol` to what makes one, or override buildProtocol."""

    protocol: Any = None
    """Called without arguments for each connection; what it returns gets this factory as its `factory`."""

    numPorts = 0
    """How many ports and connectors use it."""

    noisy = True
    """Whether its start and stop are logged."""

    @classmethod
    def forProtocol(cls, protocol: Callable[[], P], *args: Any, **kwargs: Any) -> Any:
        """A factory of this class, made with these arguments, for a protocol class."""
        factory = cls(*args, **kwargs)
        factory.protocol = protocol
        return factory

    def logPrefix(self) -> str:
        """What log lines call it: its class's name."""
        return self.__class__.__name__

    def doStart(self) -> None:
        """One more port or connector uses it; the first makes it start. Not to be overridden: see startFactory."""
        if not self.numPorts:
            if self.noisy:
                log.info("Starting factory {factory!r}", factory=self)
            self.startFactory()
        self.numPorts += 1

    def doStop(self) -> None:
        """One less uses it; the last makes it stop. Not to be overridden: see stopFactory."""
        if not self.numPorts:
            return
        self.numPorts -= 1
        if not self.numPorts:
            if self.noisy:
                log.info("Stopping factory {factory!r}", factory=self)
            self.stopFactory()

    def startFactory(self) -> None:
        """For subclasses: it is used from now on."""

    def stopFactory(self) -> None:
        """For subclasses: nobody uses it any more, for now."""

    def buildProtocol(self, addr: Any) -> Any:
        """The protocol for a connection to or from this address; None drops the connection."""
        assert self.protocol is not None, "a factory needs a `protocol`, or a buildProtocol of its own"
        protocol = self.protocol()
        protocol.factory = self
        return protocol


class ServerFactory(Factory[P]):
    """A factory for those who listen."""


class ClientFactory(Factory[P]):
    """A factory for those who connect; it hears of each attempt and of its end."""

    def startedConnecting(self, connector: Any) -> None:
        """An attempt begins; `connector.stopConnecting()` ends it."""

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        """It came to nothing; `connector.connect()` tries again."""

    def clientConnectionLost(self, connector: Any, reason: Failure) -> None:
        """The connection that came of it has ended; `connector.connect()` makes another."""


class _InstanceFactory(ClientFactory[Any]):
    """Hands one protocol, or the reason why there is none, to a Deferred, in a turn of the loop of its own."""

    noisy = False
    pending: Any = None

    def __init__(self, reactor: Any, instance: Any, deferred: defer.Deferred[Any]) -> None:
        self.reactor = reactor
        self.instance = instance
        self.deferred: defer.Deferred[Any] | None = deferred

    def __repr__(self) -> str:
        return f"<ClientCreator factory: {self.instance!r}>"

    def buildProtocol(self, addr: Any) -> Any:
        """The one there is."""
        self._later(lambda deferred: deferred.callback(self.instance))
        return self.instance

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        """There will be none."""
        self._later(lambda deferred: deferred.errback(reason))

    def _later(self, fire: Callable[[defer.Deferred[Any]], None]) -> None:
        deferred, self.deferred = self.deferred, None
        self.pending = self.reactor.callLater(0, self._fire, fire, deferred)

    def _fire(self, fire: Callable[[defer.Deferred[Any]], None], deferred: defer.Deferred[Any]) -> None:
        self.pending = None
        fire(deferred)


class ClientCreator:
    """Makes one connection at a time for a protocol that needs no factory.

    Each method returns a Deferred of the protocol, once it is connected. Cancelling it gives the attempt up, and
    closes a connection that was just made.
    """

    def __init__(self, reactor: Any, protocolClass: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.reactor = reactor
        self.protocolClass = protocolClass
        self.args = args
        self.kwargs = kwargs

    def connectTCP(
        self, host: Any, port: int, timeout: float = 30, bindAddress: tuple[str, int] | None = None
    ) -> defer.Deferred[Any]:
        """By TCP."""
        return self._connect(
            lambda factory: self.reactor.connectTCP(host, port, factory, timeout=timeout, bindAddress=bindAddress)
        )

    def connectUNIX(self, address: Any, timeout: float = 30, checkPID: bool = False) -> defer.Deferred[Any]:
        """By a UNIX socket."""
        return self._connect(
            lambda factory: self.reactor.connectUNIX(address, factory, timeout=timeout, checkPID=checkPID)
        )

    def connectSSL(
        self,
        host: Any,
        port: int,
        contextFactory: Any,
        timeout: float = 30,
        bindAddress: tuple[str, int] | None = None,
    ) -> defer.Deferred[Any]:
        """By TLS."""
        return self._connect(
            lambda factory: self.reactor.connectSSL(
                host, port, factory, contextFactory, timeout=timeout, bindAddress=bindAddress
            )
        )

    def _connect(self, start: Callable[[_InstanceFactory], Any]) -> defer.Deferred[Any]:
        def cancel(_: Any) -> None:
            connector.disconnect()
            if factory.pending is not None:
                factory.pending.cancel()

        deferred: defer.Deferred[Any] = defer.Deferred(cancel)
        factory = _InstanceFactory(self.reactor, self.protocolClass(*self.args, **self.kwargs), deferred)
        connector = start(factory)
        return deferred


class ReconnectingClientFactory(ClientFactory[P]):
    """Connects again, each time after a longer wait.

    A protocol that is content calls `resetDelay` of its factory once it has done what it is for. Seconds; a delay is
    drawn from a normal distribution around it, `jitter` of it wide.
    """

    maxDelay: float = 3600
    initialDelay: float = 1.0
    factor: float = 2.7182818284590451  # e
    jitter: float | None = 0.119626565582  # any small part would do; Twisted's value
    delay: float = initialDelay
    retries = 0
    maxRetries: int | None = None
    connector: Any = None
    clock: Any = None
    continueTrying = 1

    _callID: Any = None

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        """Wait, and try again."""
        if self.continueTrying:
            self.connector = connector
            self.retry()

    def clientConnectionLost(self, connector: Any, reason: Failure) -> None:
        """Wait, and connect again."""
        if self.continueTrying:
            self.connector = connector
            self.retry()

    def retry(self, connector: Any = None) -> None:
        """Connect after the next delay, unless it has been told to stop trying, or has tried `maxRetries` times."""
        if not self.continueTrying:
            if self.noisy:
                log.info("Abandoning {connector} on explicit request", connector=connector)
            return
        connector = connector or self.connector
        if connector is None:
            raise ValueError("no connector to retry")
        self.retries += 1
        if self.maxRetries is not None and self.retries > self.maxRetries:
            if self.noisy:
                log.info("Abandoning {connector} after {retries} retries.", connector=connector, retries=self.retries)
            return
        delay, self.delay = self.delay, self._next_delay()
        if self.noisy:
            log.info("{connector} will retry in {delay} seconds", connector=connector, delay=int(delay))
        self._callID = self._clock().callLater(delay, self._reconnect, connector)

    def _next_delay(self) -> float:
        delay = min(self.delay * self.factor, self.maxDelay)
        return random.normalvariate(delay, delay * self.jitter) if self.jitter else delay

    def _clock(self) -> Any:
        if self.clock is None:
            self.clock = default_reactor()
        return self.clock

    def _reconnect(self, connector: Any) -> None:
        self._callID = None
        connector.connect()

    def stopTrying(self) -> None:
        """Give up: an attempt that is under way is ended, and no other made. An open connection stays."""
        if self._callID is not None:
            self._callID.cancel()
            self._callID = None
        self.continueTrying = 0
        if self.connector is not None:
            try:
                self.connector.stopConnecting()
            except error.NotConnectingError:  # it is connected, or waits
                pass

    def resetDelay(self) -> None:
        """The connection is good: the next retry is again the first."""
        self.delay = self.initialDelay
        self._callID = None
        self.retries = 0
        self.continueTrying = 1

    def __getstate__(self) -> dict[str, Any]:
        """What to pickle: no attempt that is under way."""
        under_way = ("connector", "retries", "delay", "continueTrying", "_callID", "clock")
        return {key: value for key, value in self.__dict__.items() if key not in under_way}


# -- protocols --------------------------------------------------------------------------------------------------


class BaseProtocol:
    """What every protocol of connections has."""

    connected = 0
    transport: Any = None

    def makeConnection(self, transport: Any) -> None:
        """Keep the transport, and call connectionMade."""
        self.connected = 1
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        """For subclasses: there is a connection."""


connectionDone = Failure(error.ConnectionDone())
connectionDone.cleanFailure()


@implementer(interfaces.IProtocol, interfaces.ILoggingContext)
class Protocol(BaseProtocol):
    """What is said over one stream connection: override what you answer to."""

    factory: Any = None

    def logPrefix(self) -> str:
        """What log lines call it: its class's name."""
        return self.__class__.__name__

    def dataReceived(self, data: bytes) -> None:
        """Bytes have come; as many as there were, wherever the sender's writes ended."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection has ended: `reason` holds `ConnectionDone` or `ConnectionLost`, or a kind of these."""


@implementer(interfaces.IConsumer)
class ProtocolToConsumerAdapter(components.Adapter):
    """A protocol as a consumer: what is written to it, it receives."""

    def write(self, data: bytes) -> None:
        """Hand it to the protocol."""
        self.original.dataReceived(data)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """A protocol takes everything; there is nothing to do."""

    def unregisterProducer(self) -> None:
        """There is nothing to do."""


components.registerAdapter(ProtocolToConsumerAdapter, interfaces.IProtocol, interfaces.IConsumer)


@implementer(interfaces.IProtocol)
class ConsumerToProtocolAdapter(components.Adapter):
    """A consumer as a protocol: what it receives is written to the consumer."""

    def dataReceived(self, data: bytes) -> None:
        """Hand it to the consumer."""
        self.original.write(data)

    def connectionLost(self, reason: Failure) -> None:
        """A consumer is not told."""

    def makeConnection(self, transport: Any) -> None:
        """A consumer is not told."""

    def connectionMade(self) -> None:
        """A consumer is not told."""


components.registerAdapter(ConsumerToProtocolAdapter, interfaces.IConsumer, interfaces.IProtocol)


@implementer(interfaces.IProcessProtocol)
class ProcessProtocol(BaseProtocol):
    """What is made of a process: its output, and its end. Its transport provides `IProcessTransport`."""

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """It wrote to one of its descriptors: 1 goes to outReceived, 2 to errReceived."""
        if childFD == 1:
            self.outReceived(data)
        elif childFD == 2:
            self.errReceived(data)

    def outReceived(self, data: bytes) -> None:
        """For subclasses: it wrote this to its standard output."""

    def errReceived(self, data: bytes) -> None:
        """For subclasses: it wrote this to its standard error."""

    def childConnectionLost(self, childFD: int) -> None:
        """One of its descriptors is closed: 0, 1 and 2 go to the three methods below."""
        if childFD == 0:
            self.inConnectionLost()
        elif childFD == 1:
            self.outConnectionLost()
        elif childFD == 2:
            self.errConnectionLost()

    def inConnectionLost(self) -> None:
        """For subclasses: its standard input is closed."""

    def outConnectionLost(self) -> None:
        """For subclasses: its standard output is closed."""

    def errConnectionLost(self) -> None:
        """For subclasses: its standard error is closed."""

    def processExited(self, reason: Failure) -> None:
        """For subclasses: it has ended, with `ProcessDone` or `ProcessTerminated`; more output may come."""

    def processEnded(self, reason: Failure) -> None:
        """For subclasses: it has ended, and nothing more comes of it."""


class AbstractDatagramProtocol:
    """What every protocol of datagrams has; its port starts it and stops it."""

    transport: Any = None
    numPorts = 0
    noisy = True

    def doStart(self) -> None:
        """A port uses it; the first starts it. Not to be overridden: see startProtocol."""
        if not self.numPorts:
            if self.noisy:
                log.info("{protocol} starting", protocol=self)
            self.startProtocol()
        self.numPorts += 1

    def doStop(self) -> None:
        """A port uses it no more; the last stops it. Not to be overridden: see stopProtocol."""
        assert self.numPorts > 0
        self.numPorts -= 1
        self.transport = None
        if not self.numPorts:
            if self.noisy:
                log.info("{protocol} stopping", protocol=self)
            self.stopProtocol()

    def startProtocol(self) -> None:
        """For subclasses: `transport` is there, and datagrams may come."""

    def stopProtocol(self) -> None:
        """For subclasses: the port is closed."""

    def makeConnection(self, transport: Any) -> None:
        """Keep the port as `transport`, and start."""
        assert self.transport is None
        self.transport = transport
        self.doStart()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """For subclasses: a datagram has come from this address, a host and a port."""


@implementer(interfaces.ILoggingContext)
class DatagramProtocol(AbstractDatagramProtocol):
    """What is said in datagrams that may go anywhere."""

    def logPrefix(self) -> str:
        """What log lines call it: its class's name."""
        return self.__class__.__name__

    def connectionRefused(self) -> None:
        """For subclasses: nobody listens where this port is connected to."""


class ConnectedDatagramProtocol(DatagramProtocol):
    """What is said in datagrams to one other socket."""

    def datagramReceived(self, datagram: bytes) -> None:  # type: ignore[override]
        """For subclasses: a datagram has come."""

    def connectionFailed(self, failure: Failure) -> None:
        """For subclasses: the port could not be connected."""


@implementer(interfaces.ITransport)
class FileWrapper:
    """A transport that writes to a file object."""

    closed = 0
    disconnecting = 0
    producer: Any = None
    streamingProducer: bool | int = 0

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, data: bytes) -> None:
        """Write it to the file; an error goes to handleException."""
        try:
            self.file.write(data)
        except BaseException:
            self.handleException()

    def writeSequence(self, iovec: Any) -> None:
        """Write them all."""
        self.write(b"".join(iovec))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take from it: a file takes everything, so a pull producer is asked at once."""
        self.producer = producer
        self.streamingProducer = streaming
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Forget it."""
        self.producer = None

    def stopConsuming(self) -> None:
        """Stop the producer, and close."""
        if self.producer is not None:
            self.producer.stopProducing()
        self.unregisterProducer()
        self.loseConnection()

    def loseConnection(self) -> None:
        """Close the file."""
        self.closed = 1
        try:
            self.file.close()
        except OSError:
            self.handleException()

    def getPeer(self) -> tuple[str, str]:
        """Nobody in particular."""
        return "file", "file"

    def getHost(self) -> str:
        """Nowhere in particular."""
        return "file"

    def handleException(self) -> None:
        """For subclasses: a write or close has failed."""

    def resumeProducing(self) -> None:
        """A file produces nothing."""

    def pauseProducing(self) -> None:
        """A file produces nothing."""

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()


__all__ = [
    "AbstractDatagramProtocol",
    "BaseProtocol",
    "ClientCreator",
    "ClientFactory",
    "ConnectedDatagramProtocol",
    "ConsumerToProtocolAdapter",
    "DatagramProtocol",
    "Factory",
    "FileWrapper",
    "ProcessProtocol",
    "Protocol",
    "ProtocolToConsumerAdapter",
    "ReconnectingClientFactory",
    "ServerFactory",
    "connectionDone",
]
