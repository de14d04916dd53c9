"""Protocols and factories that the tests of classic's network share, and ways to wait for them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from plait.classic.internet import defer, protocol


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def fired(deferred: Any, timeout: float = 10) -> Any:
    """What a Deferred comes to."""
    return await asyncio.wait_for(deferred.asFuture(asyncio.get_running_loop()), timeout)


class Echo(protocol.Protocol):
    """Sends back what it reads."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Talk(protocol.Protocol):
    """Keeps what it hears, and lets a test wait for it."""

    def __init__(self, greeting: bytes = b"") -> None:
        self.greeting = greeting
        self.data = b""
        self.made: defer.Deferred[Talk] = defer.Deferred()
        self.lost: defer.Deferred[Any] = defer.Deferred()
        self._waiting: list[tuple[Callable[[bytes], bool], defer.Deferred[bytes]]] = []

    def connectionMade(self) -> None:
        if self.greeting:
            self.transport.write(self.greeting)
        self.made.callback(self)

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        for entry in [entry for entry in self._waiting if entry[0](self.data)]:
            self._waiting.remove(entry)
            entry[1].callback(self.data)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(reason.value)

    def heard(self, length: int) -> defer.Deferred[bytes]:
        """Fires with all that was heard, once it is so long."""
        deferred: defer.Deferred[bytes] = defer.Deferred()
        if len(self.data) >= length:
            deferred.callback(self.data)
        else:
            self._waiting.append((lambda data: len(data) >= length, deferred))
        return deferred


def serving(make: Callable[[], Any]) -> protocol.Factory[Any]:
    """A quiet factory of these, which keeps those it made in `built`."""
    factory = protocol.Factory.forProtocol(make)
    factory.noisy = False
    factory.built = []
    build = factory.buildProtocol

    def buildProtocol(addr: Any) -> Any:
        made = build(addr)
        factory.built.append(made)
        return made

    factory.buildProtocol = buildProtocol
    return factory


class Client(protocol.ClientFactory[Any]):
    """One connection; what becomes of the attempt is in `failed` and `ended`."""

    noisy = False

    def __init__(self, talk: Any) -> None:
        self.talk = talk
        self.failed: defer.Deferred[Any] = defer.Deferred()
        self.ended: defer.Deferred[Any] = defer.Deferred()

    def buildProtocol(self, addr: Any) -> Any:
        return self.talk

    def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
        self.failed.callback(reason.value)

    def clientConnectionLost(self, connector: Any, reason: Any) -> None:
        self.ended.callback(reason.value)
