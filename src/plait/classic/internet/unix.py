"""Sockets of the UNIX family: streams, which can carry descriptors, and datagrams.

Rules: a path that is listened at is unlinked when the port closes. With `wantPID` a lock stands beside it, a symbolic
link `PATH.lock` to the number of the process that listens: one that is left of a process that is gone is taken over,
socket and all. Connections go through the reactor's descriptors, since the loop's own transports carry no descriptor.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
import stat
from typing import Any

from zope.interface import implementer

from plait.classic.internet import abstract, address, base, error, interfaces, main, tcp, udp
from plait.classic.python import log
from plait.classic.python.failure import Failure

READ_SIZE = 2**16
MAX_DESCRIPTORS = 64
"""How many are taken with one read."""


@implementer(interfaces.IUNIXTransport, interfaces.ITLSTransport, interfaces.ISystemHandle)
class Connection(abstract.FileDescriptor):
    """One connection."""

    TLS = False
    logstr = "-"

    def __init__(self, reactor: Any, sock: socket.socket, protocol: Any, host: Any, peer: Any) -> None:
        super().__init__(reactor)
        self.socket = sock
        self.protocol = protocol
        self._host = host
        self._peer = peer
        self._descriptors: list[int] = []
        self.logstr = abstract.prefix_of(protocol)

    def begin(self) -> None:
        """Tell the protocol, and read."""
        self.connected = 1
        self.startReading()
        try:
            self.protocol.makeConnection(self)
        except BaseException:
            log.err()
            self._fail(Failure())

    def fileno(self) -> int:
        """Its descriptor; -1 once it is closed."""
        return self.socket.fileno()

    def getHandle(self) -> socket.socket:
        """Its socket."""
        return self.socket

    def logPrefix(self) -> str:
        """What log lines call it."""
        return self.logstr

    def getHost(self) -> Any:
        """This end's `UNIXAddress`."""
        return self._host

    def getPeer(self) -> Any:
        """The other end's `UNIXAddress`."""
        return self._peer

    def doRead(self) -> Any:
        """Read once."""
        try:
            data = self._receive()
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_DONE
        self.protocol.dataReceived(data)
        return None

    def _receive(self) -> bytes:
        if not interfaces.IFileDescriptorReceiver.providedBy(self.protocol):
            data, _, flags, _ = self.socket.recvmsg(READ_SIZE)
            if flags & socket.MSG_CTRUNC:  # without room for them the system has closed them
                log.msg(
                    f"a descriptor was sent to {self.protocol!r}, which is no IFileDescriptorReceiver: it is closed"
                )
            return data
        data, descriptors, _, _ = socket.recv_fds(self.socket, READ_SIZE, MAX_DESCRIPTORS)
        for descriptor in descriptors:
            self.protocol.fileDescriptorReceived(descriptor)
        return data

    def sendFileDescriptor(self, descriptor: int) -> None:
        """Send a duplicate of this descriptor with the next byte that is written."""
        self._descriptors.append(descriptor)
        self.startWriting()

    def doWrite(self) -> Any:
        """Write what is kept. Descriptors that no byte could carry end the connection."""
        if self._descriptors and not self._buffer:
            return error.FileDescriptorOverrun()
        return super().doWrite()

    def writeSomeData(self, data: bytes) -> Any:
        """Write some of it; each descriptor goes with a byte of its own."""
        try:
            if not self._descriptors:
                return self.socket.send(data)
            rights = array.array("i", self._descriptors[:1])
            sent = self.socket.sendmsg([data[:1]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            del self._descriptors[:1]
            return sent
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as raised:
            return 0 if raised.errno == errno.ENOBUFS else main.CONNECTION_LOST

    def _closeWriteConnection(self) -> Any:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        half: Any = interfaces.IHalfCloseableProtocol(self.protocol, None)
        if half is not None:
            half.writeConnectionLost()
        return None

    def readConnectionLost(self, reason: Failure) -> None:
        """The other end sends no more."""
        half: Any = interfaces.IHalfCloseableProtocol(self.protocol, None)
        if half is None:
            self.connectionLost(reason)
            return
        try:
            half.readConnectionLost()
        except BaseException:
            log.err()
            self.connectionLost(Failure())

    def abortConnection(self) -> None:
        """Close at once; what was not sent yet is dropped. The protocol is told with `ConnectionAborted`."""
        if self.connected:
            self._fail(Failure(error.ConnectionAborted()))

    def _fail(self, reason: Failure) -> None:
        self.disconnecting = 1
        self.stopReading()
        self.stopWriting()
        self._buffer.clear()
        self.reactor.callLater(0, self.connectionLost, reason)

    def connectionLost(self, reason: Failure) -> None:
        """Close, and tell the protocol."""
        if self.disconnected:
            return
        super().connectionLost(reason)
        self.socket.close()
        try:
            self.protocol.connectionLost(reason)
        except BaseException:
            log.err()

    def getTcpNoDelay(self) -> bool:
        """There is nothing to gather on a UNIX socket."""
        return False

    def setTcpNoDelay(self, enabled: bool) -> None:
        """There is nothing to gather on a UNIX socket."""

    def getTcpKeepAlive(self) -> bool:
        """What was set; there is nothing to probe on a UNIX socket."""
        return bool(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Note it; there is nothing to probe on a UNIX socket."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(enabled))

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        """Speak TLS from here on."""
        from plait.classic.protocols import tls

        tls.start_tls(self, contextFactory, self._is_client() if normal else not self._is_client())

    def _is_client(self) -> bool:
        return False


class Server(Connection):
    """A connection that was accepted."""

    def __init__(self, reactor: Any, sock: socket.socket, protocol: Any, port: Any, peer: Any, number: int = 0) -> None:
        host = address.UNIXAddress(sock.getsockname() or None) if port is None else port.getHost()
        super().__init__(reactor, sock, protocol, host, peer)
        self.server = port
        self.sessionno = number
        self.hostname = None
        self._path = os.fsdecode(host.name or b"") if port is None else repr(port.port)
        self.logstr = f"{abstract.prefix_of(protocol)},{number},{self._path if port is None else ''}"

    def __repr__(self) -> str:
        return f"<{type(self.protocol).__name__} #{self.sessionno} on {self._path}>"


class Client(Connection):
    """A connection that is made: first the attempt, which takes one turn of the loop, then the connection."""

    def __init__(self, filename: Any, connector: Any, reactor: Any, checkPID: bool) -> None:
        abstract.FileDescriptor.__init__(self, reactor)
        self.connector = connector
        self._descriptors = []
        self._host: Any = address.UNIXAddress(None)
        self._peer: Any = address.UNIXAddress(filename)
        self._filename = filename
        self._checks = checkPID
        self._is_settled = False
        self.protocol: Any = None
        self._call = reactor.callLater(0, self._connect)

    def _connect(self) -> None:
        self._call = None
        if self._checks and not _is_alive(_lock_of(self._filename)):
            self.failIfNotConnected(error.BadFileError(f"nobody holds the lock of {self._filename!r}"))
            return
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as raised:  # there is no descriptor left
            self.failIfNotConnected(_connect_error(raised))
            return
        try:
            sock.setblocking(False)
            sock.connect(self._filename)
        except BlockingIOError:  # its queue is full, and the system tells nobody when it is not
            sock.close()
            self._call = self.reactor.callLater(0.01, self._connect)
        except OSError as raised:
            sock.close()
            self.failIfNotConnected(_connect_error(raised))
        else:
            self._succeed(sock)

    def failIfNotConnected(self, why: Any) -> None:
        """Give the attempt up for this reason, if there still is one."""
        if self._is_settled:
            return
        self._is_settled = True
        if self._call is not None:
            self._call.cancel()
        self.disconnected = 1
        self.connector.connectionFailed(why if isinstance(why, Failure) else Failure(why))

    def _succeed(self, sock: socket.socket) -> None:
        self._is_settled = True
        self.socket = sock
        self.protocol = self.connector.buildProtocol(self._peer)
        if self.protocol is None:
            sock.close()
            self.disconnected = 1
            self.connector.connectionLost(Failure(main.CONNECTION_DONE))
            return
        self.logstr = f"{abstract.prefix_of(self.protocol)},client"
        self.begin()

    def connectionLost(self, reason: Failure) -> None:
        """Close, and tell the protocol and the connector."""
        if not self.disconnected:
            super().connectionLost(reason)
            self.connector.connectionLost(reason)

    def loseConnection(self, *args: Any) -> None:
        """Close the connection; before there is one, give the attempt up."""
        if not self._is_settled:
            self.connector.stopConnecting()
        else:
            super().loseConnection(*args)

    def _is_client(self) -> bool:
        return True


def _connect_error(raised: OSError) -> error.ConnectError:
    if raised.errno in (errno.ENOENT, errno.ENOTSOCK, errno.EACCES):
        return error.BadFileError(raised.errno, raised.strerror or "")
    return error.getConnectError(raised)


class Connector(base.BaseConnector):
    """Makes connections to one path."""

    def __init__(self, address: Any, factory: Any, timeout: float | None, reactor: Any, checkPID: bool) -> None:
        super().__init__(factory, timeout, reactor)
        self.address = address
        self.checkPID = checkPID

    def _makeTransport(self) -> Client:
        return Client(self.address, self, self.reactor, self.checkPID)

    def getDestination(self) -> address.UNIXAddress:
        """The address it connects to."""
        return address.UNIXAddress(self.address)


# -- paths, and who listens there -------------------------------------------------------------------------------


def _lock_of(path: Any) -> str:
    return os.fsdecode(path) + ".lock"


def _is_alive(lock: str) -> bool:
    """Whether the process that a lock names runs."""
    try:
        os.kill(int(os.readlink(lock)), 0)
    except (OSError, ValueError) as raised:
        return isinstance(raised, PermissionError)
    return True


def _take_lock(path: Any) -> None:
    """`OSError` if a process that runs has it."""
    lock = _lock_of(path)
    if os.path.lexists(lock):
        if _is_alive(lock):
            raise OSError(errno.EADDRINUSE, f"cannot acquire lock: process {os.readlink(lock)} listens there")
        os.unlink(lock)
        with contextlib.suppress(FileNotFoundError):  # what that process left
            if stat.S_ISSOCK(os.stat(path).st_mode):
                os.unlink(path)
    os.symlink(str(os.getpid()), lock)


def _is_file(path: Any) -> bool:
    """Whether it is a path in the file system, and not one of Linux's abstract names."""
    return bool(path) and os.fsencode(path)[:1] != b"\0"


class Port(tcp.Port):
    """Listens at a path."""

    addressFamily = socket.AF_UNIX
    _type = "UNIX"
    _is_adopted = False

    def __init__(
        self,
        port: Any,
        factory: Any,
        backlog: int = 50,
        mode: int | None = 0o666,
        reactor: Any = None,
        wantPID: bool | int = False,
    ) -> None:
        super().__init__(_path_of(port), factory, backlog, "", reactor)
        self.mode = mode
        self.wantPID = wantPID

    def _bound_socket(self) -> socket.socket:
        if self.wantPID:
            _take_lock(self.port)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.bind(self.port)
            if _is_file(self.port) and self.mode is not None:
                os.chmod(self.port, self.mode)
        except BaseException:
            sock.close()
            if self.wantPID:
                os.unlink(_lock_of(self.port))
            raise
        return sock

    def _port_number(self) -> Any:
        return self.port

    def _shown_port(self) -> str:
        return repr(self.port)

    def _take(self, sock: socket.socket, where: Any) -> None:
        sock.setblocking(False)
        peer = address.UNIXAddress(where or None)
        protocol = self.factory.buildProtocol(peer)
        if protocol is None:
            sock.close()
            return
        number = self.sessionno
        self.sessionno += 1
        Server(self.reactor, sock, protocol, self, peer, number).begin()

    def _close(self, sock: socket.socket) -> None:
        sock.close()
        if self._is_adopted:
            return
        if _is_file(self.port):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.port)
        if self.wantPID:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_lock_of(self.port))

    def getHost(self) -> address.UNIXAddress:
        """Where it listens."""
        return address.UNIXAddress(self.socket.getsockname() if self.socket is not None else self.port)

    def __repr__(self) -> str:
        return _shown(self.factory, self.port if self.socket is not None else None, "listening")


def _shown(whose: Any, path: Any, what: str) -> str:
    kind = type(whose)
    return f"<{kind.__module__}.{kind.__name__} {f'on {path!r}' if path is not None else f'(not {what})'}>"


def _path_of(port: Any) -> Any:
    return os.fspath(port) if hasattr(port, "__fspath__") else getattr(port, "path", port)


def adopt_port(reactor: Any, fileDescriptor: int, addressFamily: int, factory: Any) -> Port:
    """A port on a duplicate of a socket that listens; its path is not unlinked."""
    sock = socket.fromfd(fileDescriptor, addressFamily, socket.SOCK_STREAM)
    sock.setblocking(False)
    port = Port(sock.getsockname(), factory, reactor=reactor)
    port._is_adopted = True
    port.socket = sock
    port.startListening()
    return port


def adopt_connection(reactor: Any, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
    """A connection on a duplicate of a connected socket, begun at once; None if the factory wants none."""
    sock = socket.fromfd(fileDescriptor, addressFamily, socket.SOCK_STREAM)
    sock.setblocking(False)
    peer = address.UNIXAddress(sock.getpeername() or None)
    protocol = factory.buildProtocol(peer)
    if protocol is None:
        sock.close()
        return None
    connection = Server(reactor, sock, protocol, None, peer)
    connection.begin()
    return connection


# -- datagrams --------------------------------------------------------------------------------------------------


@implementer(interfaces.IUNIXDatagramTransport)
class DatagramPort(udp.Port):
    """Sends and receives datagrams by a path."""

    addressFamily = socket.AF_UNIX

    def __init__(
        self, addr: Any, proto: Any, maxPacketSize: int = 8192, mode: int | None = 0o666, reactor: Any = None
    ) -> None:
        super().__init__(addr, proto, "", maxPacketSize, reactor)
        self.mode = mode

    def _bound_socket(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            if self.port:
                sock.bind(self.port)
                if _is_file(self.port) and self.mode is not None:
                    os.chmod(self.port, self.mode)
        except BaseException:
            sock.close()
            raise
        return sock

    def _port_number(self) -> Any:
        return self.port

    def _heard(self, data: bytes, where: Any) -> None:
        self.protocol.datagramReceived(data, where)

    def __repr__(self) -> str:
        return _shown(self.protocol, self.port if self.socket is not None else None, "listening")

    def write(self, datagram: bytes, addr: Any = None) -> Any:
        """Send a datagram to a path; one that does not fit into the other's queue is dropped."""
        return self._send(datagram, addr)

    def connectionLost(self, reason: Any = None) -> None:
        """Close, and unlink the path."""
        path = self.port
        super().connectionLost(reason)
        if path and _is_file(path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def getHost(self) -> address.UNIXAddress:
        """Where it listens."""
        return address.UNIXAddress(self.socket.getsockname() or None)


@implementer(interfaces.IUNIXDatagramConnectedTransport)
class ConnectedDatagramPort(DatagramPort):
    """Exchanges datagrams with one path."""

    def __init__(
        self,
        addr: Any,
        proto: Any,
        maxPacketSize: int = 8192,
        mode: int | None = 0o666,
        bindAddress: Any = None,
        reactor: Any = None,
    ) -> None:
        super().__init__(bindAddress, proto, maxPacketSize, mode, reactor)
        self.remoteaddr = addr

    def startListening(self) -> None:
        """Bind and connect; the protocol's connectionFailed hears of what goes wrong."""
        try:
            self._open()
            self.socket.connect(self.remoteaddr)
        except (OSError, error.CannotListenError):
            if self.socket is not None:
                self.socket.close()
                self.socket = None
            self.protocol.connectionFailed(Failure())
            return
        self._begin()

    def _heard(self, data: bytes, where: Any) -> None:
        self.protocol.datagramReceived(data)

    def write(self, datagram: bytes, addr: Any = None) -> Any:
        """Send a datagram there."""
        return self._send(datagram, None)

    def getPeer(self) -> address.UNIXAddress:
        """The other's `UNIXAddress`."""
        return address.UNIXAddress(self.remoteaddr)


__all__ = ["Client", "ConnectedDatagramPort", "Connection", "Connector", "DatagramPort", "Port", "Server"]
