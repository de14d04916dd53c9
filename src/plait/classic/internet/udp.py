"""UDP ports, for one sender and for groups.

Rules: a port is its protocol's transport. Datagrams are read until the socket has no more, or a turn's worth of bytes
has come; what a protocol raises is logged, and the next datagram read. A datagram that the system cannot take at once
is dropped, as the network would.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable
from typing import Any

from zope.interface import implementer

from plait.classic.internet import abstract, address, defer, error, interfaces
from plait.classic.python import log
from plait.classic.python.failure import Failure

_REFUSED = {errno.ECONNREFUSED, errno.EHOSTUNREACH}
_DROPPED = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR, errno.ENOBUFS}


@implementer(interfaces.IListeningPort, interfaces.IUDPTransport, interfaces.ISystemHandle, interfaces.IReadDescriptor)
class Port:
    """Sends and receives datagrams by one port."""

    addressFamily: int = socket.AF_INET
    socketType: int = socket.SOCK_DGRAM
    maxThroughput = 256 * 1024
    """How many bytes are read in one turn of the loop, at least."""

    connected: bool | int = False
    disconnecting: bool | int = False
    disconnected: bool | int = False
    socket: Any = None
    d: Any = None
    _realPortNumber: Any = None
    _connectedAddr: Any = None

    def __init__(
        self, port: Any, proto: Any, interface: str = "", maxPacketSize: int = 8192, reactor: Any = None
    ) -> None:
        if interface and not abstract.isIPAddress(interface) and not abstract.isIPv6Address(interface):
            raise error.InvalidAddressError(interface, "not an IPv4 or IPv6 address.")
        if abstract.isIPv6Address(interface):
            self.addressFamily = socket.AF_INET6
        self.port = port
        self.protocol = proto
        self.interface = interface
        self.maxPacketSize = maxPacketSize
        self.reactor = reactor

    def createInternetSocket(self) -> socket.socket:
        """A socket of its family that can be bound."""
        sock = socket.socket(self.addressFamily, self.socketType)
        sock.setblocking(False)
        return sock

    def _bound_socket(self) -> socket.socket:
        sock = self.createInternetSocket()
        try:
            sock.bind((self.interface, self.port))
        except BaseException:
            sock.close()
            raise
        return sock

    def startListening(self) -> None:
        """Bind. `CannotListenError`."""
        self._open()
        self._begin()

    def _open(self) -> None:
        if self.socket is None:
            try:
                self.socket = self._bound_socket()
            except (OSError, OverflowError) as raised:
                raise error.CannotListenError(self.interface, self.port, raised) from None
        self._realPortNumber = self._port_number()

    def _begin(self) -> None:
        told = f"{abstract.prefix_of(self.protocol)} starting on {self._realPortNumber}"
        log.msg(told, eventSource=self, eventType="start", protocol=self.protocol, system="-")
        self.connected = True
        self.protocol.makeConnection(self)
        self.startReading()

    def _port_number(self) -> Any:
        return self.socket.getsockname()[1]

    def fileno(self) -> int:
        """Its descriptor; -1 when it is closed."""
        return self.socket.fileno() if self.socket is not None else -1

    def getHandle(self) -> Any:
        """Its socket."""
        return self.socket

    def startReading(self) -> None:
        """Receive from now on."""
        self.reactor.addReader(self)

    def stopReading(self) -> None:
        """Receive no more; the system queues."""
        self.reactor.removeReader(self)

    def pauseProducing(self) -> None:
        """Receive nothing until resumeProducing."""
        self.stopReading()

    def resumeProducing(self) -> None:
        """Receive on."""
        if self.connected and not self.disconnecting:
            self.startReading()

    def doRead(self) -> None:
        """Receive what there is."""
        read = 0
        while read < self.maxThroughput and self.socket is not None:
            try:
                data, where = self.socket.recvfrom(self.maxPacketSize)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as raised:
                if raised.errno not in _REFUSED:
                    raise
                if self._connectedAddr is not None:
                    self.protocol.connectionRefused()
                return
            read += len(data) + 1
            try:
                self._heard(data, where)
            except BaseException:
                log.err()

    def _heard(self, data: bytes, where: Any) -> None:
        self.protocol.datagramReceived(data, where[:2])

    def write(self, datagram: bytes, addr: tuple[str, int] | None = None) -> Any:
        """Send a datagram to a host's address and a port; to the connected one if there is no `addr`."""
        if addr is not None and self._connectedAddr is None:
            self._check(addr[0])
        elif addr is not None:
            assert addr in (None, self._connectedAddr)
            addr = None
        return self._send(datagram, addr)

    def _check(self, host: Any) -> None:
        if host == "<broadcast>":
            return
        is_v4, is_v6 = abstract.isIPAddress(host), abstract.isIPv6Address(host)
        if not is_v4 and not is_v6:
            raise error.InvalidAddressError(host, "write() only accepts IP addresses, not hostnames")
        if is_v4 and self.addressFamily == socket.AF_INET6:
            raise error.InvalidAddressError(host, "IPv6 port write() called with IPv4 or broadcast address")
        if is_v6 and self.addressFamily == socket.AF_INET:
            raise error.InvalidAddressError(host, "IPv4 port write() called with IPv6 address")

    def _send(self, datagram: bytes, addr: Any) -> Any:
        while True:
            try:
                return self.socket.send(datagram) if addr is None else self.socket.sendto(datagram, addr)
            except OSError as raised:
                if raised.errno == errno.EMSGSIZE:
                    raise error.MessageLengthError("message too long") from None
                if raised.errno in _DROPPED:
                    return None
                if raised.errno not in _REFUSED:
                    raise
                if addr is None:  # it is about an earlier one, and the protocol's to know
                    self.protocol.connectionRefused()
                    return None
                # an unconnected socket reports what an earlier datagram met; this one was not sent

    def writeSequence(self, seq: Iterable[bytes], addr: Any = None) -> None:
        """Send one datagram made of these."""
        self.write(b"".join(seq), addr)

    def connect(self, host: str, port: int) -> None:
        """Send to, and hear from, this address alone. RuntimeError if it is connected already."""
        if self._connectedAddr is not None:
            raise RuntimeError("already connected, reconnecting is not currently supported")
        if not abstract.isIPAddress(host) and not abstract.isIPv6Address(host):
            raise error.InvalidAddressError(host, "not an IPv4 or IPv6 address.")
        self._connectedAddr = (host, port)
        self.socket.connect((host, port))

    def stopListening(self) -> Any:
        """A Deferred, None if it is closed already: close, in the loop's next turn."""
        if self.connected:
            result = self.d = self.d or defer.Deferred()
        else:
            result = None
        self.loseConnection()
        return result

    stop = stopListening

    def loseConnection(self) -> None:
        """Close, in the loop's next turn."""
        self.stopReading()
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self.reactor.callLater(0, self.connectionLost)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Close."""
        if self.socket is None:
            return
        log.msg(f"(UDP Port {self._realPortNumber} Closed)")
        self.stopReading()
        self._realPortNumber = None
        self.connected = False
        self.disconnected = True
        sock, self.socket = self.socket, None
        self.protocol.doStop()
        sock.close()
        deferred, self.d = self.d, None
        if deferred is not None:
            deferred.callback(None)

    def logPrefix(self) -> str:
        """What log lines call it: its protocol."""
        return f"{abstract.prefix_of(self.protocol)} (UDP)"

    def getHost(self) -> Any:
        """Its address."""
        where = self.socket.getsockname()
        if self.addressFamily == socket.AF_INET6:
            return address.IPv6Address("UDP", *where[:2], *where[2:4])
        return address.IPv4Address("UDP", *where[:2])

    def setBroadcastAllowed(self, enabled: bool) -> None:
        """Allow broadcasts, or not."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, int(enabled))

    def getBroadcastAllowed(self) -> bool:
        """Whether broadcasts are allowed."""
        return bool(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST))

    def __repr__(self) -> str:
        on = f"on {self._realPortNumber}" if self._realPortNumber is not None else "not connected"
        return f"<{type(self.protocol).__module__}.{type(self.protocol).__qualname__} {on}>"


@implementer(interfaces.IMulticastTransport)
class MulticastPort(Port):
    """A port that can join groups."""

    def __init__(
        self,
        port: int,
        proto: Any,
        interface: str = "",
        maxPacketSize: int = 8192,
        reactor: Any = None,
        listenMultiple: bool = False,
    ) -> None:
        super().__init__(port, proto, interface, maxPacketSize, reactor)
        self.listenMultiple = listenMultiple

    def createInternetSocket(self) -> socket.socket:
        """A socket of its family that can be bound, by several if they want."""
        sock: socket.socket = super().createInternetSocket()
        if self.listenMultiple:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "SO_REUSEPORT"):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return sock

    @property
    def _is_v6(self) -> bool:
        return self.addressFamily == socket.AF_INET6

    def _get(self, v4: int, v6: int) -> int:
        level, option = (socket.IPPROTO_IPV6, v6) if self._is_v6 else (socket.IPPROTO_IP, v4)
        return int(self.socket.getsockopt(level, option))

    def _set(self, v4: int, v6: int, value: int) -> None:
        if self._is_v6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, v6, value)
        else:
            self.socket.setsockopt(socket.IPPROTO_IP, v4, struct.pack("b", value))

    def getOutgoingInterface(self) -> Any:
        """The address of the interface by which it sends to groups; of IPv6, its index."""
        if self._is_v6:
            return self.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF)
        packed = self.socket.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, 4)
        return socket.inet_ntoa(packed)

    def setOutgoingInterface(self, addr: Any) -> defer.Deferred[Any]:
        """Send to groups by the interface of this name or address (of IPv6: this index); a Deferred of 1."""

        def set_it(resolved: str) -> int:
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(resolved))
            return 1

        if self._is_v6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, int(addr))
            return defer.succeed(1)
        return self.reactor.resolve(addr).addCallback(set_it)  # type: ignore[no-any-return]

    def getLoopbackMode(self) -> bool:
        """Whether this host hears what it sends to groups itself."""
        return bool(self._get(socket.IP_MULTICAST_LOOP, socket.IPV6_MULTICAST_LOOP))

    def setLoopbackMode(self, mode: bool | int) -> None:
        """Hear it, or not."""
        self._set(socket.IP_MULTICAST_LOOP, socket.IPV6_MULTICAST_LOOP, int(bool(mode)))

    def getTTL(self) -> int:
        """How many routers what is sent to groups passes."""
        return self._get(socket.IP_MULTICAST_TTL, socket.IPV6_MULTICAST_HOPS)

    def setTTL(self, ttl: int) -> None:
        """Set that."""
        if self._is_v6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
        else:
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, struct.pack("B", ttl))

    def joinGroup(self, addr: str, interface: Any = "") -> defer.Deferred[Any]:
        """Hear what is sent to this group; a Deferred, which fails with `MulticastJoinError`."""
        return self._membership(addr, interface, join=True)

    def leaveGroup(self, addr: str, interface: Any = "") -> defer.Deferred[Any]:
        """Hear it no more; a Deferred, which fails with `MulticastJoinError`."""
        return self._membership(addr, interface, join=False)

    def _membership(self, addr: str, interface: Any, *, join: bool) -> defer.Deferred[Any]:
        if self._is_v6:
            return defer.maybeDeferred(self._change_v6, addr, interface or 0, join)
        names: Any = [self.reactor.resolve(addr), self.reactor.resolve(interface)]
        joined: Any = defer.gatherResults(names, consumeErrors=True)
        joined.addErrback(lambda _: Failure(error.MulticastJoinError(addr, interface, "there is no such address")))
        return joined.addCallback(lambda both: self._change_v4(both[0], both[1], join))  # type: ignore[no-any-return]

    def _change_v4(self, group: str, interface: str, join: bool) -> None:
        request = socket.inet_aton(group) + socket.inet_aton(interface or "0.0.0.0")
        self._change(
            socket.IPPROTO_IP,
            socket.IP_ADD_MEMBERSHIP if join else socket.IP_DROP_MEMBERSHIP,
            request,
            group,
            interface,
        )

    def _change_v6(self, group: str, interface: Any, join: bool) -> None:
        try:
            request = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", int(interface))
        except (ValueError, OSError) as raised:
            raise error.MulticastJoinError(group, interface, *raised.args) from None
        option = socket.IPV6_JOIN_GROUP if join else socket.IPV6_LEAVE_GROUP
        self._change(socket.IPPROTO_IPV6, option, request, group, interface)

    def _change(self, level: int, option: int, request: bytes, group: str, interface: Any) -> None:
        try:
            self.socket.setsockopt(level, option, request)
        except OSError as raised:
            raise error.MulticastJoinError(group, interface, *raised.args) from None


def adopt_port(reactor: Any, fileDescriptor: int, addressFamily: int, protocol: Any, maxPacketSize: int) -> Port:
    """A port on a duplicate of a datagram socket that is bound."""
    if addressFamily not in (socket.AF_INET, socket.AF_INET6):
        raise error.UnsupportedAddressFamily(addressFamily)
    sock = socket.fromfd(fileDescriptor, addressFamily, socket.SOCK_DGRAM)
    sock.setblocking(False)
    host, number = sock.getsockname()[:2]
    port = Port(number, protocol, host, maxPacketSize, reactor)
    port.addressFamily = addressFamily
    port.socket = sock
    port.startListening()
    return port


__all__ = ["MulticastPort", "Port"]
