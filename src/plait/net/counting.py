"""Counting the connections of a protocol class that is not ours, at no cost to its reads and writes.

Rules: a protocol's class is replaced by a subclass of it, made once, whose connection_made and connection_lost tell the
server. Where Python does not allow that (a class written in C), or a PROXY header has to be told, a relay stands in
front of the protocol. Only on drain does the server hear of its reads too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol


class Counter(Protocol):
    """Who counts."""

    classes: dict[type, type | None]
    """The counted subclass of each protocol class, made when it is first seen; None where there can be none."""

    def opened(self, protocol: Any, transport: Any, header: Any) -> Any: ...
    def closed(self, protocol: Any) -> None: ...
    def failed_in(self, transport: Any) -> None: ...


def count(protocol: Any, counter: Counter, header: Any) -> Any:
    """`protocol`, telling `counter` when it is connected and when that is over. TypeError if it is none."""
    cls = type(protocol)
    counted = counter.classes.get(cls)
    if counted is None and cls not in counter.classes:
        if not hasattr(protocol, "connection_made"):
            raise TypeError(f"the protocol factory returned {protocol!r}, which is no asyncio protocol")
        counted = counter.classes[cls] = _subclass_if_possible(cls, counter)
    if header is None and counted is not None:
        try:
            protocol.__class__ = counted
            return protocol
        except TypeError:  # its layout does not allow it
            counter.classes[cls] = None
    relay = _BufferedRelay if isinstance(protocol, asyncio.BufferedProtocol) else _Relay
    return relay(protocol, counter, header)


def real(protocol: Any) -> Any:
    """The protocol behind a relay, or `protocol` itself."""
    return protocol.protocol if isinstance(protocol, _RelayBase) else protocol


def hear(protocol: Any, transport: Any, before: Callable[[], None], after: Callable[[], None]) -> None:
    """From now on call these before and after a counted protocol takes what was read."""
    name = "buffer_updated" if isinstance(protocol, asyncio.BufferedProtocol) else "data_received"
    received = getattr(protocol, name)

    def receive(data: Any) -> None:
        before()
        received(data)
        after()

    _replace(protocol, transport, name, receive)


def hear_end(protocol: Any, transport: Any, ended: Callable[[], None]) -> Callable[[], Any]:
    """From now on call `ended` at the end of what a counted protocol reads, in place of its own method, the result.

    So its transport stays open, and it can still answer.
    """
    own: Callable[[], Any] = protocol.eof_received

    def end() -> bool:
        ended()
        return True

    _replace(protocol, transport, "eof_received", end)
    return own


def _replace(protocol: Any, transport: Any, name: str, method: Callable[..., Any]) -> None:
    try:
        setattr(protocol, name, method)
    except AttributeError:  # it has __slots__
        cls = type(protocol)
        protocol.__class__ = type(cls.__name__, (cls,), {"__slots__": (), name: staticmethod(method)})
    if transport.get_protocol() is protocol:
        transport.set_protocol(protocol)  # a transport may keep the methods of its protocol


def _subclass_if_possible(cls: Any, counter: Counter) -> type | None:
    try:
        return _subclass(cls, counter)
    except TypeError:  # it wants no subclasses, or none without arguments
        return None


def _subclass(cls: Any, counter: Counter) -> type:
    class Counted(cls):  # type: ignore[misc]
        __slots__ = ()

        def connection_made(self, transport: Any) -> None:
            seen = counter.opened(self, transport, None)
            try:
                cls.connection_made(self, seen)
            except (Exception, SystemExit):
                counter.failed_in(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            try:
                cls.connection_lost(self, exc)
            finally:
                counter.closed(self)

    Counted.__name__, Counted.__qualname__, Counted.__module__ = cls.__name__, cls.__qualname__, cls.__module__
    return Counted


class _RelayBase(asyncio.BaseProtocol):
    """Passes everything on, and tells the server."""

    _passed_on: tuple[str, ...] = ()

    def __init__(self, protocol: Any, counter: Counter, header: Any) -> None:
        self.protocol = protocol
        self._counter = counter
        self._header = header
        for name in ("eof_received", "pause_writing", "resume_writing", "drain", *self._passed_on):
            if hasattr(protocol, name):
                setattr(self, name, getattr(protocol, name))

    def connection_made(self, transport: Any) -> None:
        seen = self._counter.opened(self, transport, self._header)
        try:
            self.protocol.connection_made(seen)
        except (Exception, SystemExit):
            self._counter.failed_in(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        try:
            self.protocol.connection_lost(exc)
        finally:
            self._counter.closed(self)


class _Relay(_RelayBase, asyncio.Protocol):
    _passed_on = ("data_received",)


class _BufferedRelay(_RelayBase, asyncio.BufferedProtocol):
    _passed_on = ("get_buffer", "buffer_updated")
