"""What connectors have in common, and the classes of delayed calls and of resolvers.

Rules: a connector is disconnected, connecting or connected, and connects again from the first. Its factory is started
with the first attempt, and stopped when an attempt or a connection has ended and the factory has not asked for
another.
"""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from plait.classic.internet import error, interfaces
from plait.classic.internet._delayed import DelayedCall
from plait.classic.internet._resolver import BlockingResolver, ThreadedResolver
from plait.classic.python.failure import Failure


@implementer(interfaces.IConnector)
class BaseConnector:
    """See the module's rules. `_makeTransport` begins an attempt: what it returns has `failIfNotConnected`."""

    timeoutID: Any = None
    factoryStarted: bool | int = 0
    transport: Any = None

    def __init__(self, factory: Any, timeout: float | None, reactor: Any) -> None:
        self.state = "disconnected"
        self.reactor = reactor
        self.factory = factory
        self.timeout = timeout

    def disconnect(self) -> None:
        """Close the connection, or give the attempt up."""
        if self.state == "connecting":
            self.stopConnecting()
        elif self.state == "connected":
            self.transport.loseConnection()

    def connect(self) -> None:
        """Connect. RuntimeError unless it is disconnected."""
        if self.state != "disconnected":
            raise RuntimeError(f"can't connect in this state: it is {self.state}")
        self.state = "connecting"
        if not self.factoryStarted:
            self.factory.doStart()
            self.factoryStarted = 1
        self.transport = transport = self._makeTransport()
        if self.timeout is not None:
            self.timeoutID = self.reactor.callLater(self.timeout, transport.failIfNotConnected, error.TimeoutError())
        self.factory.startedConnecting(self)

    def _makeTransport(self) -> Any:
        raise NotImplementedError

    def getDestination(self) -> Any:
        """The address it connects to."""
        raise NotImplementedError

    def stopConnecting(self) -> None:
        """Give the attempt up: the factory is told with `UserError`. `NotConnectingError` if there is none."""
        if self.state != "connecting":
            raise error.NotConnectingError("we're not trying to connect")
        assert self.transport is not None
        self.state = "disconnected"
        self.transport.failIfNotConnected(error.UserError())
        self.transport = None

    def cancelTimeout(self) -> None:
        """Give it all the time it needs."""
        if self.timeoutID is not None:
            try:
                self.timeoutID.cancel()
            except ValueError:  # it is being called
                pass
            self.timeoutID = None

    def buildProtocol(self, addr: Any) -> Any:
        """There is a connection: what the factory makes for it."""
        self.state = "connected"
        self.cancelTimeout()
        return self.factory.buildProtocol(addr)

    def connectionFailed(self, reason: Failure) -> None:
        """The attempt has failed."""
        self.cancelTimeout()
        self.transport = None
        self.state = "disconnected"
        self.factory.clientConnectionFailed(self, reason)
        self._maybe_stop()

    def connectionLost(self, reason: Failure) -> None:
        """The connection has ended."""
        self.state = "disconnected"
        self.factory.clientConnectionLost(self, reason)
        self._maybe_stop()

    def _maybe_stop(self) -> None:
        if self.state == "disconnected":  # else the factory has asked for another
            self.factory.doStop()
            self.factoryStarted = 0

    def __repr__(self) -> str:
        kind = type(self)
        where = self.getDestination()
        return f"<{kind.__module__}.{kind.__qualname__} instance at {id(self):#x} {self.state} {where}>"


__all__ = ["BaseConnector", "BlockingResolver", "DelayedCall", "ThreadedResolver"]
