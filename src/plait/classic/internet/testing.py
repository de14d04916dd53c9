"""What tests of protocols need in place of the network: transports that remember, reactors that connect nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from socket import AF_INET, AF_INET6
from typing import Any, overload

from zope.interface import implementedBy, implementer
from zope.interface.verify import verifyObject

from plait.classic.internet import address, defer, error, interfaces, protocol, task
from plait.classic.internet.abstract import isIPv6Address
from plait.classic.internet.error import UnsupportedAddressFamily
from plait.classic.logger import ILogObserver
from plait.classic.protocols import basic
from plait.classic.python.failure import Failure


class AccumulatingProtocol(protocol.Protocol):
    """Keeps what it receives and how it ends; its factory, if it has one, gets it as `protocol`."""

    made = closed = 0
    closedReason: Failure | None = None
    closedDeferred: defer.Deferred[None] | None = None
    data = b""

    def connectionMade(self) -> None:
        """Tell the factory."""
        self.made = 1
        if self.factory is None:
            return
        self.factory.protocol = self
        made = getattr(self.factory, "protocolConnectionMade", None)
        if made is not None:
            self.factory.protocolConnectionMade = None
            made.callback(self)

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        """Keep the reason, and fire `closedDeferred` if there is one."""
        self.closed = 1
        self.closedReason = reason
        if self.closedDeferred is not None:
            deferred, self.closedDeferred = self.closedDeferred, None
            deferred.callback(None)


class LineSendingProtocol(basic.LineReceiver):
    """Sends lines, once connected or once it has received one, and keeps those it receives in `response`."""

    lostConn = False

    def __init__(self, lines: Sequence[bytes], start: bool = True) -> None:
        self.lines = list(lines)
        self.response: list[bytes] = []
        self.start = start

    def connectionMade(self) -> None:
        """Send them."""
        if self.start:
            for line in self.lines:
                self.sendLine(line)

    def lineReceived(self, line: bytes) -> None:
        """Keep it."""
        if not self.start:
            for own in self.lines:
                self.sendLine(own)
            self.lines = []
        self.response.append(line)

    def connectionLost(self, reason: Any = None) -> None:
        """Keep that."""
        self.lostConn = True


class FakeDatagramTransport:
    """Keeps the datagrams that are sent, with their addresses, in `written`."""

    noAddr = object()

    def __init__(self) -> None:
        self.written: list[tuple[bytes, Any]] = []

    def write(self, packet: bytes, addr: Any = noAddr) -> None:
        """Keep it."""
        self.written.append((packet, addr))


class StringIOWithoutClosing(BytesIO):
    """Can still be read when it was closed."""

    def close(self) -> None:
        """Stay open."""


@implementer(interfaces.ITransport, interfaces.IConsumer, interfaces.IPushProducer)
class StringTransport:
    """A transport that keeps what is written: see `value` and `clear`."""

    disconnecting = False
    disconnected = False
    aborting = False
    producer: Any = None
    streaming: Any = None
    io: Any = None
    hostAddr: Any = None
    peerAddr: Any = None

    _producerState = "producing"

    def __init__(self, hostAddress: Any = None, peerAddress: Any = None, lenient: bool = False) -> None:
        self.clear()
        if hostAddress is not None:
            self.hostAddr = hostAddress
        if peerAddress is not None:
            self.peerAddr = peerAddress
        self.connected = True
        self._lenient = lenient

    def clear(self) -> None:
        """Forget what was written."""
        self.io = BytesIO()

    def value(self) -> bytes:
        """What was written since the last `clear`."""
        return self.io.getvalue()  # type: ignore[no-any-return]

    def write(self, data: Any) -> None:
        """Keep it. TypeError for what is not bytes."""
        if isinstance(data, str):
            raise TypeError("Data must not be string")
        self.io.write(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Keep them."""
        self.io.write(b"".join(data))

    def loseConnection(self) -> None:
        """Set `disconnecting`."""
        self.disconnecting = True

    def abortConnection(self) -> None:
        """Set `aborting`, and lose the connection."""
        self.aborting = True
        self.loseConnection()

    def getPeer(self) -> Any:
        """The address it was made with, or one of TCP's."""
        return address.IPv4Address("TCP", "192.168.1.1", 54321) if self.peerAddr is None else self.peerAddr

    def getHost(self) -> Any:
        """The address it was made with, or one of TCP's."""
        return address.IPv4Address("TCP", "10.0.0.1", 12345) if self.hostAddr is None else self.hostAddr

    @property
    def producerState(self) -> str:
        """ "producing", "paused" or "stopped"."""
        return self._producerState

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Keep it. RuntimeError if there is one."""
        if self.producer is not None:
            raise RuntimeError("Cannot register two producers")
        self.producer = producer
        self.streaming = streaming

    def unregisterProducer(self) -> None:
        """Forget it. RuntimeError if there is none."""
        if self.producer is None:
            raise RuntimeError("Cannot unregister a producer unless one is registered")
        self.producer = None
        self.streaming = None

    def _checkState(self) -> None:
        if self._lenient:
            return
        if self.disconnecting:
            raise RuntimeError("Cannot resume producing after loseConnection")
        if self._producerState == "stopped":
            raise RuntimeError("Cannot resume a stopped producer")

    def pauseProducing(self) -> None:
        """Be paused."""
        self._checkState()
        self._producerState = "paused"

    def stopProducing(self) -> None:
        """Be stopped."""
        self._checkState()
        self._producerState = "stopped"

    def resumeProducing(self) -> None:
        """Be producing."""
        self._checkState()
        self._producerState = "producing"


class StringTransportWithDisconnection(StringTransport):
    """One that tells its `protocol` when it loses the connection."""

    protocol: Any

    def loseConnection(self) -> None:
        """Tell it."""
        if self.connected:
            self.connected = False
            self.protocol.connectionLost(Failure(error.ConnectionDone("Bye.")))


@implementer(interfaces.IListeningPort)
class _FakePort:
    """A port that listens nowhere."""

    def __init__(self, hostAddress: Any) -> None:
        self._hostAddress = hostAddress

    def startListening(self) -> None:
        """Do nothing."""

    def stopListening(self) -> None:
        """Do nothing."""

    def getHost(self) -> Any:
        """The address it was made with."""
        return self._hostAddress

    def __repr__(self) -> str:
        return f"<_FakePort {self._hostAddress!r}>"


@implementer(interfaces.IConnector)
class _FakeConnector:
    """A connector that connects nowhere, and remembers what was asked of it."""

    def __init__(self, address: Any) -> None:
        self._address = address
        self.stoppedConnecting = False
        self._disconnected = False
        self._connected = False

    def stopConnecting(self) -> None:
        """Remember it."""
        self.stoppedConnecting = True

    def disconnect(self) -> None:
        """Remember it."""
        self._disconnected = True

    def connect(self) -> None:
        """Remember it."""
        self._connected = True

    def getDestination(self) -> Any:
        """The address it was made with."""
        return self._address


@implementer(interfaces.IHostnameResolver)
class SynchronousResolver:
    """Finds every name at once, at one address."""

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type] | None = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """Tell the receiver."""
        from plait.classic.internet._resolver import HostResolution

        resolution = HostResolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        kind = address.IPv6Address if isIPv6Address(hostName) else address.IPv4Address
        if addressTypes is None or kind in addressTypes:
            where = hostName if kind is address.IPv6Address else "127.0.0.1"
            resolutionReceiver.addressResolved(kind(transportSemantics, where, portNumber))  # type: ignore[arg-type]
        resolutionReceiver.resolutionComplete()
        return resolution


@implementer(
    interfaces.IReactorCore,
    interfaces.IReactorTCP,
    interfaces.IReactorSSL,
    interfaces.IReactorUNIX,
    interfaces.IReactorSocket,
    interfaces.IReactorFDSet,
    interfaces.IReactorPluggableNameResolver,
)
class MemoryReactor:
    """A reactor that connects nothing, and remembers what was asked of it: `tcpServers`, `tcpClients`, and so on.

    `connectors` and `unixServers`' likes hold the arguments in the order of the reactor's parameters.
    """

    def __init__(self) -> None:
        self.hasInstalled = False
        self.running = False
        self.hasRun = False
        self.hasStopped = False
        self.hasCrashed = False
        self.whenRunningHooks: list[tuple[Callable[..., Any], Any, Any]] = []
        self.triggers: dict[str, dict[str, list[tuple[Callable[..., Any], Any, Any]]]] = {}
        self.tcpClients: list[Any] = []
        self.tcpServers: list[Any] = []
        self.sslClients: list[Any] = []
        self.sslServers: list[Any] = []
        self.unixClients: list[Any] = []
        self.unixServers: list[Any] = []
        self.adoptedPorts: list[Any] = []
        self.adoptedStreamConnections: list[Any] = []
        self.connectors: list[Any] = []
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.nameResolver: Any = SynchronousResolver()

    def installNameResolver(self, resolver: Any) -> Any:
        """Use it; the one before."""
        previous, self.nameResolver = self.nameResolver, resolver
        return previous

    def install(self) -> None:
        """Remember it."""
        self.hasInstalled = True

    def resolve(self, name: str, timeout: Any = 10) -> Any:
        """Not to be had here."""
        raise NotImplementedError

    def run(self) -> None:
        """Call what waits for it, and return."""
        if self.running:
            raise error.ReactorAlreadyRunning
        self.running = True
        self.hasRun = True
        while self.whenRunningHooks:  # a hook may add another
            f, args, kwargs = self.whenRunningHooks.pop(0)
            f(*args, **kwargs)
        self.stop()

    def stop(self) -> None:
        """Remember it."""
        self.hasStopped = True
        self.running = False

    def crash(self) -> None:
        """Remember it."""
        self.hasCrashed = True
        self.running = False

    def iterate(self, delay: float = 0) -> Any:
        """Not to be had here."""
        raise NotImplementedError

    def fireSystemEvent(self, eventType: str) -> Any:
        """Not to be had here."""
        raise NotImplementedError

    def addSystemEventTrigger(
        self, phase: str, eventType: str, callable: Callable[..., Any], *args: Any, **kw: Any
    ) -> None:
        """Remember it, in `triggers`."""
        phases = self.triggers.setdefault(phase, {})
        phases.setdefault(eventType, []).append((callable, args, kw))

    def removeSystemEventTrigger(self, triggerID: Any) -> Any:
        """Not to be had here."""
        raise NotImplementedError

    def callWhenRunning(self, callable: Callable[..., Any], *args: Any, **kw: Any) -> None:
        """Remember it for `run`; once that was called, call it now."""
        if self.hasRun:
            callable(*args, **kw)
        else:
            self.whenRunningHooks.append((callable, args, kw))

    def adoptStreamPort(self, fileno: int, addressFamily: int, factory: Any) -> Any:
        """Remember it, in `adoptedPorts`."""
        if addressFamily == AF_INET:
            where: Any = address.IPv4Address("TCP", "0.0.0.0", 1234)
        elif addressFamily == AF_INET6:
            where = address.IPv6Address("TCP", "::", 1234)
        else:
            raise UnsupportedAddressFamily
        self.adoptedPorts.append((fileno, addressFamily, factory))
        return _FakePort(where)

    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: int, factory: Any) -> None:
        """Remember it, in `adoptedStreamConnections`."""
        self.adoptedStreamConnections.append((fileDescriptor, addressFamily, factory))

    def adoptDatagramPort(self, fileno: int, addressFamily: int, protocol: Any, maxPacketSize: int = 8192) -> Any:
        """Remember it, in `adoptedPorts`."""
        if addressFamily not in (AF_INET, AF_INET6):
            raise UnsupportedAddressFamily
        kind = address.IPv4Address if addressFamily == AF_INET else address.IPv6Address
        self.adoptedPorts.append((fileno, addressFamily, protocol, maxPacketSize))
        return _FakePort(kind("UDP", "::" if addressFamily == AF_INET6 else "0.0.0.0", 1234))

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Remember it, in `tcpServers`."""
        self.tcpServers.append((port, factory, backlog, interface))
        return _FakePort(_where(interface or "0.0.0.0", port))

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None) -> Any:
        """Remember it, in `tcpClients`."""
        self.tcpClients.append((host, port, factory, timeout, bindAddress))
        return self._connector(_where(host, port), factory)

    def listenSSL(self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Remember it, in `sslServers`."""
        self.sslServers.append((port, factory, contextFactory, backlog, interface))
        return _FakePort(address.IPv4Address("TCP", "0.0.0.0", port))

    def connectSSL(
        self, host: str, port: int, factory: Any, contextFactory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> Any:
        """Remember it, in `sslClients`."""
        self.sslClients.append((host, port, factory, contextFactory, timeout, bindAddress))
        return self._connector(address.IPv4Address("TCP", host, port), factory)

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: bool | int = 0
    ) -> Any:
        """Remember it, in `unixServers`."""
        self.unixServers.append((address, factory, backlog, mode, wantPID))
        return _FakePort(_unix(address))

    def connectUNIX(self, address: Any, factory: Any, timeout: float = 30, checkPID: bool | int = 0) -> Any:
        """Remember it, in `unixClients`."""
        self.unixClients.append((address, factory, timeout, checkPID))
        return self._connector(_unix(address), factory)

    def _connector(self, where: Any, factory: Any) -> _FakeConnector:
        connector = _FakeConnector(where)
        factory.startedConnecting(connector)
        self.connectors.append(connector)
        return connector

    def addReader(self, reader: Any) -> None:
        """Remember it."""
        self.readers.add(reader)

    def removeReader(self, reader: Any) -> None:
        """Forget it."""
        self.readers.discard(reader)

    def addWriter(self, writer: Any) -> None:
        """Remember it."""
        self.writers.add(writer)

    def removeWriter(self, writer: Any) -> None:
        """Forget it."""
        self.writers.discard(writer)

    def getReaders(self) -> list[Any]:
        """Those that are remembered."""
        return list(self.readers)

    def getWriters(self) -> list[Any]:
        """Those that are remembered."""
        return list(self.writers)

    def removeAll(self) -> list[Any]:
        """Forget all."""
        found = [*self.readers, *(self.writers - self.readers)]
        self.readers.clear()
        self.writers.clear()
        return found


def _where(host: str, port: int) -> Any:
    return address.IPv6Address("TCP", host, port) if isIPv6Address(host) else address.IPv4Address("TCP", host, port)


def _unix(path: Any) -> address.UNIXAddress:
    return address.UNIXAddress(path)


for _interface in implementedBy(MemoryReactor):
    verifyObject(_interface, MemoryReactor())


class MemoryReactorClock(MemoryReactor, task.Clock):
    """A `MemoryReactor` with a `task.Clock`."""

    def __init__(self) -> None:
        MemoryReactor.__init__(self)
        task.Clock.__init__(self)


@implementer(
    interfaces.IReactorTCP,
    interfaces.IReactorSSL,
    interfaces.IReactorUNIX,
    interfaces.IReactorSocket,
    interfaces.IReactorPluggableNameResolver,
)
class RaisingMemoryReactor:
    """A reactor whose methods raise what it was made with."""

    def __init__(self, listenException: Exception | None = None, connectException: Exception | None = None) -> None:
        self.nameResolver: Any = SynchronousResolver()
        self._listenException = listenException
        self._connectException = connectException

    def _listen(self, *_: Any, **__: Any) -> Any:
        assert self._listenException is not None
        raise self._listenException

    def _connect(self, *_: Any, **__: Any) -> Any:
        assert self._connectException is not None
        raise self._connectException

    def installNameResolver(self, nameResolver: Any) -> Any:
        """Use it; the one before."""
        previous, self.nameResolver = self.nameResolver, nameResolver
        return previous

    def adoptStreamPort(self, fileno: int, addressFamily: int, factory: Any) -> Any:
        """Raise."""
        self._listen()

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Raise."""
        self._listen()

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None) -> Any:
        """Raise."""
        self._connect()

    def listenSSL(self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Raise."""
        self._listen()

    def connectSSL(
        self, host: str, port: int, factory: Any, contextFactory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> Any:
        """Raise."""
        self._connect()

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: bool | int = 0
    ) -> Any:
        """Raise."""
        self._listen()

    def connectUNIX(self, address: Any, factory: Any, timeout: float = 30, checkPID: bool | int = 0) -> Any:
        """Raise."""
        self._connect()

    def adoptDatagramPort(self, fileDescriptor: int, addressFamily: int, protocol: Any, maxPacketSize: int) -> Any:
        """Not to be had here."""
        raise NotImplementedError

    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        """Not to be had here."""
        raise NotImplementedError


class NonStreamingProducer:
    """A pull producer that writes ten numbers to a consumer, one each time it is asked."""

    counter = 0
    stopped = False

    def __init__(self, consumer: Any) -> None:
        self.consumer = consumer
        self.result: defer.Deferred[None] | None = None

    def resumeProducing(self) -> None:
        """Write the next number; after ten, be done."""
        if self.consumer is None or self.counter >= 10:
            raise RuntimeError("BUG: resume after unregister/stop.")
        self.consumer.write(b"%d" % self.counter)
        self.counter += 1
        if self.counter == 10:
            self.consumer.unregisterProducer()
            self._done()

    def pauseProducing(self) -> None:
        """It is asked for each number: there is nothing to pause."""
        raise RuntimeError("BUG: pause should never be called.")

    def _done(self) -> None:
        self.consumer = None
        deferred, self.result = self.result, None
        if deferred is not None:
            deferred.callback(None)

    def stopProducing(self) -> None:
        """Be done, and `stopped`."""
        self._done()
        self.stopped = True


def waitUntilAllDisconnected(reactor: Any, protocols: Iterable[Any]) -> defer.Deferred[None]:
    """A Deferred that fires once no transport of these protocols is connected."""

    def look() -> None:
        if not any(protocol.transport.connected for protocol in waited):
            loop.stop()

    waited = list(protocols)
    loop = task.LoopingCall(look)
    loop.clock = reactor
    return loop.start(0.01, True).addCallback(lambda _: None)


@implementer(ILogObserver)
class EventLoggingObserver(Sequence[Any]):
    """Keeps the log events it observes: it is a sequence of them."""

    def __init__(self) -> None:
        self._events: list[Any] = []

    def __len__(self) -> int:
        return len(self._events)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._events[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._events)

    def __call__(self, event: Any) -> None:
        self._events.append(event)

    @classmethod
    def createWithCleanup(cls, testInstance: Any, publisher: Any) -> EventLoggingObserver:
        """One that observes a publisher until a test case's end."""
        observer = cls()
        publisher.addObserver(observer)
        testInstance.addCleanup(lambda: publisher.removeObserver(observer))
        return observer


__all__ = [
    "AccumulatingProtocol",
    "EventLoggingObserver",
    "FakeDatagramTransport",
    "LineSendingProtocol",
    "MemoryReactor",
    "MemoryReactorClock",
    "NonStreamingProducer",
    "RaisingMemoryReactor",
    "StringIOWithoutClosing",
    "StringTransport",
    "StringTransportWithDisconnection",
    "SynchronousResolver",
    "waitUntilAllDisconnected",
]
