"""Deferred: a result that is not there yet, and the chain of callbacks that it will go through.

Rules
-----
A Deferred is fired once, by `callback` or `errback`; what it holds from then on is `result`. Callbacks are run in the
order in which they were added, each with what the one before returned; a Failure goes to the errbacks. While a
callback is running, those that are added wait their turn. A paused Deferred starts no run.

A callback that returns a Deferred makes the chain wait: if that one has its result, the result is taken from it (it
is left with None); else the chain is paused, and the other one hands its result over when its own run gets there, and
what waited goes on before the other's later callbacks do. A run goes from one to the next in a loop, however many wait
for each other; so it does with coroutines that wait.

How it is kept
--------------
Most Deferreds live through a callback or two, so these cost least. `_callbacks` is None, one step, or a list of steps.
A step is a callback for results alone, as it was given; or a pair of what is called with a result and with a Failure,
each None for "pass it by", or a tuple with its arguments; or a longer tuple, for what waits for the result: a function
to be called with this Deferred and the step, and what that needs. `_runningCallbacks` is there once it was fired. What
few ever need (the guard of an unhandled error, debugging, attributes that users set) is in `__dict__`, which is empty
for all others.

The lines that are written out where a call would be shorter were measured: a call costs as much as a callback.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Coroutine, Generator, Mapping
from types import CodeType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from plait.classic.internet._debugging import DebugInfo
from plait.classic.internet._errors import AlreadyCalledError, CancelledError, TimeoutError
from plait.classic.python._shown import deprecated
from plait.classic.python.failure import Diverts, Failure, failure_of

_T = TypeVar("_T")
_U = TypeVar("_U")
_P = ParamSpec("_P")

_debugging = False
_careful = False
"""Whether any Deferred may be debugged: `_debugging`, or one of them by itself. Looked at before every firing."""


def setDebugging(on: bool) -> None:
    """Whether to keep the stacks of creation and firing of every Deferred, for AlreadyCalledError and the log."""
    global _debugging, _careful
    _debugging = bool(on)
    _careful = _careful or _debugging
    Deferred.__init__ = _init_and_note if _debugging else _init  # type: ignore[method-assign]


def getDebugging() -> bool:
    """What `setDebugging` was told last."""
    return _debugging


class _Debug:
    """`Deferred.debug`: whether this one is debugged; may be set on one of them."""

    def __get__(self, one: Deferred[Any] | None, owner: object = None) -> bool:
        return _debugging if one is None else bool(one.__dict__.get("debug", _debugging))

    def __set__(self, one: Deferred[Any], on: bool) -> None:
        global _careful
        _careful = True
        one.__dict__["debug"] = on


class Deferred(Diverts, Generic[_T]):
    """A result to come. `canceller` is called with this Deferred by `cancel`, to stop what was to bring the result.

    `called` says whether it was fired, `result` holds what the last callback returned (AttributeError before),
    `paused` counts the reasons for not running callbacks.
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "_callbacks",
        "_canceller",
        "_runningCallbacks",
        "called",
        "paused",
        "result",
    )

    called: bool
    paused: int
    result: Any
    _callbacks: Any
    _canceller: Any
    _runningCallbacks: bool

    debug = _Debug()
    _debugInfo: DebugInfo | None = None
    _suppressAlreadyCalled = False

    def __init__(self, canceller: Callable[[Deferred[Any]], object] | None = None) -> None:
        self.called = False
        self.paused = 0
        self._callbacks = None
        self._canceller = canceller

    # -- adding callbacks ----------------------------------------------------------------------------------------

    def addCallbacks(
        self,
        callback: Callable[..., Any],
        errback: Callable[..., Any] | None = None,
        callbackArgs: tuple[Any, ...] | None = (),
        callbackKeywords: Mapping[str, Any] | None = None,
        errbackArgs: tuple[Any, ...] | None = (),
        errbackKeywords: Mapping[str, Any] | None = None,
    ) -> Deferred[Any]:
        """Add what is called with a result, and what with a Failure (None: it passes by). Returns this Deferred.

        Whichever is called gets, after the result, its own arguments.
        """
        if errback is not None:
            errback = _with(errback, errbackArgs or (), errbackKeywords or {})
        return self._add((_with(callback, callbackArgs or (), callbackKeywords or {}), errback))

    @overload
    def addCallback(
        self, callback: Callable[Concatenate[_T, _P], Deferred[_U]], *args: _P.args, **kwargs: _P.kwargs
    ) -> Deferred[_U]: ...
    @overload
    def addCallback(
        self, callback: Callable[Concatenate[_T, _P], _U | Failure], *args: _P.args, **kwargs: _P.kwargs
    ) -> Deferred[_U]: ...
    @overload
    def addCallback(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]: ...
    def addCallback(self, callback: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Add what is called with a result, then `args` and `kwargs`. A Failure passes it by. Returns this Deferred."""
        if args or kwargs or callback is None:
            return self._add(((callback, args, kwargs), None))
        pending = self._callbacks
        if pending is None:
            self._callbacks = callback
        elif type(pending) is list:
            pending.append(callback)
        else:
            self._callbacks = [pending, callback]
        if self.called:
            self._runCallbacks()
        return self

    def addErrback(
        self, errback: Callable[Concatenate[Failure, _P], Any], *args: _P.args, **kwargs: _P.kwargs
    ) -> Deferred[Any]:
        """Add what is called with a Failure, then `args` and `kwargs`. A result passes it by. Returns this Deferred."""
        step = (None, (errback, args, kwargs) if args or kwargs or errback is None else errback)
        pending = self._callbacks
        if pending is None:
            self._callbacks = step
        elif type(pending) is list:
            pending.append(step)
        else:
            self._callbacks = [pending, step]
        if self.called:
            self._runCallbacks()
        return self

    def addBoth(
        self, callback: Callable[Concatenate[Any, _P], Any], *args: _P.args, **kwargs: _P.kwargs
    ) -> Deferred[Any]:
        """Add what is called with result and Failure alike, then `args` and `kwargs`. Returns this Deferred."""
        both = (callback, args, kwargs) if args or kwargs or callback is None else callback
        step = (both, both)
        pending = self._callbacks
        if pending is None:
            self._callbacks = step
        elif type(pending) is list:
            pending.append(step)
        else:
            self._callbacks = [pending, step]
        if self.called:
            self._runCallbacks()
        return self

    def _add(self, step: Any) -> Deferred[_T]:
        """Add a step as it is kept. The same stands in the methods above, where calls would cost a third."""
        self._append(step)
        if self.called:
            self._runCallbacks()
        return self

    def _append(self, step: Any) -> None:
        """Add a step that is run when something else has these run."""
        pending = self._callbacks
        if pending is None:
            self._callbacks = step
        elif type(pending) is list:
            pending.append(step)
        else:
            self._callbacks = [pending, step]

    def chainDeferred(self, d: Deferred[Any]) -> Deferred[Any]:
        """Fire `d` with what this one comes to. Returns this Deferred, which is left with None."""
        if not d.called:
            d.__dict__["_chained"] = self
        return self.addCallbacks(d.callback, d.errback)

    def addTimeout(
        self,
        timeout: float,
        clock: Any,
        onTimeoutCancel: Callable[[Any, float], Any] | None = None,
    ) -> Deferred[Any]:
        """Cancel this Deferred after `timeout` seconds, unless it has gone through all that it holds by now.

        `clock` provides IReactorTime. Timed out, it goes on with what `onTimeoutCancel(result, timeout)` returns;
        without that, CancelledError becomes TimeoutError. Returns this Deferred.
        """
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = True
            self.cancel()

        def outcome(result: Any) -> Any:
            return (onTimeoutCancel or _timed_out)(result, timeout) if expired else result

        def done(result: Any) -> Any:
            if call.active():
                call.cancel()
            return result

        call = clock.callLater(timeout, expire)
        return self.addBoth(outcome).addBoth(done)

    # -- firing --------------------------------------------------------------------------------------------------

    def callback(self, result: _T | Failure) -> None:
        """Fire with a result, or with a Failure as `errback` does, and run the callbacks. AlreadyCalledError, if so."""
        if (self.called or _careful) and not self._may_fire():
            return
        self.called = True
        self._canceller = None  # it often refers to this Deferred
        self.result = result
        if self._callbacks is not None and not self.paused:
            self._run()
            return
        self._runningCallbacks = False
        if type(result) in _DIVERTING and isinstance(result, Failure) and not self.paused:
            self._unhandled(result)

    def errback(self, fail: Failure | BaseException | None = None) -> None:
        """Fire with a Failure: this one, one of this exception, or one of the exception that is being handled.

        AlreadyCalledError, if so; NoCurrentExceptionError if there is no exception.
        """
        if type(fail) not in _DIVERTING or not isinstance(fail, Failure):
            if _careful or not isinstance(fail, BaseException):
                fail = Failure(fail, captureVars=self.debug)
            else:
                fail = failure_of(fail)
        if (self.called or _careful) and not self._may_fire():
            return
        self.called = True
        self._canceller = None
        self.result = fail
        if self._callbacks is not None and not self.paused:
            self._run()
            return
        self._runningCallbacks = False
        if not self.paused:
            self._unhandled(fail)

    def _may_fire(self) -> bool:
        """Whether firing goes ahead; it is ignored once after a `cancel` that nobody was told of."""
        if self.called:
            if self._suppressAlreadyCalled:
                self._suppressAlreadyCalled = False
                return False
            if self.debug and self._debugInfo is not None:
                raise AlreadyCalledError("\n" + self._debugInfo.tell())
            raise AlreadyCalledError
        if self.debug:
            self._debugInfo = self._debugInfo or DebugInfo()
            self._debugInfo.note_firing()
        return True

    def cancel(self) -> None:
        """Give the result up: CancelledError, unless the canceller fires something else. Does nothing once fired.

        One that waits for another Deferred cancels that.
        """
        if self.called:
            if isinstance(self.result, Deferred):
                self.result.cancel()
            return
        canceller = self._canceller
        if isinstance(canceller, (Deferred, _CancelsFuture)):
            # Its end is the end of this one, whose callbacks wait until all of the other's are through.
            self.paused += 1
            try:
                canceller.cancel()
            except BaseException:
                self.errback()
                self._suppressAlreadyCalled = True
            self.unpause()
            return
        if canceller is None:
            self._suppressAlreadyCalled = True
        else:
            canceller(self)
        if not self.called:
            self.errback(CancelledError())

    def pause(self) -> None:
        """Run no callbacks until `unpause` was called as often as this."""
        self.paused += 1

    def unpause(self) -> None:
        """Take back one `pause`; after the last one, run the callbacks that wait."""
        self.paused -= 1
        if not self.paused and self.called:
            self._runCallbacks()

    # -- running -------------------------------------------------------------------------------------------------

    def _runCallbacks(self) -> None:
        """Run what is pending, unless it is running or paused, and whatever goes on elsewhere by that."""
        if self._runningCallbacks or self.paused:
            return
        if type(self.result) in _DIVERTING:
            self._handled()
        self._run()

    def _run(self) -> None:
        """Run what is pending, and whatever goes on elsewhere by that."""
        step = self._callbacks
        kind = type(step)
        if kind is list or step is None:
            following = self._run_steps()
            if following is not None:
                _follow(self, following)
            return
        # What most Deferreds live through, by itself: one step.
        following = self._callbacks = None
        self._runningCallbacks = True
        result = self.result
        try:
            if kind is not tuple:
                if type(result) not in _DIVERTING or not isinstance(result, Failure):
                    result = step(result)
            elif len(step) == 2:
                call = step[1 if type(result) in _DIVERTING and isinstance(result, Failure) else 0]
                if type(call) is tuple:
                    result = call[0](result, *call[1], **call[2])
                elif call is not None:
                    result = call(result)
            else:
                following = step[0](self, step)
                result = None
        except BaseException as error:
            result = failure_of(error, True, _careful and self.debug)
        if following is not None:
            _follow(self, following)
            return
        self.result = result
        self._runningCallbacks = False
        if self._callbacks is not None or (result is not None and type(result) in _DIVERTING):
            self._go_on(result, step)

    def _go_on(self, result: Any, step: Any) -> None:
        """Go on after the last step: it has failed, or returned a Deferred, or more were added while it ran."""
        if isinstance(result, Deferred):
            try:
                result = self.result = self._result_of(result, step)
            except BaseException as error:
                result = self.result = failure_of(error, True, _careful and self.debug)
            if type(result) not in _DIVERTING:
                if self._callbacks is None:
                    return
            elif isinstance(result, Deferred):
                return
        following = self._run_steps()
        if following is not None:
            _follow(self, following)

    def _run_steps(self) -> Deferred[Any] | None:
        """Run what is pending here. Returns the Deferred that has to be run next, before the rest of this one."""
        self._runningCallbacks = True
        result = self.result
        plain: type | None = type(result)  # what goes simply to the next callback; most results have one type
        failed = 0
        if plain in _DIVERTING:
            plain = None
            failed = 1 if isinstance(result, Failure) else 0
        pending = self._callbacks
        if type(pending) is not list:
            pending = self._callbacks = [] if pending is None else [pending]
        steps = iter(pending)  # and what is added while it runs
        for step in steps:
            try:
                if type(step) is not tuple:
                    if failed:
                        continue
                    result = step(result)
                elif len(step) == 2:
                    call = step[failed]
                    if call is None:
                        if failed or type(result) not in _DIVERTING:
                            continue  # but a Deferred, fired with or unpaused while waiting, is waited for
                    elif type(call) is tuple:
                        result = call[0](result, *call[1], **call[2])
                    else:
                        result = call(result)
                else:
                    following = step[0](self, step)
                    if following is not None:
                        self._callbacks = list(steps) or None
                        return following  # type: ignore[no-any-return]
                    result = None
                failed = 0
                kind = type(result)
                if kind is not plain:
                    if kind not in _DIVERTING:
                        plain = kind
                    else:
                        if isinstance(result, Deferred):
                            result = self.result = self._result_of(result, step)
                            if isinstance(result, Deferred):
                                self._callbacks = list(steps) or None
                                self._runningCallbacks = False
                                return None
                        if isinstance(result, Failure):
                            failed = 1
                self.result = result
            except BaseException as error:
                result = self.result = failure_of(error, True, _careful and self.debug)
                failed = 1
        self._callbacks = None
        self._runningCallbacks = False
        if failed:
            self._unhandled(result)
        return None

    def _result_of(self, other: Deferred[Any], step: Any) -> Any:
        """The result of a Deferred that a callback of this one returned, which is taken from it.

        If it has none, this one is paused until it has, and the Deferred itself is returned.
        """
        if other is self:
            _warn_of_circle(step)
        result = other.result if other.called and not other.paused else other
        if type(result) in _DIVERTING:
            if isinstance(result, Deferred):
                self.paused += 1
                other._append((_hand_over, self, None))
                return other
            other._handled()
        other.result = None
        return result

    def _left_over(self) -> bool:
        """Run what a chain that ended here has left, if it has; whether the result is there then."""
        if not self.called or self.paused or self._runningCallbacks:
            return False
        self._runCallbacks()
        return self._callbacks is None and not self.paused

    def _unhandled(self, failure: Failure) -> None:
        """There are no more callbacks, so if this is the end of the Deferred the error is to be logged."""
        if self._debugInfo is None:
            self._debugInfo = DebugInfo()
        self._debugInfo.failResult = failure

    def _handled(self) -> None:
        """Somebody has seen the error."""
        if self._debugInfo is not None:
            self._debugInfo.failResult = None

    # -- looking at it -------------------------------------------------------------------------------------------

    @property
    def _chainedTo(self) -> Deferred[Any] | None:
        """The Deferred that this one waits for."""
        if self.called:
            return self.result if self.paused and isinstance(self.result, Deferred) else None
        return self.__dict__.get("_chained")

    @property
    def callbacks(self) -> list[Any]:
        """Pairs of callback and errback, each with arguments and keyword arguments. A copy."""
        deprecated("internet.defer.Deferred.callbacks", "25.5.0")
        pending = self._callbacks
        steps = pending if type(pending) is list else [] if pending is None else [pending]
        pairs = [step if type(step) is tuple else (step, None) for step in steps]
        return [tuple(call if type(call) is tuple else (call or passthru, (), {}) for call in pair) for pair in pairs]

    def __repr__(self) -> str:
        name = type(self).__name__
        state = ""
        if self._chainedTo is not None:
            state = f" waiting on Deferred at 0x{id(self._chainedTo):x}"
        elif hasattr(self, "result"):
            state = f" current result: {self.result!r}"
        return f"<{name} at 0x{id(self):x}{state}>"

    # -- coroutines and asyncio ----------------------------------------------------------------------------------

    def __await__(self) -> Generator[Deferred[_T], Any, _T]:
        if self.paused or not self.called:
            yield self
            while not self.called:
                yield self
        result = self.result
        if type(result) in _DIVERTING and isinstance(result, Failure):
            self._handled()
            raise result.value.with_traceback(result.tb)
        return result  # type: ignore[no-any-return]

    __iter__ = __await__

    if TYPE_CHECKING:  # `_coroutines`, which is about Deferreds, puts it here

        @staticmethod
        def fromCoroutine(coro: Coroutine[Any, Any, _U] | Generator[Any, Any, _U]) -> Deferred[_U]: ...

    def asFuture(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[_T]:
        """A Future of that loop with the same result; this Deferred is left with None. Cancelling it cancels this."""
        future: asyncio.Future[_T] = loop.create_future()

        def follow(future: asyncio.Future[_T]) -> None:
            if future.cancelled():
                self.cancel()

        def tell(result: Any) -> None:
            if future.done():
                return
            if not isinstance(result, Failure):
                future.set_result(result)
            elif isinstance(result.value, BaseException) and not isinstance(result.value, StopIteration):
                future.set_exception(result.value)
            else:  # which no Future takes
                future.set_exception(RuntimeError(f"{result.value!r} ended a Deferred"))

        self.addBoth(tell)
        future.add_done_callback(follow)
        return future

    @classmethod
    def fromFuture(cls, future: asyncio.Future[_U]) -> Deferred[_U]:
        """A Deferred with the result of a Future. Cancelling it cancels the Future, and waits for what that does."""
        canceller: Any = _CancelsFuture(future)
        deferred: Deferred[_U] = Deferred(canceller)

        def tell(future: asyncio.Future[_U]) -> None:
            try:
                result = future.result()
            except BaseException:
                deferred.errback()
            else:
                deferred.callback(result)

        future.add_done_callback(tell)
        return deferred


_DIVERTING = Diverts.kinds
_init = Deferred.__init__


def _init_and_note(self: Deferred[Any], canceller: Callable[[Deferred[Any]], object] | None = None) -> None:
    """`Deferred.__init__` under `setDebugging`."""
    _init(self, canceller)
    self._debugInfo = DebugInfo.of_creation()


def _with(call: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A callback as it is kept. None is kept so that calling it fails, not so that the result passes."""
    return (call, args, kwargs) if args or kwargs or call is None else call


def _hand_over(giver: Deferred[Any], step: tuple[Any, Deferred[Any], None]) -> Deferred[Any] | None:
    """Give the result to the Deferred that waits for it. Returns that one, if it has to be run."""
    waiting = step[1]
    result = waiting.result = giver.result
    giver.result = None
    waiting.paused -= 1
    if waiting._callbacks is None and not waiting.paused:
        if type(result) in _DIVERTING and isinstance(result, Failure):
            waiting._unhandled(result)
        return None
    giver._runningCallbacks = False
    return waiting


def _follow(giver: Deferred[Any], following: Deferred[Any]) -> None:
    """Run the Deferred that got its result from `giver`, those that get theirs by that, and then the rest of each.

    At one that is paused the chain ends, and those that have handed on are left as they are, but for one that has
    only run a coroutine on the way there, and is still marked as running: what it ran was one callback.
    """
    above: list[Deferred[Any]] = []
    next_one: Deferred[Any] | None = following
    while next_one is not None:
        if giver._callbacks is not None or giver._runningCallbacks:
            above.append(giver)
        current: Deferred[Any] | None = next_one if not next_one.paused else _still_running(above)
        next_one = None
        while current is not None and next_one is None:
            giver, next_one = current, current._run_steps()
            if next_one is None:
                current = above.pop() if above else None
                if current is not None and current.paused and not current._runningCallbacks:
                    current = _still_running(above)


def _still_running(above: list[Deferred[Any]]) -> Deferred[Any] | None:
    """The last one that is running, taken from the list with those after it."""
    while above:
        current = above.pop()
        if current._runningCallbacks:
            return current
    return None


def _timed_out(result: Any, timeout: float) -> Any:
    """What comes of a result that came with the time-out: CancelledError was our doing."""
    if isinstance(result, Failure):
        result.trap(CancelledError)
        raise TimeoutError(timeout, "Deferred")
    return result


def _warn_of_circle(step: Any) -> None:
    """A callback has returned its own Deferred, which will wait for itself for ever."""
    function = step
    while type(function) is tuple:
        function = function[0] or function[1]
    text = "Callback returned the Deferred it was attached to; this breaks the callback chain"
    code = getattr(function, "__code__", None)
    if isinstance(code, CodeType):
        line = max((line for _, _, line in code.co_lines() if line), default=code.co_firstlineno)
        warnings.warn_explicit(text, DeprecationWarning, code.co_filename, line, getattr(function, "__module__", None))
    else:
        warnings.warn(text, DeprecationWarning, stacklevel=3)


_new: Callable[[type[Deferred[Any]]], Deferred[Any]] = object.__new__


def succeed(result: _T) -> Deferred[_T]:
    """A Deferred that has this result already."""
    d = Deferred() if _careful else _new(Deferred)  # without `__init__`, in three quarters of the time
    d.called = True
    d._runningCallbacks = False
    d.paused = 0
    d._callbacks = d._canceller = None
    d.result = result
    return d


def passthru(arg: _T) -> _T:
    """The argument."""
    return arg


class _CancelsFuture:
    """The canceller of `fromFuture`."""

    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self._future = future

    def cancel(self) -> None:
        """The Deferred is fired once the Future is done."""
        self._future.cancel()
