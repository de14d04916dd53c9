"""The heap of deadlines: in order, one loop timer at most, none when nothing is due."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from plait._kernel.deadlines import Deadlines


class CountingLoop:
    """The running loop, counting the timers that are armed through it."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.handles: list[asyncio.TimerHandle] = []
        self.time = self.loop.time

    call_soon = property(lambda self: self.loop.call_soon)

    def call_at(self, when: float, callback: Any) -> asyncio.TimerHandle:
        self.handles.append(self.loop.call_at(when, callback))
        return self.handles[-1]

    @property
    def armed(self) -> int:
        return sum(not handle.cancelled() and handle.when() > self.time() for handle in self.handles)


async def test_they_come_in_the_order_of_their_time() -> None:
    """Whatever the order in which they were set, and those of one moment in the order of setting."""
    deadlines, came = Deadlines(asyncio.get_running_loop()), []
    done = asyncio.Event()
    delays = [random.Random(1).uniform(0, 0.02) for _ in range(50)]
    for delay in delays:
        deadlines.after(delay, lambda delay=delay: came.append(delay))
    deadlines.after(0.03, done.set)
    await done.wait()
    assert came == sorted(delays)


async def test_a_cancelled_one_does_not_come() -> None:
    """Also one that shares its moment with another, and cancelling twice is legal."""
    deadlines, came, done = Deadlines(asyncio.get_running_loop()), [], asyncio.Event()
    gone = deadlines.after(0.001, lambda: came.append("gone"))
    deadlines.after(0.001, lambda: came.append("stays"))
    deadlines.cancel(gone)
    deadlines.cancel(gone)
    deadlines.after(0.002, done.set)
    await done.wait()
    assert came == ["stays"]


async def test_one_timer_at_most_and_none_when_all_are_cancelled() -> None:
    """A thousand deadlines arm one timer; cancelling them leaves nothing that could wake the loop."""
    loop = CountingLoop()
    deadlines = Deadlines(loop)  # type: ignore[arg-type]
    handles = [deadlines.after(60 + index % 7, lambda: None) for index in range(1000)]
    for _ in range(3):
        await asyncio.sleep(0)
    assert loop.armed == 1
    for handle in handles:
        deadlines.cancel(handle)
    assert len(deadlines) == 0
    assert loop.armed == 0


async def test_cancelled_ones_do_not_pile_up() -> None:
    """10,000 set and cancelled beside one that lives: the heap stays small."""
    deadlines = Deadlines(asyncio.get_running_loop())
    alive = deadlines.after(60, lambda: None)
    for _ in range(100):
        handles = [deadlines.after(30, lambda: None) for _ in range(100)]
        for _ in range(3):
            await asyncio.sleep(0)  # into the heap
        for handle in handles:
            deadlines.cancel(handle)
    assert len(deadlines._heap) < 300
    deadlines.cancel(alive)


async def test_a_callback_may_set_and_cancel_others() -> None:
    """Also while they are being called."""
    deadlines, came, done = Deadlines(asyncio.get_running_loop()), [], asyncio.Event()

    def first() -> None:
        came.append("first")
        deadlines.cancel(second)
        deadlines.after(0.001, done.set)

    deadlines.after(0.001, first)
    second = deadlines.after(0.0011, lambda: came.append("second"))
    await done.wait()
    assert came == ["first"]
