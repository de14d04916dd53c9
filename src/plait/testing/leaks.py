"""Proof that a body leaves nothing behind: no task, timer, thread, descriptor or child process.

Rules: what is there at the end and was not at the beginning is a leak, and is named. What belongs to the loop gets a
few turns of it to be gone, what belongs to the system up to LINGER seconds, and only if there is anything. A body that
raised is not judged: what it left is a note to its exception.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Collection, Iterator
from itertools import chain
from types import TracebackType
from typing import Self

from plait.errors import Leaked
from plait.testing.holdings import Holdings, let_rest

TURNS = 10
LINGER = 1.0
"""Real seconds in which threads and child processes that are ending have ended."""
PAUSE = 0.002


class NoLeaks:
    """See `no_leaks`."""

    def __init__(self, ignore: Collection[str] = ()) -> None:
        self._ignore = ignore

    def __enter__(self) -> Self:
        self._before = Holdings(None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in self._looks(None, error):
            pass

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        let_rest(loop)
        self._before = Holdings(loop)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in self._looks(asyncio.get_running_loop(), error):
            await asyncio.sleep(0)

    def _looks(self, loop: asyncio.AbstractEventLoop | None, error: BaseException | None) -> Iterator[None]:
        """Look until nothing is left, or raise; the loop gets a turn in between."""
        left: list[str] = []
        for _ in range(TURNS):
            left = [*chain(*self._left(loop))]
            if not left:
                return
            yield
        if error is not None:
            error.add_note("left behind: " + "; ".join(left))
            return
        yield from self._linger(loop)

    def _linger(self, loop: asyncio.AbstractEventLoop | None) -> Iterator[None]:
        gc.collect()  # what only the garbage collector closes is closed, with a warning of Python's own
        end = time.monotonic() + LINGER
        while True:
            yield
            of_loop, of_system = self._left(loop)
            if not of_loop and not of_system:
                return
            if of_loop or time.monotonic() > end:
                raise Leaked([*of_loop, *of_system])
            time.sleep(PAUSE)

    def _left(self, loop: asyncio.AbstractEventLoop | None) -> tuple[list[str], list[str]]:
        of_loop, of_system = Holdings(loop).since(self._before)
        return self._judged(of_loop), self._judged(of_system)

    def _judged(self, left: list[str]) -> list[str]:
        return [text for text in left if not any(ignored in text for ignored in self._ignore)]


def no_leaks(*, ignore: Collection[str] = ()) -> NoLeaks:
    """A context manager that proves that its body leaves nothing behind: Leaked, which names each thing that was left.

    `async with`: tasks and timers of the running loop, threads, descriptors and sockets, child processes. `with`: all
    of these that no loop has. `ignore`: texts; what has one of them in its name is not counted.
    """
    return NoLeaks(ignore)
