"""`@service`: a generator that yields once."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator

import pytest

from diary import Diary
from plait import Application, State, service
from plait.errors import ApplicationFailed, LifecycleError, StartFailed


@service
async def pool(diary: Diary, size: int = 2) -> AsyncIterator[list[int]]:
    """A pool of numbers."""
    diary.append("open")
    try:
        yield list(range(size))
    finally:
        diary.append("close")


async def test_before_the_yield_is_the_start_and_after_it_the_stop(diary: Diary) -> None:
    """And what it yields is its value."""
    app = Application("shop")
    numbers = app.add(pool(diary, size=3))
    assert numbers.name == "pool"
    with pytest.raises(LifecycleError, match="no value yet"):
        _ = numbers.value
    async with app:
        assert numbers.value == [0, 1, 2]
        assert diary == ["open"]
        await numbers.restart()
    assert diary == ["open", "close", "open", "close"]


def test_a_wrong_call_fails_at_once() -> None:
    """Not when the service starts; the signature is the function's."""
    with pytest.raises(TypeError, match="missing a required argument: 'diary'"):
        pool()  # type: ignore[call-arg]
    assert list(inspect.signature(pool).parameters) == ["diary", "size"]
    assert pool.__doc__ == "A pool of numbers."


def test_only_an_async_generator_will_do() -> None:
    """A coroutine function is no service."""

    async def wrong() -> None: ...

    with pytest.raises(TypeError, match="takes an `async def` that yields once"):
        service(wrong)  # type: ignore[arg-type]


async def test_yielding_never_fails_the_start() -> None:
    """It says what is missing."""

    @service
    async def empty() -> AsyncIterator[None]:
        if inspect.isfunction(empty):
            yield

    app = Application("shop")
    app.add(empty(), name="empty")
    with pytest.raises(StartFailed, match="service 'empty' ended before it yielded"):
        await app.serve()


async def test_yielding_twice_fails_the_stop(diary: Diary) -> None:
    """And the generator is closed all the same."""

    @service
    async def twice() -> AsyncIterator[None]:
        try:
            yield
            yield
        finally:
            diary.append("closed")

    app = Application("shop")
    twice_service = app.add(twice(), name="twice")
    with pytest.raises(ApplicationFailed, match="service 'twice' yielded twice"):
        async with app:
            pass
    assert diary == ["closed"]
    assert twice_service.state is State.FAILED
