"""What makes a Deferred of an error or of a call, and small functions that are callbacks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any, ParamSpec, TypeVar, overload

from plait.classic.internet._coroutines import start
from plait.classic.internet._debugging import logger
from plait.classic.internet._deferred import Deferred, succeed
from plait.classic.internet._errors import TimeoutError
from plait.classic.python._shown import deprecated
from plait.classic.python.failure import Failure

_T = TypeVar("_T")
_P = ParamSpec("_P")


def fail(result: Failure | BaseException | None = None) -> Deferred[Any]:
    """A Deferred that has failed already; see `Deferred.errback`."""
    d: Deferred[Any] = Deferred()
    d.errback(result)
    return d


def execute(callable: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Deferred[_T]:
    """A Deferred with what the call returns or raises."""
    try:
        result = callable(*args, **kwargs)
    except BaseException:
        return fail()
    return succeed(result)


@overload
def maybeDeferred(f: Callable[_P, Deferred[_T]], *args: _P.args, **kwargs: _P.kwargs) -> Deferred[_T]: ...
@overload
def maybeDeferred(f: Callable[_P, Coroutine[Any, Any, _T]], *args: _P.args, **kwargs: _P.kwargs) -> Deferred[_T]: ...
@overload
def maybeDeferred(f: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Deferred[_T]: ...
def maybeDeferred(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
    """A Deferred with the outcome of the call, whatever it does: return a value, a Failure, a Deferred, which is
    passed on itself, or a coroutine, which is run; or raise.
    """
    try:
        result = f(*args, **kwargs)
    except BaseException:
        return fail(Failure(captureVars=Deferred.debug))
    if isinstance(result, Deferred):
        return result
    if isinstance(result, Failure):
        return fail(result)
    if isinstance(result, CoroutineType):
        return start(result)
    return succeed(result)


def logError(err: Failure) -> Failure:
    """Log a Failure and pass it on: an errback."""
    logger().failure("", err)
    return err


def timeout(deferred: Deferred[Any]) -> None:
    """Fail a Deferred with TimeoutError. `Deferred.addTimeout` does it after some time."""
    deprecated("internet.defer.timeout", "17.1.0", "internet.defer.Deferred.addTimeout")
    deferred.errback(Failure(TimeoutError("Callback timed out")))
