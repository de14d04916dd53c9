"""One heap for all deadlines of a tree.

Rules: the loop holds at most one timer, for the earliest live deadline, and none when there is none, so an idle
tree never wakes. A cancelled deadline stays in the heap until it comes to the top or until dead ones are the
majority: cancelling is then O(1), which matters because almost every deadline is cancelled.
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

    __slots__ = ("_armed", "_heap", "_live", "_loop", "_sequence", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Deadline]] = []
        self._live = 0
        self._sequence = count()
        self._timer: asyncio.TimerHandle | None = None
        self._armed = 0.0

    def __len__(self) -> int:
        return self._live

    def after(self, delay: float, callback: Callable[[], None]) -> Deadline:
        """Call `callback` in `delay` seconds; the handle is for `cancel`."""
        when = self._loop.time() + delay
        deadline = Deadline(when, callback)
        heappush(self._heap, (when, next(self._sequence), deadline))
        self._live += 1
        if self._timer is None or when < self._armed:
            self._arm(when)
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
        elif len(self._heap) > _MIN_COMPACT and self._live < len(self._heap) // 2:
            self._heap = [entry for entry in self._heap if entry[2].callback is not None]
            heapify(self._heap)

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
