"""Services whose fate a test decides, on a clock that jumps; and what has been said of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest

from plait import Application, Group, Service, State, events
from plait.testing import advance, settle

E = TypeVar("E", bound=events.Event)


virtual = pytest.mark.virtual_clock
"""A coroutine test on a virtual clock."""


class Boom(Exception):
    """What services of these tests fail of."""


class Life(Service):
    """Runs until the test says how it ends. `starts` and `stops` are seconds; `refuses` is what on_start raises."""

    def __init__(self, log: list[str] | None = None, *, starts: float = 0.0, stops: float = 0.0) -> None:
        self.diary = log if log is not None else []
        self.starts = starts
        self.stops = stops
        self.refuses: BaseException | None = None
        self.fate: asyncio.Future[None] | None = None

    async def on_start(self) -> None:
        self.diary.append(f"{self.name} starts")
        await asyncio.sleep(self.starts)
        if self.refuses is not None:
            raise self.refuses

    async def run(self) -> None:
        self.diary.append(f"{self.name} runs")
        self.fate = asyncio.get_running_loop().create_future()
        await self.fate

    async def on_stop(self) -> None:
        self.diary.append(f"{self.name} stops")
        await asyncio.sleep(self.stops)
        self.diary.append(f"{self.name} stopped")

    def fail(self, error: BaseException | None = None) -> None:
        """Now."""
        assert self.fate is not None
        self.fate.set_exception(Boom(self.name) if error is None else error)

    def finish(self) -> None:
        """Its run returns now."""
        assert self.fate is not None
        self.fate.set_result(None)

    @property
    def incarnation(self) -> int:
        """How many lives it has had."""
        return self._record.incarnation


class Still(Service):
    """Has no run, so it never ends by itself; it can be paused."""

    async def on_start(self) -> None: ...

    async def on_pause(self) -> None: ...

    async def on_resume(self) -> None: ...

    def fail(self) -> None:
        """Now, in a task of its own."""
        self.spawn(_raise(Boom(self.name)))


class Pausable(Life):
    """A Life with both hooks; `pauses` and `resumes` are the seconds they take, or what they raise."""

    pause_modes = ("hold", "refuse")

    def __init__(self, log: list[str] | None = None, *, starts: float = 0.0, stops: float = 0.0) -> None:
        super().__init__(log, starts=starts, stops=stops)
        self.pauses: float | Exception = 0.0
        self.resumes: float | Exception = 0.0

    async def on_pause(self) -> None:
        mode = f" {self._pause_mode}" if self._pause_mode else ""
        self.diary.append(f"{self.name} pauses{mode}")
        await self._take(self.pauses)

    async def on_resume(self) -> None:
        self.diary.append(f"{self.name} resumes")
        await self._take(self.resumes)

    async def _take(self, what: float | Exception) -> None:
        if isinstance(what, Exception):
            raise what
        await asyncio.sleep(what)


class Worker(Service):
    """Takes a piece of work each second, unless it is paused."""

    def __init__(self) -> None:
        self.done = 0

    async def run(self) -> None:
        while True:
            await self.unpaused()
            await asyncio.sleep(1.0)
            self.done += 1


async def _raise(error: Exception) -> None:
    raise error


class Told:
    """What an application has told since: its events, and when by the virtual clock."""

    def __init__(self, app: Application) -> None:
        self.all: list[events.Event] = []
        self.times: list[float] = []
        self._loop = asyncio.get_running_loop()
        self.unsubscribe = app.subscribe(self._take)

    def _take(self, event: events.Event) -> None:
        self.all.append(event)
        self.times.append(self._loop.time())

    def of(self, kind: type[E], path: str | None = None) -> list[E]:
        """Those of one kind, and of one service."""
        return [event for event in self.all if isinstance(event, kind) and path in (None, getattr(event, "path", None))]

    def moves(self, path: str) -> list[str]:
        """The states that a service has come to."""
        return [event.new.value for event in self.of(events.StateChanged, path)]

    def when(self, path: str, state: State) -> list[float]:
        """The moments at which it came to a state."""
        found = zip(self.all, self.times, strict=True)
        return [
            time
            for event, time in found
            if isinstance(event, events.StateChanged) and event.path == path and event.new is state
        ]


@asynccontextmanager
async def serving(app: Application) -> AsyncIterator[asyncio.Task[None]]:
    """`app.serve()` in a task, from the moment all is ready; stopped in the end, if it has not ended."""
    task = asyncio.create_task(app.serve())
    await settle()
    try:
        yield task
    finally:
        if not task.done():
            await app.stop()
            await asyncio.wait([task])
        task.exception()  # the test asks for it if it matters


def states(app: Group) -> dict[str, str]:
    """Of each service that is no group, by path, in a word."""
    services = [one for one in app.snapshot().walk() if one.path != "/"]
    return {one.path: one.state.value for one in services if not isinstance(app[one.path], Group)}


__all__ = ["Boom", "Life", "Pausable", "Still", "Told", "Worker", "advance", "serving", "settle", "states", "virtual"]
