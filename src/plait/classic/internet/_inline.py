"""inlineCallbacks, and what makes a Deferred of a value, an error, a function's outcome or a coroutine."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from functools import wraps
from importlib import import_module
from types import CoroutineType, GeneratorType
from typing import Any, NoReturn, ParamSpec, TypeVar, overload

from plait.classic.internet._deferred import Deferred, Return, start, succeed
from plait.classic.internet._errors import NotACoroutineError, TimeoutError
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
        return start(result, False)
    return succeed(result)


def ensureDeferred(
    coro: Coroutine[Any, Any, _T] | Generator[Any, Any, _T] | Deferred[_T],
) -> Deferred[_T]:
    """A Deferred as it is, or `Deferred.fromCoroutine`. NotACoroutineError for anything else."""
    if type(coro) is CoroutineType:
        return start(coro, False)
    if type(coro) is GeneratorType:
        return start(coro, True)
    if isinstance(coro, Deferred):
        return coro
    raise NotACoroutineError(f"{coro!r} is not a coroutine or a Deferred")


def inlineCallbacks(f: Callable[_P, Generator[Any, Any, _T]]) -> Callable[_P, Deferred[_T]]:
    """Make a generator function one that returns a Deferred of what the generator returns or raises.

    The generator yields Deferreds, or coroutines, and is resumed with their results, or with their exceptions raised;
    anything else that it yields it gets back. It begins at once, in a copy of the context of the call, and must not
    return a Deferred. Cancelling cancels the Deferred that it waits for. TypeError if `f` makes no generator.
    """

    @wraps(f)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> Deferred[_T]:
        try:
            generator: Any = f(*args, **kwargs)
        except Return as leaving:
            raise TypeError(
                f"inlineCallbacks requires {f!r} to produce a generator; it called returnValue({leaving.value!r})"
            ) from None
        if type(generator) is not GeneratorType:
            raise TypeError(f"inlineCallbacks requires {f!r} to produce a generator; instead got {generator!r}")
        return start(generator, True)

    return run


def returnValue(val: object) -> NoReturn:
    """End an `inlineCallbacks` generator with this value. A `return` does the same."""
    deprecated("internet.defer.returnValue", "24.7.0")
    raise Return(val)


def logError(err: Failure) -> Failure:
    """Log a Failure and pass it on: an errback."""
    import_module("plait.classic.logger").Logger("plait.classic.internet.defer").failure("", err)
    return err


def timeout(deferred: Deferred[Any]) -> None:
    """Fail a Deferred with TimeoutError. `Deferred.addTimeout` does it after some time."""
    deprecated("internet.defer.timeout", "17.1.0", "internet.defer.Deferred.addTimeout")
    deferred.errback(Failure(TimeoutError("Callback timed out")))
