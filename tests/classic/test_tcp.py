"""TCP and UNIX connections of the classic reactor, in a loop that runs already."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from wires import Client, Echo, Talk, fired, free_port, serving
from zope.interface import implementer
from zope.interface.verify import verifyObject

from plait.classic.internet import error, interfaces, protocol, reactor, tcp


@pytest.fixture
async def echo() -> AsyncIterator[Any]:
    """A port that echoes."""
    port = reactor.listenTCP(0, serving(Echo), interface="127.0.0.1")
    yield port
    await fired(port.stopListening())


async def connected(port: Any, talk: Talk) -> Client:
    """A connection of `talk` to a port, made."""
    client = Client(talk)
    reactor.connectTCP("127.0.0.1", port.getHost().port, client, timeout=5)
    await fired(talk.made)
    return client


async def test_what_is_sent_comes_back_and_a_close_is_clean(echo: Any) -> None:
    """Both ends, the client's factory included, hear of ConnectionDone; addresses are those of the sockets."""
    talk = Talk(b"hello")
    client = await connected(echo, talk)
    assert await fired(talk.heard(5)) == b"hello"
    assert talk.transport.getPeer() == echo.getHost()
    assert echo.factory.built[0].transport.getPeer() == talk.transport.getHost()
    verifyObject(interfaces.ITCPTransport, talk.transport)
    verifyObject(interfaces.IListeningPort, echo)
    talk.transport.loseConnection()
    assert isinstance(await fired(talk.lost), error.ConnectionDone)
    assert isinstance(await fired(client.ended), error.ConnectionDone)


async def test_what_was_written_is_out_before_the_connection_is_closed(echo: Any) -> None:
    """Eight megabytes, far more than any buffer of the system takes, and then loseConnection."""
    sender = Talk()
    sink = reactor.listenTCP(0, serving(Talk), interface="127.0.0.1")
    await connected(sink, sender)
    while not sink.factory.built:
        await asyncio.sleep(0)
    sender.transport.write(b"x" * 8_000_000)
    sender.transport.loseConnection()
    receiver = sink.factory.built[0]
    await fired(receiver.lost)
    assert len(receiver.data) == 8_000_000
    await fired(sink.stopListening())


async def test_str_is_sent_as_utf8_with_one_warning_and_not_in_a_sequence(echo: Any) -> None:
    """As the handbook writes it; Twisted itself refuses both."""
    talk = Talk()
    await connected(echo, talk)
    with pytest.warns(DeprecationWarning, match="UTF-8") as warned:
        talk.transport.write("grüß")
    assert len(warned) == 1
    with pytest.raises(TypeError):
        talk.transport.writeSequence([b"a", "b"])
    assert await fired(talk.heard(6)) == "grüß".encode()
    talk.transport.loseConnection()
    await fired(talk.lost)


async def test_an_abort_is_told_apart_and_resets_the_other_end() -> None:
    """ConnectionAborted here, ConnectionLost there."""
    port = reactor.listenTCP(0, serving(Talk), interface="127.0.0.1")
    talk = Talk(b"x")
    await connected(port, talk)
    while not port.factory.built:
        await asyncio.sleep(0)
    other = port.factory.built[0]
    await fired(other.heard(1))
    talk.transport.abortConnection()
    assert isinstance(await fired(talk.lost), error.ConnectionAborted)
    assert type(await fired(other.lost)) is error.ConnectionLost
    await fired(port.stopListening())


async def test_what_a_protocol_raises_ends_its_connection_with_that(caplog: Any) -> None:
    """The reason is the exception itself, which is logged; others are not touched."""

    class Raises(Talk):
        def dataReceived(self, data: bytes) -> None:
            raise ZeroDivisionError("here")

    port = reactor.listenTCP(0, serving(Raises), interface="127.0.0.1")
    talk = Talk(b"x")
    await connected(port, talk)
    await fired(talk.lost)
    assert isinstance(await fired(port.factory.built[0].lost), ZeroDivisionError)
    assert "here" in caplog.text
    await fired(port.stopListening())


async def test_reading_that_is_paused_while_the_connection_is_made_stays_paused() -> None:
    """Nothing arrives until resumeProducing, on either loop; then all does, in order, and the end after it."""

    class Paused(Talk):
        def connectionMade(self) -> None:
            self.transport.pauseProducing()
            super().connectionMade()

    port = reactor.listenTCP(0, serving(Paused), interface="127.0.0.1")
    talk = Talk(b"first")
    await connected(port, talk)
    while not port.factory.built:
        await asyncio.sleep(0)
    paused = port.factory.built[0]
    await fired(paused.made)
    for _ in range(20):
        await asyncio.sleep(0.005)
    assert paused.data == b""
    talk.transport.write(b" second")
    talk.transport.loseConnection()
    await fired(talk.lost)
    paused.transport.resumeProducing()
    assert await fired(paused.heard(12)) == b"first second"
    assert isinstance(await fired(paused.lost), error.ConnectionDone)
    await fired(port.stopListening())


@pytest.mark.parametrize("streaming", [True, False])
async def test_producers_are_asked_for_more_when_all_is_out(streaming: bool) -> None:
    """A push producer is paused when much is kept and resumed when all is out, a pull producer asked piece by piece;
    loseConnection waits for both."""
    port = reactor.listenTCP(0, serving(Talk), interface="127.0.0.1")
    talk = Talk()
    await connected(port, talk)

    @implementer(interfaces.IPushProducer if streaming else interfaces.IPullProducer)
    class Producer:
        left = 40
        paused = 0
        most = 0

        def resumeProducing(self) -> None:
            self.going = True
            while self.left and self.going:
                self.left -= 1
                talk.transport.write(b"p" * 100_000)
                self.most = max(self.most, talk.transport._transport.get_write_buffer_size())
                if not streaming:
                    break
            if not self.left:
                talk.transport.unregisterProducer()

        def pauseProducing(self) -> None:
            self.going = False
            self.paused += 1

        def stopProducing(self) -> None:
            raise AssertionError("nobody ended it")

    producer = Producer()
    talk.transport.registerProducer(producer, streaming)
    talk.transport.loseConnection()
    if streaming:
        producer.resumeProducing()
    await fired(talk.lost)
    received = port.factory.built[0]
    await fired(received.lost)
    assert len(received.data) == 4_000_000
    assert producer.most <= 300_000
    assert bool(producer.paused) is streaming
    await fired(port.stopListening())


async def test_a_half_closed_connection_goes_on_in_the_other_direction() -> None:
    """The one that hears of the end answers all the same; both are told once."""
    told: list[str] = []

    @implementer(interfaces.IHalfCloseableProtocol)
    class Half(Talk):
        def readConnectionLost(self) -> None:
            told.append("read")
            self.transport.write(b"answer")
            self.transport.loseConnection()

        def writeConnectionLost(self) -> None:
            told.append("write")

    port = reactor.listenTCP(0, serving(Half), interface="127.0.0.1")
    asks = Half(b"question")
    client = Client(asks)
    asks.readConnectionLost = lambda: asks.transport.loseConnection()
    reactor.connectTCP("127.0.0.1", port.getHost().port, client)
    await fired(asks.made)
    asks.transport.loseWriteConnection()
    assert await fired(asks.heard(6)) == b"answer"
    await fired(asks.lost)
    assert port.factory.built[0].data == b"question"
    assert told == ["write", "read"]
    await fired(port.stopListening())


async def test_attempts_fail_with_what_went_wrong() -> None:
    """Refused, no such name, given up, out of time: each with Twisted's error."""
    refused, unknown, given_up = Client(Talk()), Client(Talk()), Client(Talk())
    reactor.connectTCP("127.0.0.1", free_port(), refused)
    assert isinstance(await fired(refused.failed), error.ConnectionRefusedError)
    reactor.connectTCP("no.such.host.invalid", 1, unknown)
    assert isinstance(await fired(unknown.failed), error.DNSLookupError)
    with socket.socket() as silent:  # its queue is full: nobody accepts
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        others = [socket.create_connection(silent.getsockname())]
        connector = reactor.connectTCP(*silent.getsockname(), given_up)
        connector.stopConnecting()
        assert type(await fired(given_up.failed)) is error.UserError
        late = Client(Talk())
        while True:
            extra = socket.socket()
            extra.setblocking(False)
            others.append(extra)
            if extra.connect_ex(silent.getsockname()) and len(others) > 4:
                break
        reactor.connectTCP(*silent.getsockname(), late, timeout=0.05)
        assert isinstance(await fired(late.failed), error.TimeoutError)
        for other in others:
            other.close()
    reactor._stopThreadPool()  # which looked the name up, and would be stopped with the reactor


async def test_a_port_that_is_taken_is_said_so_and_its_factory_is_not_started() -> None:
    """CannotListenError, with the address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        factory = serving(Echo)
        with pytest.raises(error.CannotListenError, match=f"Couldn't listen on 127.0.0.1:{number}"):
            reactor.listenTCP(number, factory, interface="127.0.0.1")
        assert factory.numPorts == 0


async def test_a_factory_may_refuse_a_connection() -> None:
    """None from buildProtocol closes it, and the port goes on."""
    port = reactor.listenTCP(0, serving(lambda: None), interface="127.0.0.1")
    port.factory.buildProtocol = lambda addr: None
    talk = Talk()
    await connected(port, talk)
    assert isinstance(await fired(talk.lost), error.ConnectionDone)
    port.factory.buildProtocol = lambda addr: Echo()
    again = Talk(b"x")
    await connected(port, again)
    assert await fired(again.heard(1)) == b"x"
    again.transport.loseConnection()
    await fired(again.lost)
    await fired(port.stop())


async def test_a_stopped_port_is_free_and_its_connections_stay(echo: Any) -> None:
    """Port.stop is stopListening: its Deferred fires when the socket is closed."""
    port = reactor.listenTCP(0, serving(Echo), interface="127.0.0.1")
    number = port.getHost().port
    talk = Talk(b"a")
    await connected(port, talk)
    await fired(talk.heard(1))
    await fired(port.stop())
    assert port.factory.numPorts == 0
    refused = Client(Talk())
    reactor.connectTCP("127.0.0.1", number, refused)
    assert isinstance(await fired(refused.failed), error.ConnectionRefusedError)
    talk.transport.write(b"b")
    assert await fired(talk.heard(2)) == b"ab"
    talk.transport.loseConnection()
    await fired(talk.lost)


async def test_a_connector_connects_again_and_its_factory_is_started_once(echo: Any) -> None:
    """From clientConnectionLost, as ReconnectingClientFactory does."""

    class Again(protocol.ClientFactory[Any]):
        noisy = False
        starts = stops = 0

        def __init__(self) -> None:
            self.talks = [Talk(b"1"), Talk(b"2")]

        def startFactory(self) -> None:
            self.starts += 1

        def stopFactory(self) -> None:
            self.stops += 1

        def buildProtocol(self, addr: Any) -> Any:
            return self.talks.pop(0)

        def clientConnectionLost(self, connector: Any, reason: Any) -> None:
            if self.talks:
                connector.connect()

    factory = Again()
    first, second = factory.talks
    connector = reactor.connectTCP("127.0.0.1", echo.getHost().port, factory)
    verifyObject(interfaces.IConnector, connector)
    await fired(first.heard(1))
    connector.disconnect()
    assert await fired(second.heard(1)) == b"2"
    connector.disconnect()
    await fired(second.lost)
    assert (factory.starts, factory.stops) == (1, 1)


async def test_a_binding_is_listened_on_and_connected_from(echo: Any) -> None:
    """makeBinding for either end."""
    number = free_port()
    talk = Talk(b"x")
    client = Client(talk)
    binding = tcp.makeBinding("127.0.0.1", number, reuseAddress=True)
    reactor.connectTCP("127.0.0.1", echo.getHost().port, client, bindAddress=binding)
    await fired(talk.heard(1))
    assert talk.transport.getHost().port == number
    talk.transport.loseConnection()
    await fired(talk.lost)


async def test_unix_connections_carry_descriptors(tmp_path: Path) -> None:
    """The file that was sent can be read at the other end, and the path is gone with the port."""

    @implementer(interfaces.IFileDescriptorReceiver)
    class Takes(Talk):
        taken: int

        def fileDescriptorReceived(self, descriptor: int) -> None:
            self.taken = descriptor

    (tmp_path / "file").write_text("contents")
    path = str(tmp_path / "sock")
    port = reactor.listenUNIX(path, serving(Takes), mode=0o600)
    assert os.stat(path).st_mode & 0o777 == 0o600
    talk = Talk()
    reactor.connectUNIX(path, Client(talk))
    await fired(talk.made)
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    talk.transport.sendFileDescriptor(descriptor)
    talk.transport.write(b"here")
    while not port.factory.built:
        await asyncio.sleep(0)
    receiver = port.factory.built[0]
    assert await fired(receiver.heard(4)) == b"here"
    os.close(descriptor)
    with os.fdopen(receiver.taken) as file:
        assert file.read() == "contents"
    talk.transport.loseConnection()
    assert isinstance(await fired(receiver.lost), error.ConnectionDone)
    await fired(port.stopListening())
    assert not os.path.exists(path)


async def test_a_lock_tells_who_listens_and_one_that_is_left_is_taken(tmp_path: Path) -> None:
    """wantPID and checkPID; the socket of a process that is gone is in nobody's way."""
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    os.symlink("999999999", f"{path}.lock")
    port = reactor.listenUNIX(path, serving(Echo), wantPID=True)
    assert os.readlink(f"{path}.lock") == str(os.getpid())
    with pytest.raises(error.CannotListenError):
        reactor.listenUNIX(path, serving(Echo), wantPID=True)
    talk = Talk(b"x")
    reactor.connectUNIX(path, Client(talk), checkPID=True)
    assert await fired(talk.heard(1)) == b"x"
    talk.transport.loseConnection()
    await fired(talk.lost)
    await fired(port.stopListening())
    assert not os.path.lexists(f"{path}.lock")
    nobody = Client(Talk())
    reactor.connectUNIX(path, nobody, checkPID=True)
    assert isinstance(await fired(nobody.failed), error.BadFileError)


async def test_an_adopted_socket_is_listened_on_and_stays_its_openers() -> None:
    """adoptStreamPort duplicates the descriptor."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = reactor.adoptStreamPort(sock.fileno(), socket.AF_INET, serving(Echo))
        talk = Talk(b"x")
        await connected(port, talk)
        assert await fired(talk.heard(1)) == b"x"
        talk.transport.loseConnection()
        await fired(talk.lost)
        await fired(port.stopListening())
        assert sock.fileno() >= 0
    with pytest.raises(error.UnsupportedAddressFamily):
        reactor.adoptStreamPort(0, socket.AF_PACKET, serving(Echo))


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
async def test_an_adopted_connection_is_spoken_over(family: socket.AddressFamily) -> None:
    """adoptStreamConnection duplicates the descriptor, of TCP and of UNIX; a factory may want none."""
    here, there = socket.socketpair() if family == socket.AF_UNIX else tcp_pair()
    with here, there:
        factory = serving(Echo)
        reactor.adoptStreamConnection(here.fileno(), family, factory)
        here.close()
        there.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(there, b"over")
        assert await loop.sock_recv(there, 10) == b"over"
        transport = factory.built[0].transport
        number = transport.getHost().port if family == socket.AF_INET else ""
        assert repr(transport) == f"<Echo #0 on {number}>"
        transport.loseConnection()
        assert await loop.sock_recv(there, 10) == b""
    here, there = socket.socketpair() if family == socket.AF_UNIX else tcp_pair()
    with here, there:
        nobody = serving(Echo)
        nobody.buildProtocol = lambda addr: None
        reactor.adoptStreamConnection(here.fileno(), family, nobody)
        here.close()
        there.setblocking(False)
        assert await loop.sock_recv(there, 10) == b""
    with pytest.raises(error.UnsupportedAddressFamily):
        reactor.adoptStreamConnection(0, socket.AF_PACKET, nobody)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of one connection."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        there = socket.create_connection(sock.getsockname())
        return sock.accept()[0], there


async def test_a_connection_that_is_closing_is_not_read(echo: Any) -> None:
    """Not even where it is told to go on; stopConsuming lets the producer go as well."""
    talk = Talk(b"x")
    await connected(echo, talk)
    assert talk.transport in reactor.getReaders()
    talk.transport.registerProducer(object(), True)
    talk.transport.stopConsuming()
    talk.transport.resumeProducing()
    assert talk.transport not in reactor.getReaders()
    assert talk.transport.producer is None
    assert isinstance(await fired(talk.lost), error.ConnectionDone)


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_producer_that_raises_ends_the_connection(streaming: bool, caplog: Any) -> None:
    """With what it raised, even if it has asked for an abort before."""
    port = reactor.listenTCP(0, serving(Talk), interface="127.0.0.1")
    talk = Talk()
    await connected(port, talk)

    class Producer:
        def pauseProducing(self) -> None:
            pass

        def stopProducing(self) -> None:
            pass

        def resumeProducing(self) -> None:
            if streaming or self.asked:
                talk.transport.abortConnection()
                raise ZeroDivisionError("while producing")
            self.asked = True

        asked = False

    talk.transport.registerProducer(Producer(), streaming)
    if streaming:
        talk.transport.write(b"p" * 8_000_000)
    assert isinstance(await fired(talk.lost), ZeroDivisionError)
    assert "while producing" in caplog.text
    await fired(port.stopListening())


async def test_a_port_that_is_none_is_an_error_of_the_attempt() -> None:
    """Of IPv4 and of IPv6, whose lookup would take it modulo 65536."""
    for host in ("127.0.0.1", "::1"):
        for number in (-1, 65536):
            client = Client(Talk())
            reactor.connectTCP(host, number, client)
            failed = await fired(client.failed)
            assert isinstance(failed, error.ConnectError)
            assert "0-65535" in str(failed)
            with pytest.raises(error.CannotListenError):
                reactor.listenTCP(number, serving(Talk), interface=host)


def link_local() -> str:
    """This host's address on a link, with its scope; skips where there is none."""
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except FileNotFoundError:
        lines = []
    for line in lines:
        digits, _, _, scope, _, name = line.split()
        if scope == "20":
            text = ":".join(digits[i : i + 4] for i in range(0, 32, 4))
            return f"{socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, text))}%{name}"
    pytest.skip("no interface has a link-local address")


async def test_link_local_addresses_keep_their_scope() -> None:
    """Listened on, connected to, connected from: addresses name it, and can be used again."""
    host = link_local()
    port = reactor.listenTCP(0, serving(Echo), interface=host)
    assert port.getHost().host == host
    talk = Talk(b"x")
    reactor.connectTCP(host, port.getHost().port, Client(talk), bindAddress=(host, 0))
    assert await fired(talk.heard(1)) == b"x"
    assert talk.transport.getHost().host == talk.transport.getPeer().host == host
    assert port.factory.built[0].transport.getPeer() == talk.transport.getHost()
    talk.transport.loseConnection()
    await fired(talk.lost)
    await fired(port.stopListening())


async def test_a_unix_socket_closes_what_it_was_not_to_take(tmp_path: Path, caplog: Any) -> None:
    """A descriptor for a protocol that takes none is said and closed; options of TCP are there, and nothing to it."""
    caplog.set_level("INFO")
    path = str(tmp_path / "sock")
    port = reactor.listenUNIX(path, serving(Talk))
    talk = Talk()
    reactor.connectUNIX(path, Client(talk))
    await fired(talk.made)
    transport = talk.transport
    assert (transport.getTcpNoDelay(), transport.getTcpKeepAlive()) == (False, False)
    transport.setTcpNoDelay(True)
    transport.setTcpKeepAlive(True)
    assert (transport.getTcpNoDelay(), transport.getTcpKeepAlive()) == (False, True)
    reading, writing = os.pipe()
    transport.sendFileDescriptor(writing)
    transport.write(b"here")
    while not port.factory.built:
        await asyncio.sleep(0)
    assert await fired(port.factory.built[0].heard(4)) == b"here"
    os.close(writing)
    os.set_blocking(reading, False)
    assert os.read(reading, 1) == b""  # nobody has the other end
    os.close(reading)
    assert "IFileDescriptorReceiver" in caplog.text
    transport.loseConnection()
    await fired(talk.lost)
    await fired(port.stopListening())


async def test_an_attempt_without_a_descriptor_left_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told to the factory of a UNIX connection as to that of a TCP one."""

    def none_left(*_: Any) -> None:
        raise OSError(24, "Too many open files")

    port = reactor.listenUNIX(str(tmp_path / "sock"), serving(Talk))
    monkeypatch.setattr(socket, "socket", none_left)
    for connect in (
        lambda client: reactor.connectUNIX(str(tmp_path / "sock"), client),
        lambda client: reactor.connectTCP("127.0.0.1", 1, client),
    ):
        client = Client(Talk())
        connect(client)
        failed = await fired(client.failed)
        assert isinstance(failed, error.ConnectError)
        assert failed.osError == 24
    monkeypatch.undo()
    await fired(port.stopListening())


async def test_nothing_is_left_behind(echo: Any) -> None:
    """Connections that have ended are watched no more, and no warning comes from their sockets."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            talk = Talk(b"x")
            await connected(echo, talk)
            await fired(talk.heard(1))
            talk.transport.loseConnection()
            await fired(talk.lost)
        await asyncio.sleep(0.01)
        gc.collect()
    assert reactor.getReaders() == [echo]
    assert not reactor._open
