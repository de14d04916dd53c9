"""Servers behind a proxy that says who the client is: the PROXY protocol, versions 1 and 2.

Rules: a connection begins with a header, which is read first and never handed on. From then on `getPeer` and `getHost`
tell the addresses in it, where it has any. One that begins otherwise is closed.
"""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from plait.classic.internet import interfaces
from plait.classic.internet.address import IPv4Address, IPv6Address
from plait.classic.protocols.policies import ProtocolWrapper, WrappingFactory
from plait.classic.python import log
from plait.net.proxy import Header, ProxyError, parse_v1, parse_v2

_V1, _V2 = b"PROXY ", b"\r\n\r\n\x00\r\nQUIT\n"
_V1_MOST, _V2_FIXED, _V2_MOST = 107, 16, 4096


def _split(data: bytes) -> tuple[Header, bytes] | None:
    """The header, and what follows it; None while it is not complete. ProxyError if it is none."""
    if data.startswith(_V2):
        if len(data) < _V2_FIXED:
            return None
        end = _V2_FIXED + int.from_bytes(data[14:16], "big")
        if end > _V2_FIXED + _V2_MOST:
            raise ProxyError(f"its PROXY header has {end - _V2_FIXED} bytes; {_V2_MOST} are read at most")
        return (parse_v2(data[:_V2_FIXED], data[_V2_FIXED:end]), data[end:]) if len(data) >= end else None
    if data.startswith(_V1):
        line, found, rest = data.partition(b"\r\n")
        if len(line) > _V1_MOST - 2:
            raise ProxyError("its PROXY line is longer than 107 bytes")
        return (parse_v1(line + found), rest) if found else None
    if not (_V1.startswith(data) or _V2.startswith(data)):
        raise ProxyError(f"it begins with {data[:16]!r} and not with a PROXY header")
    return None


def _address(pair: tuple[str, int]) -> Any:
    kind = IPv6Address if ":" in pair[0] else IPv4Address
    return kind("TCP", *pair)


class HAProxyProtocol(ProtocolWrapper):
    """Reads the header, and then hands on what comes."""

    _header: Header | None = None
    _seen = b""

    def dataReceived(self, data: bytes) -> None:
        """The header first."""
        if self._header is None:
            self._seen += data
            try:
                found = _split(self._seen)
            except ProxyError as error:
                log.msg(f"closing the connection from {self.transport.getPeer()}: {error}")
                self._seen = b""
                self.loseConnection()
                return
            if found is None or self.disconnecting:
                return
            (self._header, data), self._seen = found, b""
        if data:
            self.wrappedProtocol.dataReceived(data)

    def getPeer(self) -> Any:
        """The client, once the proxy has said who that is."""
        told = self._header.peer if self._header is not None else None
        return _address(told) if told is not None else self.transport.getPeer()

    def getHost(self) -> Any:
        """Where the client has connected to, once the proxy has said so."""
        told = self._header.sock if self._header is not None else None
        return _address(told) if told is not None else self.transport.getHost()


class HAProxyFactory(WrappingFactory[Any]):
    """Wraps the protocols of a factory."""

    protocol = HAProxyProtocol


@implementer(interfaces.IStreamServerEndpoint)
class _Endpoint:
    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def listen(self, protocolFactory: Any) -> Any:
        """Where the wrapped one does."""
        return self._wrapped.listen(HAProxyFactory(protocolFactory))


def proxyEndpoint(wrappedEndpoint: Any) -> Any:
    """A server endpoint each connection of which begins with a PROXY header."""
    return _Endpoint(wrappedEndpoint)


__all__ = ["proxyEndpoint"]
