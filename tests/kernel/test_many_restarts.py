"""10,000 restarts of one service: memory, tasks and file descriptors stay flat.

Flat means: from the middle to the end nothing has grown, beyond what one incarnation holds or not as its turn may be.
Memory is counted in blocks that Python has allocated, after a garbage collection: that is exact and free, and a leak
of one small object a restart would be thousands of them.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from plait import Application, Group, Service, State, degraded
from plait.errors import StopFailed
from plait.net import Server
from plait.observe.eventlog import EventLog
from plait.testing import VirtualLoop

RESTARTS = 10_000
FEWER = 2_000
"""Of what is a variation of it."""
GROWTH = 100
"""Blocks that may be there at the end and were not in the middle."""


@dataclass(frozen=True)
class Held:
    """What the process holds."""

    blocks: int
    tasks: int
    descriptors: int
    timers: int


def held(loop: Any) -> Held:
    """Now, after garbage collections."""
    for _ in range(3):  # what finalizers let go needs another
        gc.collect()
    timers = [timer for timer in getattr(loop, "_scheduled", ()) if not timer.cancelled()]
    return Held(sys.getallocatedblocks(), len(asyncio.all_tasks(loop)), len(os.listdir("/proc/self/fd")), len(timers))


def assert_flat(middle: Held, end: Held, count: int) -> None:
    """Nothing has grown in `count` restarts."""
    growth = end.blocks - middle.blocks
    print(f"{growth} blocks more after {count} restarts; {end}")
    assert growth < GROWTH, f"{growth / count:.2f} blocks a restart"
    assert (end.tasks, end.descriptors, end.timers) <= (middle.tasks, middle.descriptors, middle.timers)


@asynccontextmanager
async def opened() -> AsyncIterator[int]:
    """A real descriptor."""
    read, write = os.pipe()
    try:
        yield read
    finally:
        os.close(read)
        os.close(write)


class Busy(Service):
    """Enters, spawns, watches, is checked and says how it is; fails after `life` seconds if there are any."""

    def __init__(self, life: float | None = None) -> None:
        self.life = life
        self.starts = 0

    async def on_start(self) -> None:
        self.starts += 1
        self.pipe = await self.enter(opened())
        self.spawn(asyncio.Event().wait(), name="chore")
        self._announce(f"tcp://127.0.0.1:{self.starts}")

    async def run(self) -> None:
        assert not self.stopping.is_set()
        await self.unpaused()
        if self.life is not None:
            await asyncio.sleep(self.life)
            raise OSError(f"failure {self.starts}")
        await asyncio.Event().wait()

    async def on_drain(self) -> None:
        await asyncio.sleep(0)

    async def on_stop(self) -> None:
        await asyncio.sleep(0)

    async def on_pause(self) -> None: ...

    async def on_resume(self) -> None: ...

    async def check(self) -> Any:
        return degraded("odd") if self.starts % 2 else None


def watched(app: Application) -> tuple[list[int], asyncio.Task[None]]:
    """Sinks on it, one of them a reader in a task of its own; how many events each has seen."""
    seen = [0, 0]

    def count(_: object) -> None:
        seen[0] += 1

    async def read() -> None:
        async for _ in app.events():
            seen[1] += 1

    app.subscribe(count)
    app.subscribe(EventLog(app))
    return seen, asyncio.ensure_future(read())


def on_virtual_clock(main: Callable[[], Awaitable[None]]) -> None:
    """Run it there."""
    loop = VirtualLoop()
    try:
        loop.run_until_complete(main())
        assert not loop.failures
    finally:
        loop.close()


async def until(condition: Callable[[], bool]) -> None:
    """Look once a minute."""
    while not condition():
        await asyncio.sleep(60)


def test_restarts_after_failures(caplog: pytest.LogCaptureFixture) -> None:
    """A service that fails after a minute of health, and is started again after its delay: a week of the clock."""
    caplog.set_level("CRITICAL", "plait")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        app = Application("shop")
        busy = app.add(Busy(life=61), name="busy")
        app.add(Service(), name="needing", needs=["busy"])
        seen, reader = watched(app)
        await app.start()
        await until(lambda: busy.starts > RESTARTS // 2)
        middle = held(loop)
        await until(lambda: busy.starts > RESTARTS)
        assert_flat(middle, held(loop), RESTARTS // 2)
        told = app.snapshot().services[0]
        assert told.restarts >= RESTARTS - 1
        assert told.failures == 1
        with suppress(StopFailed):  # it may fail in the very turn in which it is stopped
            await app.stop()
        await reader
        assert seen[0] == seen[1] > 6 * RESTARTS

    on_virtual_clock(main)


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_restarts_of_a_group(strategy: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A failure that takes the others of its group along each time."""
    caplog.set_level("CRITICAL", "plait")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        app = Application("shop")
        group = app.add(Group(strategy=strategy), name="group")
        busy = group.add(Busy(life=61), name="busy")
        other = group.add(Busy(), name="other", needs=["busy"])
        _, reader = watched(app)
        await app.start()
        await until(lambda: busy.starts > FEWER // 2)
        middle = held(loop)
        await until(lambda: busy.starts > FEWER)
        assert_flat(middle, held(loop), FEWER // 2)
        assert abs(other.starts - busy.starts) < 2
        await app.stop()
        await reader

    on_virtual_clock(main)


@pytest.mark.parametrize("verb", ["restart", "stop and start", "pause and resume", "add and remove"])
def test_commands(verb: str, caplog: pytest.LogCaptureFixture) -> None:
    """What an operator does to it, so often."""
    caplog.set_level("CRITICAL", "plait")
    half = (RESTARTS if verb == "restart" else FEWER) // 2

    async def main() -> None:
        loop = asyncio.get_running_loop()
        app = Application("shop")
        busy = app.add(Busy(), name="busy")
        app.add(Service(), name="needing", needs=["busy"])
        _, reader = watched(app)
        await app.start()

        async def once() -> None:
            if verb == "restart":
                await busy.restart()
            elif verb == "stop and start":
                await busy.stop()
                await busy.start()
            elif verb == "pause and resume":
                await busy.pause()
                await busy.resume()
            else:
                await app.add(Busy(), name="late", needs=["busy"]).start()
                await app.remove("late")

        for _ in range(half):
            await once()
        middle = held(loop)
        for _ in range(half):
            await once()
        assert_flat(middle, held(loop), half)
        assert busy.state is State.RUNNING
        await app.stop()
        await reader

    on_virtual_clock(main)


async def test_restarts_of_a_real_server(caplog: pytest.LogCaptureFixture) -> None:
    """On a real loop, with a real socket and a client in each incarnation; 400 of them."""
    caplog.set_level("CRITICAL", "plait")
    count, loop = 400, asyncio.get_running_loop()

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await writer.drain()

    app = Application("shop")
    server = app.add(Server("tcp://127.0.0.1:0", greet), name="server")
    _, reader = watched(app)

    async def once() -> None:
        port = int(app.snapshot().services[0].endpoints[0].rpartition(":")[2])
        read, write = await asyncio.open_connection("127.0.0.1", port)
        assert await read.read() == b"hello"
        write.close()
        await write.wait_closed()
        await server.restart()

    async with app:
        for _ in range(count // 2):
            await once()
        middle = held(loop)
        for _ in range(count // 2):
            await once()
        assert_flat(middle, held(loop), count // 2)
        assert app.snapshot().services[0].incarnation == count + 1
    await reader
