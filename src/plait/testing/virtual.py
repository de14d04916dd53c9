"""An event loop on a virtual clock: when everything waits, the clock jumps to the moment that is due next.

Rules: the clock stands still while anything can be done: a callback, a socket or pipe that is ready, a function in a
thread of `run_in_executor`, a child process that asyncio started. Only when all of these wait does it jump, to the
earliest timer exactly, so a test of hours takes milliseconds and asserts exact times. A thread or child that is
silent for `patience` seconds of the machine's clock is taken to wait for the virtual one, and holds it no longer.
Nothing due and nothing to wait for is a deadlock, an error that names every task and the line it is at.

    ready? ──no──→ held? ──no──→ somebody asked to be told? ──no──→ a timer? ──no──→ a socket? ──no──→ Deadlock
      │             │                      │                          │                │
    serve it    wait really             tell him                    jump          wait really
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import selectors
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any

from plait._kernel.incarnation import where
from plait.errors import Deadlock

log = logging.getLogger("plait.testing")

START = datetime(2000, 1, 1, tzinfo=UTC)
PATIENCE = 5.0
GRACE = 0.0 if sys.platform == "linux" else 0.002
"""Real seconds in which what was sent over loopback has surely arrived; on Linux it has when send() returns."""

RESOLUTION = 1e-9

Ready = list[tuple[selectors.SelectorKey, int]]


class _Selector(selectors.DefaultSelector):
    """Asks the loop what to do when it would have to wait."""

    idle: Callable[[Callable[[float | None], Ready]], Ready]

    def select(self, timeout: float | None = None) -> Ready:
        if timeout is not None and timeout <= 0:
            return super().select(0)
        return self.idle(super().select)


class _Submit(Executor):
    """Hands on to an executor, and keeps the future that this gave."""

    future: Future[Any]

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.future = self._executor.submit(function, *args, **kwargs)
        return self.future


class _Hold:
    """Something outside the loop that the clock waits for: `is_over` says whether it has ended."""

    __slots__ = ("is_over", "is_patient", "what")

    def __init__(self, what: str, is_over: Callable[[], bool] = lambda: False, *, is_patient: bool = False) -> None:
        self.what = what
        self.is_over = is_over
        self.is_patient = is_patient
        """However long it takes."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module's rules.

    `time()` begins with 0, `wall_time()` with `start`, 2000-01-01 if left out; one without a zone is in UTC. `failures`
    are the contexts that reached the loop's exception handler. Not virtual: `time.time()`, `time.monotonic()` and
    `time.sleep()`, which are the machine's; threads that were not started by `run_in_executor`, and other processes,
    unless in `hold`.
    """

    _scheduled: list[asyncio.TimerHandle]
    """asyncio's heap of timers."""

    def __init__(self, *, start: datetime | None = None, patience: float = PATIENCE) -> None:
        self._now = 0.0
        start = START if start is None else start
        self._start = (start if start.tzinfo is not None else start.replace(tzinfo=UTC)).timestamp()
        self.patience = patience
        self.failures: list[Mapping[str, Any]] = []
        """What reached the loop's exception handler: the contexts, oldest first."""
        self._holds: dict[_Hold, None] = {}
        self._asking: list[asyncio.Future[None]] = []
        """Who asked to be told when everything waits."""
        self._threads: ThreadPoolExecutor | None = None
        self._files = _Selector()
        self._files.idle = self._idle
        super().__init__(self._files)
        self._own_files = len(self._files.get_map())
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    def time(self) -> float:
        """Seconds since the loop was made, by the virtual clock."""
        return self._now

    def wall_time(self) -> float:
        """Seconds since the epoch, by the virtual clock; what Plait's timers and events go by on this loop."""
        return self._start + self._now

    @contextlib.contextmanager
    def hold(self, what: str) -> Iterator[None]:
        """Keep the clock still in a block that waits for `what` outside the loop: another process, a thread of yours.

        However long it takes: `patience` is not for this.
        """
        hold = _Hold(what, is_patient=True)
        self._holds[hold] = None
        try:
            yield
        finally:
            del self._holds[hold]

    def waiting(self) -> asyncio.Future[None]:
        """Done when everything waits, before the clock jumps."""
        future = self.create_future()
        self._asking.append(future)
        return future

    # -- what holds the clock ----------------------------------------------------------------------------------------

    def set_default_executor(self, executor: ThreadPoolExecutor) -> None:  # type: ignore[override]
        super().set_default_executor(executor)
        self._threads = executor

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        hold = _Hold("the end of the loop's threads")
        self._holds[hold] = None
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self._holds.pop(hold, None)

    def _default(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self.set_default_executor(threads := ThreadPoolExecutor(thread_name_prefix="asyncio"))
            return threads
        return self._threads

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        submit = _Submit(executor or self._default())
        future = super().run_in_executor(submit, func, *args)
        hold = _Hold(f"{getattr(func, '__qualname__', None) or repr(func)} in a thread")
        self._holds[hold] = None
        # Called after the callback by which asyncio takes the result, so that result is seen before the clock goes on.
        submit.future.add_done_callback(partial(self._thread_done, hold))
        return future

    def _thread_done(self, hold: _Hold, _: Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.call_soon_threadsafe(self._holds.pop, hold, None)

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> Any:
        return self._child(await super().subprocess_shell(*args, **kwargs))

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> Any:
        return self._child(await super().subprocess_exec(*args, **kwargs))

    def _child(self, made: tuple[asyncio.SubprocessTransport, Any]) -> tuple[asyncio.SubprocessTransport, Any]:
        transport, _ = made
        hold = _Hold(f"child process {transport.get_pid()}", lambda: transport.get_returncode() is not None)
        self._holds[hold] = None
        return made

    # -- when there is nothing to do ---------------------------------------------------------------------------------

    def _idle(self, select: Callable[[float | None], Ready]) -> Ready:
        held = self._held()  # asked first: what ended before has woken the loop, which the next line sees
        ready = select(GRACE if self._has_files() else 0)
        if held and not ready:
            ready = self._wait_for(held, select)
        if ready or self._tell():
            return ready
        if self._scheduled:
            self._jump(self._scheduled[0].when())
            return []
        if self._has_files() or threading.active_count() > 1:
            ready = select(self.patience)
        if not ready:
            raise Deadlock(self._deadlock_text(held))
        return ready

    def _jump(self, when: float) -> None:
        self._now = max(self._now, when)
        self._clock_resolution = max(RESOLUTION, math.ulp(self._now))  # or a far timer would never be due

    def _held(self) -> list[_Hold]:
        for hold in [hold for hold in self._holds if hold.is_over()]:
            del self._holds[hold]
        return list(self._holds)

    def _wait_for(self, held: list[_Hold], select: Callable[[float | None], Ready]) -> Ready:
        ready = select(None if any(hold.is_patient for hold in held) else self.patience)
        if not ready:
            names = ", ".join(hold.what for hold in held)
            log.warning("the virtual clock goes on without %s, silent for %g s of the real one", names, self.patience)
            for hold in held:
                self._holds.pop(hold, None)
        return ready

    def _tell(self) -> bool:
        asking, self._asking = [future for future in self._asking if not future.done()], []
        for future in asking:
            future.set_result(None)
        return bool(asking)

    def _has_files(self) -> bool:
        return len(self._files.get_map()) > self._own_files

    def _deadlock_text(self, held: list[_Hold]) -> str:
        tasks = sorted(asyncio.all_tasks(self), key=lambda task: task.get_name())
        lines = [f"  task {task.get_name()!r} at {where(task)}" for task in tasks]
        lines += [f"  {hold.what}, silent for {self.patience:g} s" for hold in held]
        head = f"deadlock at {self._now:g} s of the virtual clock: everything waits, and nothing is due"
        return "\n".join([head, *lines, "If it waits for another process or a thread of yours, do so in loop.hold()."])


def virtual_loop() -> VirtualLoop:
    """The running loop. RuntimeError if its clock is not virtual."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):
        raise RuntimeError(
            f"this needs a virtual clock, and the loop is a {type(loop).__module__}.{type(loop).__qualname__}; use "
            "plait.testing.run() or the marker virtual_clock"
        )
    return loop


async def settle() -> None:
    """Until everything else waits: what could be done without time passing is done. For virtual clocks only."""
    await virtual_loop().waiting()


async def advance(seconds: float) -> None:
    """Let `seconds` of the virtual clock pass, and all happen that is due by then, in order."""
    virtual_loop()
    await asyncio.sleep(seconds)
    await settle()
