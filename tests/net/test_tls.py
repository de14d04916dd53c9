"""TLS: from files, with client certificates, renewed while running; and a stalled handshake that holds nobody up."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
import trustme

from plait import Application
from plait.errors import EndpointError, StartFailed
from plait.net import Client, Server
from test_server import close, echo, running


class Files:
    """A certificate authority's, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        self.issue()

    def issue(self) -> int:
        """A new certificate, in place of the old; its serial number."""
        issued = self.authority.issue_cert("127.0.0.1", "localhost")
        issued.private_key_pem.write_to_path(str(self.folder / "key.pem"))
        issued.cert_chain_pems[0].write_to_path(str(self.folder / "cert.pem"))
        der = ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())
        return hash(der)

    @property
    def listen(self) -> str:
        return f"tls://127.0.0.1:0?cert={self.folder}/cert.pem&key={self.folder}/key.pem"

    def trust(self) -> ssl.SSLContext:
        """What a client of ours has."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(str(self.folder / "ca.pem"))
        return context


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """In a folder of the test's own."""
    return Files(tmp_path)


async def ask(server: Server, context: ssl.SSLContext) -> tuple[bytes, int]:
    """One line, and the certificate it came with."""
    endpoint = server.endpoints[0]
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=context)
    writer.write(b"hello\n")
    answer = await reader.readline()
    certificate: Any = writer.get_extra_info("ssl_object")
    seen = hash(certificate.getpeercert(True))
    await close(writer)
    return answer, seen


async def test_a_server_and_a_client_of_ours(files: Files) -> None:
    """Each from its endpoint."""
    app = Application("test")
    server = app.add(Server(files.listen, echo), name="server")
    async with app:
        connect = f"tls://localhost:{server.endpoints[0].port}?ca={files.folder}/ca.pem"
        client = app.add(Client(connect), name="client", needs=["server"])
        await client.start()
        connection = await asyncio.wait_for(client.connected(), 5)
        connection.writer.write(b"hello\n")
        assert await connection.reader.readline() == b"hello\n"


async def test_a_renewed_certificate_is_taken_up_and_a_broken_one_is_not(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    """By the next connection; the broken one is reported once."""
    async with running(echo, files.listen) as server:
        _, first = await ask(server, files.trust())
        renewed = files.issue()
        answer, second = await ask(server, files.trust())
        assert answer == b"hello\n"
        assert second == renewed != first
        (files.folder / "cert.pem").write_text("broken")
        for _ in range(3):
            assert (await ask(server, files.trust()))[1] == renewed
    assert caplog.text.count("the certificate in use stays in force") == 1


async def test_clients_must_show_a_certificate_where_ca_is_given(files: Files) -> None:
    """Without one there is no answer."""
    async with running(echo, f"{files.listen}&ca={files.folder}/ca.pem") as server:
        context = files.trust()
        context.load_cert_chain(str(files.folder / "cert.pem"), str(files.folder / "key.pem"))
        assert (await ask(server, context))[0] == b"hello\n"
        with pytest.raises((OSError, AssertionError, asyncio.IncompleteReadError)):
            assert (await ask(server, files.trust()))[0] == b"hello\n"


async def test_a_stalled_handshake_does_not_hold_up_the_drain_of_others(files: Files) -> None:
    """Its client has connected and says nothing; one that is served is ended politely, well before the deadline."""
    async with running(echo, files.listen, drain_timeout=1.0) as server:
        endpoint = server.endpoints[0]
        _, stalled = await asyncio.open_connection(endpoint.host, endpoint.port)
        reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=files.trust())
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        stopping = asyncio.create_task(server.stop())
        began = time.monotonic()
        assert await reader.read() == b""
        assert time.monotonic() - began < 0.9
        await asyncio.wait([stopping])
    await close(writer)
    await close(stalled)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("cert.pem", "cert.pem.gone"), "No such file"),
        (("key.pem", "key.pem.gone"), "No such file"),
        (("cert.pem", "ca.pem"), "the key is not this certificate's"),
        (("key.pem", "cert.pem"), "both must be PEM files"),
    ],
)
async def test_wrong_files_fail_the_start(files: Files, change: tuple[str, str], message: str) -> None:
    """With the files' names."""
    app = Application("test")
    app.add(
        Server(files.listen.replace(f"={files.folder}/{change[0]}", f"={files.folder}/{change[1]}"), echo), name="web"
    )
    with pytest.raises(StartFailed) as caught:
        await app.serve()
    assert isinstance(caught.value.exceptions[0], EndpointError)
    assert message in str(caught.value.exceptions[0])
