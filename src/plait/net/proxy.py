"""The PROXY protocol, versions 1 and 2: the first bytes of a connection say who is really at its other end.

Rules: the header is read from the accepted socket itself, before TLS and before any protocol sees it, and not one byte
too far: what is peeked at is consumed only as far as the header reaches. A header that is wrong, too long or late
closes the connection. Source: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from plait.errors import PlaitError
from plait.net.forwarding import ForwardingTransport

HEADER_TIMEOUT = 5.0

_V1_MOST = 107
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED = 16
_V2_MOST = 4096
_INET, _INET6 = 0x1, 0x2

Address = tuple[str, int]


class ProxyError(PlaitError):
    """A connection that did not begin with the PROXY header its endpoint demands."""


class Header:
    """Who connects to whom; both None where the proxy speaks for itself (LOCAL, UNKNOWN)."""

    __slots__ = ("peer", "sock")

    def __init__(self, peer: Address | None = None, sock: Address | None = None) -> None:
        self.peer = peer
        self.sock = sock


async def read_header(conn: socket.socket, version: str) -> Header:
    """Read and parse the header from a non-blocking socket. ProxyError or TimeoutError."""
    async with asyncio.timeout(HEADER_TIMEOUT):
        return await (_read_v1(conn) if version == "v1" else _read_v2(conn))


async def _read_v1(conn: socket.socket) -> Header:
    line = b""
    while not line.endswith(b"\r\n"):
        if len(line) >= _V1_MOST:
            raise ProxyError("its PROXY line is longer than 107 bytes")
        seen = await _receive(conn, _V1_MOST - len(line), peek=True)
        end = (line[-1:] + seen).find(b"\r\n")
        take = len(seen) if end < 0 else end + 2 - len(line[-1:])
        line += await _receive(conn, take)
        if not (line.startswith(b"PROXY ") or b"PROXY ".startswith(line)):
            raise ProxyError(f"it begins with {line[:16]!r} and not with a PROXY line")
    return parse_v1(line)


def parse_v1(line: bytes) -> Header:
    """`PROXY TCP4 192.0.2.1 192.0.2.2 1234 80`, with its end of line."""
    words = line[:-2].decode("ascii", "replace").split(" ")
    if words[:2] == ["PROXY", "UNKNOWN"]:
        return Header()
    families = {"TCP4": socket.AF_INET, "TCP6": socket.AF_INET6}
    if len(words) != 6 or words[0] != "PROXY" or words[1] not in families:
        raise ProxyError(f"its PROXY line is {line!r}")
    try:
        for address in words[2:4]:
            socket.inet_pton(families[words[1]], address)
    except OSError:
        raise ProxyError(f"its PROXY line has a wrong address: {line!r}") from None
    if not all(port.isdecimal() and port.isascii() and int(port) <= 65535 for port in words[4:]):
        raise ProxyError(f"its PROXY line has a wrong port: {line!r}")
    return Header((words[2], int(words[4])), (words[3], int(words[5])))


async def _read_v2(conn: socket.socket) -> Header:
    fixed = await _receive_exactly(conn, _V2_FIXED)
    length = struct.unpack("!H", fixed[14:16])[0]
    if length > _V2_MOST:
        raise ProxyError(f"its PROXY header has {length} bytes; {_V2_MOST} are read at most")
    return parse_v2(fixed, await _receive_exactly(conn, length))


def parse_v2(fixed: bytes, body: bytes) -> Header:
    """The 16 bytes every header has, and those whose number they give."""
    if fixed[:12] != _SIGNATURE or fixed[12] >> 4 != 2:
        raise ProxyError(f"it begins with {fixed!r} and not with a PROXY header of version 2")
    command, family = fixed[12] & 0xF, fixed[13] >> 4
    if command == 0:
        return Header()
    if command != 1:
        raise ProxyError(f"its PROXY header has the unknown command {command}")
    if family not in (_INET, _INET6):
        return Header()
    size, kind = (4, socket.AF_INET) if family == _INET else (16, socket.AF_INET6)
    if len(body) < 2 * size + 4:
        raise ProxyError("its PROXY header is too short for its addresses")
    peer, sock = (socket.inet_ntop(kind, body[at : at + size]) for at in (0, size))
    peer_port, sock_port = struct.unpack("!HH", body[2 * size : 2 * size + 4])
    return Header((peer, peer_port), (sock, sock_port))


async def _receive_exactly(conn: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await _receive(conn, size - len(data))
    return data


async def _receive(conn: socket.socket, size: int, *, peek: bool = False) -> bytes:
    """Up to `size` bytes, once there are any; `peek` leaves them where they are."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            data = conn.recv(size, socket.MSG_PEEK if peek else 0)
        except (BlockingIOError, InterruptedError):
            readable = loop.create_future()
            loop.add_reader(conn, _set, readable)
            try:
                await readable
            finally:
                loop.remove_reader(conn)
            continue
        if not data:
            raise ProxyError("it was closed before its PROXY header was complete")
        return data


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class ProxiedTransport(ForwardingTransport):
    """A transport that tells the addresses of the header in place of the proxy's, and is otherwise the real one."""

    def __init__(self, transport: asyncio.Transport, header: Header) -> None:
        super().__init__(transport)
        self._told = {"peername": header.peer, "sockname": header.sock, "proxy": transport.get_extra_info("peername")}

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As the transport's, but for `peername`, `sockname` and `proxy`, the address of the proxy itself."""
        told = self._told.get(name)
        return told if told is not None else self._real.get_extra_info(name, default)
