"""Paused timers: they skip, make up with one call or catch up; they never wake meanwhile; and take options live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import pytest

from plait import Application, Cron, Group, Service, State, Timer
from plait.errors import PauseFailed, PauseTimeout, StopFailed
from plait.testing import advance, run, settle

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def virtual(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test on a virtual clock, on which it is noon."""

    @wraps(test)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        run(test(*args, **kwargs), start=START)

    return wrapped


class Calls:
    """Notes the loop's time of each call, which takes `slow` seconds."""

    def __init__(self, slow: float = 0.0) -> None:
        self.times: list[float] = []
        self.slow = slow
        self.at_work = 0

    async def __call__(self) -> None:
        self.times.append(round(asyncio.get_running_loop().time(), 6))
        self.at_work += 1
        await asyncio.sleep(self.slow)
        self.at_work -= 1


@asynccontextmanager
async def started(service: Service, **policy: Any) -> AsyncIterator[Application]:
    """In an application."""
    app = Application("test")
    app.add(service, name="timer", **policy)
    async with app:
        yield app


def cron(calls: Calls, missed: Any = "skip") -> Cron:
    """Every ten seconds."""
    return Cron("*/10 * * * * *", calls, missed=missed)


def timer(calls: Calls, missed: Any = "skip") -> Timer:
    """Every ten seconds."""
    return Timer(10, calls, missed=missed)


KINDS = pytest.mark.parametrize("make", [timer, cron])
MISSED = pytest.mark.parametrize(
    ("missed", "made_up"), [("skip", []), ("once", [55.0]), ("all", [55.0, 55.0, 55.0, 55.0])]
)


@KINDS
@MISSED
@virtual
async def test_what_becomes_of_the_moments_that_a_pause_has_missed(
    make: Callable[..., Service], missed: str, made_up: list[float]
) -> None:
    """Paused from 15 to 55, those of 20, 30, 40 and 50 are; then it goes on in step."""
    calls = Calls()
    async with started(make(calls, missed)) as app:
        await advance(15)
        assert await app["timer"].pause() == ()
        await advance(40)
        assert calls.times == [10.0]
        await app["timer"].resume()
        await advance(16)
    assert calls.times == [10.0, *made_up, 60.0, 70.0]


@KINDS
@MISSED
@virtual
async def test_one_that_starts_paused_has_missed_what_comes_before_its_resume(
    make: Callable[..., Service], missed: str, made_up: list[float]
) -> None:
    """Its clock runs from its start."""
    calls = Calls()
    service = make(calls, missed)
    app = Application("test")
    app.add(service, name="timer")
    await service.pause()
    async with app:
        assert service.state is State.PAUSED
        await advance(45)
        assert calls.times == []
        await service.resume()
        await advance(10)
    assert calls.times == [*(45.0 for _ in made_up), 50.0]


@KINDS
@virtual
async def test_a_pause_in_which_nothing_was_missed_changes_nothing(make: Callable[..., Service]) -> None:
    """Whatever `missed` says."""
    for missed in ("skip", "once", "all"):
        calls = Calls()
        async with started(make(calls, missed)) as app:
            began = asyncio.get_running_loop().time()
            await advance(12 - began % 10)
            await app["timer"].pause()
            await advance(5)
            await app["timer"].resume()
            await advance(5)
        assert len(calls.times) == 2
        assert calls.times[1] - calls.times[0] == 10.0


@KINDS
@virtual
async def test_a_call_that_is_at_work_ends_before_it_is_paused(make: Callable[..., Service]) -> None:
    """So what it works on is free then; and the next comes only after the resume."""
    calls = Calls(slow=4)
    async with started(make(calls)) as app:
        await advance(11)
        assert calls.at_work == 1
        pausing = asyncio.create_task(app["timer"].pause())
        await settle()
        assert app["timer"].state is State.PAUSING
        await pausing
        assert asyncio.get_running_loop().time() == 14
        assert calls.at_work == 0
        await app["timer"].resume()
        await advance(7)
    assert calls.times == [10.0, 20.0]


@virtual
async def test_no_call_begins_once_it_pauses() -> None:
    """Neither at the very moment that it waited for, nor among those that it catches up with."""
    states: list[State] = []

    async def pause(service: Service, turns: int) -> None:
        await asyncio.sleep(10)
        for _ in range(turns):
            await asyncio.sleep(0)
        await service.pause()

    for turns in range(12):
        service = Timer(10, lambda: states.append(service.state), missed="all")  # noqa: B023
        pausing = asyncio.create_task(pause(service, turns))
        await asyncio.sleep(0)  # its ten seconds are over just before those of the timer
        async with started(service):
            await pausing
            await advance(90)
            await service.resume()
            for _ in range(turns):
                await asyncio.sleep(0)
            await service.pause()
    assert set(states) == {State.RUNNING}


@virtual
async def test_catching_up_ends_with_the_call_that_is_at_work_when_it_is_paused() -> None:
    """Those that are still owed come after the resume."""
    calls = Calls(slow=1)
    async with started(timer(calls, "all")) as app:
        await app["timer"].pause()
        await advance(35)
        await app["timer"].resume()
        await advance(1.5)
        await app["timer"].pause()
        await advance(10)
        assert calls.times == [35.0, 36.0]
        await app["timer"].resume()
        await advance(1.5)
    assert calls.times == [35.0, 36.0, 47.0, 48.0]


@KINDS
@virtual
async def test_a_call_that_takes_longer_than_pause_timeout_fails_the_timer(make: Callable[..., Service]) -> None:
    """As any on_pause that takes too long."""
    calls = Calls(slow=100)
    async with started(make(calls), pause_timeout=3, restart="never") as app:
        await advance(11)
        with pytest.raises(PauseFailed) as caught:
            await app["timer"].pause()
        assert isinstance(caught.value.exceptions[0], PauseTimeout)
        assert app["timer"].state is State.FAILED


@KINDS
@virtual
async def test_it_never_wakes_while_it_is_paused(make: Callable[..., Service]) -> None:
    """No deadline in the application's heap, and none on the loop."""
    async with started(make(Calls())) as app:
        await advance(1)
        loop: Any = asyncio.get_running_loop()
        assert len(app._root_engine.deadlines) == 1
        await app["timer"].pause()
        await settle()
        assert len(app._root_engine.deadlines) == 0
        assert [handle for handle in loop._scheduled if not handle.cancelled()] == []
        await app["timer"].resume()
        await settle()
        assert len(app._root_engine.deadlines) == 1


@KINDS
@virtual
async def test_it_stops_at_once_while_it_is_paused_or_about_to_be(make: Callable[..., Service]) -> None:
    """And a call that is at work is still let finish."""
    calls = Calls(slow=4)
    async with started(make(calls)) as app:
        await app["timer"].pause()
        await app["timer"].stop()
        assert asyncio.get_running_loop().time() == 0
        await app["timer"].start()
        await advance(11)
        pausing = asyncio.create_task(app["timer"].pause())
        await settle()
        await app["timer"].stop()
        assert (asyncio.get_running_loop().time(), calls.at_work) == (14, 0)
        await asyncio.gather(pausing, return_exceptions=True)


@pytest.mark.parametrize(("missed", "more"), [("skip", []), ("once", []), ("all", [25.0, 25.0])])
@virtual
async def test_the_call_at_the_start_comes_at_the_resume_where_it_starts_paused(missed: Any, more: list[float]) -> None:
    """It belongs to the start and to no moment; it would else come a whole period late."""
    calls = Calls()
    service = Timer(10, calls, missed=missed, at_start=True)
    app = Application("test")
    app.add(service, name="timer")
    await service.pause()
    async with app:
        await advance(25)
        await service.resume()
        await advance(6)
    assert calls.times == [25.0, *more, 30.0]


@virtual
async def test_a_call_of_an_older_life_that_would_not_end_holds_up_no_pause() -> None:
    """It was reported and left behind."""
    loop = asyncio.get_running_loop()
    released = loop.create_future()
    number = 0

    async def stubborn() -> None:
        nonlocal number
        number += 1
        while number == 1 and not released.done():
            try:
                await asyncio.shield(released)
            except asyncio.CancelledError:
                continue

    app = Application("test")
    group = app.add(Group(), name="group")
    service = group.add(Timer(10, stubborn), name="timer", drain_timeout=1, stop_timeout=1)
    await app.start()
    await advance(11)
    with pytest.raises(StopFailed):
        await service.stop()
    await group.pause()
    await service.start()
    assert service.state is State.PAUSED
    await group.resume()
    await service.pause()
    assert service.state is State.PAUSED
    released.set_result(None)
    await app.stop()


# -- calls that take too long ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missed", "expected"),
    [("skip", [10.0, 50.0, 60.0]), ("once", [10.0, 45.0, 50.0, 60.0]), ("all", [10.0, 45.0, 45.0, 45.0, 50.0, 60.0])],
)
@KINDS
@virtual
async def test_cron_has_the_same_words_for_calls_that_take_too_long(
    make: Callable[..., Service], missed: str, expected: list[float]
) -> None:
    """The first takes 35 seconds; those of 20, 30 and 40 are missed."""
    calls = Calls(slow=35)
    async with started(make(calls, missed)):
        await advance(11)
        calls.slow = 0
        await advance(54)
    assert calls.times == expected


@virtual
async def test_cron_that_makes_up_with_one_call_does_not_look_at_each_time_that_was_missed() -> None:
    """After a year of seconds it calls once, at once."""
    calls = Calls()
    service = Cron("* * * * * *", calls, missed="once")
    async with started(service):
        await service.pause()
        await asyncio.sleep(365 * 86_400)
        await service.resume()
        await settle()
        assert calls.times == [365 * 86_400.0]


# -- options taken live ------------------------------------------------------------------------------------------------


@virtual
async def test_a_new_period_counts_from_the_reload() -> None:
    """While it waits, and while a call is at work."""
    calls = Calls(slow=1)
    service = Timer(10, calls)
    async with started(service):
        await advance(13)
        await service.on_reload(4, calls)
        await advance(9.5)  # in the middle of the call of 21
        assert calls.times == [10.0, 17.0, 21.0]
        await service.on_reload(4, calls, missed="once")  # the same period: nothing is moved
        await advance(3)
        assert calls.times == [10.0, 17.0, 21.0, 25.0]
        await service.on_reload(10, calls)
        await advance(10)
    assert calls.times == [10.0, 17.0, 21.0, 25.0, 35.5]


@virtual
async def test_a_new_call_and_a_new_missed_are_taken_too() -> None:
    """The next moment is where it was."""
    first, second = Calls(), Calls()
    service = Timer(10, first)
    async with started(service):
        await advance(13)
        await service.on_reload(10, second, missed="all")
        await service.pause()
        await advance(20)
        await service.resume()
        await advance(8)
    assert (first.times, second.times) == ([10.0], [33.0, 33.0, 40.0])


@virtual
async def test_a_new_expression_is_taken_live() -> None:
    """The time it waited for is forgotten."""
    calls = Calls()
    service = Cron("0 0 1 1 *", calls)
    async with started(service):
        await advance(25)
        await service.on_reload("*/10 * * * * *", calls, missed="all")
        await advance(16)
        assert calls.times == [30.0, 40.0]
        await service.on_reload("0 0 1 1 *", calls)
        await advance(60)
    assert calls.times == [30.0, 40.0]


@virtual
async def test_a_wrong_option_changes_nothing() -> None:
    """The reload fails of it."""
    calls = Calls()
    service, other = Timer(10, calls), Cron("*/10 * * * * *", calls)
    for wrong in (service.on_reload(0, calls), service.on_reload(3, calls, missed="no"),  # type: ignore[arg-type]
                  other.on_reload("no", calls), other.on_reload("* * * * *", calls, tz="no")):  # fmt: skip
        with pytest.raises(ValueError, match=r"period|missed|cron|zone"):
            await wrong
    assert (service.every, other.expression) == (10.0, "*/10 * * * * *")
