"""TCP: connections, the ports that accept them and the connectors that make them.

Rules: a connection is both the loop's protocol and the classic protocol's transport, so that nothing stands between
the loop and dataReceived but one call, and nothing between `write` and the loop's own transport. That transport keeps
what is written; a producer is paused when it keeps more than `bufferSize` bytes, and resumed when all are out. The
protocol is told of the end once, with `ConnectionDone` if either side closed in order, else with `ConnectionLost`,
`ConnectionAborted`, or what it raised itself.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Any

from zope.interface import implementer

from plait.classic.internet import abstract, address, base, error, interfaces, main
from plait.classic.internet.abstract import encoded, joined, prefix_of
from plait.classic.internet.interfaces import Binding
from plait.classic.python import log
from plait.classic.python.failure import Failure

ACCEPTED_AT_ONCE = 64
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
EXHAUSTED_DELAY = 1.0
"""Seconds for which a port rests when the system can open no more."""

_RESET = struct.pack("ii", 1, 0)


def makeBinding(interface: str = "", port: int = 0, reuseAddress: bool = False, reusePort: bool = False) -> Binding:
    """A local address to listen on or connect from, with SO_REUSEADDR and SO_REUSEPORT: listenTCP takes it for a
    port, connectTCP as its bindAddress."""
    return Binding(interface, port, reuseAddress, reusePort)


def _set_reuse(sock: socket.socket, binding: Binding) -> None:
    if binding.reuseAddress:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if binding.reusePort:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _nothing(_: Any) -> None:
    """Where what is written to an ended connection goes."""


def _name_of(interface: str, port: int) -> Any:
    """What a socket of IPv6 is bound to, or connected to: with the scope that a link-local address names."""
    kind = {"family": socket.AF_INET6, "type": socket.SOCK_STREAM}
    host, _, *rest = socket.getaddrinfo(interface or None, 0, flags=socket.AI_PASSIVE, **kind)[0][4]
    return host, port, *rest


def _address_of(type: str, sockname: Any, family: int) -> Any:
    if family == socket.AF_INET6:
        host, port, flow, scope = sockname
        if scope:  # of a link-local address: named as in what one listens on
            host = socket.getnameinfo(sockname, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
        return address.IPv6Address(type, host, port, flow, scope)  # type: ignore[arg-type]
    if family == socket.AF_UNIX:
        return address.UNIXAddress(sockname or None)
    return address.IPv4Address(type, *sockname[:2])  # type: ignore[arg-type]


class _Held(asyncio.Protocol):
    """Stands in for a connection that was paused while it was being made, which uvloop does not heed: what comes all
    the same (once; then it is paused in earnest) waits here until the connection is resumed."""

    def __init__(self, connection: Connection, transport: Any) -> None:
        self._connection = connection
        self._transport = transport
        self._data = b""
        self._has_ended = False
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        self._data += data
        self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._has_ended = True
        return True

    def release(self) -> None:
        """Hand on what waits; then be gone, unless paused again."""
        connection, data = self._connection, self._data
        if not connection.reading or connection._is_over:
            return
        self._data = b""
        if data:
            connection.data_received(data)
        if connection.reading and not connection._is_over:
            connection._held = None
            self._transport.set_protocol(connection)
            if self._has_ended and not connection.eof_received():
                self._transport.close()
            elif not self._has_ended and not self._transport.is_closing():
                self._transport.resume_reading()

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connection.connection_lost(exc)


@implementer(
    interfaces.ITLSTransport,
    interfaces.IConsumer,
    interfaces.IPushProducer,
    interfaces.ISystemHandle,
    interfaces.ILoggingContext,
)
class Connection(asyncio.Protocol):
    """One connection; `_transport` is the loop's."""

    connected: bool | int = 0
    disconnected: bool | int = 0
    disconnecting: bool | int = 0
    producer: Any = None
    streamingProducer: bool | int = False
    reading = False
    bufferSize = 2**16
    TLS = False
    logstr = "-"

    _transport: Any = None
    _held: _Held | None = None
    _reason: Failure | None = None
    """Why it ends, where that is not what the loop says."""
    _is_full = False
    """Whether the loop's transport keeps more than it should."""
    _closes = False
    """Whether loseConnection was called; `disconnecting` is what users look at, and TLS says it earlier."""
    _loses_write = False
    _lost_write = False
    _lost_read = False
    _is_over = False

    def __init__(self, reactor: Any, sock: Any, peer: Any) -> None:
        self.reactor = reactor
        self.protocol: Any = None
        self.socket = sock
        self._peer = peer
        self._host: Any = None
        self._send: Callable[[bytes], None] = _nothing

    # -- what the loop says -----------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """There is a connection."""
        self._transport = transport
        try:
            self.protocol = protocol = self._build()
        except BaseException:
            log.err()
            self._dropped(Failure())
            return
        if protocol is None:
            self._dropped(None)
            return
        self._send = transport.write
        self.connected = 1
        self.reading = True
        self.reactor._open[self] = None
        self.setTcpNoDelay(False)
        try:
            protocol.makeConnection(self)
        except BaseException:
            log.err()
            self._fail(Failure())
        if not self.reading and self.connected and type(transport).__module__.startswith("uvloop"):
            self._held = _Held(self, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        try:
            self.protocol.dataReceived(data)
        except BaseException:
            log.err()
            self._fail(Failure())

    def eof_received(self) -> bool:
        """The other end sends no more; False closes this end too, once what was written is out."""
        self._lost_read = True
        self.reading = False
        if not interfaces.IHalfCloseableProtocol.providedBy(self.protocol):
            return False
        try:
            self.protocol.readConnectionLost()
        except BaseException:
            log.err()
            self._fail(Failure())
        return not self.disconnecting

    def connection_lost(self, exc: BaseException | None) -> None:
        """It has ended."""
        if self._reason is not None:
            reason = self._reason
        elif exc is None:
            reason = Failure(main.CONNECTION_DONE)
        else:
            reason = Failure(main.CONNECTION_LOST)
        self._ended(reason)

    def pause_writing(self) -> None:
        """The transport keeps too much."""
        self._is_full = True
        if self.producer is not None and self.streamingProducer:
            self.producer.pauseProducing()

    def resume_writing(self) -> None:
        """All is out."""
        self._is_full = False
        if self.producer is not None:
            self._ask_for_more()
        elif self._loses_write and not self._lost_write:
            self._write_is_lost()

    # -- the beginning and the end ----------------------------------------------------------------------------------

    def _build(self) -> Any:
        """The protocol; None drops the connection."""
        raise NotImplementedError

    def _dropped(self, why: Failure | None) -> None:
        """Nobody wants the connection; `why` is what buildProtocol raised, if it has."""
        self._is_over = True
        self.disconnected = 1
        self._transport.close()

    def _fail(self, reason: Failure) -> None:
        """End at once, for this reason, which is told even if the connection is being aborted."""
        self._reason = reason
        self._send = _nothing
        self._transport.abort()

    def _adoption_failed(self, why: BaseException) -> None:
        """The loop did not take the socket: there never was a connection."""
        log.msg(f"a connection did not come about: {why}")

    def connectionLost(self, reason: Failure) -> None:
        """End at once: the reactor is stopped."""
        if not self._is_over:
            self._reason = reason
            self._transport.abort()
            self._ended(reason)

    def _ended(self, reason: Failure) -> None:
        if self._is_over:
            return
        self._is_over = True
        self.disconnected = 1
        self.connected = 0
        self.reading = False
        self._send = _nothing
        self.reactor._open.pop(self, None)
        protocol = self.protocol
        producer, self.producer = self.producer, None
        try:
            if producer is not None:
                producer.stopProducing()
            protocol.connectionLost(reason)
        except BaseException:
            log.err()

    def loseConnection(self) -> None:
        """Close, once what was written is out and a registered producer is done."""
        if self.connected and not self._closes:
            self._closes = True
            self.disconnecting = 1
            if self.producer is not None:
                self.stopReading()
            else:
                self.reading = False  # as the transport has it
                self._transport.close()

    def abortConnection(self) -> None:
        """Close at once; what was not sent yet is dropped. The protocol is told with `ConnectionAborted`."""
        if self.connected and self._reason is None:
            self.disconnecting = 1
            self._reason = Failure(error.ConnectionAborted())
            self._send = _nothing
            self._set_option(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()

    def loseWriteConnection(self) -> None:
        """Send no more, once what was written is out; the other end hears of it."""
        if self._loses_write or not self.connected:
            return
        self._loses_write = True
        self._send = _nothing
        self._transport.set_write_buffer_limits(high=0)
        self._transport.write_eof()
        if not self._is_full:
            self.reactor._running_loop().call_soon(self._write_is_lost)

    def _write_is_lost(self) -> None:
        if self._lost_write or not self.connected:
            return
        self._lost_write = True
        if interfaces.IHalfCloseableProtocol.providedBy(self.protocol):
            try:
                self.protocol.writeConnectionLost()
            except BaseException:
                log.err()
                self._fail(Failure())

    # -- writing ----------------------------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        """Send bytes (or a str, with a warning), in order; never waits. Dropped when it is not connected."""
        if data.__class__ is bytes:
            self._send(data)
        else:
            self._send(encoded(data))

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Send several; a str among them is a TypeError."""
        self._send(joined(iovec))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take from this producer too: a push producer if `streaming`. RuntimeError if there is one."""
        if self.producer is not None:
            raise RuntimeError(f"Cannot register producer {producer}: producer {self.producer} was never unregistered.")
        if self.disconnected:
            producer.stopProducing()
            return
        self.producer = producer
        self.streamingProducer = streaming
        if streaming:
            self._transport.set_write_buffer_limits(self.bufferSize, 0)
        else:
            self._transport.set_write_buffer_limits(0)
            producer.resumeProducing()
            self._pull_again()

    def _ask_for_more(self) -> None:
        try:
            self.producer.resumeProducing()
        except BaseException:
            log.err()
            self._fail(Failure())
        else:
            self._pull_again()

    def _pull_again(self) -> None:
        """A pull producer whose bytes are out at once is asked for more in the loop's next turn."""
        if self.producer is not None and not self.streamingProducer and not self._is_full:
            self.reactor._running_loop().call_soon(self._pull, self.producer)

    def _pull(self, producer: Any) -> None:
        if self.producer is producer and not self._is_full:
            self._ask_for_more()

    def unregisterProducer(self) -> None:
        """Take from it no more."""
        self.producer = None
        if self.connected and self._closes:
            self._transport.close()

    def stopConsuming(self) -> None:
        """Let the producer go, and close."""
        self.unregisterProducer()
        self.loseConnection()

    # -- reading ----------------------------------------------------------------------------------------------------

    def stopReading(self) -> None:
        """Read nothing."""
        if self.reading and not self._transport.is_closing():
            self.reading = False
            self._transport.pause_reading()

    def startReading(self) -> None:
        """Read on."""
        if not self.reading and not self._lost_read and self.connected and not self._transport.is_closing():
            self.reading = True
            if self._held is not None:
                self.reactor._running_loop().call_soon(self._held.release)
            else:
                self._transport.resume_reading()

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

    # -- what it is -------------------------------------------------------------------------------------------------

    def getHandle(self) -> Any:
        """Its socket."""
        return self.socket

    def fileno(self) -> int:
        """Its descriptor; -1 once it is closed."""
        return self.socket.fileno() if not self._is_over else -1

    def logPrefix(self) -> str:
        """What log lines call it."""
        return self.logstr

    def getPeer(self) -> Any:
        """The other end's address."""
        return self._peer

    def getHost(self) -> Any:
        """This end's address."""
        if self._host is None:
            self._host = _address_of("TCP", self.socket.getsockname(), self.socket.family)
        return self._host

    def getTcpNoDelay(self) -> bool:
        """Whether small segments are sent at once."""
        return bool(self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Send small segments at once, or gather them."""
        self._set_option(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(enabled))

    def getTcpKeepAlive(self) -> bool:
        """Whether the system probes an idle connection."""
        return bool(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Let the system probe an idle connection, or not."""
        self._set_option(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(enabled))

    def _set_option(self, level: int, option: int, value: Any) -> None:
        try:
            self.socket.setsockopt(level, option, value)
        except OSError:  # it was reset meanwhile: the loop is about to say so
            pass

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        """Speak TLS from here on: as the server on a connection that was accepted, as the client on one that was
        made; `normal=False` turns the parts round."""
        from plait.classic.protocols import tls

        tls.start_tls(self, contextFactory, self._is_client() if normal else not self._is_client())

    def _is_client(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.protocol!r} to {self._peer}>"


class Server(Connection):
    """A connection that was accepted."""

    sessionno = 0

    def __init__(self, reactor: Any, sock: socket.socket, peer: Any, factory: Any, port: Any = None) -> None:
        super().__init__(reactor, sock, peer)
        self.server = port
        self._factory = factory
        self.hostname = peer.host

    def _build(self) -> Any:
        protocol = self._factory.buildProtocol(self._peer)
        if protocol is not None:
            if self.server is not None:
                self.sessionno = self.server.sessionno
                self.server.sessionno += 1
            self.logstr = f"{prefix_of(protocol)},{self.sessionno},{self.hostname}"
        return protocol

    def __repr__(self) -> str:
        number = self.getHost().port if self.server is None else self.server._realPortNumber
        return f"<{type(self.protocol).__name__} #{self.sessionno} on {number}>"


class Client(Connection):
    """A connection that is made: first the attempt, then, if it succeeds, the connection."""

    logstr = "Uninitialized"

    def __init__(self, host: Any, port: Any, bindAddress: Any, connector: Any, reactor: Any) -> None:
        self.connector = connector
        self.addr: Any = (host, port)
        self._bind_address = bindAddress
        self._resolving: Any = None
        self._is_settled = False
        self._is_watched = False
        self._is_adopted = False
        """Whether the socket is the loop's already, and the loop's to close."""
        self.socket: Any = None
        self.reactor = reactor
        self.protocol: Any = None
        self._host: Any = None
        self._peer: Any = None
        self._send = _nothing
        reactor._with_loop(lambda: reactor._running_loop().call_soon(self._resolve))

    def _resolve(self) -> None:
        """Find the address; nobody is told of anything before the loop's next turn."""
        if self._is_settled:
            return
        try:
            host, port = self.addr
            if isinstance(host, bytes):
                host = host.decode("ascii")
            if abstract.isIPv6Address(host):
                self._attempt(socket.AF_INET6, _name_of(host, port))
            else:
                self._resolving = self.reactor.resolve(host)
                self._resolving.addCallbacks(self._resolved, self.failIfNotConnected)
        except (OSError, UnicodeError) as raised:
            self.failIfNotConnected(error.getConnectError(raised))

    def _resolved(self, host: str) -> None:
        if not self._is_settled:
            family = socket.AF_INET6 if abstract.isIPv6Address(host) else socket.AF_INET
            self._attempt(family, (host, self.addr[1]))

    def _attempt(self, family: int, target: Any) -> None:
        """Connect; to this host itself, that is done at once."""
        try:
            self.socket = sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setblocking(False)
            self._bind(sock)
            number = sock.connect_ex(target)
            if number == errno.EINPROGRESS:
                number = sock.connect_ex(target)
        except error.ConnectError as raised:
            self.failIfNotConnected(raised)
        except (OSError, OverflowError) as raised:
            self.failIfNotConnected(error.getConnectError(raised))
        else:
            if number in (errno.EALREADY, errno.EINPROGRESS):
                self._is_watched = True
                self.reactor._running_loop().add_writer(sock.fileno(), self._look)
            else:
                self._answered(number)

    def _look(self) -> None:
        self._unwatch()
        self._answered(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _unwatch(self) -> None:
        if self._is_watched:
            self._is_watched = False
            self.reactor._running_loop().remove_writer(self.socket.fileno())

    def _answered(self, number: int) -> None:
        if number in (0, errno.EISCONN):
            self._succeed(self.socket)
        else:
            self.failIfNotConnected(error.getConnectError((number, os.strerror(number))))

    def _bind(self, sock: socket.socket) -> None:
        bound = self._bind_address
        if bound is None:
            return
        if isinstance(bound, (str, bytes)):
            bound = (bound, 0)
        if not isinstance(bound, Binding):
            bound = makeBinding(*bound)
        try:
            _set_reuse(sock, bound)
            is_ipv6 = sock.family == socket.AF_INET6
            sock.bind(_name_of(bound.interface, bound.port) if is_ipv6 else (bound.interface, bound.port))
        except OSError as raised:
            raise error.ConnectBindError(raised.args[0], raised.strerror or "") from None

    def failIfNotConnected(self, why: Any) -> None:
        """Give the attempt up for this reason, if there still is one."""
        if self._is_settled:
            return
        self._is_settled = True
        if self._resolving is not None:
            self._resolving.cancel()
        if self.socket is not None and not self._is_adopted:
            self._unwatch()
            self.socket.close()
        self.disconnected = 1
        self.connector.connectionFailed(why if isinstance(why, Failure) else Failure(why))

    def _succeed(self, sock: socket.socket) -> None:
        try:
            self._peer = self._peer_of(sock)
        except OSError as raised:  # it was reset at once
            self.failIfNotConnected(error.getConnectError(raised))
            return
        self._is_adopted = True
        self.reactor._adopt(sock, self)

    def _build(self) -> Any:
        if self._is_settled:  # given up in this very turn
            return None
        self._is_settled = True
        protocol = self.connector.buildProtocol(self._peer)
        if protocol is not None:
            self.logstr = f"{prefix_of(protocol)},client"
        return protocol

    def _dropped(self, why: Failure | None) -> None:
        super()._dropped(why)
        if why is not None:
            self.connector.connectionFailed(why)
        elif self.connector.state == "connected":
            self.connector.connectionLost(Failure(main.CONNECTION_DONE))

    def _peer_of(self, sock: socket.socket) -> Any:
        return _address_of("TCP", sock.getpeername(), sock.family)

    def _adoption_failed(self, why: BaseException) -> None:
        self.failIfNotConnected(why)

    def loseConnection(self) -> None:
        """Close the connection; before there is one, give the attempt up."""
        if not self._is_settled and self.connector.state == "connecting":
            self.connector.stopConnecting()
        else:
            super().loseConnection()

    def _ended(self, reason: Failure) -> None:
        if self._is_over:
            return
        super()._ended(reason)
        self.connector.connectionLost(reason)

    def _is_client(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<{type(self)} to {self.addr} at {id(self):x}>"


def _port_of(service: str) -> int:
    try:
        return socket.getservbyname(service, "tcp")
    except OSError as raised:
        raise error.ServiceNameUnknownError(string=f"{raised} ({service!r})") from None


class Connector(base.BaseConnector):
    """Makes TCP connections to one place."""

    def __init__(
        self,
        host: Any,
        port: int | str,
        factory: Any,
        timeout: float | None,
        bindAddress: Any,
        reactor: Any = None,
    ) -> None:
        if isinstance(port, str):
            port = _port_of(port)
        self.host = host
        self.port = port
        self.bindAddress = bindAddress
        super().__init__(factory, timeout, reactor)

    def _makeTransport(self) -> Client:
        return Client(self.host, self.port, self.bindAddress, self, self.reactor)

    def getDestination(self) -> Any:
        """The address it connects to."""
        kind = address.IPv6Address if abstract.isIPv6Address(self.host) else address.IPv4Address
        return kind("TCP", self.host, int(self.port))


@implementer(interfaces.IListeningPort, interfaces.IReadDescriptor)
class Port:
    """Listens, and makes a connection of each that comes."""

    connected: bool | int = False
    disconnecting: bool | int = False
    disconnected: bool | int = False
    addressFamily: int = socket.AF_INET
    socketType: int = socket.SOCK_STREAM
    sessionno = 0
    socket: Any = None
    deferred: Any = None
    _realPortNumber: Any = None
    _type = "TCP"

    def __init__(self, port: Any, factory: Any, backlog: int = 50, interface: str = "", reactor: Any = None) -> None:
        if isinstance(port, Binding):
            if interface and interface != port.interface:
                raise ValueError(f"the port says interface {port.interface!r}, the interface {interface!r}")
            binding = port
        else:
            binding = makeBinding(interface, port, reuseAddress=os.name == "posix")
        self._binding = binding
        port, interface = binding.port, binding.interface
        if abstract.isIPv6Address(interface):
            self.addressFamily = socket.AF_INET6
        self.port = port
        self.factory = factory
        self.backlog = backlog
        self.interface = interface
        self.reactor = reactor
        self._resting: Any = None

    def createInternetSocket(self) -> socket.socket:
        """A socket of its family that can be bound."""
        sock = socket.socket(self.addressFamily, self.socketType)
        sock.setblocking(False)
        _set_reuse(sock, self._binding)
        return sock

    def _bound_socket(self) -> socket.socket:
        sock = self.createInternetSocket()
        try:
            where: Any = (self.interface, self.port)
            if self.addressFamily == socket.AF_INET6:
                where = _name_of(self.interface, self.port)
            sock.bind(where)
        except BaseException:
            sock.close()
            raise
        return sock

    def startListening(self) -> None:
        """Listen. `CannotListenError`."""
        if self.socket is None:
            try:
                self.socket = self._bound_socket()
            except (OSError, OverflowError) as raised:
                raise error.CannotListenError(self.interface, self.port, raised) from None
        self._realPortNumber = self._port_number()
        told = f"{prefix_of(self.factory)} starting on {self._shown_port()}"
        log.msg(told, eventSource=self, eventType="start", protocol=self.factory, system="-")
        self.factory.doStart()
        try:
            self.socket.listen(self.backlog)
        except OSError as raised:  # another one listens there, which bind() did not see
            self.socket.close()
            self.socket = None
            self.factory.doStop()
            raise error.CannotListenError(self.interface, self.port, raised) from None
        self.connected = True
        self.disconnected = False
        self.startReading()

    def _port_number(self) -> Any:
        return self.socket.getsockname()[1]

    def _shown_port(self) -> str:
        return str(self._realPortNumber)

    def startReading(self) -> None:
        """Accept from now on."""
        self.reactor.addReader(self)

    def stopReading(self) -> None:
        """Accept no more; the system queues."""
        self.reactor.removeReader(self)

    def pauseProducing(self) -> None:
        """Accept nothing until resumeProducing; the system queues."""
        self.stopReading()

    def resumeProducing(self) -> None:
        """Accept on."""
        if self.connected and not self.disconnecting:
            self.startReading()

    def fileno(self) -> int:
        """Its descriptor; -1 when it does not listen."""
        return self.socket.fileno() if self.socket is not None else -1

    def doRead(self) -> None:
        """Accept those who wait."""
        for _ in range(ACCEPTED_AT_ONCE):
            if self.disconnecting:
                return
            try:
                sock, where = self.socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:  # it has gone already
                continue
            except OSError as raised:
                self._cannot_accept(raised)
                return
            try:
                self._take(sock, where)
            except BaseException:
                log.err()
                sock.close()

    def _take(self, sock: socket.socket, where: Any) -> None:
        sock.setblocking(False)
        peer = _address_of("TCP", where, self.addressFamily)
        self.reactor._adopt(sock, Server(self.reactor, sock, peer, self.factory, self))

    def _cannot_accept(self, why: OSError) -> None:
        log.msg(f"Could not accept new connection ({errno.errorcode.get(why.errno or 0, why)})")
        if why.errno in EXHAUSTED:  # else it would be asked again at once, and fail again
            self.stopReading()
            self._resting = self.reactor.callLater(EXHAUSTED_DELAY, self._rest_is_over)

    def _rest_is_over(self) -> None:
        self._resting = None
        self.resumeProducing()

    def stopListening(self) -> Any:
        """A Deferred: listen no more, in the loop's next turn; connections that are open stay so. None if it does
        not listen."""
        from plait.classic.internet import defer

        self.disconnecting = True
        self.stopReading()
        if not self.connected:
            return None
        if self.deferred is None:
            self.deferred = defer.Deferred()
            self.reactor.callLater(0, self._stop, self.deferred)
        return self.deferred

    def _stop(self, deferred: Any) -> None:
        try:
            self.connectionLost(Failure(main.CONNECTION_DONE))
        except BaseException:
            deferred.errback(Failure())
        else:
            deferred.callback(None)

    loseConnection = stopListening
    stop = stopListening

    def connectionLost(self, reason: Failure) -> None:
        """Close."""
        if self.socket is None:
            return
        log.msg(f"({self._type} Port {self._realPortNumber} Closed)")
        self.stopReading()
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        self.connected = False
        self.disconnected = True
        self.disconnecting = False
        self._realPortNumber = None
        sock, self.socket = self.socket, None
        self._close(sock)
        self.deferred = None
        self.factory.doStop()

    def _close(self, sock: socket.socket) -> None:
        sock.close()

    def getHandle(self) -> Any:
        """Its socket."""
        return self.socket

    def getHost(self) -> Any:
        """Where it listens."""
        return _address_of("TCP", self.socket.getsockname(), self.addressFamily)

    def logPrefix(self) -> str:
        """What log lines call it: its factory."""
        return prefix_of(self.factory)

    def __repr__(self) -> str:
        kind = type(self.factory)
        named = f"{kind.__module__}.{kind.__name__}"
        if self._realPortNumber is None:
            return f"<{type(self).__module__}.{type(self).__name__} of {named} (not listening)>"
        return f"<{type(self).__module__}.{type(self).__name__} of {named} on {self._realPortNumber}>"


def adopt_port(reactor: Any, fileDescriptor: int, addressFamily: int, factory: Any) -> Port:
    """A port on a duplicate of a socket that listens."""
    sock = socket.fromfd(fileDescriptor, addressFamily, socket.SOCK_STREAM)
    sock.setblocking(False)
    host, number = sock.getsockname()[:2]
    port = Port(number, factory, interface=host, reactor=reactor)
    port.addressFamily = addressFamily
    port.socket = sock
    port.startListening()
    return port


def adopt_connection(reactor: Any, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
    """A connection on a duplicate of a connected socket; its protocol is connected in the loop's next turns."""
    sock = socket.fromfd(fileDescriptor, addressFamily, socket.SOCK_STREAM)
    sock.setblocking(False)
    peer = _address_of("TCP", sock.getpeername(), addressFamily)
    connection = Server(reactor, sock, peer, factory)
    reactor._with_loop(lambda: reactor._adopt(sock, connection))
    return connection


__all__ = ["Binding", "Client", "Connection", "Connector", "Port", "Server", "makeBinding"]
