"""Server: listens on an endpoint, and serves each connection with a coroutine or a protocol.

Rules: the service is thin, one `Serving` an incarnation does the work. Its own state is private to the class, so a
subclass may call its attributes what it likes.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from plait._kernel.service import Service
from plait.errors import EndpointError
from plait.net.endpoints import Endpoint
from plait.net.serving import Serving
from plait.net.sockets import Registry

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ProtocolFactory = Callable[[], asyncio.BaseProtocol]


@dataclass(frozen=True, slots=True)
class ServerStats:
    """What a server has done since its incarnation began, in connections; `open` is now.

    `failed`: the handler raised, or the handshake or PROXY header was wrong. `cut`: still open when the time to drain
    was over.
    """

    open: int = 0
    accepted: int = 0
    failed: int = 0
    cut: int = 0


class Server(Service):
    """Listens on an endpoint and serves each connection.

    `serve` is an `async def handler(reader, writer)`, or a factory of asyncio protocols (a class will do); a protocol
    may have a method `drain()`, called once when the server stops, and ends when it is done. `max_connections` is how
    many may be open at once; further ones wait in the kernel's queue. `tls` is an SSLContext in place of the files of
    a tls:// endpoint. EndpointError if `listen` is none to listen on; ListenError, at the start, if it cannot.
    """

    def __init__(
        self,
        listen: str | Endpoint,
        serve: Handler | ProtocolFactory,
        *,
        max_connections: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.__endpoint = listening(listen, stream=True)
        if self.__endpoint.scheme == "tls" and not self.__endpoint.cert and tls is None:
            raise EndpointError(f"endpoint {str(self.__endpoint)!r}: TLS needs a certificate; add cert=FILE&key=FILE")
        if not callable(serve):
            raise TypeError(f"a server serves {serve!r}, which is neither a coroutine function nor a protocol factory")
        if max_connections is not None and (not isinstance(max_connections, int) or max_connections < 1):
            raise ValueError(f"max_connections is {max_connections!r}; it takes a number above zero, or None")
        self.__serve: Any = serve
        self.__most = max_connections
        self.__tls = tls
        self.__serving: Serving | None = None
        self.__endpoints: tuple[Endpoint, ...] = ()

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where it listens, with the real port; empty while it does not."""
        return self.__endpoints if self.__serving is not None and self.__serving.is_listening else ()

    @property
    def stats(self) -> ServerStats:
        """What its incarnation, or the last one, has done."""
        serving = self.__serving
        if serving is None:
            return ServerStats()
        acceptor = serving.acceptor
        return ServerStats(serving.open, acceptor.accepted, serving.failed + acceptor.failed, serving.cut)

    async def on_start(self) -> None:
        """Bind, and begin to accept. What it holds is entered, so it is let go however the incarnation ends."""
        context = self.__context()
        registry = self.application.resource(Registry)
        lease = await self.enter(await registry.listen(self.__endpoint, path=self.path, tree=self.application))
        lease.demand(stream=True)
        self.__serving = Serving(
            lease,
            self.__serve,
            is_handler=is_coroutine_function(self.__serve),
            most=self.__most,
            context=context,
            log=self.log,
        )
        self.__endpoints = tuple(bound_endpoint(self.__endpoint, sock) for sock in lease.sockets)
        await self.enter(self.__serving)
        for endpoint in self.__endpoints:
            self._announce(endpoint.address)

    async def on_drain(self) -> None:
        """Finish what has been taken. What is left at drain_timeout is cut, when the incarnation ends."""
        if self.__serving is not None:
            await self.__serving.drain()

    def __context(self) -> Callable[[], ssl.SSLContext | None]:
        if self.__endpoint.scheme != "tls" or self.__tls is not None:
            return lambda: self.__tls
        from plait.net.tls import RenewingContext

        return RenewingContext(self.__endpoint).get


def is_coroutine_function(function: Any) -> bool:
    """Whether calling it gives a coroutine: an `async def`, a partial of one, or an object whose __call__ is one."""
    call = getattr(function, "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def listening(listen: str | Endpoint, *, stream: bool) -> Endpoint:
    """The endpoint, if a server of this kind can listen on it."""
    endpoint = Endpoint.parse(listen)
    if endpoint.scheme not in ("fd", "systemd") and endpoint.is_stream != stream:
        kind, other = ("connections", "DatagramServer") if stream else ("datagrams", "Server")
        raise EndpointError(f"endpoint {str(endpoint)!r} does not carry {kind}; use plait.net.{other} for it")
    return endpoint


def bound_endpoint(endpoint: Endpoint, sock: socket.socket) -> Endpoint:
    """The endpoint as it came to be: a real port, a real address."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return replace(endpoint, scheme="unix", path=os.fsdecode(name), fd=-1, name="")
    scheme = endpoint.scheme
    if scheme in ("fd", "systemd"):
        scheme = "tcp" if sock.type == socket.SOCK_STREAM else "udp"
    return replace(endpoint, scheme=scheme, host=name[0], port=name[1], fd=-1, name="")
