"""Work that repeats, that is shared out in small steps, or that is put off; and a clock for tests.

Rules: everything here goes by a clock that provides `IReactorTime`, the reactor if none is given, so it can be tested
with `Clock`. What a call returns is waited for if it is a Deferred.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from zope.interface import implementer

from plait.classic import _run
from plait.classic.internet import defer, error
from plait.classic.internet._default import default_reactor
from plait.classic.internet._delayed import DelayedCall
from plait.classic.internet.interfaces import IReactorTime
from plait.classic.python import log
from plait.classic.python.failure import Failure
from plait.plugins import lookup


class LoopingCall:
    """Calls a function every `interval` seconds, by `clock`, from `start` until `stop`.

    A call that is late, or whose Deferred is not done when the next is due, makes that next one be skipped: calls
    stay at multiples of the interval after the start. One that fails ends the loop, and fails the Deferred of `start`.
    """

    call: Any = None
    running = False
    interval: float | None = None
    starttime: float | None = None

    def __init__(self, f: Callable[..., object], *a: object, **kw: object) -> None:
        self.f = f
        self.a = a
        self.kw = kw
        self.clock: Any = default_reactor()
        self._deferred: defer.Deferred[LoopingCall] | None = None
        self._runAtStart = False
        self._counted: float | None = None

    @classmethod
    def withCount(cls, countCallable: Callable[[int], object]) -> LoopingCall:
        """One that calls with the number of intervals that have passed since it called last: 1 unless some were
        skipped."""

        def counter() -> object:
            now = loop.clock.seconds()
            count = loop._intervals_since_last(now)
            if not count:
                return None
            loop._counted = now
            return countCallable(count)

        loop = cls(counter)
        return loop

    def _intervals_since_last(self, now: float) -> int:
        assert self.interval is not None
        assert self.starttime is not None
        if self.interval == 0:
            return 1
        last = self._counted
        if last is None:
            last = self.starttime - self.interval if self._runAtStart else self.starttime
        return self._interval_of(now) - self._interval_of(last)

    def _interval_of(self, moment: float) -> int:
        assert self.interval is not None
        assert self.starttime is not None
        return int((moment - self.starttime) / self.interval)

    @property
    def deferred(self) -> defer.Deferred[LoopingCall] | None:
        """What `start` returned, while it runs; deprecated in Twisted."""
        warnings.warn(
            "twisted.internet.task.LoopingCall.deferred was deprecated in Twisted 16.0.0;"
            " please use the deferred returned by start() instead",
            category=DeprecationWarning,
            stacklevel=2,
        )
        return self._deferred

    def start(self, interval: float, now: bool = True) -> defer.Deferred[LoopingCall]:
        """Call now, or first after one interval; every turn of the loop if `interval` is 0.

        A Deferred of this object, that fires when it is stopped. ValueError for a negative interval.
        """
        assert not self.running, "Tried to start an already running LoopingCall."
        if interval < 0:
            raise ValueError("interval must be >= 0")
        self.running = True
        deferred: defer.Deferred[LoopingCall] = defer.Deferred()
        self._deferred = deferred
        self.starttime = self.clock.seconds()
        self.interval = interval
        self._counted = None
        self._runAtStart = now
        if now:
            self()
        else:
            self._schedule(self.starttime)
        return deferred

    def stop(self) -> None:
        """Call no more; a call that has not finished yet is waited for before the Deferred fires."""
        assert self.running, "Tried to stop a LoopingCall that was not running."
        self.running = False
        if self.call is not None:
            self.call.cancel()
            self.call = None
            self._take_deferred().callback(self)

    def reset(self) -> None:
        """Count the intervals from now, so the next call comes in one of them."""
        assert self.running, "Tried to reset a LoopingCall that was not running."
        if self.call is not None:
            self.call.cancel()
            self.call = None
            self.starttime = self.clock.seconds()
            self._schedule(self.starttime)

    def __call__(self) -> None:
        def done(_: object) -> None:
            if self.running:
                self._schedule(self.clock.seconds())
            else:
                self._take_deferred().callback(self)

        def failed(failure: Failure) -> None:
            self.running = False
            self._take_deferred().errback(failure)

        self.call = None
        result: Any = defer.maybeDeferred(self.f, *self.a, **self.kw)
        result.addCallbacks(done, failed)

    def _take_deferred(self) -> defer.Deferred[LoopingCall]:
        deferred, self._deferred = self._deferred, None
        assert deferred is not None
        return deferred

    def _schedule(self, when: float) -> None:
        self.call = self.clock.callLater(self._until_next(when), self)

    def _until_next(self, when: float) -> float:
        """Seconds from a moment to the next multiple of the interval."""
        assert self.interval is not None
        assert self.starttime is not None
        if self.interval == 0:
            return 0
        until_next = self.interval - (when - self.starttime) % self.interval
        if when + until_next == when:  # too small a step for a clock that shows so late a time: a whole one, then
            return self.interval
        return until_next

    def __repr__(self) -> str:
        name = getattr(self.f, "__qualname__", None) or getattr(self.f, "__name__", None) or repr(self.f)
        return f"LoopingCall<{self.interval!r}>({name}, *{self.a!r}, **{self.kw!r})"


# -- cooperation ------------------------------------------------------------------------------------------------


class SchedulerError(Exception):
    """A cooperative task, or its cooperator, cannot do what was asked."""


class SchedulerStopped(SchedulerError):
    """The cooperator was stopped, and its tasks with it."""


class TaskFinished(SchedulerError):
    """The task has ended."""


class TaskDone(TaskFinished):
    """The task came to the end of its iterator."""


class TaskStopped(TaskFinished):
    """The task was stopped."""


class TaskFailed(TaskFinished):
    """The task's iterator raised, or a Deferred it gave failed."""


class NotPaused(SchedulerError):
    """The task was resumed more often than it was paused."""


class CooperativeTask:
    """One iterator that a `Cooperator` steps through; a Deferred that it gives is waited for before its next step."""

    def __init__(self, iterator: Iterator[Any], cooperator: Cooperator) -> None:
        self._iterator = iterator
        self._cooperator = cooperator
        self._waiting: list[defer.Deferred[Any]] = []
        self._pauseCount = 0
        self._ended: SchedulerError | None = None
        self._result: Any = None
        cooperator._add(self)

    def whenDone(self) -> defer.Deferred[Any]:
        """A Deferred of its own for each caller: the iterator when it came to its end, else how it ended."""
        deferred: defer.Deferred[Any] = defer.Deferred()
        if self._ended is None:
            self._waiting.append(deferred)
        else:
            deferred.callback(self._result)
        return deferred

    def pause(self) -> None:
        """Take no step until `resume`; may be asked for several times. `TaskFinished` if it has ended."""
        self._must_go_on()
        self._pauseCount += 1
        if self._pauseCount == 1:
            self._cooperator._remove(self)

    def resume(self) -> None:
        """Go on. `NotPaused` if it is not paused."""
        if not self._pauseCount:
            raise NotPaused
        self._pauseCount -= 1
        if not self._pauseCount and self._ended is None:
            self._cooperator._add(self)

    def stop(self) -> None:
        """End it: those who wait are told of `TaskStopped`. `TaskFinished` if it has ended."""
        self._must_go_on()
        self._end(TaskStopped(), Failure(TaskStopped()))

    def _must_go_on(self) -> None:
        if self._ended is not None:
            raise self._ended

    def _end(self, how: SchedulerError, result: Any) -> None:
        self._ended = how
        self._result = result
        if not self._pauseCount:
            self._cooperator._remove(self)
        for deferred in self._waiting:
            deferred.callback(result)

    def _oneWorkUnit(self) -> None:
        """Take one step."""
        try:
            result = next(self._iterator)
        except StopIteration:
            self._end(TaskDone(), self._iterator)
        except BaseException:
            self._end(TaskFailed(), Failure())
        else:
            if isinstance(result, defer.Deferred):
                self._wait(result)

    def _wait(self, result: defer.Deferred[Any]) -> None:
        self.pause()

        def failed(failure: Failure) -> None:
            if self._ended is None:
                self._end(TaskFailed(), failure)

        result.addCallbacks(lambda _: self.resume(), failed)


class _Timer:
    """Says whether one slice of time is over."""

    MAX_SLICE = 0.01

    def __init__(self) -> None:
        self.end = time.monotonic() + self.MAX_SLICE

    def __call__(self) -> bool:
        return time.monotonic() >= self.end


_EPSILON = 0.00000001


def _defaultScheduler(callable: Callable[[], None]) -> Any:
    return default_reactor().callLater(_EPSILON, callable)


class Cooperator:
    """Steps through many iterators in turn, for a slice of time, and lets the loop do other things between slices.

    `terminationPredicateFactory` makes, for each slice, what says whether it is over, asked after every step;
    `scheduler` is given what to call for the next slice, and returns an `IDelayedCall`.
    """

    def __init__(
        self,
        terminationPredicateFactory: Callable[[], Callable[[], bool]] = _Timer,
        scheduler: Callable[[Callable[[], None]], Any] = _defaultScheduler,
        started: bool = True,
    ) -> None:
        self._tasks: list[CooperativeTask] = []
        self._turn: Iterator[CooperativeTask] = iter(())
        self._terminationPredicateFactory = terminationPredicateFactory
        self._scheduler = scheduler
        self._delayedCall: Any = None
        self._stopped = False
        self._started = started

    def coiterate(
        self, iterator: Iterator[Any], doneDeferred: defer.Deferred[Any] | None = None
    ) -> defer.Deferred[Any]:
        """Step through an iterator; a Deferred (`doneDeferred`, if given) of it, once it is at its end."""
        deferred: defer.Deferred[Any] = defer.Deferred() if doneDeferred is None else doneDeferred
        CooperativeTask(iterator, self).whenDone().chainDeferred(deferred)
        return deferred

    def cooperate(self, iterator: Iterator[Any]) -> CooperativeTask:
        """Step through an iterator; the task, which can be paused and stopped."""
        return CooperativeTask(iterator, self)

    def start(self) -> None:
        """Begin, or begin again after `stop`."""
        self._stopped = False
        self._started = True
        self._reschedule()

    def stop(self) -> None:
        """End every task with `SchedulerStopped`; a new one ends so at once."""
        self._stopped = True
        for task in list(self._tasks):
            task._end(SchedulerStopped(), Failure(SchedulerStopped()))
        self._tasks = []
        self._cancel()

    @property
    def running(self) -> bool:
        """Whether it is started and not stopped."""
        return self._started and not self._stopped

    def _add(self, task: CooperativeTask) -> None:
        if self._stopped:
            self._tasks.append(task)  # the end takes it out
            task._end(SchedulerStopped(), Failure(SchedulerStopped()))
        else:
            self._tasks.append(task)
            self._reschedule()

    def _remove(self, task: CooperativeTask) -> None:
        self._tasks.remove(task)
        if not self._tasks:
            self._cancel()

    def _steps(self) -> Iterator[CooperativeTask]:
        """The tasks of one slice, going on behind where the last slice ended."""
        over = self._terminationPredicateFactory()
        while self._tasks:
            for task in self._turn:
                yield task
                if over():
                    return
            self._turn = iter(self._tasks)

    def _tick(self) -> None:
        """One slice."""
        self._delayedCall = None
        for task in self._steps():
            task._oneWorkUnit()
        self._reschedule()

    def _reschedule(self) -> None:
        if self.running and self._tasks and self._delayedCall is None:
            self._delayedCall = self._scheduler(self._tick)

    def _cancel(self) -> None:
        if self._delayedCall is not None:
            self._delayedCall.cancel()
            self._delayedCall = None


_theCooperator = Cooperator()


def coiterate(iterator: Iterator[Any]) -> defer.Deferred[Any]:
    """`Cooperator.coiterate` of the one that every program has."""
    return _theCooperator.coiterate(iterator)


def cooperate(iterator: Iterator[Any]) -> CooperativeTask:
    """`Cooperator.cooperate` of the one that every program has."""
    return _theCooperator.cooperate(iterator)


# -- the clock for tests ------------------------------------------------------------------------------------------


@implementer(IReactorTime)
class Clock:
    """A clock that stands still until it is advanced: `callLater` without waiting."""

    rightNow = 0.0

    def __init__(self) -> None:
        self.calls: list[DelayedCall] = []

    def seconds(self) -> float:
        """The time it shows; it begins with 0."""
        return self.rightNow

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> DelayedCall:
        """Call this when the clock has been advanced by `delay` seconds."""
        call = DelayedCall(self.seconds() + delay, callable, args, kw, self.calls.remove, self._sort, self.seconds)
        self.calls.append(call)
        self._sort()
        return call

    def _sort(self, _: DelayedCall | None = None) -> None:
        self.calls.sort(key=DelayedCall.getTime)

    def getDelayedCalls(self) -> Sequence[DelayedCall]:
        """Those that are to come."""
        return self.calls

    def advance(self, amount: float) -> None:
        """Let `amount` seconds pass at once, and make the calls that are due then."""
        self.rightNow += amount
        self._sort()
        while self.calls and self.calls[0].getTime() <= self.seconds():
            call = self.calls.pop(0)
            call.called = 1
            call.func(*call.args, **call.kw)

    def pump(self, timings: Iterable[float]) -> None:
        """Advance by each of these, one after another."""
        for amount in timings:
            self.advance(amount)


# -- later, and once ------------------------------------------------------------------------------------------------


def deferLater(
    clock: Any, delay: float, callable: Callable[..., Any] | None = None, *args: object, **kw: object
) -> defer.Deferred[Any]:
    """A Deferred of what `callable` returns when it is called in `delay` seconds. Cancelling it cancels the call."""

    def call() -> Any:
        return deferred.callback(None)

    deferred: defer.Deferred[Any] = defer.Deferred(lambda _: delayed.cancel())
    if callable is not None:
        deferred.addCallback(lambda _: callable(*args, **kw))
    delayed = clock.callLater(delay, call)
    return deferred


def react(main: Callable[..., Any], argv: Iterable[object] = (), _reactor: Any = None) -> None:
    """Run the reactor for as long as `main(reactor, *argv)` takes, and end the program with its exit code.

    `main` returns a Deferred or a coroutine. A failure is logged, and exit code 1; one of SystemExit gives its own.
    Under `plait run` it is noted, and returns at once: Plait serves an application with `main` in it.
    """
    if _reactor is None:
        if lookup.loading is not None and _run.note("task.react()"):
            from plait.classic._main import application  # it is above the reactor

            lookup.loading.applications.append(application(main, tuple(argv)))
            return
        _reactor = default_reactor()
    code: Any = 0
    stopping = False

    def shut_down() -> None:
        nonlocal stopping
        stopping = True

    def stop() -> None:
        try:
            _reactor.stop()
        except error.ReactorNotRunning:  # it was stopped just now
            pass

    def finish(result: Any) -> None:
        nonlocal code
        if isinstance(result, Failure):
            if isinstance(result.value, SystemExit):
                code = result.value.code
            else:
                log.err(result, "main function encountered error")
                code = 1
        if not stopping:
            _reactor.callWhenRunning(stop)

    _reactor.addSystemEventTrigger("before", "shutdown", shut_down)
    defer.ensureDeferred(main(_reactor, *argv)).addBoth(finish)
    _reactor.run()
    raise SystemExit(code)


__all__ = [
    "Clock",
    "CooperativeTask",
    "Cooperator",
    "LoopingCall",
    "NotPaused",
    "SchedulerError",
    "SchedulerStopped",
    "TaskDone",
    "TaskFailed",
    "TaskFinished",
    "TaskStopped",
    "coiterate",
    "cooperate",
    "deferLater",
    "react",
]
