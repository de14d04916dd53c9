"""Server: listens on an endpoint, and serves each connection with a coroutine or a protocol.

Rules: the service is thin, one `Serving` an incarnation does the work. Its own state is private to the class, so a
subclass may call its attributes what it likes. Whether it accepts, holds or refuses is told to `Serving` alone, and
where it listens is said whenever its sockets are bound.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from plait._kernel.service import Service
from plait.errors import EndpointError
from plait.net.endpoints import Endpoint
from plait.net.serving import Serving
from plait.net.sockets import Lease, Registry

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ProtocolFactory = Callable[[], asyncio.BaseProtocol]
PauseMode = Literal["hold", "refuse"]

PAUSE_MODES = ("hold", "refuse")
"""While it is paused: whoever comes is kept waiting, or is sent away at once."""


@dataclass(frozen=True, slots=True)
class ServerStats:
    """What a server has done since its incarnation began, in connections; `open` is now.

    `open` counts those too that were taken from the queue before the sockets closed, and wait for a place. `failed`:
    the handler raised, or the handshake or PROXY header was wrong. `cut`: still open when the time to drain was over.
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

    While it is paused it takes no new connection, and serves those that are open. `pause_mode="hold"`: the kernel
    queues who comes, for as many as the backlog has places. `"refuse"`: those who queue are taken, the sockets are
    closed, and who comes is refused at once; a resume binds the same addresses again, the port that port 0 gave too,
    and fails with ListenError if somebody has taken one. `pause(mode=...)` overrides it. Inherited sockets can only
    hold.
    """

    pause_modes: tuple[str, ...] = PAUSE_MODES
    live_parameters: ClassVar[tuple[str, ...]] = ("max_connections", "pause_mode")
    # Not `listen`: a reload that fails further on would have to go back to addresses that were closed meanwhile, and
    # whoever came between would have been refused. Side by side, as two generations, nobody is.

    def __init__(
        self,
        listen: str | Endpoint,
        serve: Handler | ProtocolFactory,
        *,
        max_connections: int | None = None,
        pause_mode: PauseMode = "hold",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.__endpoint = listening(listen, stream=True)
        if self.__endpoint.scheme == "tls" and not self.__endpoint.cert and tls is None:
            raise EndpointError(f"endpoint {str(self.__endpoint)!r}: TLS needs a certificate; add cert=FILE&key=FILE")
        if not callable(serve):
            raise TypeError(f"a server serves {serve!r}, which is neither a coroutine function nor a protocol factory")
        self.__serve: Any = serve
        self.__most = _checked_most(max_connections)
        self.__pause_mode = checked_pause_mode(pause_mode, self.__endpoint)
        if is_inherited(self.__endpoint):
            self.pause_modes = ("hold",)
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
        return ServerStats(serving.taken, acceptor.accepted, serving.failed + acceptor.failed, serving.cut)

    async def on_start(self) -> None:
        """Bind, and begin to accept. What it holds is entered, so it is let go however the incarnation ends."""
        context = self.__context()
        registry = self.application.resource(Registry)
        lease = await self.enter(registry.lease(self.__endpoint, path=self.path, tree=self.application))
        if not self._starts_paused or self.__mode() == "hold":
            await self.__listen(lease)
        self.__lease = lease
        self.__serving = Serving(
            lease,
            self.__serve,
            is_handler=is_coroutine_function(self.__serve),
            most=self.__most,
            context=context,
            log=self.log,
        )
        await self.enter(self.__serving)
        if not self._starts_paused:
            self.__serving.accept()

    async def on_drain(self) -> None:
        """Finish what has been taken. What is left at drain_timeout is cut, when the incarnation ends."""
        if self.__serving is not None:
            await self.__serving.drain()

    async def on_pause(self) -> None:
        """Take no new connection; those that are open hear nothing of it."""
        assert self.__serving is not None
        say_otherwise(self, self._pause_mode)
        if self.__mode() == "hold":
            self.__serving.hold()
        else:
            await self.__serving.refuse()
            self._retract()

    async def on_resume(self) -> None:
        """Accept again; ListenError if the address cannot be bound again."""
        assert self.__serving is not None
        if not self.__lease.sockets:
            await self.__listen(self.__lease)
        self.__serving.accept()

    async def on_reload(
        self,
        listen: str | Endpoint,
        serve: Handler | ProtocolFactory,
        *,
        max_connections: int | None = None,
        pause_mode: PauseMode = "hold",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Take a new limit, and how to pause next time. Whoever is connected stays, though they be more than that."""
        self.__most, self.__pause_mode = _checked_most(max_connections), checked_pause_mode(pause_mode, self.__endpoint)
        if self.__serving is not None:
            self.__serving.limit(self.__most)

    async def __listen(self, lease: Lease) -> None:
        await lease.listen()
        lease.demand(stream=True)
        self.__endpoints = tuple(bound_endpoint(self.__endpoint, sock) for sock in lease.sockets)
        for endpoint in self.__endpoints:
            self._announce(endpoint.address)

    def __mode(self) -> str:
        return mode_of(self, self._pause_mode, self.__pause_mode)

    def __context(self) -> Callable[[], ssl.SSLContext | None]:
        if self.__endpoint.scheme != "tls" or self.__tls is not None:
            return lambda: self.__tls
        from plait.net.tls import RenewingContext

        return RenewingContext(self.__endpoint).get


def is_coroutine_function(function: Any) -> bool:
    """Whether calling it gives a coroutine: an `async def`, a partial of one, or an object whose __call__ is one."""
    call = getattr(function, "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _checked_most(most: int | None) -> int | None:
    if most is not None and (not isinstance(most, int) or most < 1):
        raise ValueError(f"max_connections is {most!r}; it takes a number above zero, or None")
    return most


def checked_pause_mode(mode: PauseMode, endpoint: Endpoint | None = None) -> PauseMode:
    """The mode, if it is one; EndpointError if a server on this endpoint cannot pause so."""
    if mode not in PAUSE_MODES:
        raise ValueError(f"pause_mode is {mode!r}; it may be {', '.join(PAUSE_MODES)}")
    if mode == "refuse" and endpoint is not None and is_inherited(endpoint):
        raise EndpointError(
            f"endpoint {str(endpoint)!r}: a socket that was inherited cannot be closed and bound again, "
            "so a server on it can only hold; leave pause_mode='refuse' out"
        )
    return mode


def mode_of(service: Service, asked: str | None, own: str) -> str:
    """How a service is to pause: as was asked of it or of a group it is in, where it can, else in its own way."""
    return asked if asked in service.pause_modes else own


def say_otherwise(service: Service, asked: str | None) -> None:
    """Log that a service pauses otherwise than was asked of the group it is in."""
    if asked is not None and asked not in service.pause_modes:
        service.log.warning("cannot pause in mode %r, only in mode %s", asked, " or ".join(service.pause_modes))


def is_inherited(endpoint: Endpoint) -> bool:
    """Whether its sockets are passed to this process, which cannot make them anew."""
    return endpoint.scheme in ("fd", "systemd")


def listening(listen: str | Endpoint, *, stream: bool) -> Endpoint:
    """The endpoint, if a server of this kind can listen on it."""
    endpoint = Endpoint.parse(listen)
    if not is_inherited(endpoint) and endpoint.is_stream != stream:
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
