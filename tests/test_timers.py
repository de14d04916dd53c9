"""Timer and Cron: no drift, no overlap, no silent death, and daylight saving."""

from __future__ import annotations

import asyncio
from datetime import datetime
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest

from plait import Application, Cron, Service, State, Timer
from plait.errors import ApplicationFailed
from plait.timers import Missed, next_tick


class Ticks:
    """Notes the loop's time of each call; ends the wait after `enough`."""

    def __init__(self, enough: int, slow: float = 0.0, slow_first: float = 0.0) -> None:
        self.times: list[float] = []
        self.enough = enough
        self.slow = slow
        self.slow_first = slow_first
        self.done = asyncio.Event()
        self.at_work = 0

    async def __call__(self) -> None:
        assert self.at_work == 0, "two calls at once"
        self.at_work += 1
        self.times.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.slow_first if len(self.times) == 1 and self.slow_first else self.slow)
        self.at_work -= 1
        if len(self.times) >= self.enough:
            self.done.set()


async def test_it_calls_every_period_without_drift() -> None:
    """The moments it waits for are whole periods from the first, though each call takes a third of one."""
    moments: list[float] = []

    class Noting(Timer):
        async def _timer_sleep(self, delay: float) -> bool:
            moments.append(asyncio.get_running_loop().time() + delay)
            return await super()._timer_sleep(delay)

    ticks = Ticks(8, slow=0.007)
    app = Application("clock")
    app.add(Noting(0.02, ticks), name="timer")
    async with app:
        await asyncio.wait_for(ticks.done.wait(), 10)
    periods = [(moment - moments[0]) / 0.02 for moment in moments]
    assert all(abs(period - round(period)) < 0.1 for period in periods)
    assert periods[-1] >= 7


async def test_at_start_calls_at_once() -> None:
    """And not only after the first period."""
    ticks = Ticks(1)
    app = Application("clock")
    app.add(Timer(60, ticks, at_start=True), name="timer")
    async with app:
        await asyncio.wait_for(ticks.done.wait(), 5)


@pytest.mark.parametrize(
    ("missed", "expected"),
    [("skip", [0, 4, 5]), ("once", [0, 3, 4]), ("all", [0, 1, 2])],
)
def test_what_becomes_of_missed_moments(missed: Missed, expected: list[int]) -> None:
    """A first call of 3.5 periods: the next ticks that are called, with the time standing at 3.5 until then."""
    ticks, now = [0], 3.5
    while len(ticks) < 3:
        ticks.append(next_tick(ticks[-1], max(now, ticks[-1]), missed))
    assert ticks == expected


async def test_a_call_that_is_too_long_does_not_overlap_and_is_not_made_up_for() -> None:
    """skip: after a call of three periods the next comes at a moment of its own."""
    ticks = Ticks(3, slow_first=0.07)
    app = Application("clock")
    app.add(Timer(0.02, ticks), name="timer")
    async with app:
        await asyncio.wait_for(ticks.done.wait(), 10)
    assert ticks.times[1] - ticks.times[0] >= 0.069


async def test_an_exception_is_the_services_failure() -> None:
    """A timer that died silently would look healthy."""

    def broken() -> None:
        raise ValueError("tick")

    app = Application("clock")
    app.add(Timer(0.001, broken), name="timer", restart="never", significant=True)
    with pytest.raises(ApplicationFailed, match="service 'timer': ValueError: tick"):
        await asyncio.wait_for(app.serve(), 10)


async def test_stopping_ends_the_waiting_at_once_and_lets_a_call_finish() -> None:
    """Both within drain_timeout."""
    began, finished = asyncio.Event(), []

    async def call() -> None:
        began.set()
        await asyncio.sleep(0.03)
        finished.append(True)

    app = Application("clock")
    app.add(Timer(3600, call), name="waiting")
    app.add(Timer(3600, call, at_start=True), name="busy")
    loop = asyncio.get_running_loop()
    async with app:
        await began.wait()
        stopping = loop.time()
    assert finished == [True]
    assert loop.time() - stopping < 2


async def test_an_idle_timer_holds_one_deadline_and_no_task_of_its_own_wakes() -> None:
    """One entry in the application's heap for each, none once they have stopped."""
    app = Application("clock")
    for number in range(3):
        app.add(Timer(3600, lambda: None), name=f"t{number}")
    async with app:
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(app._root_engine.deadlines) == 3
    assert len(app._root_engine.deadlines) == 0


@pytest.mark.parametrize("every", [0, -1, float("nan"), float("inf"), "5", True])
def test_a_period_that_is_none_is_refused(every: float) -> None:
    """When it is made."""
    with pytest.raises((TypeError, ValueError), match="a timer's period is"):
        Timer(every, lambda: None)


def test_other_wrong_arguments_are_refused() -> None:
    """Each with what it takes."""
    with pytest.raises(TypeError, match="pass the function itself"):
        Timer(1, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="missed is 'later'; it may be skip, once, all"):
        Timer(1, print, missed="later")  # type: ignore[arg-type]


# -- cron --------------------------------------------------------------------------------------------------------------


def times(expression: str, after: datetime, count: int) -> list[str]:
    """The next times of a cron expression in Berlin."""
    cron = Cron(expression, print, tz="Europe/Berlin")
    return [when.isoformat(timespec="minutes") for when in islice(cron.times(after), count)]


def berlin(month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    """A local time in 2026."""
    return datetime(2026, month, day, hour, minute, tzinfo=ZoneInfo("Europe/Berlin"))


def test_a_daily_time_that_a_day_skips_comes_right_after_the_gap() -> None:
    """On 29 March 2026 there is no half past two in Berlin."""
    assert times("30 2 * * *", berlin(3, 28), 3) == [
        "2026-03-28T02:30+01:00", "2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00",
    ]  # fmt: skip


def test_a_daily_time_that_a_day_has_twice_comes_once() -> None:
    """On 25 October 2026 there are two of them; also when each time is computed anew from the one before."""
    assert times("30 2 * * *", berlin(10, 24), 3) == [
        "2026-10-24T02:30+02:00", "2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00",
    ]  # fmt: skip
    cron = Cron("30 2 * * *", print, tz="Europe/Berlin")
    first = cron._Cron__next_after(  # type: ignore[attr-defined]
        berlin(10, 25).timestamp()
    )
    assert first is not None
    second = cron._Cron__next_after(  # type: ignore[attr-defined]
        first
    )
    assert second is not None
    assert (second - first) / 3600 == 25


def test_every_half_hour_goes_on_through_both_changes() -> None:
    """Real half hours, whatever the clock on the wall does."""
    for start in (berlin(3, 29, 0, 45), berlin(10, 25, 0, 45)):
        cron = Cron("*/30 * * * *", print, tz="Europe/Berlin")
        moments = [when.timestamp() for when in islice(cron.times(start), 8)]
        assert {later - earlier for earlier, later in pairwise(moments)} == {1800.0}


async def test_cron_calls_at_its_times() -> None:
    """With six fields, every second, at the second."""
    ticks = Ticks(2)
    app = Application("clock")
    app.add(Cron("* * * * * *", ticks), name="cron")
    async with app:
        await asyncio.wait_for(ticks.done.wait(), 10)
    assert 0.5 < ticks.times[1] - ticks.times[0] < 1.5


async def test_a_cron_is_a_service_with_run() -> None:
    """So it keeps its application alive, and stops with it at once."""
    app = Application("clock")
    cron = app.add(Cron("0 0 1 1 *", print), name="yearly")
    async with app:
        assert cron.state is State.RUNNING
    assert cron.state is State.STOPPED
    assert isinstance(cron, Service)


@pytest.mark.parametrize("expression", ["", "* * * *", "61 * * * *", "0 0 30 2 *", "every day"])
def test_a_wrong_expression_is_refused(expression: str) -> None:
    """When it is made, with the form it has."""
    with pytest.raises(ValueError, match=r"no cron expression .*minute, hour, day of month, month"):
        Cron(expression, print)


def test_a_wrong_zone_is_refused() -> None:
    """By name."""
    with pytest.raises(ValueError, match="'Europe/Berlyn' is no time zone"):
        Cron("* * * * *", print, tz="Europe/Berlyn")
