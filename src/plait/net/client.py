"""Client: keeps a connection to an endpoint, as a service.

Rules: it connects in the background and is ready at once. A connection that is lost is made again, after a delay that
grows from attempt to attempt, is different in every process, and is short again once a connection has lasted. It gives
up only when told to, and that is its failure. Nothing polls: it sleeps on one deadline, or on the connection.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

from plait._kernel.service import Service
from plait._kernel.states import State
from plait.errors import ClientGaveUp, EndpointError
from plait.net.counting import count, real
from plait.net.endpoints import Endpoint
from plait.net.tls import client_context

CLOSE_TIMEOUT = 1.0
"""Seconds in which a connection that is being closed may still send what was written."""

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
    """

    def __init__(
        self,
        connect: str | Endpoint,
        serve: Session | ProtocolFactory | None = None,
        *,
        attempts: int | None = None,
        connect_timeout: float = 10.0,
        first_delay: float = 0.5,
        max_delay: float = 60.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._endpoint = Endpoint.parse(connect)
        if self._endpoint.scheme not in ("tcp", "tls", "unix"):
            raise EndpointError(f"endpoint {str(self._endpoint)!r} is none to connect to; use tcp, tls or unix")
        if attempts is not None and (not isinstance(attempts, int) or attempts < 1):
            raise ValueError(f"attempts is {attempts!r}; it takes a number above zero, or None")
        self._serve: Any = serve
        self._is_session = inspect.iscoroutinefunction(serve)
        self._attempts = attempts
        self._connect_timeout = connect_timeout
        self._first_delay = first_delay
        self._max_delay = max_delay
        self._tls = tls
        self._counted: dict[type, type] = {}
        self._connection: Any = None
        self._waiters: dict[asyncio.Future[Any], int | None] = {}

    async def connected(self, attempts: int | None = None) -> Any:
        """The present connection, waiting for the next if there is none.

        ClientGaveUp when the client gives up, or has failed `attempts` times in a row while this call waits.
        """
        if self._connection is not None:
            return self._connection
        if self.state not in (State.STARTING, State.RUNNING):
            raise ClientGaveUp(f"{self._record.subject} is {self.state.value}, and connects to nothing")
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = attempts
        try:
            return await waiter
        finally:
            self._waiters.pop(waiter, None)

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self._connection is not None

    async def run(self) -> None:
        """Connect, and connect again."""
        self._errors = self._tries = 0
        loop, delay = asyncio.get_running_loop(), 0.0
        try:
            while True:
                began = loop.time()
                error = await self._one_connection()
                lasted = loop.time() - began if error is None else 0.0
                self._errors = self._errors + 1 if error is not None else 0
                self._tries = 0 if lasted > max(delay, self._first_delay) else self._tries + 1
                if error is not None:
                    self._tell_failure(error)
                delay = self._delay()
                await self._sleep(delay)
        finally:
            stopped = ClientGaveUp(f"{self._record.subject} has stopped")
            for waiter in tuple(self._waiters):
                _refuse(waiter, stopped)

    def _delay(self) -> float:
        return random.uniform(0.5, 1.0) * min(self._max_delay, self._first_delay * 2.0 ** min(self._tries, 40))

    async def _sleep(self, delay: float) -> None:
        engine = self._engine()
        waiting: asyncio.Future[None] = engine.loop.create_future()
        deadline = engine.deadlines.after(delay, partial(_wake, waiting))
        try:
            await waiting
        finally:
            engine.deadlines.cancel(deadline)

    def _tell_failure(self, error: Exception) -> None:
        """Give up, for those who asked for it."""
        for waiter, attempts in tuple(self._waiters.items()):
            if attempts is not None:
                self._waiters[waiter] = attempts - 1
                if attempts <= 1:
                    _refuse(waiter, self._gave_up(error, "as many attempts as were asked for"))
        if self._attempts is not None and self._errors >= self._attempts:
            gave_up = self._gave_up(error, f"{self._errors} attempts")
            for waiter in tuple(self._waiters):
                _refuse(waiter, gave_up)
            raise gave_up

    def _gave_up(self, error: Exception, attempts: str) -> ClientGaveUp:
        gave_up = ClientGaveUp(
            f"{self._record.subject} could not connect to {self._endpoint.address} in {attempts}: "
            f"{str(error) or type(error).__name__}"
        )
        gave_up.__cause__ = error
        return gave_up

    # -- one connection ----------------------------------------------------------------------------------------------

    async def _one_connection(self) -> Exception | None:
        """Connect, and stay until it is lost; the error, if it did not come about."""
        self._lost = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._connect_timeout):
                transport, protocol = await self._connect()
        except (OSError, TimeoutError) as error:
            level = logging.DEBUG if self._errors else logging.WARNING
            self.log.log(level, "cannot connect to %s: %s", self._endpoint.address, str(error) or "timed out")
            return error
        self.log.info("connected to %s", self._endpoint.address)
        try:
            await self._stay(protocol, transport)
        finally:
            self._connection = None
            transport.close()
            await self._close(transport)
        self.log.info("the connection to %s is over", self._endpoint.address)
        return None

    async def _connect(self) -> tuple[Any, Any]:
        loop, endpoint = asyncio.get_running_loop(), self._endpoint
        if endpoint.scheme == "unix":
            return await loop.create_unix_connection(self._protocol, endpoint.path)
        tls = self._tls or (client_context(endpoint) if endpoint.scheme == "tls" else None)
        return await loop.create_connection(self._protocol, endpoint.host or "localhost", endpoint.port, ssl=tls)

    def _protocol(self) -> Any:
        if self._serve is None or self._is_session:
            return _Stream(self, asyncio.get_running_loop())
        return count(self._serve(), self, None)

    async def _stay(self, protocol: Any, transport: Any) -> None:
        connection = real(protocol)
        if isinstance(protocol, _Stream):
            writer = asyncio.StreamWriter(transport, protocol, protocol.reader, self._lost.get_loop())
            connection = Connection(protocol.reader, writer)
        self._connection = connection
        for waiter in tuple(self._waiters):
            if not waiter.done():
                waiter.set_result(connection)
        if not self._is_session:
            await self._lost
            return
        try:
            await self._serve(connection.reader, connection.writer)
        except ConnectionError as error:
            self.log.info("the connection to %s broke: %s", self._endpoint.address, error)

    async def _close(self, transport: Any) -> None:
        """What is still to be sent is given a moment; then the connection is cut."""
        await asyncio.wait([self._lost], timeout=CLOSE_TIMEOUT)
        transport.abort()
        await asyncio.wait([self._lost])

    # -- what a counted protocol tells ---------------------------------------------------------------------------------

    def _opened(self, protocol: Any, transport: Any, header: Any) -> Any:
        return transport

    def _closed(self, protocol: Any) -> None:
        _wake(self._lost)

    def _failed_in(self, transport: Any) -> None:
        self.log.exception("connection_made of the connection to %s failed; it is closed", self._endpoint.address)
        transport.abort()


class _Stream(asyncio.StreamReaderProtocol):
    """The protocol behind a reader and a writer, which tells when the connection is lost."""

    def __init__(self, client: Client, loop: asyncio.AbstractEventLoop) -> None:
        self.reader = asyncio.StreamReader(loop=loop)
        super().__init__(self.reader, loop=loop)
        self._client = client

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._client._closed(self)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _refuse(waiter: asyncio.Future[Any], error: ClientGaveUp) -> None:
    if not waiter.done():
        waiter.set_exception(error)
