"""Threads that wait for work.

Rules: work is done in the order in which it comes, by up to `max` threads; one more starts when all are busy, and
`min` of them are kept. Work that comes before `start` waits for it. `stop` lets all work that was taken be done, and
waits for the threads. What work raises is logged unless whoever gave it asked to be told.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from plait.classic.python import log
from plait.classic.python.failure import Failure

Work = list[Any]
"""Whom to tell, what to call and with what, and in which context; emptied once it is begun."""


class ThreadPool:
    """A pool of between `minthreads` and `maxthreads` threads, whose names begin with `name`."""

    min = 5
    max = 20
    joined = False
    started = False
    name: str | None = None

    threadFactory = threading.Thread
    currentThread = staticmethod(threading.current_thread)

    def __init__(self, minthreads: int = 5, maxthreads: int = 20, name: str | None = None) -> None:
        assert minthreads >= 0, "minimum is negative"
        assert minthreads <= maxthreads, "minimum is greater than maximum"
        self.min = minthreads
        self.max = maxthreads
        self.name = name
        self.threads: list[threading.Thread] = []
        self.waiters: list[threading.Thread] = []
        """Threads that wait for work."""
        self.working: list[threading.Thread] = []
        """Threads that do some."""
        self._work: deque[Work] = deque()
        self._leaving = 0
        self._changed = threading.Condition()

    @property
    def workers(self) -> int:
        """How many threads there are."""
        return len(self.threads) - self._leaving

    @property
    def q(self) -> deque[Work]:
        """The work that waits."""
        return self._work

    def start(self) -> None:
        """Begin to work."""
        self.joined = False
        self.started = True
        self.adjustPoolsize()

    def startAWorker(self) -> None:
        """One thread more."""
        with self._changed:
            self._start_one()

    def stopAWorker(self) -> None:
        """One thread less, once it has nothing to do."""
        with self._changed:
            self._leaving += 1
            self._changed.notify()

    def callInThread(self, func: Callable[..., object], *args: Any, **kw: Any) -> None:
        """Call this in a thread; what it raises is logged."""
        self.callInThreadWithCallback(None, func, *args, **kw)

    def callInThreadWithCallback(
        self, onResult: Callable[[bool, Any], object] | None, func: Callable[..., Any], *args: Any, **kw: Any
    ) -> None:
        """Call this in a thread, and then, there, `onResult`: with True and the result, or with False and a Failure.

        After `stop` it is not called at all.
        """
        if self.joined:
            return
        with self._changed:
            self._work.append([onResult, func, args, kw, contextvars.copy_context()])
            if self.started and len(self._work) > len(self.waiters) and self.workers < self.max:
                self._start_one()
            self._changed.notify()

    def stop(self) -> None:
        """Do what was taken, then end the threads; returns when they have ended."""
        self.joined = True
        self.started = False
        with self._changed:
            self._leaving = len(self.threads)
            self._changed.notify_all()
            threads = list(self.threads)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()

    def adjustPoolsize(self, minthreads: int | None = None, maxthreads: int | None = None) -> None:
        """Have other limits from now on."""
        least = self.min if minthreads is None else minthreads
        most = self.max if maxthreads is None else maxthreads
        assert least >= 0, "minimum is negative"
        assert least <= most, "minimum is greater than maximum"
        self.min, self.max = least, most
        if not self.started:
            return
        with self._changed:
            self._leaving += max(0, self.workers - most)
            while self.workers < least or (self.workers < most and len(self._work) > len(self.waiters)):
                self._start_one()
            self._changed.notify_all()

    def dumpStats(self) -> None:
        """Log what there is."""
        log.msg(f"waiters: {self.waiters}")
        log.msg(f"workers: {self.working}")
        log.msg(f"total: {self.threads}")

    def __getstate__(self) -> dict[str, Any]:
        """What to pickle: the limits."""
        return {"min": self.min, "max": self.max, "name": self.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["min"], state["max"], state["name"])  # type: ignore[misc]

    def _start_one(self) -> None:
        name = f"PoolThread-{self.name or id(self)}-{len(self.threads)}"
        thread = self.threadFactory(name=name, target=self._worker, daemon=True)
        self.threads.append(thread)
        self.waiters.append(thread)
        thread.start()

    def _worker(self) -> None:
        thread = self.currentThread()
        while (work := self._next(thread)) is not None:
            _do(work)

    def _next(self, thread: threading.Thread) -> Work | None:
        """The next work, or None if this thread is to end."""
        with self._changed:
            if thread in self.working:
                self.working.remove(thread)
                self.waiters.append(thread)
            self._changed.wait_for(lambda: self._work or self._leaving)
            self.waiters.remove(thread)
            if not self._work or (self._leaving and not self.joined):
                self._leaving -= 1
                self.threads.remove(thread)
                return None
            self.working.append(thread)
            return self._work.popleft()


def _do(work: Work) -> None:
    """Call, then tell; what was called with is let go before whoever is told could ask for it."""
    onResult, func, args, kw, context = work
    work.clear()
    try:
        ok, result = True, context.run(func, *args, **kw)
    except BaseException:
        ok, result = False, Failure()
        if onResult is None:
            log.err(result)
    del func, args, kw
    if onResult is not None:
        try:
            context.run(onResult, ok, result)
        except BaseException:
            log.err()


__all__ = ["ThreadPool"]
