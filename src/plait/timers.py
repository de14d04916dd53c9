"""Timer and Cron: calling something again and again, as a service.

Rules: the moments are computed from a start, never from the last call, so nothing drifts. One call at a time: a
moment that passes while a call is still at work is missed, and `missed` says what becomes of it. An exception is
the service's failure, never a timer that silently stopped. Between the moments there is one deadline in the
application's heap and nothing else; a stop ends the waiting at once, and lets a call that is at work finish within
`drain_timeout`.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, tzinfo
from functools import partial
from typing import Any, ClassVar, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from plait._kernel.policy import Policy
from plait._kernel.service import Service
from plait.options.values import Duration

Call = Callable[[], Awaitable[Any] | Any]
Missed = Literal["skip", "once", "all"]

_MISSED = ("skip", "once", "all")

CLOCK_PERIOD = 60.0
"""Cron looks at the wall clock at least this often, in seconds, so that a clock set anew is noticed."""


class _Repeating(Service):
    """What Timer and Cron share: waiting for a moment, and calling."""

    policy: ClassVar[Policy] = Policy(placement="one")

    __waiting: asyncio.Future[None] | None = None

    async def on_drain(self) -> None:
        """Wait no longer; a call that is at work may finish."""
        if self.__waiting is not None:
            _wake(self.__waiting)

    async def _timer_sleep(self, delay: float) -> bool:
        """Wait `delay` seconds; whether to go on, which ends with a requested stop."""
        stopping = self.stopping
        if stopping or delay <= 0:
            await asyncio.sleep(0)  # even a timer that is always late lets others run
            return not stopping
        engine = self._engine()
        self.__waiting = waiting = engine.loop.create_future()
        deadline = engine.deadlines.after(delay, partial(_wake, waiting))
        try:
            await waiting
        finally:
            engine.deadlines.cancel(deadline)
        return not stopping

    async def _timer_call(self, call: Call) -> None:
        result = call()
        if inspect.isawaitable(result):
            await result


class Timer(_Repeating):
    """Calls `call`, a function or coroutine function without arguments, every `every` seconds.

    The first call comes after one period, or at once with `at_start=True`. Moments missed because a call took
    longer than a period are skipped; `missed="once"` makes one call for all of them, `"all"` one for each. What
    `call` raises is this service's failure. ValueError or TypeError if the arguments make no timer. With workers it
    runs in one of them.
    """

    def __init__(self, every: Duration, call: Call, *, missed: Missed = "skip", at_start: bool = False) -> None:
        if isinstance(every, bool) or not isinstance(every, (int, float)):
            raise TypeError(f"a timer's period is {every!r}; it takes seconds, as a number")
        if not math.isfinite(every) or every <= 0:
            raise ValueError(f"a timer's period is {every!r}; it takes a finite number of seconds above zero")
        self.every = float(every)
        self.at_start = at_start
        self.__call = _checked(call)
        self.__missed = _checked_missed(missed)

    async def run(self) -> None:
        """Call, period after period, until told to stop."""
        loop = asyncio.get_running_loop()
        start, tick = loop.time(), 0 if self.at_start else 1
        while await self._timer_sleep(start + tick * self.every - loop.time()):
            await self._timer_call(self.__call)
            tick = next_tick(tick, (loop.time() - start) / self.every, self.__missed)


class Cron(_Repeating):
    """Calls `call`, a function or coroutine function without arguments, at the times of a cron expression.

    `expression` has five fields, or six with seconds first; `tz` is a name of the time zone database or a tzinfo,
    UTC if left out. Daylight saving is as in Debian's cron: a daily time that a day skips comes right after the gap,
    one that a day has twice comes once. Times missed because a call took longer are skipped. What `call` raises is
    this service's failure. ValueError if the expression or the zone is none.
    """

    def __init__(self, expression: str, call: Call, *, tz: str | tzinfo | None = None) -> None:
        self.expression = expression
        self.tz = _zone(tz)
        self.__call = _checked(call)
        if next(self.times(datetime.now(self.tz)), None) is None:  # an error here, not at the start
            raise ValueError(f"the cron expression {expression!r} names a time that never comes")

    def times(self, after: datetime) -> Iterator[datetime]:
        """The times of the expression after a moment, in this service's zone."""
        try:
            return iter(CronSim(self.expression, after.astimezone(self.tz)))
        except CronSimError as error:
            raise ValueError(
                f"{self.expression!r} is no cron expression ({error}); it takes minute, hour, day of month, month "
                "and day of week, as '*/5 * * * *'"
            ) from None

    async def run(self) -> None:
        """Call, time after time, until told to stop."""
        now = self._engine().wall_time
        last = now()  # seconds since the epoch: differences of local times are wrong across a DST change
        while due := self.__next_after(last):
            while (left := due - now()) > 0:
                if not await self._timer_sleep(min(left, CLOCK_PERIOD)):
                    return
            if not await self._timer_sleep(0):
                return
            await self._timer_call(self.__call)
            last = max(due, now())

    def __next_after(self, last: float) -> float | None:
        due = next(self.times(datetime.fromtimestamp(last, self.tz)), None)
        return due.timestamp() if due is not None else None


def next_tick(tick: int, now: float, missed: Missed) -> int:
    """The tick to call next, where `tick` was called and `now` is the present, in periods."""
    if missed == "all" or now < tick + 1:
        return tick + 1
    return math.floor(now) + (missed == "skip")


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _checked(call: Call) -> Call:
    if not callable(call):
        raise TypeError(f"a timer calls {call!r}, which cannot be called; pass the function itself")
    return call


def _checked_missed(missed: Missed) -> Missed:
    if missed not in _MISSED:
        raise ValueError(f"missed is {missed!r}; it may be {', '.join(_MISSED)}")
    return missed


def _zone(tz: str | tzinfo | None) -> tzinfo:
    if tz is None:
        return ZoneInfo("UTC")
    if isinstance(tz, tzinfo):
        return tz
    try:
        return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{tz!r} is no time zone; it takes a name as 'Europe/Berlin', or a tzinfo") from None
