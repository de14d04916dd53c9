"""One heap for all deadlines of a tree.

Rules: the loop holds at most one timer, for the earliest live deadline, and none when there is none, so an idle
tree never wakes. Almost every deadline is cancelled, most of them within a turn of the loop: a fresh one waits that
turn out beside the heap, and one that is cancelled in the heap stays until it comes to the top or the dead are the
majority. So setting and cancelling are O(1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count

_MIN_COMPACT = 64


class Deadline:
    """A moment of the loop's clock at which something is called, unless cancelled before."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback


class Deadlines:
    """The heap. Times are seconds of `loop.time()`."""

    __slots__ = ("_armed", "_fresh", "_heap", "_live", "_loop", "_sequence", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Deadline]] = []
        self._fresh: list[Deadline] = []
        self._live = 0
        self._sequence = count()
        self._timer: asyncio.TimerHandle | None = None
        self._armed = 0.0

    def __len__(self) -> int:
        return self._live

    def after(self, delay: float, callback: Callable[[], None]) -> Deadline:
        """Call `callback` in `delay` seconds; the handle is for `cancel`."""
        deadline = Deadline(self._loop.time() + delay, callback)
        if not self._fresh:
            self._loop.call_soon(self._loop.call_soon, self._settle)
        self._fresh.append(deadline)
        self._live += 1
        return deadline

    def cancel(self, deadline: Deadline) -> None:
        """Forget it; legal at any time, also after it was called."""
        if deadline.callback is None:
            return
        deadline.callback = None
        self._live -= 1
        if not self._live:
            self._heap.clear()
            self._disarm()
        elif self._live < len(self._heap) // 2 > _MIN_COMPACT:
            self._heap = [entry for entry in self._heap if entry[2].callback is not None]
            heapify(self._heap)

    def _settle(self) -> None:
        """Those that outlived a turn of the loop go into the heap."""
        fresh, self._fresh = self._fresh, []
        for deadline in fresh:
            if deadline.callback is not None:
                heappush(self._heap, (deadline.when, next(self._sequence), deadline))
        if self._heap and (self._timer is None or self._heap[0][0] < self._armed):
            self._arm(self._heap[0][0])

    def _arm(self, when: float) -> None:
        self._disarm()
        self._armed = when
        self._timer = self._loop.call_at(when, self._due)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        now = self._loop.time()
        heap = self._heap
        while heap and (heap[0][2].callback is None or heap[0][0] <= now):
            deadline = heappop(heap)[2]
            if deadline.callback is not None:
                callback, deadline.callback = deadline.callback, None
                self._live -= 1
                callback()
                heap = self._heap  # a callback may have compacted it
        if heap and self._timer is None:
            self._arm(heap[0][0])
