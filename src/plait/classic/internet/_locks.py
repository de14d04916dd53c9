"""Taking turns: a lock, a semaphore, a queue, and a lock between processes.

Rules: who waits is served in the order of asking. Cancelling a Deferred that waits leaves the line; cancelling one
that was served does nothing.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from errno import ESRCH
from importlib import import_module
from typing import Any, Generic, Literal, ParamSpec, Self, TypeVar

from plait.classic.internet._deferred import Deferred, succeed
from plait.classic.internet._errors import AlreadyTryingToLockError, QueueOverflow, QueueUnderflow, TimeoutError
from plait.classic.internet._making import fail, maybeDeferred
from plait.classic.python.failure import Failure

_T = TypeVar("_T")
_P = ParamSpec("_P")


class _Turns(ABC):
    """What is acquired and released; `waiting` holds the Deferreds of those in line."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[Self]] = []

    def acquire(self) -> Deferred[Self]:
        """Fires with this object when it is the caller's turn; who got it calls `release`."""
        turn: Deferred[Self] = Deferred(self.waiting.remove)
        if self._free():
            self._take()
            turn.callback(self)
        else:
            self.waiting.append(turn)
        return turn

    def release(self) -> None:
        """End the caller's turn, which is now the next one's."""
        self._give()
        if self.waiting:
            self._take()
            waiting: Deferred[Any] = self.waiting.pop(0)
            waiting.callback(self)

    def run(self, /, f: Callable[_P, Any], *args: _P.args, **kwargs: _P.kwargs) -> Deferred[Any]:
        """What the call comes to, also if it is a Deferred or a coroutine; it has its turn until then."""

        def call(_: object) -> Deferred[Any]:
            return maybeDeferred(f, *args, **kwargs).addBoth(done)

        def done(result: Any) -> Any:
            self.release()
            return result

        return self.acquire().addCallback(call)

    def __aenter__(self) -> Deferred[Self]:
        return self.acquire()

    def __aexit__(self, *error: object) -> Deferred[Literal[False]]:
        self.release()
        return succeed(False)

    @abstractmethod
    def _free(self) -> bool: ...

    @abstractmethod
    def _take(self) -> None: ...

    @abstractmethod
    def _give(self) -> None: ...


class DeferredLock(_Turns):
    """One at a time. `locked` says whether it is somebody's turn."""

    locked = False

    def _free(self) -> bool:
        return not self.locked

    def _take(self) -> None:
        self.locked = True

    def _give(self) -> None:
        if not self.locked:
            raise AssertionError("Tried to release an unlocked lock")
        self.locked = False


class DeferredSemaphore(_Turns):
    """At most `limit` at a time; `tokens` says for how many there is room. ValueError for a limit below one."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        if tokens < 1:
            raise ValueError("DeferredSemaphore requires tokens >= 1")
        self.tokens = tokens
        self.limit = tokens

    def _free(self) -> bool:
        return self.tokens > 0

    def _take(self) -> None:
        self.tokens -= 1

    def _give(self) -> None:
        if self.tokens >= self.limit:
            raise AssertionError("Someone released me too many times: too many tokens!")
        self.tokens += 1


class DeferredQueue(Generic[_T]):
    """Objects for those who ask for one, or who wait until there is one.

    `size` is how many it holds at most, `backlog` how many may wait; None is no limit. `pending` holds the objects,
    `waiting` the Deferreds of those who wait.
    """

    def __init__(self, size: int | None = None, backlog: int | None = None) -> None:
        self.waiting: list[Deferred[_T]] = []
        self.pending: list[_T] = []
        self.size = size
        self.backlog = backlog

    def put(self, obj: _T) -> None:
        """Give it to who waits longest, or keep it. QueueOverflow if it is full."""
        if self.waiting:
            self.waiting.pop(0).callback(obj)
        elif self.size is None or len(self.pending) < self.size:
            self.pending.append(obj)
        else:
            raise QueueOverflow()

    def get(self) -> Deferred[_T]:
        """Fires with the oldest object, now or when there is one. QueueUnderflow if too many wait."""
        if self.pending:
            return succeed(self.pending.pop(0))
        if self.backlog is not None and len(self.waiting) >= self.backlog:
            raise QueueUnderflow()
        turn: Deferred[_T] = Deferred(self.waiting.remove)
        self.waiting.append(turn)
        return turn


class DeferredFilesystemLock:
    """A lock between processes: a symbolic link named `name` that points to its holder's process id.

    A link whose process is gone is taken over; `clean` is False then. `locked` says whether this object has it.
    """

    _interval = 1
    _tryLockCall: Any = None
    _timeoutCall: Any = None
    locked = False
    clean: bool | None = None

    def __init__(self, name: str, scheduler: Any = None) -> None:
        self.name = name
        if scheduler is None:
            scheduler = import_module("plait.classic.internet.reactor")
        self._scheduler = scheduler
        self._waiting: Deferred[None] | None = None

    def lock(self) -> bool:
        """Take it if it is free, or left over from a process that is gone; whether that was so."""
        clean = True
        while True:
            try:
                os.symlink(str(os.getpid()), self.name)
            except FileExistsError:
                if self._held():
                    return False
                clean = False
            else:
                self.locked, self.clean = True, clean
                return True

    def _held(self) -> bool:
        """Whether the holder is there; if it is not, its link is removed."""
        try:
            holder = int(os.readlink(self.name))
            os.kill(holder, 0)
        except FileNotFoundError:  # given up between two looks
            return False
        except OSError as error:
            if error.errno != ESRCH:
                return True
        else:
            return True
        try:
            os.unlink(self.name)
        except FileNotFoundError:  # somebody else was faster
            pass
        return False

    def unlock(self) -> None:
        """Give it up. ValueError if another process has it; OSError if nobody has."""
        if os.readlink(self.name) != str(os.getpid()):
            raise ValueError(f"Lock {self.name!r} not owned by this process")
        os.unlink(self.name)
        self.locked = False

    def deferUntilLocked(self, timeout: float | None = None) -> Deferred[None]:
        """Fires when this object has the lock, which is tried every second. Cancelling stops trying.

        TimeoutError after `timeout` seconds, AlreadyTryingToLockError if it is waited for already.
        """
        if self._waiting is not None:
            return fail(AlreadyTryingToLockError(f"{self.name!r} is being waited for"))
        waiting: Deferred[None] = Deferred(self._stop)
        self._waiting = waiting
        self._try()
        if not waiting.called and timeout is not None:
            self._timeoutCall = self._scheduler.callLater(timeout, self._expire, timeout)
        return waiting

    def _try(self) -> None:
        self._tryLockCall = None
        if self.lock():
            self._end().callback(None)
        else:
            self._tryLockCall = self._scheduler.callLater(self._interval, self._try)

    def _expire(self, timeout: float) -> None:
        self._timeoutCall = None
        if self.lock():
            self._end().callback(None)
        else:
            text = f"Timed out acquiring lock: {self.name} after {timeout}s"
            self._end().errback(Failure(TimeoutError(text)))

    def _stop(self, _: object) -> None:
        self._end()

    def _end(self) -> Deferred[None]:
        """Stop trying; the Deferred that waited."""
        for call in (self._tryLockCall, self._timeoutCall):
            if call is not None and call.active():
                call.cancel()
        self._tryLockCall = self._timeoutCall = None
        waiting, self._waiting = self._waiting, None
        assert waiting is not None
        return waiting
