"""Coroutines and generators that wait for Deferreds.

Rules: one begins at once, in a copy of the context of its start, and each of its steps is run in that. It is resumed
with the result of the Deferred that it waits for, or with the exception raised in it; while it does not wait, it goes
on in a loop, without anything being made for a step. What it returns or raises is the result of a Deferred of its
own. Cancelling that cancels the Deferred it waits for, and leaves it to the coroutine what to make of it.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from functools import wraps
from types import CoroutineType, GeneratorType, coroutine
from typing import Any, NoReturn, ParamSpec, TypeVar

from plait.classic.internet import _deferred
from plait.classic.internet._deferred import _DIVERTING, Deferred, _new
from plait.classic.internet._errors import NotACoroutineError
from plait.classic.python._shown import deprecated
from plait.classic.python.failure import Failure, failure_of

_T = TypeVar("_T")
_P = ParamSpec("_P")

_END = object()
"""What a runner yields between two coroutines."""


@coroutine
def _runner() -> Generator[Any, Any, None]:
    """Runs one coroutine or generator after the other: is sent it, with its Deferred; yields what it yields, then _END.

    What it returns or raises is the Deferred's result then. So the end of a coroutine costs no exception, which would
    be a third of a short run, and nothing has to be made for one that does not wait.
    """
    while True:
        generator, deferred = yield _END
        try:
            result = yield from generator
        except GeneratorExit:
            raise  # nobody will resume this
        except BaseException as error:
            if generator.cr_running if type(generator) is CoroutineType else generator.gi_running:
                return  # it is being collected, and closes what it awaits, of which this is a part
            result = _outcome(error)
        if not deferred.called:
            deferred.result = result
        elif isinstance(result, Failure):
            Deferred().errback(result)  # for the log, since somebody else has fired it
        generator = deferred = result = None


_idle: deque[Callable[[Any], Any]] = deque(maxlen=100)
"""The `send` of runners that have nothing to run."""


def _another_runner() -> Callable[[Any], Any]:
    runner = _runner()
    next(runner)
    return runner.send


def _outcome(error: BaseException) -> Any:
    """The end by an exception."""
    if isinstance(error, Return):
        _check_who_left(error)
        return error.value
    return failure_of(error, True, _deferred._debugging)


def start(generator: Any) -> Deferred[Any]:
    """Run a coroutine or generator that waits for Deferreds; see `fromCoroutine` and `inlineCallbacks`."""
    careful = _deferred._careful
    deferred = Deferred() if careful else _new(Deferred)
    deferred.called = deferred._runningCallbacks = False
    deferred.paused = 0
    deferred._callbacks = deferred._canceller = None
    context = copy_context()
    try:
        send = _idle.pop()
    except IndexError:
        send = _another_runner()
    try:
        awaited = context.run(send, (generator, deferred))
        if awaited is not _END and (not isinstance(awaited, Deferred) or awaited.called):
            awaited = context.run(_advance, send, awaited)
    except GeneratorExit as error:  # a coroutine's own, which has ended the runner as well
        deferred.result = _outcome(error)
        awaited, send = _END, _another_runner()
    if awaited is not _END:
        step = (_resume, send, deferred, context)
        deferred._canceller = awaited
        if awaited._callbacks is None:
            awaited._callbacks = step
        else:
            awaited._add(step)
        return deferred
    _idle.append(send)
    if careful or type(deferred.result) in _DIVERTING:
        deferred.callback(deferred.result)
    else:
        deferred.called = True
    return deferred


def _resume(giver: Deferred[Any], step: tuple[Any, ...]) -> Deferred[Any] | None:
    """Go on with the result of what was awaited. At the end, the Deferred that has to be run, if it has.

    While that is run, `giver` counts as running: it is one callback of it.
    """
    deferred: Deferred[Any]
    _, send, deferred, context = step
    result = giver.result
    try:
        if type(result) in _DIVERTING and isinstance(result, Failure):
            awaited = context.run(send.__self__.throw, result.value.with_traceback(result.tb))
        else:
            awaited = context.run(send, result)
        giver.result = None
        if awaited is not _END and (not isinstance(awaited, Deferred) or awaited.called):
            awaited = context.run(_advance, send, awaited)
    except GeneratorExit as error:
        deferred.result = _outcome(error)
        awaited, send = _END, _another_runner()
    if awaited is not _END:
        deferred._canceller = awaited
        if awaited._callbacks is None:
            awaited._callbacks = step
        else:
            awaited._add(step)
        return None
    _idle.append(send)
    if (deferred.called or _deferred._careful) and not deferred._may_fire():
        return None
    deferred.called = True
    deferred._canceller = None
    if deferred._callbacks is not None:
        return deferred
    result = deferred.result
    if type(result) in _DIVERTING and isinstance(result, Failure) and not deferred.paused:
        deferred._unhandled(result)
    return None


def _advance(send: Any, awaited: Any) -> Any:
    """From what was yielded, hand results in, or throw Failures, until a Deferred is awaited that has none: that one.

    At the end, _END.
    """
    while awaited is not _END:
        if not isinstance(awaited, Deferred) and isinstance(awaited, (CoroutineType, GeneratorType)):
            awaited = start(awaited)
        if not isinstance(awaited, Deferred):
            awaited = _give(send, awaited)
        elif awaited.called and awaited._callbacks is None and not awaited.paused and not awaited._runningCallbacks:
            result = awaited.result
            awaited.result = None
            if type(result) in _DIVERTING:
                awaited._handled()
                awaited = _give(send, result)
            else:
                awaited = send(result)
        elif not awaited._left_over():
            return awaited
    return _END


def _give(send: Any, result: Any) -> Any:
    """What is yielded when a result is sent in, or a Failure thrown."""
    if isinstance(result, Failure):
        return send.__self__.throw(result.value.with_traceback(result.tb))
    return send(result)


def fromCoroutine(coro: Coroutine[Any, Any, _T] | Generator[Any, Any, _T]) -> Deferred[_T]:
    """Run a coroutine that awaits Deferreds: what it returns or raises. NotACoroutineError for anything else.

    It begins at once, in a copy of the context of now. Cancelling cancels the Deferred that it awaits.
    """
    if not isinstance(coro, (CoroutineType, GeneratorType)):
        raise NotACoroutineError(f"{coro!r} is not a coroutine")
    return start(coro)


Deferred.fromCoroutine = staticmethod(fromCoroutine)  # type: ignore[method-assign]


def ensureDeferred(
    coro: Coroutine[Any, Any, _T] | Generator[Any, Any, _T] | Deferred[_T],
) -> Deferred[_T]:
    """A Deferred as it is, or `Deferred.fromCoroutine`. NotACoroutineError for anything else."""
    if type(coro) is CoroutineType or type(coro) is GeneratorType:
        return start(coro)
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
        return start(generator)

    return run


class Return(BaseException):
    """How `returnValue` leaves a generator."""

    def __init__(self, value: object) -> None:
        self.value = value


def returnValue(val: object) -> NoReturn:
    """End an `inlineCallbacks` generator with this value. A `return` does the same."""
    deprecated("internet.defer.returnValue", "24.7.0")
    raise Return(val)


def _check_who_left(leaving: Return) -> None:
    """Warn if `returnValue` was called not by the generator but by a function that it has called."""
    frames = []
    tb = leaving.__traceback__
    while tb is not None:
        frames.append(tb)
        tb = tb.tb_next
    _, generator, *callers, _ = frames  # the runner's first, returnValue's last
    if callers:
        caller, code = callers[-1], callers[-1].tb_frame.f_code
        text = (
            f"returnValue() in {code.co_name!r} causing {generator.tb_frame.f_code.co_name!r} to exit: "
            "returnValue should only be invoked by functions decorated with inlineCallbacks"
        )
        warnings.warn_explicit(text, DeprecationWarning, code.co_filename, caller.tb_lineno)
