"""Servers behind a proxy: `haproxy:` before an endpoint's text."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest
from wires import fired

from plait.classic.internet import endpoints, reactor
from plait.classic.internet.protocol import Factory, Protocol

V2 = b"\r\n\r\n\x00\r\nQUIT\n"
CLIENT = V2 + b"\x21\x11" + struct.pack("!H", 12) + bytes([192, 0, 2, 1, 192, 0, 2, 2]) + struct.pack("!HH", 1234, 80)
CLIENT6 = (
    V2
    + b"\x21\x21"
    + struct.pack("!H", 36)
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::2")
    + struct.pack("!HH", 1234, 80)
)


class Tells(Protocol):
    """Says who is there, with the first bytes that come."""

    def dataReceived(self, data: bytes) -> None:
        peer, host = self.transport.getPeer(), self.transport.getHost()
        self.transport.write(f"{peer.host} {peer.port} {host.host} {host.port} {data.decode()}".encode())
        self.transport.loseConnection()


async def ask(*pieces: bytes) -> bytes:
    """What such a server answers to these bytes, in pieces."""
    endpoint = endpoints.serverFromString(reactor, r"haproxy:tcp:0:interface=127.0.0.1")
    port = await fired(endpoint.listen(Factory.forProtocol(Tells)))
    reader, writer = await asyncio.open_connection("127.0.0.1", port.getHost().port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    answer = await reader.read()
    writer.close()
    await fired(port.stopListening())
    return answer


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n", b"192.0.2.1 1234 192.0.2.2 80 hello"),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 1234 80\r\n", b"2001:db8::1 1234 2001:db8::2 80 hello"),
        (CLIENT, b"192.0.2.1 1234 192.0.2.2 80 hello"),
        (CLIENT6, b"2001:db8::1 1234 2001:db8::2 80 hello"),
    ],
)
async def test_the_header_says_who_is_there(header: bytes, told: bytes) -> None:
    """In one piece with what follows, and byte by byte; nothing of it is handed on."""
    assert await ask(header + b"hello") == told
    assert await ask(*(bytes([one]) for one in header), b"hello") == told


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", V2 + b"\x20\x00\x00\x00"])
async def test_a_proxy_that_speaks_for_itself(header: bytes) -> None:
    """The addresses are the connection's own."""
    assert (await ask(header + b"hello")).startswith(b"127.0.0.1 ")


@pytest.mark.parametrize(
    "header",
    [
        b"hello",
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 192.0.2.1 nonsense 1234 80\r\n",
        b"PROXY " + b"x" * 200,
        V2 + b"\x21\x11\xff\xff",
        V2 + b"\x21\x11\x00\x02ab",
    ],
)
async def test_what_is_no_header_is_closed(header: bytes) -> None:
    """And hears nothing."""
    assert await ask(header + b"hello") == b""
