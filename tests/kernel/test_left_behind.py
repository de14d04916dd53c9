"""What a life leaves behind when it would not end: it is named, and cannot act for the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from plait import Application, Service, State
from plait._kernel.whose import life_of
from plait.errors import LifecycleError


class Stubborn(Service):
    """In its first incarnation its run goes on, whatever it is told, until it is let go; then it tries `late`."""

    readiness = "manual"

    def __init__(self, late: Callable[[Service], object] = lambda service: None) -> None:
        self.late = late
        self.let_go = asyncio.Event()
        self.diary: list[str] = []
        self.refused: list[str] = []

    async def on_start(self) -> None:
        self.diary.append("start")

    async def run(self) -> None:
        if "again" not in self.diary:
            self.ready()
            self.diary.append("again")
            while not self.let_go.is_set():
                with suppress(asyncio.CancelledError):
                    await self.let_go.wait()
            try:
                self.late(self)
            except LifecycleError as error:
                self.refused.append(str(error))
            return
        await asyncio.Event().wait()

    async def on_stop(self) -> None:
        self.diary.append("stop")


async def in_its_second_life(stubborn: Stubborn) -> None:
    """Restarted, and not ready yet; the task of its first life is let go, and has ended."""
    restarting = asyncio.create_task(stubborn.restart())
    while stubborn._record.incarnation < 2 or stubborn.diary.count("start") < 2:
        await asyncio.sleep(0.001)
    stubborn.let_go.set()
    for _ in range(5):
        await asyncio.sleep(0)
    restarting.cancel()
    await asyncio.wait([restarting])


LATE: dict[str, Callable[[Service], object]] = {
    "ready": lambda service: service.ready(),
    "spawn": lambda service: service.spawn(asyncio.sleep(60)),
    "stopping": lambda service: service.stopping,
    "extend_start": lambda service: service.extend_start(60),
}


@pytest.mark.parametrize("what", LATE)
async def test_it_cannot_act_for_the_next_life(what: str) -> None:
    """What it asks is refused, and says why; the next life is as it was."""
    app = Application("shop")
    stubborn = app.add(Stubborn(LATE[what]), name="stubborn", stop_timeout=0.02)
    app.add(Service(), name="other")
    async with app:
        await in_its_second_life(stubborn)
        assert stubborn.state is State.STARTING
        (refused,) = stubborn.refused
        assert "service 'stubborn' is in another incarnation than the caller, whose own, number 1, is over" in refused
        await stubborn.stop()
    assert app.left_behind[0].startswith("service 'stubborn': its task at ")


async def test_its_on_stop_does_not_take_from_the_next_life() -> None:
    """It has ended at last, but what its on_stop would give back is in use again."""
    app = Application("shop")
    stubborn = app.add(Stubborn(), name="stubborn", stop_timeout=0.02)
    app.add(Service(), name="other")
    async with app:
        await in_its_second_life(stubborn)
        assert stubborn.diary == ["start", "again", "start"]
        await stubborn.stop()
    assert stubborn.diary[-1] == "stop"


async def test_its_on_stop_is_called_late_if_there_is_no_next_life() -> None:
    """Then nothing else gives back what on_start took."""
    app = Application("shop")
    stubborn = app.add(Stubborn(), name="stubborn", stop_timeout=0.02)
    app.add(Service(), name="other")
    with suppress(ExceptionGroup):
        async with app:
            pass
    assert "stop" not in stubborn.diary
    stubborn.let_go.set()
    while "stop" not in stubborn.diary:
        await asyncio.sleep(0)


async def test_a_task_knows_the_life_it_comes_from() -> None:
    """Its own, one that nobody owns, one that this one made, and one of a callback; none of the caller's does."""
    found: list[asyncio.Task[None]] = []

    class Careless(Service):
        async def on_start(self) -> None:
            found.append(asyncio.ensure_future(self.sleep()))
            asyncio.get_running_loop().call_soon(lambda: found.append(asyncio.ensure_future(self.sleep())))
            await asyncio.sleep(0)

        async def sleep(self) -> None:
            if len(found) < 5:
                found.append(asyncio.ensure_future(asyncio.sleep(60)))
            await asyncio.sleep(60)

        async def on_stop(self) -> None:
            for task in found:
                task.cancel()

    app = Application("shop")
    careless = app.add(Careless(), name="careless")
    async with app:
        mine = asyncio.current_task()
        assert mine is not None
        assert life_of(mine) is None
        assert len(found) > 2
        for task in found:
            life = life_of(task)
            assert life is not None
            assert (life.record, life.number) == (careless._record, 1)
    await asyncio.wait(found)
