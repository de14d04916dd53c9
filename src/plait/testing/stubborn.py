"""A coroutine that no cancellation reaches, for a time: it goes on with its work in the same task.

How: what it waits for is not handed to the task, but a stand-in that ends with it. A cancellation of the task cancels
the stand-in, which is replaced; when the time is over, what the coroutine really waits for is cancelled. To the task
the timeouts of the coroutine itself are cancellations like any, and do not reach it either.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any


class Stubborn:
    """`seconds` after the first cancellation it gives in; None: never, until `give_in` is called."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._real: asyncio.Future[Any] | None = None
        """What the coroutine waits for."""
        self._timer: asyncio.TimerHandle | None = None
        self._gives_in = False
        self._owed = False
        """A cancellation was ignored, and has to reach it when it gives in."""

    def give_in(self) -> None:
        """From now on cancellations reach it; those that were ignored do so now, as one."""
        self._gives_in = True
        self._pay()

    def _pay(self) -> None:
        if self._owed and self._gives_in and self._real is not None:
            self._owed = False
            self._real.cancel()

    async def drive(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What `work` returns or raises."""
        try:
            return await self._steps(work)
        finally:
            if self._timer is not None:
                self._timer.cancel()

    @types.coroutine
    def _steps(self, work: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        while True:
            try:
                self._real = work.send(None)
            except StopIteration as done:
                return done.value
            yield from self._wait()

    def _wait(self) -> Generator[Any, Any, None]:
        """Until what it waits for is done; a bare turn of the loop has nothing that could be cancelled."""
        real = self._real
        if real is None:
            try:
                yield None
            except asyncio.CancelledError:
                self._cancelled()
            return
        real._asyncio_future_blocking = False
        self._pay()
        while not real.done():
            stand_in = asyncio.get_running_loop().create_future()
            end = partial(_end, stand_in)
            real.add_done_callback(end)
            try:
                yield from stand_in
            except asyncio.CancelledError:
                self._cancelled()
            finally:
                real.remove_done_callback(end)

    def _cancelled(self) -> None:
        self._owed = True
        self._pay()
        if self._seconds is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self.give_in)


def _end(stand_in: asyncio.Future[None], _: asyncio.Future[Any]) -> None:
    if not stand_in.done():
        stand_in.set_result(None)
