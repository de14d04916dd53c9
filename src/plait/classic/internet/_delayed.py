"""Delayed calls, and the heap of them that a reactor has.

Rules: calls are made in the order of their times, and at one time in the order in which they were asked for. What is
asked for while calls are being made waits for the next turn, so nothing starves the loop. A call that was cancelled,
or moved, leaves its old entry in the heap: one is recognised when it comes to the top, and thrown out with the others
when they are the majority. The loop has at most one timer, for the earliest call, and none when there is no call.
"""

from __future__ import annotations

import math
import time
import traceback
from asyncio import AbstractEventLoop, Handle
from bisect import bisect_right
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any

from zope.interface import implementer

from plait.classic.internet import error
from plait.classic.internet.interfaces import IDelayedCall

_MIN_COMPACT = 64
_FEW = 64
"""How many due calls are popped before the rest is sorted."""
_EPOCH = time.time() - time.monotonic()
"""What makes seconds since the epoch of a clock that nobody sets; measured once, so that time never jumps."""


def monotonic() -> float:
    """Seconds since the epoch, by a clock that only goes forward."""
    return time.monotonic() + _EPOCH


@implementer(IDelayedCall)
class DelayedCall:
    """A call that is to come at `time`; whoever made it gives what to do when it is cancelled, or moved."""

    __slots__ = (
        "__weakref__",
        "args",
        "called",
        "cancelled",
        "canceller",
        "creator",
        "entered",
        "func",
        "kw",
        "resetter",
        "seconds",
        "time",
    )

    debug = False
    """Whether each remembers where it was asked for, and shows it."""

    def __init__(
        self,
        time: float,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kw: dict[str, Any],
        cancel: Callable[[DelayedCall], Any],
        reset: Callable[[DelayedCall], Any],
        seconds: Callable[[], float] = monotonic,
    ) -> None:
        self.time = self.entered = time  # `entered`: the time of the entry in the heap that counts
        self.func = func
        self.args = args
        self.kw = kw
        self.canceller = cancel
        self.resetter = reset
        self.seconds = seconds
        self.cancelled = self.called = 0
        if self.debug:
            self.creator = traceback.format_stack()[:-2]

    def getTime(self) -> float:
        """When it is due, by the clock's `seconds`."""
        return self.time

    def active(self) -> bool:
        """Whether it is still to come."""
        return not (self.called or self.cancelled)

    def cancel(self) -> None:
        """Do not make it. `AlreadyCalled`, `AlreadyCancelled`."""
        self._must_be_active()
        self.cancelled = 1
        self.canceller(self)
        if not self.debug:  # what it would have called with need not live as long as this object
            del self.func, self.args, self.kw

    def reset(self, secondsFromNow: float) -> None:
        """Make it so long from now. `AlreadyCalled`, `AlreadyCancelled`."""
        self._must_be_active()
        self.time = self.seconds() + secondsFromNow
        self.resetter(self)

    def delay(self, secondsLater: float) -> None:
        """Make it so much later than it would have been; a negative number: earlier."""
        self._must_be_active()
        self.time += secondsLater
        self.resetter(self)

    def _must_be_active(self) -> None:
        if self.cancelled:
            raise error.AlreadyCancelled
        if self.called:
            raise error.AlreadyCalled

    def __lt__(self, other: DelayedCall) -> bool:
        return self.time < other.time

    def __le__(self, other: DelayedCall) -> bool:
        return self.time <= other.time

    def __repr__(self) -> str:
        what = f"[{self.time - self.seconds()}s] called={self.called} cancelled={self.cancelled}"
        if hasattr(self, "func"):
            what += f" {_shown(self.func)}({_arguments(self.args, self.kw)})"
        if hasattr(self, "creator"):
            what += "\n\ntraceback at creation: \n\n" + "    ".join(self.creator)
        return f"<DelayedCall {hex(id(self))} {what}>"

    __str__ = __repr__


def _shown(func: Any) -> str:
    name = getattr(func, "__qualname__", None) or getattr(func, "__name__", None)
    return repr(func) if name is None else str(name)


def _arguments(args: tuple[Any, ...], kw: dict[str, Any]) -> str:
    return ", ".join([*map(repr, args), *(f"{key}={value!r}" for key, value in kw.items())])


Entry = tuple[float, int, DelayedCall]
_NO_KEYWORDS: dict[str, Any] = {}


class DelayedCalls:
    """The heap; `failed` is told, inside the `except`, of a call that raised."""

    def __init__(self, failed: Callable[[DelayedCall], None]) -> None:
        self.seconds: Callable[[], float] = monotonic
        self._failed = failed
        self._loop: AbstractEventLoop | None = None
        self._heap: list[Entry] = []
        self._now_due: list[Entry] = []
        """Those of the turn that is being made, the earliest last, where they were too many to be popped one by one."""
        self._sequence = count()
        self._live = 0
        self._armed = -math.inf
        """The time of the timer, inf if there is none; -inf while there is no use in one: without a loop, and while
        calls are made."""
        self._timer: Handle | None = None
        self._is_coarse = False
        self._cancel, self._reset = self._cancelled, self._moved  # once, and not for each call

    def __len__(self) -> int:
        return self._live

    def bind(self, loop: AbstractEventLoop | None) -> None:
        """Go by this loop from now on; without one, calls wait."""
        self._disarm()
        self._loop = loop
        self._armed = math.inf if loop is not None else -math.inf
        self.seconds = getattr(loop, "wall_time", monotonic)
        self._is_coarse = type(loop).__module__.partition(".")[0] == "uvloop"
        self._arm()

    def clear(self) -> None:
        """Forget every call."""
        for call in self.pending():
            call.cancelled = 1
        self._heap.clear()
        self._now_due.clear()
        self._live = 0
        self._disarm()

    def call(
        self,
        when: float,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kw: dict[str, Any],
        seconds: Callable[[], float],
    ) -> DelayedCall:
        """Call this at a time of `seconds`."""
        call = DelayedCall(when, func, args, kw or _NO_KEYWORDS, self._cancel, self._reset, seconds)
        heappush(self._heap, (when, next(self._sequence), call))
        self._live += 1
        if when < self._armed:
            self._arm()
        return call

    def pending(self) -> list[DelayedCall]:
        """Those that are to come, the earliest first."""
        return sorted(entry[2] for entry in (*self._heap, *self._now_due) if _counts(entry))

    def timeout(self) -> float | None:
        """How many seconds there are to the earliest, none of them negative; None if there is no call."""
        self._drop_stale()
        return max(0.0, self._heap[0][0] - self.seconds()) if self._heap else None

    def run_due(self) -> None:
        """Make every call that is due now."""
        now, turn = self.seconds(), next(self._sequence)
        self._armed = -math.inf
        try:
            heap, few = self._heap, _FEW
            while heap and heap[0][0] <= now and heap[0][1] < turn:
                if not few:
                    self._sort_due(now)
                    break
                few -= 1
                self._make(heappop(heap))
            while self._now_due:
                self._make(self._now_due.pop())
        finally:
            self._armed = math.inf if self._loop is not None else -math.inf
            self._arm()

    def _sort_due(self, now: float) -> None:
        """Many are due: sorting costs them less than that many pops. What is sorted is a heap still."""
        heap = self._heap
        heap.sort()
        end = bisect_right(heap, now, key=_when)
        self._now_due = heap[:end]
        self._now_due.reverse()
        del heap[:end]

    def _make(self, entry: Entry) -> None:
        when, _, call = entry
        if call.called or call.cancelled or when != call.entered:
            return
        if call.time > when:
            self._enter(call)
            return
        call.called = 1
        self._live -= 1
        try:
            call.func(*call.args, **call.kw)
        except BaseException:
            self._failed(call)

    # -- what a call says of itself ---------------------------------------------------------------------------------

    def _cancelled(self, call: DelayedCall) -> None:
        self._live -= 1
        if not self._live:
            self._heap.clear()
            if self._timer is not None:
                self._disarm()
        else:
            self._compact()

    def _moved(self, call: DelayedCall) -> None:
        """Later: its entry moves when it comes up. Earlier: it gets another, and the first counts no more."""
        if call.time < call.entered:
            self._enter(call)
            self._compact()

    def _enter(self, call: DelayedCall) -> None:
        call.entered = when = call.time
        heappush(self._heap, (when, next(self._sequence), call))
        if when < self._armed:
            self._arm()

    def _compact(self) -> None:
        if len(self._heap) > 2 * self._live + _MIN_COMPACT:
            self._heap[:] = [entry for entry in self._heap if _counts(entry)]
            heapify(self._heap)

    # -- the timer ----------------------------------------------------------------------------------------------------

    def _drop_stale(self) -> None:
        heap = self._heap
        while heap and not _counts(heap[0]):
            heappop(heap)

    def _arm(self) -> None:
        loop = self._loop
        if loop is None or self._armed == -math.inf:
            return
        self._drop_stale()
        if not self._heap:
            return
        when = self._heap[0][0]
        if when == self._armed:
            return
        self._disarm()
        self._armed = when
        delay = when - self.seconds()
        if delay <= 0:
            self._timer = loop.call_soon(self._due)
        else:  # uvloop counts in milliseconds, rounded: up, or it would spin until the time has come
            self._timer = loop.call_later(math.ceil(delay * 1000) / 1000 if self._is_coarse else delay, self._due)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._armed = math.inf

    def _due(self) -> None:
        self._timer = None
        self.run_due()


def _counts(entry: Entry) -> bool:
    when, _, call = entry
    return when == call.entered and call.active()


def _when(entry: Entry) -> float:
    return entry[0]
