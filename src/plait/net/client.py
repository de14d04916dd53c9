"""Client: keeps a connection to an endpoint, as a service.

Rules:
- It connects in the background and is ready at once; it is degraded as long as there is no connection, and says why. A
  connection that is lost is made again, after a delay that grows from attempt to attempt, is different in every
  process, and is short again once a connection has lasted. It gives up only when told to: that is its failure.
- Paused it gives its connection to nobody: whoever asks waits for the resume, or is refused. The connection stays, its
  protocol or session hears nothing, and one that is lost is made again, so that it is there at the resume. But a
  session is work: none is begun while it is paused.
- Nothing polls: it sleeps on one deadline, or on the connection.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

from plait._kernel.health import READY, degraded
from plait._kernel.service import Service
from plait._kernel.states import AT_REST, STOPPING
from plait.errors import ClientGaveUp, EndpointError, PlaitError, ServicePaused
from plait.net.counting import count, real
from plait.net.endpoints import Endpoint
from plait.net.server import PAUSE_MODES, PauseMode, checked_pause_mode, is_coroutine_function, mode_of
from plait.net.streams import is_of_connection

CLOSE_TIMEOUT = 1.0
"""Seconds in which a connection that is being closed may still send what was written."""

_LIVE = ("attempts", "connect_timeout", "first_delay", "max_delay", "pause_mode")

Session = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class Connection(NamedTuple):
    """What a client without a factory connects to."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Client(Service):
    """Connects to an endpoint, and again whenever the connection is lost.

    Without `serve` a connection is a `Connection(reader, writer)`. `serve` may be a factory of asyncio protocols, whose
    instance is the connection then; or an `async def session(reader, writer)`, which is the connection's whole life:
    when it returns, the connection is closed and made anew.

    `attempts`: after how many failures in a row to give up, None for never. The delay before attempt n is drawn from
    half of to all of min(`max_delay`, `first_delay` x 2^n) seconds. Twisted's ClientService is its model.

    While it is paused, `connected()` gives no connection. `pause_mode="hold"`: it waits for the resume; `"refuse"`: it
    raises ServicePaused. `pause(mode=...)` overrides it. The connection is kept, and made again if it is lost. A
    session goes on, and may await `unpaused()` itself; the next one begins after the resume.
    """

    pause_modes = PAUSE_MODES
    live_parameters: ClassVar[tuple[str, ...]] = _LIVE
    # Not `connect`: whoever has the connection is in the middle of something with the server at its other end.

    def __init__(
        self,
        connect: str | Endpoint,
        serve: Session | ProtocolFactory | None = None,
        *,
        attempts: int | None = None,
        connect_timeout: float = 10.0,
        first_delay: float = 0.5,
        max_delay: float = 60.0,
        pause_mode: PauseMode = "hold",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.__endpoint = Endpoint.parse(connect)
        if self.__endpoint.scheme not in ("tcp", "tls", "unix"):
            raise EndpointError(f"endpoint {str(self.__endpoint)!r} is none to connect to; use tcp, tls or unix")
        self.__serve: Any = serve
        self.__is_session = is_coroutine_function(serve)
        self.__attempts = _checked_attempts(attempts)
        self.__connect_timeout = connect_timeout
        self.__first_delay = first_delay
        self.__max_delay = max_delay
        self.__pause_mode = checked_pause_mode(pause_mode)
        self.__tls = tls
        self.__connection: Any = None
        self.__paused_as: str | None = None
        """The mode in which it is paused; None if it gives its connection to whoever asks."""
        self.__waiters: dict[asyncio.Future[Any], int | None] = {}

    async def connected(self, attempts: int | None = None) -> Any:
        """The present connection, waiting for the next if there is none, and for the resume if it is paused.

        ClientGaveUp when the client gives up or stops, or has failed `attempts` times in a row while this call waits;
        ServicePaused if it is paused in mode "refuse".
        """
        if self.__paused_as == "refuse":
            raise self.__refusal()
        if self.__connection is not None and self.__paused_as is None:
            return self.__connection
        if self.state in AT_REST or self.state is STOPPING:
            raise ClientGaveUp(f"{self._record.subject} is {self.state.value}, and connects to nothing")
        waiter = asyncio.get_running_loop().create_future()
        self.__waiters[waiter] = attempts
        try:
            return await waiter
        finally:
            self.__waiters.pop(waiter, None)

    def __refusal(self) -> ServicePaused:
        return ServicePaused(f"{self._record.subject} is paused, and gives its connection to nobody; resume it")

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self.__connection is not None

    async def on_pause(self) -> None:
        """Give the connection to nobody, and keep it."""
        self.__paused_as = mode_of(self, self._pause_mode, self.__pause_mode)
        if self.__paused_as == "refuse":
            refusal = self.__refusal()
            for waiter in tuple(self.__waiters):
                _refuse(waiter, refusal)

    async def on_resume(self) -> None:
        """Give it to whoever asks, first to those who wait."""
        self.__paused_as = None
        self.__offer()

    def __offer(self) -> None:
        if self.__connection is not None and self.__paused_as is None:
            for waiter in tuple(self.__waiters):
                if not waiter.done():
                    waiter.set_result(self.__connection)

    async def run(self) -> None:
        """Connect, and connect again."""
        self.__errors = self.__tries = 0
        if self._record.life is None or not self._record.life.is_held:
            self.__paused_as = None
        self.__say_away(None)
        loop, delay = asyncio.get_running_loop(), 0.0
        try:
            while True:
                if self.__is_session:
                    await self.unpaused()
                began = loop.time()
                error = await self.__one_connection()
                lasted = loop.time() - began if error is None else 0.0
                self.__errors = self.__errors + 1 if error is not None else 0
                self.__tries = 0 if lasted > max(delay, self.__first_delay) else self.__tries + 1
                if error is not None:
                    self.__say_away(_text(error))
                    self.__tell_failure(error)
                delay = self.__delay()
                await self.__sleep(delay)
        finally:
            stopped = ClientGaveUp(f"{self._record.subject} has stopped")
            for waiter in tuple(self.__waiters):
                _refuse(waiter, stopped)

    async def on_reload(
        self,
        connect: str | Endpoint,
        serve: Session | ProtocolFactory | None = None,
        *,
        attempts: int | None = None,
        connect_timeout: float = 10.0,
        first_delay: float = 0.5,
        max_delay: float = 60.0,
        pause_mode: PauseMode = "hold",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Take new limits, from the next attempt on, and how to pause next time."""
        self.__attempts, self.__pause_mode = _checked_attempts(attempts), checked_pause_mode(pause_mode)
        self.__connect_timeout, self.__first_delay, self.__max_delay = connect_timeout, first_delay, max_delay

    def __say_away(self, why: str | None) -> None:
        where = f"not connected to {self.__endpoint.address}"
        self._set_health(degraded(f"{where}: {why}" if why else where))

    def __delay(self) -> float:
        return random.uniform(0.5, 1.0) * min(self.__max_delay, self.__first_delay * 2.0 ** min(self.__tries, 40))

    async def __sleep(self, delay: float) -> None:
        engine = self._engine()
        waiting: asyncio.Future[None] = engine.loop.create_future()
        deadline = engine.deadlines.after(delay, partial(_wake, waiting))
        try:
            await waiting
        finally:
            engine.deadlines.cancel(deadline)

    def __tell_failure(self, error: Exception) -> None:
        """Give up, for those who asked for it."""
        for waiter, attempts in tuple(self.__waiters.items()):
            if attempts is not None:
                self.__waiters[waiter] = attempts - 1
                if attempts <= 1:
                    _refuse(waiter, self.__gave_up(error, "as many attempts as were asked for"))
        if self.__attempts is not None and self.__errors >= self.__attempts:
            gave_up = self.__gave_up(error, f"{self.__errors} attempts")
            for waiter in tuple(self.__waiters):
                _refuse(waiter, gave_up)
            raise gave_up

    def __gave_up(self, error: Exception, attempts: str) -> ClientGaveUp:
        gave_up = ClientGaveUp(
            f"{self._record.subject} could not connect to {self.__endpoint.address} in {attempts}: {_text(error)}"
        )
        gave_up.__cause__ = error
        return gave_up

    # -- one connection ----------------------------------------------------------------------------------------------

    async def __one_connection(self) -> Exception | None:
        """Connect, and stay until it is lost; the error, if it did not come about."""
        link = _Link({}, self.log)  # a counted class tells one link alone
        try:
            async with asyncio.timeout(self.__connect_timeout):
                transport, protocol = await self.__connect(link)
        except (OSError, TimeoutError) as error:
            level = logging.DEBUG if self.__errors else logging.WARNING
            self.log.log(level, "cannot connect to %s: %s", self.__endpoint.address, _text(error))
            return error
        self.log.info("connected to %s", self.__endpoint.address)
        try:
            lost = await self.__stay(protocol, transport, link)
        finally:
            transport.close()  # first: a writer that nobody holds any more warns if it is open
            self.__connection = None
            await asyncio.wait([link.lost], timeout=CLOSE_TIMEOUT)
            transport.abort()
            await asyncio.wait([link.lost])
        if lost is not None:
            self.__say_away(lost)
        self.log.info("the connection to %s is over", self.__endpoint.address)
        return None

    async def __connect(self, link: _Link) -> tuple[Any, Any]:
        loop, endpoint = asyncio.get_running_loop(), self.__endpoint
        make = partial(self.__protocol, link)
        tls = self.__tls
        if endpoint.scheme == "tls" and tls is None:
            from plait.net.tls import client_context

            tls = client_context(endpoint)
        if endpoint.scheme == "unix":
            return await loop.create_unix_connection(make, endpoint.path)
        return await loop.create_connection(make, endpoint.host or "localhost", endpoint.port, ssl=tls)

    def __protocol(self, link: _Link) -> Any:
        if self.__serve is None or self.__is_session:
            return _Stream(link, is_session=self.__is_session)
        return count(self.__serve(), link, None)

    async def __stay(self, protocol: Any, transport: Any, link: _Link) -> str | None:
        """Until it is lost, and why; None for a session that returned."""
        connection = real(protocol)
        if isinstance(protocol, _Stream):
            writer = asyncio.StreamWriter(transport, protocol, protocol.reader, link.lost.get_loop())
            connection = Connection(protocol.reader, writer)
        self.__connection = connection
        self._set_health(READY)
        self.__offer()
        if not self.__is_session:
            await link.lost
            return "the connection was lost"
        try:
            await self.unpaused()  # it may have been paused while it connected
            await self.__serve(connection.reader, connection.writer)
        except (OSError, asyncio.IncompleteReadError) as error:
            if not is_of_connection(error, connection.reader, connection.writer):
                raise
            self.log.info("the connection to %s broke: %s", self.__endpoint.address, error)
            return _text(error)
        finally:
            connection.writer.close()
        return None


class _Link:
    """One connection, as its protocol tells of it: `lost` is done when it is."""

    def __init__(self, classes: dict[type, type | None], log: logging.LoggerAdapter[logging.Logger]) -> None:
        self.classes = classes
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._log = log

    def opened(self, protocol: Any, transport: Any, header: Any) -> Any:
        """It is there."""
        return transport

    def closed(self, protocol: Any) -> None:
        """It is gone."""
        _wake(self.lost)

    def failed_in(self, transport: Any) -> None:
        """The protocol's connection_made has raised."""
        self._log.exception("connection_made failed; the connection is closed")
        transport.abort()


class _Stream(asyncio.StreamReaderProtocol):
    """The protocol behind a reader and a writer, which tells when the connection is lost."""

    def __init__(self, link: _Link, *, is_session: bool) -> None:
        self._is_session = is_session
        self.reader = asyncio.StreamReader(loop=link.lost.get_loop())
        super().__init__(self.reader, loop=link.lost.get_loop())
        self._link = link

    def eof_received(self) -> bool:
        """The server sends no more. A session sees that for itself; for any other it is the end."""
        return bool(super().eof_received()) and self._is_session

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._link.closed(self)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _text(error: Exception) -> str:
    return str(error) or ("timed out" if isinstance(error, TimeoutError) else type(error).__name__)


def _checked_attempts(attempts: int | None) -> int | None:
    if attempts is not None and (not isinstance(attempts, int) or attempts < 1):
        raise ValueError(f"attempts is {attempts!r}; it takes a number above zero, or None")
    return attempts


def _refuse(waiter: asyncio.Future[Any], error: PlaitError) -> None:
    if not waiter.done():
        waiter.set_exception(error)
