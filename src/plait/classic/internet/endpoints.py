"""Endpoints: where to listen and connect, in objects and in texts.

Rules: an endpoint does nothing until it is told to listen or connect, and can be told so again. A failed attempt is
the failure of its Deferred. A text is a kind, its arguments between colons (what follows the first few goes by name,
`name=value`), and a backslash before a colon, an equals sign or a backslash that is part of a value.

    tcp:8080:interface=127.0.0.1   tcp6:8080   unix:/run/echo.sock:mode=660   ssl:443:privateKey=key.pem
    tls:certificates:443   systemd:domain=INET:index=0   fd:fileno=3:domain=INET   stdio:
    tcp:host=example.com:port=80   tls:example.com:443   ssl:host=example.com:port=443   unix:path=/run/echo.sock
"""

from __future__ import annotations

import enum
import os
import re
import socket
import ssl as _ssl
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from zope.interface import alsoProvides, implementer

from plait.classic.internet import _contexts, _resolver, abstract, address, defer, error, interfaces, stdio, threads
from plait.classic.internet._certificates import FILETYPE_PEM, Certificate, KeyPair, PrivateCertificate
from plait.classic.internet.address import _ProcessAddress
from plait.classic.internet.protocol import ClientFactory, Factory, ProcessProtocol, Protocol
from plait.classic.internet.task import LoopingCall
from plait.classic.protocols.haproxy import proxyEndpoint
from plait.classic.protocols.tls import TLSMemoryBIOFactory
from plait.classic.python import log
from plait.classic.python.failure import Failure
from plait.net import inherited

# -- from a factory's connection to a Deferred --------------------------------------------------------------------


class _WrappingProtocol(Protocol):
    """Stands before a protocol until it is connected, and tells a Deferred of it."""

    def __init__(self, connectedDeferred: defer.Deferred[Any], wrappedProtocol: Any) -> None:
        self._connectedDeferred = connectedDeferred
        self._wrappedProtocol = wrappedProtocol
        for interface in (
            interfaces.IHalfCloseableProtocol,
            interfaces.IFileDescriptorReceiver,
            interfaces.IHandshakeListener,
        ):
            if interface.providedBy(wrappedProtocol):
                alsoProvides(self, interface)

    def logPrefix(self) -> str:
        """What log lines call it: the wrapped protocol."""
        return abstract.prefix_of(self._wrappedProtocol)

    def connectionMade(self) -> None:
        """Connect the wrapped protocol, and get out of its way where the transport lets us."""
        self._wrappedProtocol.makeConnection(self.transport)
        if getattr(self.transport, "protocol", None) is self:
            self.transport.protocol = self._wrappedProtocol
        self._connectedDeferred.callback(self._wrappedProtocol)

    def dataReceived(self, data: bytes) -> Any:
        """Hand it on."""
        return self._wrappedProtocol.dataReceived(data)

    def fileDescriptorReceived(self, descriptor: int) -> Any:
        """Hand it on."""
        return self._wrappedProtocol.fileDescriptorReceived(descriptor)

    def connectionLost(self, reason: Failure) -> Any:  # type: ignore[override]
        """Hand it on."""
        return self._wrappedProtocol.connectionLost(reason)

    def readConnectionLost(self) -> None:
        """Hand it on."""
        self._wrappedProtocol.readConnectionLost()

    def writeConnectionLost(self) -> None:
        """Hand it on."""
        self._wrappedProtocol.writeConnectionLost()

    def handshakeCompleted(self) -> None:
        """Hand it on."""
        self._wrappedProtocol.handshakeCompleted()


class _WrappingFactory(ClientFactory[Any]):
    """Makes one connection for a factory's protocol, and tells `_onConnection` of it, or of why there is none."""

    protocol = _WrappingProtocol

    def __init__(self, wrappedFactory: Any) -> None:
        self._wrappedFactory = wrappedFactory
        self._onConnection: defer.Deferred[Any] = defer.Deferred(canceller=self._canceller)
        self._connector: Any = None

    def _canceller(self, deferred: defer.Deferred[Any]) -> None:
        deferred.errback(error.ConnectingCancelledError(self._connector.getDestination()))
        self._connector.stopConnecting()

    def startedConnecting(self, connector: Any) -> None:
        """The attempt begins."""
        self._connector = connector

    def doStart(self) -> None:
        """Start the wrapped one."""
        self._wrappedFactory.doStart()

    def doStop(self) -> None:
        """Stop the wrapped one."""
        self._wrappedFactory.doStop()

    def buildProtocol(self, addr: Any) -> Any:
        """The wrapped factory's protocol, wrapped. None, and the Deferred has failed, if it makes none."""
        try:
            protocol = self._wrappedFactory.buildProtocol(addr)
            if protocol is None:
                raise error.NoProtocol
        except BaseException:
            self._onConnection.errback()
            return None
        return self.protocol(self._onConnection, protocol)

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        """There is no connection."""
        if not self._onConnection.called:
            self._onConnection.errback(reason)


def _connect(factory: Any, connect: Callable[[Any], Any]) -> defer.Deferred[Any]:
    try:
        wrapping = _WrappingFactory(factory)
        connect(wrapping)
    except BaseException:
        return defer.fail()
    return wrapping._onConnection


# -- servers ----------------------------------------------------------------------------------------------------


@implementer(interfaces.IStreamServerEndpoint)
class _TCPServerEndpoint:
    """Listens on a TCP port."""

    def __init__(self, reactor: Any, port: Any, backlog: int, interface: str) -> None:
        self._reactor = reactor
        self._port = port
        self._backlog = backlog
        self._interface = interface

    def listen(self, protocolFactory: Any) -> defer.Deferred[Any]:
        """A Deferred of the port."""
        return defer.execute(
            self._reactor.listenTCP,
            self._port,
            protocolFactory,
            backlog=self._backlog,
            interface=self._interface,
        )


class TCP4ServerEndpoint(_TCPServerEndpoint):
    """Listens on a TCP port of IPv4."""

    def __init__(self, reactor: Any, port: Any, backlog: int = 50, interface: str = "") -> None:
        super().__init__(reactor, port, backlog, interface)


class TCP6ServerEndpoint(_TCPServerEndpoint):
    """Listens on a TCP port of IPv6."""

    def __init__(self, reactor: Any, port: Any, backlog: int = 50, interface: str = "::") -> None:
        super().__init__(reactor, port, backlog, interface)


@implementer(interfaces.IStreamServerEndpoint)
class SSL4ServerEndpoint:
    """Listens on a TCP port for TLS."""

    def __init__(self, reactor: Any, port: Any, sslContextFactory: Any, backlog: int = 50, interface: str = "") -> None:
        self._reactor = reactor
        self._port = port
        self._sslContextFactory = sslContextFactory
        self._backlog = backlog
        self._interface = interface

    def listen(self, protocolFactory: Any) -> defer.Deferred[Any]:
        """A Deferred of the port."""
        return defer.execute(
            self._reactor.listenSSL,
            self._port,
            protocolFactory,
            contextFactory=self._sslContextFactory,
            backlog=self._backlog,
            interface=self._interface,
        )


@implementer(interfaces.IStreamServerEndpoint)
class UNIXServerEndpoint:
    """Listens at a path."""

    def __init__(
        self, reactor: Any, address: Any, backlog: int = 50, mode: int = 0o666, wantPID: bool | int = 0
    ) -> None:
        self._reactor = reactor
        self._address = address
        self._backlog = backlog
        self._mode = mode
        self._wantPID = wantPID

    def listen(self, protocolFactory: Any) -> defer.Deferred[Any]:
        """A Deferred of the port."""
        return defer.execute(
            self._reactor.listenUNIX,
            self._address,
            protocolFactory,
            backlog=self._backlog,
            mode=self._mode,
            wantPID=self._wantPID,
        )


@implementer(interfaces.IStreamServerEndpoint)
class AdoptedStreamServerEndpoint:
    """Listens on a socket that somebody else has opened, once; its descriptor is ours, and closed then."""

    _close = staticmethod(os.close)
    _setNonBlocking = staticmethod(lambda fd: os.set_blocking(fd, False))

    def __init__(self, reactor: Any, fileno: int, addressFamily: int) -> None:
        self.reactor = reactor
        self.fileno = fileno
        self.addressFamily = addressFamily
        self._used = False

    def listen(self, factory: Any) -> defer.Deferred[Any]:
        """A Deferred of the port. `AlreadyListened` the second time."""
        if self._used:
            return defer.fail(error.AlreadyListened())
        self._used = True
        try:
            self._setNonBlocking(self.fileno)
            port = self.reactor.adoptStreamPort(self.fileno, self.addressFamily, factory)
            self._close(self.fileno)
        except BaseException:
            return defer.fail()
        return defer.succeed(port)


@implementer(interfaces.IStreamServerEndpoint)
class StandardIOEndpoint:
    """Speaks over standard input and output."""

    _stdio = stdio.StandardIO

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def listen(self, stdioProtocolFactory: Any) -> defer.Deferred[Any]:
        """A Deferred of the connection. `NoProtocol` if the factory makes none."""
        return defer.execute(self._begin, stdioProtocolFactory)

    def _begin(self, factory: Any) -> Any:
        protocol = factory.buildProtocol(stdio.PipeAddress())
        if protocol is None:
            raise error.NoProtocol
        return self._stdio(protocol, reactor=self._reactor)


# -- clients ----------------------------------------------------------------------------------------------------


@implementer(interfaces.IStreamClientEndpoint)
class TCP4ClientEndpoint:
    """Connects to a host and port by TCP."""

    def __init__(self, reactor: Any, host: Any, port: int, timeout: float = 30, bindAddress: Any = None) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._timeout = timeout
        self._bindAddress = bindAddress

    def connect(self, protocolFactory: Any) -> defer.Deferred[Any]:
        """A Deferred of the connected protocol."""
        return _connect(
            protocolFactory,
            lambda wrapping: self._reactor.connectTCP(
                self._host, self._port, wrapping, timeout=self._timeout, bindAddress=self._bindAddress
            ),
        )


@implementer(interfaces.IStreamClientEndpoint)
class TCP6ClientEndpoint:
    """Connects to a host and port by TCP over IPv6."""

    _getaddrinfo = staticmethod(socket.getaddrinfo)
    _deferToThread = staticmethod(threads.deferToThread)
    _GAI_ADDRESS = 4
    _GAI_ADDRESS_HOST = 0

    def __init__(self, reactor: Any, host: Any, port: int, timeout: float = 30, bindAddress: Any = None) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._timeout = timeout
        self._bindAddress = bindAddress

    def connect(self, protocolFactory: Any) -> defer.Deferred[Any]:
        """A Deferred of the connected protocol."""
        if abstract.isIPv6Address(self._host):
            return self._resolvedHostConnect(self._host, protocolFactory)
        found = self._nameResolution(self._host)
        found.addCallback(lambda answers: answers[0][self._GAI_ADDRESS][self._GAI_ADDRESS_HOST])
        return found.addCallback(self._resolvedHostConnect, protocolFactory)  # type: ignore[no-any-return]

    def _nameResolution(self, host: Any) -> Any:
        return self._deferToThread(self._getaddrinfo, host, 0, socket.AF_INET6)

    def _resolvedHostConnect(self, resolvedHost: str, protocolFactory: Any) -> defer.Deferred[Any]:
        return _connect(
            protocolFactory,
            lambda wrapping: self._reactor.connectTCP(
                resolvedHost, self._port, wrapping, timeout=self._timeout, bindAddress=self._bindAddress
            ),
        )


@implementer(interfaces.IStreamClientEndpoint)
class SSL4ClientEndpoint:
    """Connects to a host and port by TLS."""

    def __init__(
        self,
        reactor: Any,
        host: Any,
        port: int,
        sslContextFactory: Any,
        timeout: float = 30,
        bindAddress: Any = None,
    ) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._sslContextFactory = sslContextFactory
        self._timeout = timeout
        self._bindAddress = bindAddress

    def connect(self, protocolFactory: Any) -> defer.Deferred[Any]:
        """A Deferred of the connected protocol."""
        return _connect(
            protocolFactory,
            lambda wrapping: self._reactor.connectSSL(
                self._host,
                self._port,
                wrapping,
                self._sslContextFactory,
                timeout=self._timeout,
                bindAddress=self._bindAddress,
            ),
        )


@implementer(interfaces.IStreamClientEndpoint)
class UNIXClientEndpoint:
    """Connects to a path."""

    def __init__(self, reactor: Any, path: Any, timeout: float = 30, checkPID: bool | int = 0) -> None:
        self._reactor = reactor
        self._path = path
        self._timeout = timeout
        self._checkPID = checkPID

    def connect(self, protocolFactory: Any) -> defer.Deferred[Any]:
        """A Deferred of the connected protocol."""
        return _connect(
            protocolFactory,
            lambda wrapping: self._reactor.connectUNIX(
                self._path, wrapping, timeout=self._timeout, checkPID=self._checkPID
            ),
        )


# -- a name, by whichever address answers first ---------------------------------------------------------------------


@implementer(interfaces.IResolutionReceiver)
class _Addresses:
    """Collects the addresses of a name, and fires a Deferred with them all."""

    def __init__(self, found: defer.Deferred[list[Any]]) -> None:
        self._found = found
        self._addresses: list[Any] = []

    def resolutionBegan(self, resolutionInProgress: Any) -> None:
        """It has begun."""

    def addressResolved(self, address: Any) -> None:
        """One more."""
        self._addresses.append(address)

    def resolutionComplete(self) -> None:
        """No more."""
        self._found.callback(self._addresses)


@implementer(interfaces.IHostnameResolver)
class _SimpleHostnameResolver:
    """Looks names up by a function of a name and a port, that gives a Deferred of what getaddrinfo finds."""

    def __init__(self, nameResolution: Callable[[str, int], Any]) -> None:
        self._nameResolution = nameResolution

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """Look a name up for a receiver; one that cannot be found has no addresses, and that is logged."""
        resolution = _resolver.HostResolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        found = self._nameResolution(hostName, portNumber)
        found.addCallback(lambda answers: _resolver.tell(resolutionReceiver, answers, transportSemantics))
        found.addErrback(log.err, f"while looking up {hostName} with {self._nameResolution}")
        found.addCallback(lambda _: resolutionReceiver.resolutionComplete())
        return resolution


@implementer(interfaces.IStreamClientEndpoint)
class HostnameEndpoint:
    """Connects to a name by the first of its addresses that answers (RFC 8305).

    The attempts begin `attemptDelay` seconds apart, or at once where the one before has failed; the first that
    succeeds ends the others. If none does, the last failure is the Deferred's.
    """

    _DEFAULT_ATTEMPT_DELAY = 0.3
    _getaddrinfo = staticmethod(socket.getaddrinfo)
    _deferToThread = staticmethod(threads.deferToThread)

    def __init__(
        self,
        reactor: Any,
        host: str | bytes,
        port: int,
        timeout: float = 30,
        bindAddress: Any = None,
        attemptDelay: float | None = None,
    ) -> None:
        self._reactor = reactor
        self._knows_names = interfaces.IReactorPluggableNameResolver.providedBy(reactor)
        if not self._knows_names:
            kind = type(reactor)
            warnings.warn(
                "Passing HostnameEndpoint a reactor that does not provide IReactorPluggableNameResolver"
                f" ({kind.__module__}.{kind.__qualname__}) was deprecated in Twisted 17.5.0;"
                " please use a reactor that provides IReactorPluggableNameResolver instead",
                category=DeprecationWarning,
                stacklevel=2,
            )
        self._badHostname, self._hostBytes, self._hostText = _host(host)
        self._hostStr = self._hostText
        self._port = port
        self._timeout = timeout
        self._bindAddress = _bound(bindAddress)
        self._attemptDelay = self._DEFAULT_ATTEMPT_DELAY if attemptDelay is None else attemptDelay

    def __repr__(self) -> str:
        shown = self._hostBytes.decode("ascii", "backslashreplace")
        host = f"[{shown}]" if abstract.isIPv6Address(shown) else shown
        return f"<HostnameEndpoint {host}:{self._port}>"

    def connect(self, protocolFactory: Any) -> defer.Deferred[Any]:
        """A Deferred of the connected protocol. ValueError for a name that is none, `DNSLookupError` for one without
        addresses."""
        if self._badHostname:
            return defer.fail(ValueError(f"invalid hostname: {self._hostText}"))
        found: defer.Deferred[list[Any]] = defer.Deferred(
            lambda deferred: deferred.errback(
                error.ConnectingCancelledError(address.HostnameAddress(self._hostBytes, self._port))
            )
        )
        resolver = (
            self._reactor.nameResolver if self._knows_names else _SimpleHostnameResolver(self._fallbackNameResolution)
        )
        resolver.resolveHostName(_Addresses(found), self._hostText, portNumber=self._port)
        return found.addCallback(self._try_all, protocolFactory)

    def _fallbackNameResolution(self, host: str, port: int) -> Any:
        """What a reactor is spared that knows of no names: getaddrinfo, in a thread."""
        return self._deferToThread(self._getaddrinfo, host, port, 0, socket.SOCK_STREAM)

    def _try_all(self, addresses: list[Any], factory: Any) -> defer.Deferred[Any]:
        endpoints = list(self._endpoints(addresses))
        if not endpoints:
            raise error.DNSLookupError(f"no results for hostname lookup: {self._hostText}")
        return _Race(self._reactor, self._attemptDelay, endpoints, factory, self._cancelled).winner

    def _cancelled(self) -> Exception:
        return error.ConnectingCancelledError(address.HostnameAddress(self._hostBytes, self._port))

    def _endpoints(self, addresses: Iterable[Any]) -> Iterator[Any]:
        for found in addresses:
            kinds: dict[Any, Any] = {address.IPv6Address: TCP6ClientEndpoint, address.IPv4Address: TCP4ClientEndpoint}
            for kind, endpoint in kinds.items():
                if isinstance(found, kind):
                    yield endpoint(self._reactor, found.host, found.port, self._timeout, self._bindAddress)


class _Race:
    """Attempts that begin one after another, until one has won."""

    def __init__(
        self, reactor: Any, delay: float, endpoints: list[Any], factory: Any, cancelled: Callable[[], Exception]
    ) -> None:
        self.winner: defer.Deferred[Any] = defer.Deferred(self._cancel)
        self._cancelled = cancelled
        self._factory = factory
        self._left = endpoints
        self._under_way: list[defer.Deferred[Any]] = []
        self._is_over = False
        self._starter = LoopingCall(self._begin_next)
        self._starter.clock = reactor
        self._starter.start(delay)

    def _begin_next(self) -> None:
        endpoint = self._left.pop(0)
        if not self._left and self._starter.running:
            self._starter.stop()
        attempt = endpoint.connect(self._factory)
        self._under_way.append(attempt)
        attempt.addBoth(self._ended, attempt).addCallbacks(self._won, self._lost)

    def _ended(self, result: Any, attempt: defer.Deferred[Any]) -> Any:
        self._under_way.remove(attempt)
        return result

    def _won(self, protocol: Any) -> None:
        if not self._is_over:
            self._end()
            self.winner.callback(protocol)

    def _lost(self, failure: Failure) -> None:
        if self._is_over:
            return
        if self._left:
            if self._starter.running and self._starter.call is not None:
                self._starter.reset()
            self._begin_next()
        elif not self._under_way:
            self._end()
            self.winner.errback(failure)

    def _cancel(self, _: Any) -> None:
        self._end()
        self.winner.errback(self._cancelled())

    def _end(self) -> None:
        self._is_over = True
        if self._starter.running:
            self._starter.stop()
        for attempt in list(self._under_way):
            attempt.cancel()


def _bound(address: Any) -> Any:
    """A local address as a pair, its host in text."""
    if isinstance(address, (str, bytes)):
        address = (address, 0)
    if isinstance(address, tuple) and isinstance(address[0], bytes):
        address = (address[0].decode("ascii"), address[1])
    return address


def _host(host: str | bytes) -> tuple[bool, bytes, str]:
    """Whether a name is none; it in ASCII (IDNA); and in text."""
    if isinstance(host, bytes):
        try:
            return False, host, host.decode("idna") if b"xn--" in host else host.decode("ascii")
        except UnicodeError:
            return True, host, host.decode("charmap").encode("unicode_escape").decode("ascii")
    if abstract.isIPv6Address(host) or abstract.isIPAddress(host):
        return False, host.encode("ascii"), host
    try:
        encoded = host.encode("idna")
        return False, encoded, encoded.decode("idna")
    except UnicodeError:
        return True, host.encode("ascii", "backslashreplace"), host.encode("ascii", "backslashreplace").decode("ascii")


# -- a process --------------------------------------------------------------------------------------------------


class StandardErrorBehavior(enum.Enum):
    """What becomes of a process's standard error."""

    LOG = "log"
    DROP = "drop"


@implementer(interfaces.ITransport, interfaces.IConsumer, interfaces.IPushProducer)
class _ProcessEndpointTransport:
    """A process's standard input and output as a stream transport."""

    def __init__(self, process: Any) -> None:
        self._process = process

    def write(self, data: bytes) -> None:
        """Write to its standard input."""
        self._process.writeToChild(0, data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Write several."""
        self._process.writeToChild(0, b"".join(data))

    def loseConnection(self) -> None:
        """Close its descriptors."""
        self._process.loseConnection()

    def getPeer(self) -> Any:
        """A process has no address: what stands for it."""
        return self._process.getPeer()

    def getHost(self) -> Any:
        """A process has no address: what stands for it."""
        return self._process.getHost()

    def __getattr__(self, name: str) -> Any:
        if name in {*interfaces.IConsumer, *interfaces.IPushProducer}:
            return getattr(self._process, name)
        raise AttributeError(name)


class _WrapIProtocol(ProcessProtocol):
    """A process's protocol that is a stream's to the one it wraps."""

    def __init__(self, proto: Any, executable: Any, errFlag: StandardErrorBehavior) -> None:
        self.protocol = proto
        self.errFlag = errFlag
        self.executable = executable

    def makeConnection(self, process: Any) -> None:
        """The process runs."""
        self.transport = _ProcessEndpointTransport(process)
        self.protocol.makeConnection(self.transport)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """What it writes to its standard output is received."""
        if childFD == 1:
            self.protocol.dataReceived(data)
        elif childFD == 2 and self.errFlag is StandardErrorBehavior.LOG:
            log.msg(
                format="Process %(executable)r wrote stderr unhandled by %(protocol)s: %(data)s",
                executable=self.executable,
                protocol=self.protocol,
                data=data,
            )

    def processEnded(self, reason: Failure) -> None:
        """It has ended: so has the connection."""
        done = reason.check(error.ProcessDone) == error.ProcessDone and reason.value.status == 0
        self.protocol.connectionLost(Failure(error.ConnectionDone()) if done else reason)


@implementer(interfaces.IStreamClientEndpoint)
class ProcessEndpoint:
    """Starts a process, and speaks over its standard input and output."""

    def __init__(
        self,
        reactor: Any,
        executable: Any,
        args: Any = (),
        env: Mapping[Any, Any] | None = {},
        path: Any = None,
        uid: int | None = None,
        gid: int | None = None,
        usePTY: Any = 0,
        childFDs: Any = None,
        errFlag: StandardErrorBehavior = StandardErrorBehavior.LOG,
    ) -> None:
        self._reactor = reactor
        self._executable = executable
        self._args = args
        self._env = env
        self._path = path
        self._uid = uid
        self._gid = gid
        self._usePTY = usePTY
        self._childFDs = childFDs
        self._errFlag = errFlag
        self._spawnProcess = self._reactor.spawnProcess

    def connect(self, protocolFactory: Any) -> defer.Deferred[Any]:
        """A Deferred of the protocol."""
        try:
            protocol = protocolFactory.buildProtocol(_ProcessAddress())
            self._spawnProcess(
                _WrapIProtocol(protocol, self._executable, self._errFlag),
                self._executable,
                self._args,
                self._env,
                self._path,
                self._uid,
                self._gid,
                self._usePTY,
                self._childFDs,
            )
        except BaseException:
            return defer.fail()
        return defer.succeed(protocol)


# -- TLS around an endpoint ---------------------------------------------------------------------------------------


@implementer(interfaces.IStreamClientEndpoint)
class _WrapperEndpoint:
    """A client endpoint whose factory is wrapped."""

    def __init__(self, wrappedEndpoint: Any, wrapperFactory: Callable[[Any], Any]) -> None:
        self._wrappedEndpoint = wrappedEndpoint
        self._wrapperFactory = wrapperFactory

    def connect(self, protocolFactory: Any) -> defer.Deferred[Any]:
        """A Deferred of the wrapped protocol, connected."""
        connected = self._wrappedEndpoint.connect(self._wrapperFactory(protocolFactory))
        return connected.addCallback(lambda protocol: protocol.wrappedProtocol)  # type: ignore[no-any-return]


@implementer(interfaces.IStreamServerEndpoint)
class _WrapperServerEndpoint:
    """A server endpoint whose factory is wrapped."""

    def __init__(self, wrappedEndpoint: Any, wrapperFactory: Callable[[Any], Any]) -> None:
        self._wrappedEndpoint = wrappedEndpoint
        self._wrapperFactory = wrapperFactory

    def listen(self, protocolFactory: Any) -> Any:
        """A Deferred of the port."""
        return self._wrappedEndpoint.listen(self._wrapperFactory(protocolFactory))


def wrapClientTLS(connectionCreator: Any, wrappedEndpoint: Any, clock: Any = None) -> Any:
    """A client endpoint that speaks TLS over another; `connectionCreator` is of `ssl.optionsForClientTLS`."""
    return _WrapperEndpoint(
        wrappedEndpoint, lambda factory: TLSMemoryBIOFactory(connectionCreator, True, factory, clock)
    )


def wrapServerTLS(connectionCreator: Any, wrappedEndpoint: Any, clock: Any = None) -> Any:
    """A server endpoint that speaks TLS over another; `connectionCreator` is an `ssl.CertificateOptions`, say."""
    return _WrapperServerEndpoint(
        wrappedEndpoint, lambda factory: TLSMemoryBIOFactory(connectionCreator, False, factory, clock)
    )


def connectProtocol(endpoint: Any, protocol: Any) -> defer.Deferred[Any]:
    """Connect one protocol to an endpoint, without a factory of one's own; a Deferred of it."""

    class OneShotFactory(Factory[Any]):
        def buildProtocol(self, addr: Any) -> Any:
            return protocol

    return endpoint.connect(OneShotFactory())  # type: ignore[no-any-return]


# -- texts ------------------------------------------------------------------------------------------------------

_OP, _STRING = ":=", None


def quoteStringArgument(argument: str) -> str:
    """A value, such that it stands in an endpoint's text as it is."""
    return re.sub(r"([\\:=])", r"\\\1", argument)


def _tokens(description: str) -> Iterator[tuple[str | None, str]]:
    """Texts and the operators between them."""
    current = ""
    operators = _OP
    characters = iter(description)
    for character in characters:
        if character in operators:
            yield _STRING, current
            yield character, character
            current = ""
            operators = {":": ":=", "=": ":"}[character]
        elif character == "\\":
            current += next(characters, "")
        else:
            current += character
    yield _STRING, current


def _parse(description: str | bytes) -> tuple[list[str], dict[str, str]]:
    """The arguments of a text, which may be encoded in UTF-8: those without a name, and those with one."""
    if isinstance(description, bytes):
        description = description.decode()
    args: list[str] = []
    named: dict[str, str] = {}
    pending: list[str] = []

    def take() -> None:
        if len(pending) == 1:
            args.append(pending[0])
        else:
            named[pending[0]] = pending[1]
        pending.clear()

    for operator, value in _tokens(description):
        if operator is _STRING:
            pending.append(value)
        elif operator == ":":
            take()
    take()
    return args, named


def _parseTCP(reactor: Any, port: str, interface: str = "", backlog: str | int = 50) -> TCP4ServerEndpoint:
    return TCP4ServerEndpoint(reactor, int(port), backlog=int(backlog), interface=interface)


def _parseUNIX(
    reactor: Any, address: str, mode: str = "666", backlog: str | int = 50, lockfile: str | int = True
) -> UNIXServerEndpoint:
    return UNIXServerEndpoint(reactor, address, int(backlog), int(mode, 8), bool(int(lockfile)))


def _pems(data: bytes, kind: bytes) -> list[bytes]:
    return re.findall(b"-----BEGIN " + kind + b"-----.*?-----END " + kind + b"-----", data, re.DOTALL)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _method(name: str) -> int:
    methods = {"TLSv1_METHOD": 4, "TLSv1_1_METHOD": 5, "TLSv1_2_METHOD": 6, "TLS_METHOD": 7, "SSLv23_METHOD": 3}
    try:
        return methods[name]
    except KeyError:
        raise ValueError(f"there is no sslmethod {name!r}: one of {', '.join(methods)}") from None


def _parseSSL(
    reactor: Any,
    port: str,
    privateKey: str = "server.pem",
    certKey: str | None = None,
    sslmethod: str | None = None,
    interface: str = "",
    backlog: str | int = 50,
    extraCertChain: str | None = None,
    dhParameters: str | None = None,
) -> SSL4ServerEndpoint:
    certificate = Certificate.loadPEM(_read(certKey or privateKey))
    chain = None
    if extraCertChain is not None:
        chain = [Certificate.loadPEM(pem) for pem in _pems(_read(extraCertChain), b"CERTIFICATE")]
        if not chain:
            raise ValueError(
                f"Specified chain file '{extraCertChain}' doesn't contain any valid certificates in PEM format."
            )
    options = _contexts.CertificateOptions(
        privateKey=KeyPair.load(_read(privateKey), FILETYPE_PEM),
        certificate=certificate,
        extraCertChain=chain,
        method=None if sslmethod is None else _method(sslmethod),
        dhParameters=None if dhParameters is None else _contexts.DiffieHellmanParameters.fromFile(dhParameters),
    )
    return SSL4ServerEndpoint(reactor, int(port), options, backlog=int(backlog), interface=interface)


def _parse_tcp6(reactor: Any, port: str, backlog: str | int = 50, interface: str = "::") -> TCP6ServerEndpoint:
    return TCP6ServerEndpoint(reactor, int(port), int(backlog), interface)


def _family(domain: str) -> int:
    try:
        return int(getattr(socket, f"AF_{domain}"))
    except AttributeError:
        raise ValueError(f"there is no domain {domain!r}: INET, INET6 or UNIX") from None


def _parse_systemd(
    reactor: Any, domain: str, index: str | None = None, name: str | None = None
) -> AdoptedStreamServerEndpoint:
    """A socket that systemd has opened (sd_listen_fds(3)): by its place among them, or by its name."""
    if (index is None) == (name is None):
        raise ValueError("Must specify exactly one of index or name")
    names = [known for known, _ in inherited.passed()]
    if index is not None:
        place = int(index)
        if place >= len(names):
            raise ValueError(f"systemd has passed {len(names)} sockets, so there is no number {place}")
    elif name not in names:
        raise ValueError(f"systemd has passed no socket {name!r}: {', '.join(names) or 'none at all'}")
    else:
        place = names.index(name)
    return AdoptedStreamServerEndpoint(reactor, 3 + place, _family(domain))


def _parse_fd(reactor: Any, fileno: str, domain: str = "INET") -> AdoptedStreamServerEndpoint:
    return AdoptedStreamServerEndpoint(reactor, int(fileno), _family(domain))


def _parse_tls_server(reactor: Any, path: str, port: str, **named: str) -> Any:
    return wrapServerTLS(_ByName(path), _parseTCP(reactor, port, **named))


def _parse_haproxy(reactor: Any, *args: str, **named: str) -> Any:
    values = [*map(quoteStringArgument, args), *(f"{key}={quoteStringArgument(text)}" for key, text in named.items())]
    return proxyEndpoint(serverFromString(reactor, ":".join(values)))


@implementer(interfaces.IOpenSSLServerConnectionCreator)
class _ByName:
    """Shows the certificate for the name that a client asks for: those in PEM files of a folder, with their keys.

    NAME.pem is for NAME, else a certificate says itself for which it is; who asks for none of them gets the first.
    The folder is read with the first connection.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._contexts: dict[str, _ssl.SSLContext] | None = None

    def _load(self) -> dict[str, _ssl.SSLContext]:
        found: dict[str, _ssl.SSLContext] = {}
        for name in sorted(os.listdir(self._folder)):
            if name.endswith(".pem"):
                data = _read(os.path.join(self._folder, name))
                if b"PRIVATE KEY" not in data or b"BEGIN CERTIFICATE" not in data:
                    continue
                certificate = PrivateCertificate.loadPEM(data)
                chain = [Certificate.loadPEM(pem) for pem in _pems(data, b"CERTIFICATE")[1:]]
                options = _contexts.CertificateOptions(
                    certificate.privateKey, certificate, extraCertChain=chain or None
                )
                for host in [name.removesuffix(".pem"), *certificate.getNames()]:
                    found.setdefault(host.lower(), options.getContext())
        if not found:
            raise ValueError(f"{self._folder} holds no PEM file with a key and a certificate")
        return found

    def serverConnectionForTLS(self, tlsProtocol: Any) -> Any:
        """The server's side of one connection."""
        if self._contexts is None:
            self._contexts = self._load()
        first = next(iter(self._contexts.values()))
        connection = tlsProtocol.wrap(first, server_side=True)
        first.sni_callback = self._choose  # the first context's own certificate is the default
        return connection

    def _choose(self, connection: Any, name: str | None, _: Any) -> None:
        assert self._contexts is not None
        asked = (name or "").lower()
        context = self._contexts.get(asked) or self._contexts.get("*." + asked.partition(".")[2])
        if context is not None:
            connection.context = context


_serverParsers: dict[str, Callable[..., Any]] = {
    "tcp": _parseTCP,
    "tcp6": _parse_tcp6,
    "unix": _parseUNIX,
    "ssl": _parseSSL,
    "tls": _parse_tls_server,
    "systemd": _parse_systemd,
    "fd": _parse_fd,
    "stdio": lambda reactor: StandardIOEndpoint(reactor),
    "haproxy": _parse_haproxy,
}


def serverFromString(reactor: Any, description: str) -> Any:
    """The server endpoint that a text means. ValueError for a kind there is none of.

    `tcp:PORT`, `tcp6:PORT` (interface, backlog); `unix:PATH` (mode, backlog, lockfile); `ssl:PORT` (privateKey,
    certKey, extraCertChain, sslmethod, dhParameters, interface, backlog); `tls:FOLDER:PORT`;
    `systemd:domain=INET:index=N` or `name=`; `fd:fileno=N:domain=INET`; `stdio:`; and `haproxy:` before any of
    them, for connections that begin with a PROXY header.
    """
    args, named = _parse(description)
    kind = args.pop(0)
    if not args and not named and ":" not in description:
        raise ValueError(
            f"Unqualified endpoint description {description!r}: say of what kind, tcp:{description} perhaps"
        )
    parse = _serverParsers.get(kind)
    if parse is None:
        raise ValueError(f"Unknown endpoint type: {kind!r}")
    if args and args[-1] == "" and kind == "stdio":
        args.pop()
    return parse(reactor, *args, **named)


# -- texts for clients ----------------------------------------------------------------------------------------------


def _by_order(kind: str, names: tuple[str, ...], args: list[str], named: dict[str, str]) -> dict[str, Any]:
    """Arguments by name, those without one in the kind's order."""
    if len(args) > len(names):
        raise ValueError(f"{kind} takes {len(names)} arguments without a name, not {len(args)}")
    return {**dict(zip(names, args, strict=False)), **named}


def _client_tcp(args: list[str], named: dict[str, str]) -> dict[str, Any]:
    found = _by_order("tcp", ("port",) if "host" in named else ("host", "port"), args, named)
    found["port"] = int(found["port"])
    if "bindAddress" in found:
        found["bindAddress"] = _bound(found["bindAddress"])
    if "timeout" in found:
        found["timeout"] = int(found["timeout"])
    return found


def _client_unix(args: list[str], named: dict[str, str]) -> dict[str, Any]:
    found = _by_order("unix", ("path",), args, named)
    if "lockfile" in found:
        found["checkPID"] = bool(int(found.pop("lockfile")))
    if "timeout" in found:
        found["timeout"] = int(found["timeout"])
    return found


def _client_ssl(args: list[str], named: dict[str, str]) -> dict[str, Any]:
    found = _client_tcp(args, named)
    certificate, key = found.pop("certKey", None), found.pop("privateKey", None)
    roots = found.pop("caCertsDir", None)
    hostname = found.pop("hostname", None)
    shown: dict[str, Any] = {}
    if certificate is not None:
        shown["certificate"] = Certificate.loadPEM(_read(certificate))
        shown["privateKey"] = KeyPair.load(_read(key or certificate), FILETYPE_PEM)
    trust = _contexts.platformTrust() if roots is None else _trusted_folder(roots)
    if hostname is None:
        found["sslContextFactory"] = _contexts.CertificateOptions(trustRoot=None if roots is None else trust, **shown)
    else:
        found["sslContextFactory"] = _contexts.optionsForClientTLS(
            hostname, trustRoot=trust, extraCertificateOptions=shown
        )
    return found


def _trusted_folder(path: str) -> Any:
    """Trust the certificates in the PEM files of a folder."""
    certificates = []
    for name in sorted(os.listdir(path)):
        if name.lower().endswith(".pem"):
            for pem in _pems(_read(os.path.join(path, name)), b"CERTIFICATE"):
                try:
                    certificates.append(Certificate.loadPEM(pem))
                except ValueError:  # somebody's file; the others are good
                    log.msg(f"{name} in {path} is no certificate")
    return _contexts.trustRootFromCertificates(certificates)


def _client_tls(reactor: Any, args: list[str], named: dict[str, str]) -> Any:
    found = _by_order("tls", ("host", "port"), args, named)
    inner = found.pop("endpoint", None)
    options: dict[str, Any] = {}
    if "trustRoots" in found:
        options["trustRoot"] = _trusted_folder(found.pop("trustRoots"))
    certificate, key = found.pop("certificate", None), found.pop("privateKey", None)
    if certificate is not None:
        options["clientCertificate"] = PrivateCertificate.fromCertificateAndKeyPair(
            Certificate.loadPEM(_read(certificate)),
            KeyPair.load(_read(key or certificate), FILETYPE_PEM),
        )
    host, port = found.pop("host"), int(found.pop("port"))
    if "timeout" in found:
        found["timeout"] = int(found["timeout"])
    if inner is None:
        endpoint: Any = HostnameEndpoint(reactor, host, port, **found)
    else:
        endpoint = clientFromString(reactor, inner)
    return wrapClientTLS(_contexts.optionsForClientTLS(host, **options), endpoint)


def clientFromString(reactor: Any, description: str | bytes) -> Any:
    """The client endpoint that a text means. ValueError for a kind there is none of.

    `tcp:HOST:PORT` (timeout, bindAddress); `ssl:HOST:PORT` (the same, privateKey, certKey, caCertsDir, hostname);
    `tls:HOST:PORT` (timeout, bindAddress, certificate, privateKey, trustRoots, endpoint); `unix:PATH` (timeout,
    lockfile).
    """
    args, named = _parse(description)
    kind = args.pop(0)
    if kind == "tls":
        return _client_tls(reactor, args, named)
    makers: dict[str, tuple[Callable[..., dict[str, Any]], Callable[..., Any]]] = {
        "TCP": (_client_tcp, TCP4ClientEndpoint),
        "UNIX": (_client_unix, UNIXClientEndpoint),
        "SSL": (_client_ssl, SSL4ClientEndpoint),
    }
    if kind.upper() not in makers:
        raise ValueError(f"Unknown endpoint type: {kind!r}")
    parse, make = makers[kind.upper()]
    return make(reactor, **parse(args, named))


__all__ = [
    "AdoptedStreamServerEndpoint",
    "HostnameEndpoint",
    "ProcessEndpoint",
    "SSL4ClientEndpoint",
    "SSL4ServerEndpoint",
    "StandardErrorBehavior",
    "StandardIOEndpoint",
    "TCP4ClientEndpoint",
    "TCP4ServerEndpoint",
    "TCP6ClientEndpoint",
    "TCP6ServerEndpoint",
    "UNIXClientEndpoint",
    "UNIXServerEndpoint",
    "clientFromString",
    "connectProtocol",
    "quoteStringArgument",
    "serverFromString",
    "wrapClientTLS",
    "wrapServerTLS",
]
