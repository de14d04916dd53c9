"""Counting the connections of a protocol class that is not ours, at no cost to its reads and writes.

Rule: a protocol's class is replaced by a subclass of it, made once, whose connection_made and connection_lost tell the
server. Where Python does not allow that (a class written in C), a relay stands in front of the protocol.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from plait.net.proxy import Header


class Counter(Protocol):
    """The server, as a counted protocol sees it."""

    _counted: dict[type, type]

    def _opened(self, protocol: Any, transport: Any, header: Header | None) -> Any: ...
    def _closed(self, protocol: Any) -> None: ...
    def _failed_in(self, transport: Any) -> None: ...


def count(protocol: asyncio.BaseProtocol, server: Counter, header: Header | None) -> asyncio.BaseProtocol:
    """`protocol`, telling `server` when it is connected and when that is over."""
    cls = type(protocol)
    if not hasattr(protocol, "connection_made"):
        raise TypeError(f"the protocol factory returned {protocol!r}, which is no asyncio protocol")
    counted = server._counted.get(cls)
    if counted is None:
        counted = server._counted[cls] = _subclass(cls, server)
    try:
        if header is None:
            protocol.__class__ = counted
            return protocol
    except TypeError:
        pass
    relay = _BufferedRelay if isinstance(protocol, asyncio.BufferedProtocol) else _Relay
    return relay(protocol, server, header)


def real(protocol: Any) -> Any:
    """The protocol behind a relay, or `protocol` itself."""
    return protocol._protocol if isinstance(protocol, _RelayBase) else protocol


def _subclass(cls: type, server: Counter) -> type:
    class Counted(cls):  # type: ignore[misc]
        __slots__ = ()

        def connection_made(self, transport: Any) -> None:
            server._opened(self, transport, None)
            try:
                super().connection_made(transport)
            except Exception:
                server._failed_in(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            try:
                super().connection_lost(exc)
            finally:
                server._closed(self)

    Counted.__name__, Counted.__qualname__, Counted.__module__ = cls.__name__, cls.__qualname__, cls.__module__
    return Counted


class _RelayBase(asyncio.BaseProtocol):
    """Passes everything on, and tells the server; also the one that knows of a PROXY header."""

    def __init__(self, protocol: Any, server: Counter, header: Header | None) -> None:
        self._protocol = protocol
        self._server = server
        self._header = header
        for name in ("eof_received", "pause_writing", "resume_writing", *self._passed_on):
            setattr(self, name, getattr(protocol, name))
        if hasattr(protocol, "drain"):
            self.drain = protocol.drain

    _passed_on: tuple[str, ...] = ()

    def connection_made(self, transport: Any) -> None:
        transport = self._server._opened(self, transport, self._header)
        try:
            self._protocol.connection_made(transport)
        except Exception:
            self._server._failed_in(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        try:
            self._protocol.connection_lost(exc)
        finally:
            self._server._closed(self)


class _Relay(_RelayBase, asyncio.Protocol):
    _passed_on = ("data_received",)


class _BufferedRelay(_RelayBase, asyncio.BufferedProtocol):
    _passed_on = ("get_buffer", "buffer_updated")
