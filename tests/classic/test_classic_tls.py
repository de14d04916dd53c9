"""TLS over the classic reactor: certificates that are asked for, shown, refused and read."""

from __future__ import annotations

import asyncio
import ssl as stdlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from wires import Client, Echo, Talk, fired, serving
from zope.interface import implementer
from zope.interface.verify import verifyObject

from plait.classic.internet import endpoints, error, interfaces, protocol, reactor, ssl
from plait.classic.internet._certificates import FILETYPE_PEM
from plait.classic.protocols import tls
from plait.classic.protocols.basic import LineReceiver


@pytest.fixture(autouse=True)
def pool() -> Iterator[None]:
    """The pool that looks names up ends with the test."""
    yield
    reactor._stopThreadPool()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Whom these tests trust."""
    return trustme.CA()


@pytest.fixture(scope="module")
def shown(authority: trustme.CA) -> ssl.PrivateCertificate:
    """What the server shows: a certificate for localhost, with its key."""
    issued = authority.issue_cert("localhost", "127.0.0.1", common_name="localhost")
    return ssl.PrivateCertificate.loadPEM(issued.private_key_and_cert_chain_pem.bytes())


def trust(authority: trustme.CA) -> Any:
    """Trust the authority of these tests."""
    return ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(authority.cert_pem.bytes())])


def test_a_pem_file_may_hold_more_in_any_order(authority: trustme.CA) -> None:
    """Text of any encoding, a key before the certificate; what is missing is named."""
    issued = authority.issue_cert("localhost")
    key, chain = issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes()
    whole = "für localhost\n".encode() + key + chain
    certificate = ssl.Certificate.loadPEM(whole)
    assert certificate == ssl.Certificate.loadPEM(chain)
    loaded = ssl.PrivateCertificate.loadPEM(whole).privateKey
    assert loaded.original == ssl.KeyPair.load(key, FILETYPE_PEM).original
    with pytest.raises(ValueError, match="holds no certificate"):
        ssl.Certificate.loadPEM(key)
    with pytest.raises(ValueError, match="holds no private key"):
        ssl.PrivateCertificate.loadPEM(chain)


async def test_echo_by_a_certificate_that_is_verified(authority: trustme.CA, shown: ssl.PrivateCertificate) -> None:
    """Each end is clean when one closes; the peer's certificate can be read."""
    port = reactor.listenSSL(0, serving(Echo), shown.options(), interface="127.0.0.1")
    options = ssl.optionsForClientTLS("localhost", trustRoot=trust(authority))
    talk, client = Talk(b"secret"), None
    client = Client(talk)
    reactor.connectSSL("127.0.0.1", port.getHost().port, client, options)
    assert await fired(talk.heard(6)) == b"secret"
    verifyObject(interfaces.ISSLTransport, talk.transport)
    certificate = ssl.Certificate.peerFromTransport(talk.transport)
    assert certificate == ssl.Certificate(shown.original)
    assert certificate.getSubject().CN == b"localhost"
    assert certificate.getNames() == ["localhost"]
    assert certificate.digest("sha256").count(b":") == 31
    talk.transport.loseConnection()
    assert isinstance(await fired(talk.lost), error.ConnectionDone)
    assert isinstance(await fired(client.ended), error.ConnectionDone)
    await fired(port.stopListening())


@pytest.mark.parametrize("why", ["another name", "nobody's certificate"])
async def test_who_is_not_who_he_should_be_is_refused(
    authority: trustme.CA, shown: ssl.PrivateCertificate, why: str
) -> None:
    """The connection ends with the error of the verification, and no byte is delivered."""
    server = serving(Talk)
    port = reactor.listenSSL(0, server, shown.options(), interface="127.0.0.1")
    name = "example.org" if why == "another name" else "localhost"
    roots = trust(authority if why == "another name" else trustme.CA())
    talk = Talk(b"secret")
    client = Client(talk)
    reactor.connectSSL("127.0.0.1", port.getHost().port, client, ssl.optionsForClientTLS(name, trustRoot=roots))
    assert isinstance(await fired(talk.lost), ssl.VerificationError)
    assert isinstance(await fired(server.built[0].lost), (stdlib.SSLError, error.ConnectionLost))
    assert server.built[0].data == b""
    await fired(port.stopListening())


@pytest.mark.parametrize("name", ["localhost", "example.org"])
async def test_a_name_that_is_not_sent_is_checked_all_the_same(
    authority: trustme.CA, shown: ssl.PrivateCertificate, name: str
) -> None:
    """The certificate that the server then shows has to be for it, and a single one may be who is trusted."""
    asked: list[str | None] = []
    context = shown.options()
    context._context(False).sni_callback = lambda _, name, __: asked.append(name)
    port = reactor.listenSSL(0, serving(Echo), context, interface="127.0.0.1")
    root = ssl.Certificate.loadPEM(authority.cert_pem.bytes())
    options = ssl.optionsForClientTLS(name, trustRoot=root, sendServerName=False)
    talk = Talk(b"secret")
    reactor.connectSSL("127.0.0.1", port.getHost().port, Client(talk), options)
    if name == "localhost":
        assert await fired(talk.heard(6)) == b"secret"
        talk.transport.loseConnection()
        await fired(talk.lost)
    else:
        assert isinstance(await fired(talk.lost), ssl.VerificationError)
    assert asked == [None]
    await fired(port.stopListening())


async def test_a_client_may_have_to_show_a_certificate(authority: trustme.CA, shown: ssl.PrivateCertificate) -> None:
    """With one of the authority it is served; without one it is not."""
    own = ssl.PrivateCertificate.loadPEM(authority.issue_cert("me").private_key_and_cert_chain_pem.bytes())
    asking = shown.options(ssl.Certificate.loadPEM(authority.cert_pem.bytes()))
    port = reactor.listenSSL(0, serving(Echo), asking, interface="127.0.0.1")
    for certificate in (own, None):
        talk = Talk(b"x")
        options = ssl.optionsForClientTLS("localhost", trustRoot=trust(authority), clientCertificate=certificate)
        reactor.connectSSL("127.0.0.1", port.getHost().port, Client(talk), options)
        if certificate:
            assert await fired(talk.heard(1)) == b"x"
            talk.transport.loseConnection()
            await fired(talk.lost)
        else:
            assert not isinstance(await fired(talk.lost), error.ConnectionDone)
            assert talk.data == b""
    await fired(port.stopListening())


async def test_tls_begins_in_the_middle_of_a_connection(authority: trustme.CA, shown: ssl.PrivateCertificate) -> None:
    """startTLS after some lines in the clear; what is written right after it is encrypted; a line protocol heeds its
    own loseConnection at once."""
    told: list[Any] = []

    class Server(LineReceiver):
        def lineReceived(self, line: bytes) -> None:
            told.append((line, self.transport.TLS))
            if line == b"STARTTLS":
                self.sendLine(b"go")
                self.transport.startTLS(shown.options())
            elif line == b"bye":
                self.transport.loseConnection()

    @implementer(interfaces.IHandshakeListener)
    class Asks(Talk):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            if data == b"go\r\n":
                self.transport.startTLS(ssl.optionsForClientTLS("localhost", trustRoot=trust(authority)))
                self.transport.write(b"secret\r\nbye\r\nnever\r\n")

        def handshakeCompleted(self) -> None:
            told.append(self.transport.getPeerCertificate() == ssl.Certificate(shown.original))

    port = reactor.listenTCP(0, serving(Server), interface="127.0.0.1")
    talk = Asks(b"STARTTLS\r\n")
    reactor.connectTCP("127.0.0.1", port.getHost().port, Client(talk))
    assert isinstance(await fired(talk.lost), error.ConnectionDone)
    assert told == [(b"STARTTLS", False), True, (b"secret", True), (b"bye", True)]
    await fired(port.stopListening())


async def test_much_is_sent_with_producers_and_closed_in_order(
    authority: trustme.CA, shown: ssl.PrivateCertificate
) -> None:
    """A pull producer that begins before the handshake; all of it arrives before the end."""

    class Sends(Talk):
        left = 50

        def connectionMade(self) -> None:
            super().connectionMade()
            self.transport.registerProducer(self, False)
            self.transport.loseConnection()

        def resumeProducing(self) -> None:
            self.transport.write(b"z" * 50_000)
            self.left -= 1
            if not self.left:
                self.transport.unregisterProducer()

        def stopProducing(self) -> None:
            raise AssertionError("nobody ended it")

    server = serving(Talk)
    port = reactor.listenSSL(0, server, shown.options(), interface="127.0.0.1")
    talk = Sends()
    options = ssl.optionsForClientTLS("localhost", trustRoot=trust(authority))
    reactor.connectSSL("127.0.0.1", port.getHost().port, Client(talk), options)
    assert isinstance(await fired(talk.lost), error.ConnectionDone)
    assert len(server.built[0].data) == 2_500_000
    await fired(port.stopListening())


async def test_a_producer_is_held_while_there_is_no_handshake(
    authority: trustme.CA, shown: ssl.PrivateCertificate
) -> None:
    """It is paused once when much waits for the handshake, and goes on after it; nothing is lost."""
    port = reactor.listenTCP(0, serving(Talk), interface="127.0.0.1")
    asked: list[str] = []

    @implementer(interfaces.IPushProducer)
    class Sends(Talk):
        def connectionMade(self) -> None:
            self.transport.registerProducer(self, True)
            for _ in range(5):
                self.transport.write(b"p" * 30_000)
            super().connectionMade()

        def pauseProducing(self) -> None:
            asked.append("pause")

        def resumeProducing(self) -> None:
            asked.append("resume")
            self.transport.unregisterProducer()
            self.transport.loseConnection()

        def stopProducing(self) -> None:
            raise AssertionError("nobody ended it")

    talk = Sends()
    options = ssl.optionsForClientTLS("localhost", trustRoot=trust(authority))
    reactor.connectSSL("127.0.0.1", port.getHost().port, Client(talk), options)
    await fired(talk.made)
    assert asked == ["pause"]
    while not port.factory.built:
        await asyncio.sleep(0)
    silent = port.factory.built[0]
    hears = Talk()
    wrapped = tls.TLSMemoryBIOProtocol(tls.TLSMemoryBIOFactory(shown.options(), False, serving(Talk)), hears)
    silent.transport.protocol = wrapped
    wrapped.makeConnection(silent.transport)
    if silent.data:
        wrapped.dataReceived(silent.data)
    await fired(talk.lost)
    await fired(hears.lost)
    assert (asked, len(hears.data)) == (["pause", "resume"], 150_000)
    await fired(port.stopListening())


async def test_an_end_without_tls_s_own_is_lost_not_done(shown: ssl.PrivateCertificate) -> None:
    """Somebody may have cut the stream short."""
    server = serving(Talk)
    port = reactor.listenSSL(0, server, shown.options(), interface="127.0.0.1")
    context = stdlib.SSLContext(stdlib.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, stdlib.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port.getHost().port, ssl=context)
    writer.write(b"half a mess")
    await writer.drain()
    while not server.built:
        await asyncio.sleep(0)
    await fired(server.built[0].heard(11))
    writer.transport.abort()
    assert type(await fired(server.built[0].lost)) is error.ConnectionLost
    await fired(port.stopListening())


async def test_both_ends_agree_on_a_protocol(authority: trustme.CA, shown: ssl.PrivateCertificate) -> None:
    """ALPN, of the factory's own wish on one side and of the options on the other."""

    @implementer(interfaces.IProtocolNegotiationFactory)
    class Speaks(protocol.Factory[Any]):
        noisy = False
        protocol = Echo

        def acceptableProtocols(self) -> list[bytes]:
            return [b"h2", b"echo/1"]

    port = reactor.listenSSL(0, Speaks(), shown.options(), interface="127.0.0.1")
    options = ssl.optionsForClientTLS("localhost", trustRoot=trust(authority), acceptableProtocols=[b"echo/1"])
    talk = Talk(b"x")
    reactor.connectSSL("127.0.0.1", port.getHost().port, Client(talk), options)
    await fired(talk.heard(1))
    assert talk.transport.negotiatedProtocol == b"echo/1"
    talk.transport.loseConnection()
    await fired(talk.lost)
    await fired(port.stopListening())


async def test_endpoints_of_texts_speak_tls(
    authority: trustme.CA, shown: ssl.PrivateCertificate, tmp_path: Path
) -> None:
    """ssl: with PEM files; tls: with a folder, by the name that the client asks for; tls: as a client of a name."""
    (tmp_path / "localhost.pem").write_bytes(shown.dumpPEM())
    other = authority.issue_cert("other.test")
    (tmp_path / "a.pem").write_bytes(other.private_key_and_cert_chain_pem.bytes())
    roots = tmp_path / "roots"
    roots.mkdir()
    (roots / "ca.pem").write_bytes(authority.cert_pem.bytes())
    for text in (
        f"ssl:0:privateKey={tmp_path}/localhost.pem:interface=127.0.0.1",
        f"tls:{tmp_path}:0:interface=127.0.0.1",
    ):
        port = await fired(endpoints.serverFromString(reactor, text).listen(serving(Echo)))
        client = endpoints.clientFromString(reactor, f"tls:localhost:{port.getHost().port}:trustRoots={roots}")
        talk = Talk(b"x")
        assert await fired(endpoints.connectProtocol(client, talk)) is talk
        assert await fired(talk.heard(1)) == b"x"
        assert talk.transport.getPeerCertificate().getNames() == ["localhost"]
        talk.transport.loseConnection()
        await fired(talk.lost)
        await fired(port.stopListening())


def test_keys_and_certificates_are_loaded_and_dumped(shown: ssl.PrivateCertificate) -> None:
    """PEM and DER both ways, a name's attributes, and who is not what he should be."""
    again = ssl.PrivateCertificate.loadPEM(shown.dumpPEM())
    assert again == shown
    assert again.privateKey.matches(shown.privateKey)
    assert ssl.KeyPair.load(shown.privateKey.dump(1), 1).original == shown.privateKey.original
    assert ssl.Certificate.load(shown.dump()) == ssl.Certificate.loadPEM(shown.dump(1))
    assert shown.serialNumber() > 0
    assert "Subject" in shown.inspect()
    name = ssl.DN(commonName="x", O=b"y")
    assert (name.CN, name.organizationName) == (b"x", b"y")
    with pytest.raises(AttributeError):
        name.frobnicate = "z"
    with pytest.raises(ValueError, match="no certificate"):
        ssl.Certificate.load(b"nothing")
    with pytest.raises(TypeError, match="host names"):
        ssl.optionsForClientTLS(b"localhost")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="neither or both"):
        ssl.CertificateOptions(privateKey=shown.privateKey)
