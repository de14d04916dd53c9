"""The PROXY protocol: read to the byte, before anything else, or the connection is closed."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.net import proxy
from plait.net.proxy import ProxyError, parse_v1, parse_v2
from test_server import close, connect, running

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.7 192.0.2.8 4711 80\r\n"
V2 = (
    SIGNATURE + b"\x21\x11" + struct.pack("!H", 12) + bytes([192, 0, 2, 7, 192, 0, 2, 8]) + struct.pack("!HH", 4711, 80)
)
V2_TLV = SIGNATURE + b"\x21\x11" + struct.pack("!H", 17) + V2[16:] + b"\x04\x00\x02ab"
V2_LOCAL = SIGNATURE + b"\x20\x00" + struct.pack("!H", 0)


async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Who asks, and what."""
    line = await reader.readline()
    writer.write(repr((writer.get_extra_info("peername"), line)).encode())


class Telling(asyncio.Protocol):
    """The same, as a protocol."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(repr((self.transport.get_extra_info("peername"), data)).encode())
        self.transport.close()


@pytest.mark.parametrize("serve", [tell, Telling], ids=["handler", "protocol"])
@pytest.mark.parametrize("pieces", ["whole", "bytes"])
@pytest.mark.parametrize("header", [V1, V2, V2_TLV], ids=["v1", "v2", "tlv"])
async def test_the_client_of_the_proxy_is_told(serve: Any, pieces: str, header: bytes) -> None:
    """However the header comes, and not a byte of the request is taken for it."""
    version = "v1" if header is V1 else "v2"
    async with running(serve, f"tcp://127.0.0.1:0?proxy={version}") as server:
        reader, writer = await connect(server)
        if pieces == "bytes":
            for byte in header:
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            writer.write(b"hello\n")
        else:
            writer.write(header + b"hello\n")
        assert await reader.read() == repr((("192.0.2.7", 4711), b"hello\n")).encode()
        await close(writer)


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", V2_LOCAL], ids=["v1", "v2"])
async def test_the_proxy_may_speak_for_itself(header: bytes) -> None:
    """Then its own address stands."""
    version = "v1" if header.startswith(b"PROXY") else "v2"
    async with running(tell, f"tcp://127.0.0.1:0?proxy={version}") as server:
        reader, writer = await connect(server)
        writer.write(header + b"hello\n")
        assert await reader.read() == repr((writer.get_extra_info("sockname"), b"hello\n")).encode()
        await close(writer)


@pytest.mark.parametrize(
    ("version", "sent"),
    [
        ("v1", b"GET / HTTP/1.1\r\n"),
        ("v1", b"PROXY TCP4 192.0.2.7 nonsense 1 2\r\n"),
        ("v1", b"PROXY TCP4 192.0.2.7 192.0.2.8 1 70000\r\n"),
        ("v1", b"PROXY TCP4 " + b"x" * 200),
        ("v2", V1),
        ("v2", SIGNATURE + b"\x31\x11\x00\x0c" + V2[16:]),
        ("v2", SIGNATURE + b"\x21\x11\x00\x04abcd"),
        ("v2", SIGNATURE + b"\x21\x11\xff\xff"),
    ],
)
async def test_a_wrong_header_closes_the_connection(
    version: str, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """With one line in the log; the handler never hears of it."""
    caplog.set_level("INFO")
    async with running(tell, f"tcp://127.0.0.1:0?proxy={version}") as server:
        reader, writer = await connect(server)
        writer.write(sent)
        writer.write_eof()
        (answer,) = await asyncio.gather(reader.read(), return_exceptions=True)
        assert answer == b"" or isinstance(answer, ConnectionError)
        await close(writer)
        assert server.stats.failed == 1
    assert "a connection did not come about: it" in caplog.text


async def test_a_header_that_does_not_come_is_waited_for_so_long_and_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Then the place is free again."""
    monkeypatch.setattr(proxy, "HEADER_TIMEOUT", 0.05)
    async with running(tell, "tcp://127.0.0.1:0?proxy=v1") as server:
        reader, writer = await connect(server)
        writer.write(b"PROXY TCP4 ")
        assert await asyncio.wait_for(reader.read(), 5) == b""
        await close(writer)
        assert server.stats.open == 0


@given(st.binary(max_size=120))
def test_any_line_parses_or_is_a_proxy_error(line: bytes) -> None:
    """Nothing else comes out."""
    try:
        parse_v1(line + b"\r\n")
    except ProxyError:
        pass


@given(st.binary(min_size=16, max_size=16), st.binary(max_size=60))
def test_any_header_parses_or_is_a_proxy_error(fixed: bytes, body: bytes) -> None:
    """Also one that begins as it should."""
    for start in (fixed, SIGNATURE + fixed[12:]):
        try:
            parse_v2(start, body)
        except ProxyError:
            pass


def test_ipv6_addresses() -> None:
    """In both versions."""
    assert parse_v1(b"PROXY TCP6 ::1 ::2 1 2\r\n").peer == ("::1", 1)
    addresses = socket.inet_pton(socket.AF_INET6, "::1") + socket.inet_pton(socket.AF_INET6, "::2")
    assert parse_v2(SIGNATURE + b"\x21\x21\x00\x24", addresses + struct.pack("!HH", 1, 2)).sock == ("::2", 2)
