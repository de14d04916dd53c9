"""Datagram ports of the classic reactor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from wires import fired, free_port
from zope.interface.verify import verifyObject

from plait.classic.internet import defer, error, interfaces, protocol, reactor


class Box(protocol.DatagramProtocol):
    """Keeps what comes, and answers."""

    noisy = False

    def __init__(self) -> None:
        self.got: list[tuple[bytes, Any]] = []
        self.one: defer.Deferred[None] = defer.Deferred()
        self.refused: defer.Deferred[None] = defer.Deferred()
        self.told: list[str] = []

    def startProtocol(self) -> None:
        self.told.append("start")

    def stopProtocol(self) -> None:
        self.told.append("stop")

    def datagramReceived(self, datagram: bytes, addr: Any = None) -> None:
        self.got.append((datagram, addr))
        if datagram == b"ask":
            self.transport.write(b"answer", addr)
        if not self.one.called:
            self.one.callback(None)

    def connectionRefused(self) -> None:
        if not self.refused.called:
            self.refused.callback(None)


async def test_datagrams_are_sent_and_received() -> None:
    """With the sender's address; the protocol is started and stopped with its port, which is free then."""
    server, client = Box(), Box()
    listening = reactor.listenUDP(0, server, interface="127.0.0.1")
    verifyObject(interfaces.IUDPTransport, listening)
    sending = reactor.listenUDP(0, client, interface="127.0.0.1")
    sending.write(b"ask", ("127.0.0.1", listening.getHost().port))
    await fired(client.one)
    assert client.got == [(b"answer", ("127.0.0.1", listening.getHost().port))]
    assert server.got == [(b"ask", ("127.0.0.1", sending.getHost().port))]
    with pytest.raises(error.CannotListenError):
        reactor.listenUDP(listening.getHost().port, Box(), interface="127.0.0.1")
    await fired(listening.stopListening())
    await fired(sending.stop())
    assert server.told == ["start", "stop"]
    assert listening.stopListening() is None


async def test_a_connected_port_hears_of_a_refusal() -> None:
    """And sends without an address; a name in place of an address is refused."""
    box = Box()
    port = reactor.listenUDP(0, box, interface="127.0.0.1")
    with pytest.raises(error.InvalidAddressError):
        port.write(b"x", ("localhost", 1))
    with pytest.raises(error.InvalidAddressError):
        port.write(b"x", ("::1", 1))
    port.connect("127.0.0.1", free_port())
    port.write(b"x")
    await fired(box.refused)
    with pytest.raises(RuntimeError):
        port.connect("127.0.0.1", 1)
    with pytest.raises(error.MessageLengthError):
        port.write(b"x" * 100_000)
    await fired(port.stopListening())


async def test_a_group_is_joined_and_left() -> None:
    """What is sent to it comes back while it is; settings are read as they were set."""
    box = Box()
    port = reactor.listenMulticast(0, box, listenMultiple=True)
    verifyObject(interfaces.IMulticastTransport, port)
    port.setTTL(3)
    port.setLoopbackMode(True)
    assert (port.getTTL(), port.getLoopbackMode()) == (3, True)
    await fired(port.setOutgoingInterface("127.0.0.1"))
    assert port.getOutgoingInterface() == "127.0.0.1"
    await fired(port.joinGroup("225.0.0.250", "127.0.0.1"))
    port.write(b"to all", ("225.0.0.250", port.getHost().port))
    await fired(box.one)
    assert box.got[0][0] == b"to all"
    await fired(port.leaveGroup("225.0.0.250", "127.0.0.1"))
    with pytest.raises(error.MulticastJoinError):
        await fired(port.leaveGroup("225.0.0.250", "127.0.0.1"))
    await fired(port.stopListening())


async def test_datagrams_of_unix_sockets(tmp_path: Path) -> None:
    """To a path, and connected to one; the path is gone with the port."""

    class Connected(protocol.ConnectedDatagramProtocol):
        noisy = False
        got: defer.Deferred[bytes]

        def startProtocol(self) -> None:
            self.got = defer.Deferred()
            self.transport.write(b"ask")

        def datagramReceived(self, datagram: bytes) -> None:
            self.got.callback(datagram)

    server, client = Box(), Connected()
    listening = reactor.listenUNIXDatagram(str(tmp_path / "server"), server)
    sending = reactor.connectUNIXDatagram(str(tmp_path / "server"), client, bindAddress=str(tmp_path / "client"))
    assert await fired(client.got) == b"answer"
    await fired(sending.stopListening())
    await fired(listening.stopListening())
    assert list(tmp_path.iterdir()) == []
