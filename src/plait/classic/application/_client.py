"""ClientService: one connection to an endpoint, made again whenever it is lost.

    INIT ──→ CONNECTING ⇄ WAITING           a stop of any of them that has no connection leads to STOPPED at once,
                 ↕           ↑               one that has a connection first to DISCONNECTING
             CONNECTED ──────┘ lost
                 │ stop
           DISCONNECTING ⇄ RESTARTING ──→ CONNECTING once the old connection is gone
                 └──→ STOPPED ──→ CONNECTING

Rules: an attempt that fails is followed by another after `retryPolicy(failures)` seconds; a connection that was made
begins the count anew. Whoever waits for a connection is given the next one, or the failure after as many as he has
said, or CancelledError when the service stops. While it is paused no attempt is made, and the connection goes on.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import Enum
from typing import Any

from zope.interface import alsoProvides

from plait._kernel.health import READY, degraded
from plait.classic.application import service
from plait.classic.internet import interfaces
from plait.classic.internet._default import default_reactor
from plait.classic.internet.defer import CancelledError, Deferred, fail, maybeDeferred, succeed
from plait.classic.logger import Logger
from plait.classic.python.failure import Failure

RetryPolicy = Callable[[int], float]

_log = Logger()


def backoffPolicy(
    initialDelay: float = 1.0,
    maxDelay: float = 60.0,
    factor: float = 1.5,
    jitter: Callable[[], float] = random.random,
) -> RetryPolicy:
    """Delays in seconds that grow by `factor` with each failure, up to `maxDelay`, each with `jitter()` added."""

    def policy(attempt: int) -> float:
        try:
            delay = min(initialDelay * factor ** min(attempt, 100), maxDelay)
        except OverflowError:
            delay = maxDelay
        return delay + jitter()

    return policy


class State(Enum):
    """Where the service is."""

    INIT = "not started yet"
    CONNECTING = "connecting"
    WAITING = "waiting to connect again"
    CONNECTED = "connected"
    DISCONNECTING = "disconnecting"
    RESTARTING = "disconnecting, to connect again"
    STOPPED = "stopped"


STARTS = (State.INIT, State.STOPPED, State.DISCONNECTING)
"""From where a start leads anywhere."""
ENDING = (State.DISCONNECTING, State.RESTARTING)
"""The old connection is not gone yet."""


class ClientService(service.Service):
    """Keeps one connection to `endpoint`, of a protocol that `factory` builds.

    `retryPolicy(failures)` gives seconds to the next attempt, backoffPolicy() if left out. With each new connection
    `prepareConnection(protocol)` is called, and what it returns is waited for; if it fails, so has the attempt.
    """

    def __init__(
        self,
        endpoint: Any,
        factory: Any,
        retryPolicy: RetryPolicy | None = None,
        clock: Any = None,
        prepareConnection: Callable[[Any], object] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._factory = factory
        self._retry_policy = retryPolicy or backoffPolicy()
        self._clock = clock
        self._prepare = prepareConnection
        self._failures = 0
        self._is_paused = False
        self._waiters: list[tuple[Deferred[Any], int | None]] = []
        self._stop_waiters: list[Deferred[None]] = []
        self._attempt: Deferred[Any] | None = None
        self._retry: Any = None
        self._connection: _Connection | None = None
        self._move(State.INIT)

    def __repr__(self) -> str:
        return f"<ClientService {self._endpoint!r}: {self._state.value}>"

    def _move(self, new: State) -> None:
        self._state = new
        if self._kernel is not None and new not in (State.STOPPED, State.DISCONNECTING):
            self._kernel._set_health(READY if new is State.CONNECTED else degraded("not connected"))

    def whenConnected(self, failAfterFailures: int | None = None) -> Deferred[Any]:
        """Fires with the protocol of the present connection, or of the next.

        With the failure of an attempt, if so many have failed by then; with CancelledError if the service stops.
        """
        if self._state is State.CONNECTED and self._connection is not None:
            return succeed(self._connection._protocol)
        if self._state is State.STOPPED:
            return fail(CancelledError())
        waiter: Deferred[Any] = Deferred()
        self._waiters.append((waiter, failAfterFailures))
        return waiter

    def startService(self) -> None:
        """Connect, and keep connected."""
        super().startService()
        if self._state not in STARTS:
            _log.warn("Duplicate ClientService.startService {log_source}", log_source=self)
        elif self._state is State.DISCONNECTING:
            self._move(State.RESTARTING)
        else:
            self._failures = 0
            self._connect()

    def stopService(self) -> Deferred[None]:
        """Give the attempt up, or close the connection; fires when that is gone."""
        super().stopService()
        self._is_paused = False
        if self._state in (State.INIT, State.STOPPED):
            return succeed(None)
        if self._state in (*ENDING, State.CONNECTED):
            return self._disconnect()
        self._move(State.DISCONNECTING)
        stopped = self._when_stopped()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._attempt is None:
            self._gone()
        else:
            self._attempt.cancel()  # and when it has failed of that, it is gone
        return stopped

    def _disconnect(self) -> Deferred[None]:
        was_connected = self._state is State.CONNECTED
        self._move(State.DISCONNECTING)
        stopped = self._when_stopped()
        if was_connected and self._connection is not None:
            self._connection.transport.loseConnection()
        return stopped

    def _when_stopped(self) -> Deferred[None]:
        waiter: Deferred[None] = Deferred()
        self._stop_waiters.append(waiter)
        return waiter

    def pauseService(self) -> None:
        """Make no attempt from now on, and give up one that is under way; a connection that is there goes on."""
        self._is_paused = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._state is State.CONNECTING and self._attempt is not None:
            self._attempt.cancel()

    def resumeService(self) -> None:
        """Make attempts again, the first one now if there is no connection."""
        self._is_paused = False
        if self._state is State.WAITING and self._retry is None:
            self._connect()

    # -- an attempt, and what comes of it -----------------------------------------------------------------------------

    def _connect(self) -> None:
        self._retry = None
        self._move(State.CONNECTING)
        attempt = self._attempt = maybeDeferred(self._endpoint.connect, _Notifying(self._factory, self._lost))
        attempt.addCallback(self._prepared)
        attempt.addCallbacks(self._made, self._failed)

    def _prepared(self, connection: _Connection) -> Any:
        if self._prepare is None:
            return connection
        prepared = maybeDeferred(self._prepare, connection)
        return prepared.addCallbacks(lambda _: connection, self._not_prepared, errbackArgs=(connection,))

    def _not_prepared(self, failure: Failure, connection: _Connection) -> Failure:
        connection.forget()
        connection.transport.loseConnection()
        return failure

    def _made(self, connection: _Connection) -> None:
        self._attempt = None
        if connection.is_lost:
            self._fail_attempt(Failure(CancelledError("the connection was lost before it was prepared")))
        elif self._state is State.CONNECTING:
            self._failures = 0
            self._connection = connection
            self._move(State.CONNECTED)
            waiters, self._waiters = self._waiters, []
            for waiter, _ in waiters:
                waiter.callback(connection._protocol)
        else:
            self._connection = connection
            connection.transport.loseConnection()

    def _failed(self, failure: Failure) -> None:
        self._attempt = None
        self._fail_attempt(failure)

    def _fail_attempt(self, failure: Failure) -> None:
        if self._state is not State.CONNECTING:
            self._gone()
            return
        if self._is_paused and failure.check(CancelledError):
            self._move(State.WAITING)  # it was given up, which nobody counts
            return
        self._wait()
        waiting = [(waiter, left if left is None else left - 1) for waiter, left in self._waiters]
        self._waiters = [one for one in waiting if one[1] is None or one[1] > 0]
        for waiter, left in waiting:
            if left is not None and left <= 0:
                waiter.errback(failure)

    def _wait(self) -> None:
        self._move(State.WAITING)
        self._failures += 1
        if not self._is_paused:
            self._retry = self._reactor().callLater(self._retry_policy(self._failures), self._connect)

    def _reactor(self) -> Any:
        if self._clock is None:
            self._clock = default_reactor()
        return self._clock

    # -- the end of a connection --------------------------------------------------------------------------------------

    def _lost(self, connection: _Connection) -> None:
        if connection is not self._connection:
            return  # it was not prepared yet, and the attempt hears of it
        self._connection = None
        if self._state is State.CONNECTED:
            self._wait()
        else:
            self._gone()

    def _gone(self) -> None:
        """The old connection, or attempt, is over, and the service was told to stop."""
        is_restarting = self._state is State.RESTARTING
        if not is_restarting:
            self._move(State.STOPPED)
            waiters, self._waiters = self._waiters, []
            for waiter, _ in waiters:
                waiter.errback(CancelledError())
        stopped, self._stop_waiters = self._stop_waiters, []
        for waiter in stopped:
            waiter.callback(None)
        if is_restarting:
            self._failures = 0
            self._connect()


# -- between the reactor and the factory ------------------------------------------------------------------------------

_FANCY = (interfaces.IHalfCloseableProtocol, interfaces.IFileDescriptorReceiver, interfaces.IHandshakeListener)
"""What a transport looks for on a protocol."""


class _Connection:
    """Stands before a protocol and tells of the end of its connection; all else is the protocol's."""

    def __init__(self, protocol: Any, lost: Callable[[_Connection], None]) -> None:
        self._protocol = protocol
        self._lost = lost
        self.is_lost = False
        for fancy in _FANCY:
            if fancy.providedBy(protocol):
                alsoProvides(self, fancy)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._protocol, name)

    def __repr__(self) -> str:
        return f"<connection of {self._protocol!r}>"

    def forget(self) -> None:
        """Nobody wants to hear of its end."""
        self._lost = _ignore

    def connectionLost(self, reason: Any) -> Any:
        """Tell the protocol, then the service."""
        self.is_lost = True
        try:
            return self._protocol.connectionLost(reason)
        finally:
            self._lost(self)


def _ignore(_: _Connection) -> None:
    pass


class _Notifying:
    """Stands before a factory, and before each protocol it builds."""

    def __init__(self, factory: Any, lost: Callable[[_Connection], None]) -> None:
        self._factory = factory
        self._lost = lost

    def __getattr__(self, name: str) -> Any:
        return getattr(self._factory, name)

    def __repr__(self) -> str:
        return f"<connections of {self._factory!r}>"

    def buildProtocol(self, addr: Any) -> _Connection | None:
        """The factory's protocol, watched; None if it refuses."""
        protocol = self._factory.buildProtocol(addr)
        return None if protocol is None else _Connection(protocol, self._lost)
