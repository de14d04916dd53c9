"""Timer and Cron: calling something again and again, as a service.

Rules:
- The moments are computed from a start, never from the last call, so nothing drifts.
- One call at a time: a moment that passes while a call is still at work, or while the service is paused, is missed, and
  `missed` says what becomes of it. A pause waits for a call that is at work, within `pause_timeout`.
- An exception is the service's failure, never a timer that silently stopped.
- Between the moments there is one deadline in the application's heap and nothing else; while it is paused there is
  none. A stop ends the waiting at once, and lets a call that is at work finish within `drain_timeout`.
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
from plait._kernel.states import STARTING
from plait.options.values import Duration

Call = Callable[[], Awaitable[Any] | Any]
Missed = Literal["skip", "once", "all"]

_MISSED = ("skip", "once", "all")

CLOCK_PERIOD = 60.0
"""Cron looks at the wall clock at least this often, in seconds, so that a clock set anew is noticed."""


class _Repeating(Service):
    """What Timer and Cron share: waiting for a moment, calling, and pausing in between."""

    policy: ClassVar[Policy] = Policy(placement="one")

    __waiting: asyncio.Future[bool] | None = None
    __at_work: asyncio.Future[None] | None = None

    async def on_drain(self) -> None:
        """Wait no longer; a call that is at work may finish."""
        self._timer_wake()

    async def on_pause(self) -> None:
        """Wait no longer, and let a call that is at work finish."""
        self._timer_wake()
        if self.__at_work is not None and self.state is not STARTING:
            await asyncio.wait([self.__at_work])

    async def on_resume(self) -> None:
        """Go on; `missed` says with which moment."""

    def _timer_begin(self) -> None:
        """A new incarnation: a call that an older one left behind is none of its."""
        self.__at_work = None

    def _timer_wake(self) -> None:
        """End the waiting for a moment, to find out anew what to do."""
        if self.__waiting is not None:
            _wake(self.__waiting, False)

    async def _timer_goes_on(self) -> bool:
        """Wait while it is paused; whether there is more to do, which ends with a requested stop."""
        if not self.stopping:
            await self.unpaused()
        return not self.stopping

    async def _timer_sleep(self, delay: float) -> bool:
        """Wait `delay` seconds; whether the moment has come, and not something else: a pause, a stop, other options."""
        if delay <= 0:
            await asyncio.sleep(0)  # even a timer that is always late lets others run
            return not self.stopping and not self._timer_is_held
        engine = self._engine()
        self.__waiting = waiting = engine.loop.create_future()
        deadline = engine.deadlines.after(delay, partial(_wake, waiting, True))
        try:
            has_come = await waiting
        finally:
            engine.deadlines.cancel(deadline)
        return has_come and not self._timer_is_held

    @property
    def _timer_is_held(self) -> bool:
        life = self._record.life
        return life is not None and life.is_held

    async def _timer_call(self, call: Call) -> None:
        result = call()
        if inspect.isawaitable(result):
            self.__at_work = at_work = self._engine().loop.create_future()
            try:
                await result
            finally:
                at_work.set_result(None)
                if self.__at_work is at_work:
                    self.__at_work = None


class Timer(_Repeating):
    """Calls `call`, a function or coroutine function without arguments, every `every` seconds.

    The first call comes after one period, or at once with `at_start=True`. Moments missed because a call took longer
    than a period, or because the timer was paused, are skipped; `missed="once"` makes one call for all of them, `"all"`
    one for each. The call at the start is never skipped: one that starts paused makes it when it is resumed. What
    `call` raises is this service's failure. ValueError or TypeError if the arguments make no timer. With workers it
    runs in one of them. A reload is taken live: a new period counts from then on.
    """

    def __init__(self, every: Duration, call: Call, *, missed: Missed = "skip", at_start: bool = False) -> None:
        self.every = _checked_period(every)
        self.at_start = at_start
        self.__call = _checked(call)
        self.__missed = _checked_missed(missed)
        self.__start, self.__called = 0.0, 0
        """When the ticks are counted from, in the loop's time, and which was called last."""

    async def on_reload(self, every: Duration, call: Call, *, missed: Missed = "skip", at_start: bool = False) -> None:
        """Take them anew; a call that is at work goes on."""
        period, call, missed = _checked_period(every), _checked(call), _checked_missed(missed)
        self.__call, self.__missed, self.at_start = call, missed, at_start
        if period != self.every:
            self.every = period
            self.__start, self.__called = asyncio.get_running_loop().time(), min(self.__called, 0)
            self._timer_wake()

    async def run(self) -> None:
        """Call, period after period, until told to stop."""
        self._timer_begin()
        loop = asyncio.get_running_loop()
        self.__start, self.__called = loop.time(), -1 if self.at_start else 0
        while await self._timer_goes_on():
            start, tick = self.__start, self.__next(loop.time())
            if await self._timer_sleep(start + tick * self.every - loop.time()):
                self.__called = tick
                await self._timer_call(self.__call)

    def __next(self, now: float) -> int:
        if self.__called < 0 and self.__missed == "skip":
            return 0
        return next_tick(self.__called, (now - self.__start) / self.every, self.__missed)


class Cron(_Repeating):
    """Calls `call`, a function or coroutine function without arguments, at the times of a cron expression.

    `expression` has five fields, or six with seconds first; `tz` is a name of the time zone database or a tzinfo,
    UTC if left out. Daylight saving is as in Debian's cron: a daily time that a day skips comes right after the gap,
    one that a day has twice comes once. Times missed because a call took longer, or because it was paused, are skipped;
    `missed="once"` makes one call for all of them, `"all"` one for each. What `call` raises is this service's failure.
    ValueError if the expression or the zone is none. A reload is taken live.
    """

    def __init__(self, expression: str, call: Call, *, tz: str | tzinfo | None = None, missed: Missed = "skip") -> None:
        self.expression, self.tz = _checked_times(expression, _zone(tz))
        self.__call = _checked(call)
        self.__missed = _checked_missed(missed)
        self.__last = 0.0
        """The time that was called last, or the present where those between are given up, since the epoch."""

    async def on_reload(
        self, expression: str, call: Call, *, tz: str | tzinfo | None = None, missed: Missed = "skip"
    ) -> None:
        """Take them anew, from the next time on; a call that is at work goes on."""
        times, call, missed = _checked_times(expression, _zone(tz)), _checked(call), _checked_missed(missed)
        if times != (self.expression, self.tz):
            self.expression, self.tz = times
            self.__last = self._engine().wall_time()
        self.__call, self.__missed = call, missed
        self._timer_wake()

    def times(self, after: datetime) -> Iterator[datetime]:
        """The times of the expression after a moment, in this service's zone."""
        return _times(self.expression, after.astimezone(self.tz))

    async def run(self) -> None:
        """Call, time after time, until told to stop."""
        self._timer_begin()
        now = self._engine().wall_time
        self.__last = now()  # seconds since the epoch: differences of local times are wrong across a DST change
        while await self._timer_goes_on():
            if self.__missed == "skip":
                self.__last = max(self.__last, now())
            due = self.__next_after(self.__last)
            if due is None:
                return
            if await self.__comes(due, now):
                self.__last = max(due, now()) if self.__missed == "once" else due
                await self._timer_call(self.__call)

    async def __comes(self, due: float, now: Callable[[], float]) -> bool:
        """Wait for a time on the wall's clock; whether it has come."""
        while (left := due - now()) > 0:
            if not await self._timer_sleep(min(left, CLOCK_PERIOD)):
                return False
        return await self._timer_sleep(0)

    def __next_after(self, last: float) -> float | None:
        due = next(self.times(datetime.fromtimestamp(last, self.tz)), None)
        return due.timestamp() if due is not None else None


def next_tick(tick: int, now: float, missed: Missed) -> int:
    """The tick to call next, where `tick` was called and `now` is the present, in periods."""
    if missed == "all" or now < tick + 1:
        return tick + 1
    return math.floor(now) + (missed == "skip")


def _wake(waiting: asyncio.Future[bool], has_come: bool) -> None:
    if not waiting.done():
        waiting.set_result(has_come)


def _checked_period(every: float) -> float:
    if isinstance(every, bool) or not isinstance(every, (int, float)):
        raise TypeError(f"a timer's period is {every!r}; it takes seconds, as a number")
    if not math.isfinite(every) or every <= 0:
        raise ValueError(f"a timer's period is {every!r}; it takes a finite number of seconds above zero")
    return float(every)


def _checked(call: Call) -> Call:
    if not callable(call):
        raise TypeError(f"a timer calls {call!r}, which cannot be called; pass the function itself")
    return call


def _checked_missed(missed: Missed) -> Missed:
    if missed not in _MISSED:
        raise ValueError(f"missed is {missed!r}; it may be {', '.join(_MISSED)}")
    return missed


def _checked_times(expression: str, tz: tzinfo) -> tuple[str, tzinfo]:
    if next(_times(expression, datetime.now(tz)), None) is None:  # an error here, not at the start
        raise ValueError(f"the cron expression {expression!r} names a time that never comes")
    return expression, tz


def _times(expression: str, after: datetime) -> Iterator[datetime]:
    try:
        return iter(CronSim(expression, after))
    except CronSimError as error:
        raise ValueError(
            f"{expression!r} is no cron expression ({error}); it takes minute, hour, day of month, month "
            "and day of week, as '*/5 * * * *'"
        ) from None


def _zone(tz: str | tzinfo | None) -> tzinfo:
    if tz is None:
        return ZoneInfo("UTC")
    if isinstance(tz, tzinfo):
        return tz
    try:
        return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{tz!r} is no time zone; it takes a name as 'Europe/Berlin', or a tzinfo") from None
