"""Services that listen where a text says, in the syntax of `endpoints.serverFromString`."""

from __future__ import annotations

from typing import Any

from plait.classic.application.internet import StreamServerEndpointService, _maybeGlobalReactor
from plait.classic.internet import endpoints

__all__ = ["listen", "service"]


def service(description: str, factory: Any, reactor: Any = None) -> StreamServerEndpointService:
    """A service that listens where the description says; starting it raises if that fails at once."""
    endpoint = endpoints.serverFromString(_maybeGlobalReactor(reactor), description)
    made = StreamServerEndpointService(endpoint, factory)
    made._raiseSynchronously = True
    return made


def listen(description: str, factory: Any) -> Any:
    """Listen there now; the port. Raises if that does not come about at once."""
    endpoint = endpoints.serverFromString(_maybeGlobalReactor(None), description)
    outcome: list[Any] = []
    endpoint.listen(factory).addCallbacks(outcome.append, lambda failure: failure.raiseException())
    return outcome[0]
