"""A coroutine that no cancellation reaches, on asyncio's loop and on uvloop: it works on as if nothing had been."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any

import pytest

from plait.testing.stubborn import Stubborn

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


async def turns(number: int = 20) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def start(work: Coroutine[Any, Any, Any], seconds: float | None = None) -> tuple[Stubborn, asyncio.Task[Any]]:
    stubborn = Stubborn(seconds)
    task = asyncio.create_task(stubborn.drive(work))
    await turns(2)
    return stubborn, task


async def test_what_it_returns_and_raises_comes_through() -> None:
    """After waits of every kind: a future, a task, a bare turn, a thread, a lock, a task group."""

    async def work() -> str:
        task = asyncio.current_task()
        VARIABLE.set("mine")
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        await asyncio.create_task(turns())
        await asyncio.to_thread(int)
        async with asyncio.Lock(), asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(turns())
        assert asyncio.current_task() is task
        assert VARIABLE.get() == "mine"
        return "done"

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    assert await Stubborn(None).drive(work()) == "done"
    with pytest.raises(ZeroDivisionError):
        await Stubborn(None).drive(fails())


async def test_no_cancellation_reaches_it() -> None:
    """However many, and wherever it is: what it waits for is still awaited, not cancelled."""
    future = asyncio.get_running_loop().create_future()
    steps: list[str] = []

    async def work() -> str:
        await turns(5)
        steps.append("turns")
        steps.append(await future)
        return "done"

    _, task = await start(work())
    for _ in range(20):
        task.cancel()
        await asyncio.sleep(0)
    assert steps == ["turns"]
    assert not future.done()
    future.set_result("future")
    assert await task == "done"
    assert steps == ["turns", "future"]


async def test_giving_in_cancels_once_and_properly() -> None:
    """What it waited for is cancelled, its `finally` runs and may wait."""
    steps: list[str] = []

    async def inner() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await turns(3)
            steps.append("inner")

    async def work() -> None:
        try:
            await asyncio.create_task(inner())
        finally:
            await turns(3)
            steps.append("outer")

    stubborn, task = await start(work())
    for _ in range(3):
        task.cancel()
        await turns(2)
    assert steps == []
    stubborn.give_in()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps == ["inner", "outer"]


async def test_it_gives_in_by_itself_after_the_first_cancellation() -> None:
    """`seconds` after it, and not before one came."""
    _, task = await start(asyncio.Event().wait(), 0.02)
    await asyncio.sleep(0.05)
    assert not task.done()
    loop, begin = asyncio.get_running_loop(), asyncio.get_running_loop().time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert loop.time() - begin >= 0.019


async def test_a_cancellation_after_it_gave_in_is_like_any() -> None:
    """At once, and without one that was owed nothing is cancelled."""
    stubborn, task = await start(asyncio.Event().wait())
    stubborn.give_in()
    await turns()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_is_owed_reaches_the_next_wait() -> None:
    """Where it gave in while there was nothing to cancel."""

    async def work() -> None:
        for _ in range(50):
            await asyncio.sleep(0)
        await asyncio.Event().wait()

    stubborn, task = await start(work())
    task.cancel()
    await turns(2)
    stubborn.give_in()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)


async def test_work_that_ends_in_time_leaves_no_timer() -> None:
    """Though it was about to give in."""
    future = asyncio.get_running_loop().create_future()

    async def work() -> None:
        await future

    _, task = await start(work(), 1000)
    task.cancel()
    await turns(2)
    future.set_result(None)
    await task
