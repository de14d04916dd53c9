"""One incarnation: one life of one service, in one task.

Rules:
- `on_start`, `run`, `on_stop` and the unwinding of what `enter` entered run in one task, in this order, so task
  groups and cancel scopes may be entered. `on_drain` runs beside it.
- `on_stop` runs if and only if `on_start` returned; the unwinding always runs.
- Errors are collected, root cause first, and never keep a later step from running.
- A service that says itself when it is ready (UNREADY until then) runs under the deadline of its start.
- Every phase but RUN has a deadline. When it passes the task is cancelled; one that ignores this is cancelled
  again, and then left behind and reported, so that no service can hold up the end of an application.
- A cancellation that Plait did not ask for is the service's failure.

    NEW ──→ START ──→ (UNREADY) ──→ RUN ──→ (DRAIN ──→ DRAINED) ──→ END ──→ OVER
     └────────┴───────────┴──────────────────────────────────────────↑ └──→ LEFT
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from enum import Enum
from functools import partial
from typing import Any, Protocol

from plait._kernel.beside import Beside, contain, contained, runs
from plait._kernel.deadlines import Deadline, Deadlines
from plait._kernel.record import Done, Life, Record
from plait._kernel.states import STOPPING
from plait._kernel.whose import LIFE
from plait.errors import (
    CheckTimeout,
    HookTimeout,
    LifecycleError,
    PauseTimeout,
    ServiceCancelled,
    ServiceError,
    StartTimeout,
    StopTimeout,
)

GRACE_SHARE = 0.1
GRACE_MOST = 1.0


class Phase(Enum):
    """What the incarnation's task is doing."""

    NEW = "not begun"
    START = "on_start"
    UNREADY = "run, not ready yet"
    RUN = "run"
    DRAIN = "on_drain"
    DRAINED = "its services are stopping"
    END = "stopping"
    OVER = "over"
    LEFT = "left behind"


_NEW, _START, _UNREADY, _RUN, _DRAIN = Phase.NEW, Phase.START, Phase.UNREADY, Phase.RUN, Phase.DRAIN
_DRAINED, _END, _OVER, _LEFT = Phase.DRAINED, Phase.END, Phase.OVER, Phase.LEFT
_RUNNING = (_UNREADY, _RUN, _DRAIN, _DRAINED)


class Owner(Protocol):
    """What an incarnation tells its engine, and asks of it."""

    loop: asyncio.AbstractEventLoop
    deadlines: Deadlines

    def create_task(self, coro: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]: ...
    def started(self, record: Record) -> None: ...
    def starts_paused(self, record: Record) -> bool: ...
    def asks_unpaused(self, record: Record) -> None: ...
    def failing(self, record: Record, cause: Exception) -> None: ...
    def ending(self, record: Record) -> None: ...
    def drained(self, record: Record, *, in_time: bool) -> None: ...
    def ended(self, record: Record, errors: list[Exception], *, returned: bool) -> None: ...
    def stuck(self, record: Record, what: str) -> None: ...
    def drain_timeout(self, record: Record) -> float: ...
    def stop_timeout(self, record: Record) -> float: ...
    def why_cut(self, record: Record, timeout: float) -> str: ...


def grace(stop_timeout: float) -> float:
    """Seconds between the first cancellation of what overran its deadline and leaving it behind."""
    return min(GRACE_MOST, GRACE_SHARE * stop_timeout)


class Stopping:
    """`self.stopping`: await it, or ask it, to learn that a stop was requested."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def is_set(self) -> bool:
        """Whether a stop was requested."""
        return self._event.is_set()

    __bool__ = is_set

    def __await__(self) -> Any:
        return self._event.wait().__await__()


class Incarnation(Life):
    """See the module's rules. Made by the engine when a service starts."""

    __slots__ = (
        "_asks",
        "_cancels",
        "_deadline",
        "_draining",
        "_errors",
        "_heeds",
        "_held",
        "_is_held",
        "_late",
        "_owner",
        "_phase",
        "_said_ready",
        "_spawned",
        "_stack",
        "_starts_paused",
        "_stopping",
        "_task",
        "_wake",
    )

    def __init__(self, owner: Owner, record: Record) -> None:
        self._owner = owner
        self.record = record
        self.number = record.incarnation
        self._phase = _RUN
        self._task: asyncio.Task[None] | None = None
        self._deadline: Deadline | None = None
        self._wake: asyncio.Future[None] | None = None
        self._stack: AsyncExitStack | None = None
        self._spawned: set[asyncio.Task[Any]] | None = None
        self._stopping: Stopping | None = None
        self._draining: asyncio.Task[None] | None = None
        self._errors: list[Exception] | None = None
        self._cancels = 0
        """Cancellations of ours that the task has not yet been seen to take."""
        self._late = 0
        """How often the deadline of the END phase has passed."""
        self._heeds = False
        """`run` has read `self.stopping`, and so is given time to return by itself."""
        self._asks = False
        """`unpaused` was called, so this incarnation can pause."""
        self._held: asyncio.Event | None = None
        """While it is paused: set when it is resumed."""
        self._is_held = False
        """The task itself waits there."""
        self._said_ready = False
        self._starts_paused = False
        """What on_start was told: it is paused before it is ready, whatever is wanted by then."""

    # -- the life itself: one task, top to bottom --------------------------------------------------------------------

    def begin(self) -> None:
        """Start the task; the engine hears `started`, then `ended`."""
        self._phase = _NEW
        self._starts_paused = self._owner.starts_paused(self.record)
        self._task = self._owner.create_task(self._live(), self.record.path)
        self._arm(self.record.policy.start_timeout)

    async def _live(self) -> None:
        LIFE.set(self)
        shape, service = self.record.shape, self.record.service
        has_started = returned = False
        if self._phase is _NEW:
            self._phase = _START
            try:
                if shape.start:
                    await service.on_start()
                has_started = True
                if self._phase is _START and (self._starts_paused or self._owner.starts_paused(self.record)):
                    self.hold()
                    await service.on_pause()
            except BaseException as exc:
                self._fault(exc)
        if has_started and self._phase is _START and not self._errors:
            self._phase = _UNREADY
            if not shape.manual or self._said_ready:
                self._ready()
        while self._phase in _RUNNING:
            try:
                if shape.run:
                    await service.run()
                    returned = True
                else:
                    await self._told_to_end()
            except BaseException as exc:
                self._fault(exc)
                if shape.group and self._errors:
                    self._owner.failing(self.record, self._errors[0])  # its services stop first, then it is woken
            if not shape.group:
                break
        if self._phase is _UNREADY and returned:
            self._note(ServiceError(f"{self.record.subject} returned from run() before it called ready()"))
        await self._end(has_started, returned)

    def _ready(self) -> None:
        self._phase = _RUN
        self._disarm()
        self._owner.started(self.record)

    def _told_to_end(self) -> asyncio.Future[None]:
        self._wake = self._owner.loop.create_future()
        return self._wake

    async def _end(self, has_started: bool, returned: bool) -> None:
        LIFE.set(self)
        unasked = self._phase in (_UNREADY, _RUN)
        if self._cancels:
            await self._settle()
        while self._phase is _DRAIN and self._draining is not None and not self._draining.done():
            await self._step(asyncio.wait([self._draining]))  # whoever cancels meanwhile
        if self._phase not in (_END, _LEFT):
            self._to_end()
        if self._spawned:
            await self._reap(self._spawned)
        if has_started and self.record.shape.stop and not self._has_successor():
            await self._step(self.record.service.on_stop())
        if self._stack is not None:
            await self._unwind(self._stack)
        if self._phase is not _LEFT:
            self._over(returned and unasked)

    def _has_successor(self) -> bool:
        """It was left behind, and only now gets on; what on_stop would give back was the next one's since."""
        return self._phase is _LEFT and self.record.incarnation > self.number

    def _over(self, returned: bool) -> None:
        if self._phase is not _END:
            self._owner.ending(self.record)
        self._phase = _OVER
        self._disarm()
        self._owner.ended(self.record, self._errors or [], returned=returned)

    async def _step(self, work: Coroutine[Any, Any, Any]) -> None:
        """Await one step of the ending; what it raises is kept, and the next step follows."""
        try:
            await work
        except BaseException as exc:
            self._fault(exc)
        if self._cancels:
            await self._settle()

    async def _reap(self, spawned: set[asyncio.Task[Any]]) -> None:
        tasks = set(spawned)
        for task in tasks:
            task.cancel()
        await self._step(asyncio.wait(tasks))
        for task in tasks:
            if not task.done():
                task.cancel()
                self._owner.stuck(self.record, f"task {task.get_name()!r} at {where(task)}")

    async def _unwind(self, stack: AsyncExitStack) -> None:
        """Leave what was entered: with the failure that ended the incarnation, or as after a body that is done."""
        cause = self._errors[0] if self._errors else None
        try:
            if cause is None:
                await stack.__aexit__(None, None, None)
            else:
                await stack.__aexit__(type(cause), cause, cause.__traceback__)
        except BaseException as exc:
            if exc is not cause:
                self._fault(exc)
        if self._cancels:
            await self._settle()

    @property
    def has_started(self) -> bool:
        """Whether on_start has returned."""
        return self._phase in _RUNNING

    # -- what ends it, from outside the task -------------------------------------------------------------------------

    def drain(self) -> None:
        """A stop was requested: drain, then end; a group then waits for `finish`."""
        if self._stopping is not None:
            self._stopping._event.set()
        self._heeds = self._heeds and not self._is_held  # one that waits to be resumed does not see it
        if self._phase is _RUN and not self._errors and (self.record.shape.drain or self._heeds):
            self._phase = _DRAIN
            if self.record.shape.drain:
                self._draining = self._owner.create_task(self._drain(), f"{self.record.path} on_drain")
                self._draining.add_done_callback(self._drain_over)
            self._arm(self._owner.drain_timeout(self.record))
        elif self._phase is _RUN and self.record.shape.group:
            self._owner.drained(self.record, in_time=True)
        else:
            self.finish()

    async def _drain(self) -> None:
        LIFE.set(self)
        try:
            await self.record.service.on_drain()
        except CancelledError as exc:
            if self._phase is _DRAIN:
                self._note(self._cancelled(exc))
        except BaseException as exc:
            self._fault(exc)

    def _drain_over(self, task: asyncio.Task[None]) -> None:
        if self._phase is _DRAIN:
            if task.cancelled():  # before its first step, so that no step of its own could tell
                self._note(self._cancelled(CancelledError()))
            if not self._heeds:
                self._drained(in_time=True)

    def _drained(self, *, in_time: bool) -> None:
        self._disarm()
        self._phase = _DRAINED
        self._owner.drained(self.record, in_time=in_time)
        if not self.record.shape.group:
            self.finish()

    def finish(self, cause: Exception | None = None) -> None:
        """End now, as failed if there is a `cause`: `run` is cancelled, `on_stop` called, what was entered unwound."""
        if cause is not None and not any(cause is error for error in self._errors or ()):
            self._note(cause)
        if self._phase is _NEW:
            self._to_end()  # a task cancelled before its first step would never take it
        elif self._phase is _START or self._phase in _RUNNING:
            self._to_end()
            self._interrupt()

    def fail(self, exc: BaseException) -> None:
        """Something beside the task failed: the incarnation ends, a group after its services."""
        self._fault(exc)
        if self.record.shape.group and self._phase is _RUN and self._errors:
            self._owner.failing(self.record, self._errors[0])
        else:
            self.finish()

    def _to_end(self) -> None:
        self._phase = _END
        self._owner.ending(self.record)
        self._arm(self._owner.stop_timeout(self.record))

    def _interrupt(self) -> None:
        if self._task is None:
            self._task = self._owner.create_task(self._end(True, False), self.record.path)
        elif self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
        else:
            self._cancel()

    # -- deadlines and cancellation ----------------------------------------------------------------------------------

    def _arm(self, timeout: float) -> None:
        if self._deadline is not None:
            self._disarm()
        self._deadline = self._owner.deadlines.after(timeout, self._overdue)

    def hurry(self) -> None:
        """See `Life.hurry`."""
        if self._phase is _DRAIN:
            timeout = self._owner.drain_timeout(self.record)
        elif self._phase is _END and not self._late:
            timeout = self._owner.stop_timeout(self.record)
        else:
            return
        if self._deadline is not None and self._owner.loop.time() + timeout < self._deadline.when:
            self._arm(timeout)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._owner.deadlines.cancel(self._deadline)
            self._deadline = None

    def _overdue(self) -> None:
        if self._phase is _NEW:
            self._fault(CancelledError())  # before the task's first step, so that no step of its own could tell
            self._over(False)
        elif self._phase in (_START, _UNREADY):
            timeout = f"{self.record.policy.start_timeout:g} s"
            self._note(StartTimeout(self._late_text("was not ready after", timeout, "start_timeout")))
            self.finish()
        elif self._phase is _DRAIN:
            if self._draining is not None and not self._draining.done():
                self._adopt(self._draining)
                self._draining.cancel()
            self._drained(in_time=False)
        else:
            self._overdue_end()

    def _overdue_end(self) -> None:
        self._late += 1
        if self._late == 1:
            cut = self._owner.why_cut(self.record, self.record.policy.stop_timeout)
            timeout = f"{self._owner.stop_timeout(self.record):.3g} s{cut}"
            self._note(StopTimeout(self._late_text("did not stop within", timeout, "stop_timeout")))
        if self._late < 3:
            self._cancel()
            self._arm(grace(self._owner.stop_timeout(self.record)) / 2)
        else:
            self._phase = _LEFT
            self._owner.stuck(self.record, f"its task at {where(self._task)}")
            self._owner.ended(self.record, self._errors or [], returned=False)

    def _late_text(self, what: str, timeout: str, field: str) -> str:
        place = where(self._task)
        return f"{self.record.subject} {what} {timeout}, it is at {place}; raise {field} or see its log"

    def _cancel(self) -> None:
        if self._task is not None:
            self._cancels += 1
            self._task.cancel()

    async def _settle(self) -> None:
        """Take a cancellation of ours that a step swallowed or never saw, so that it does not hit the next."""
        self._cancels = 0
        try:
            await asyncio.sleep(0)
        except CancelledError:
            pass
        self._uncancel()

    def _uncancel(self) -> None:
        while self._task is not None and self._task.cancelling():
            self._task.uncancel()

    # -- errors ------------------------------------------------------------------------------------------------------

    def _note(self, exc: Exception) -> None:
        if self._errors is None:
            self._errors = []
        self._errors.append(exc)

    def _fault(self, exc: BaseException) -> None:
        """Keep an error; a cancellation is one only if it was not ours."""
        if isinstance(exc, GeneratorExit) and not (runs(self._task) or runs(self._draining)):
            raise exc
        if not isinstance(exc, CancelledError):
            self._note(exc if isinstance(exc, Exception) else contained(exc))
        elif self._cancels:
            self._cancels -= 1
            self._uncancel()
        else:
            self._note(self._cancelled(exc))

    def _cancelled(self, exc: CancelledError) -> ServiceCancelled:
        error = ServiceCancelled(
            f"the task of {self.record.subject} was cancelled, but not by Plait; "
            "find who calls cancel() on it, and call stop() instead"
        )
        error.__cause__ = exc
        return error

    # -- what a service asks of its life -----------------------------------------------------------------------------

    async def enter(self, manager: Any) -> Any:
        """Enter `manager` in this incarnation's task; see `Service.enter`."""
        if self._task is None or asyncio.current_task() is not self._task or self._phase is _OVER:
            raise LifecycleError(
                f"{self.record.subject} called enter() outside its own task; what is entered there could not "
                "be left in the same task: call it in on_start or run"
            )
        if self._stack is None:
            self._stack = AsyncExitStack()
        if isinstance(manager, asyncio.TaskGroup) or hasattr(manager, "start_soon"):
            entered = await manager.__aenter__()
            self._stack.push_async_exit(partial(_leave_task_group, manager))
            return entered
        if hasattr(type(manager), "__aenter__"):
            return await self._stack.enter_async_context(manager)
        return self._stack.enter_context(manager)

    def spawn(self, coro: Coroutine[Any, Any, Any], name: str | None) -> asyncio.Task[Any]:
        """A task that ends with `run`, or fails the incarnation; see `Service.spawn`."""
        if self._phase not in (_NEW, _START, _UNREADY, _RUN, _DRAIN):
            coro.close()
            raise LifecycleError(
                f"{self.record.subject} called spawn() while it was {self.record.state.words}; "
                "spawn in on_start, run or while it runs"
            )
        task = self._owner.create_task(
            contain(coro, self), f"{self.record.path} {name or getattr(coro, '__qualname__', 'spawned')}"
        )
        task.add_done_callback(lambda _: coro.close())  # one cancelled before its first step has not begun it
        self._adopt(task)
        return task

    def _adopt(self, task: asyncio.Task[Any]) -> None:
        """Take a task among those that are cancelled and awaited at the end."""
        if self._spawned is None:
            self._spawned = set()
        self._spawned.add(task)
        task.add_done_callback(self._spawned_done)

    def _spawned_done(self, task: asyncio.Task[Any]) -> None:
        assert self._spawned is not None
        self._spawned.discard(task)
        if task.cancelled() or (exc := task.exception()) is None:
            return
        assert isinstance(exc, Exception)  # contain sees to it
        if self._phase in (_OVER, _LEFT):
            context = {"message": f"a task {self.record.subject} left behind failed", "exception": exc, "task": task}
            self._owner.loop.call_exception_handler(context)
        elif self._phase in (_DRAIN, _DRAINED, _END):
            self._note(exc)
        else:
            self.fail(exc)

    def stopping(self) -> Stopping:
        """The awaitable `Service.stopping`; reading it in `run` asks for time to return."""
        if self._stopping is None:
            self._stopping = Stopping()
            if self.record.state is STOPPING:
                self._stopping._event.set()
        if self._task is not None and self.record.shape.run and asyncio.current_task() is self._task:
            self._heeds = True
        return self._stopping

    # -- pause, readiness, hooks beside it ---------------------------------------------------------------------------

    def beside(self, work: Coroutine[Any, Any, Any], what: str, timeout: float, done: Done) -> asyncio.Task[Any]:
        """Run a hook beside `run`; see beside.py. LifecycleError if it is ending."""
        if self._phase not in _RUNNING:
            work.close()
            raise LifecycleError(f"{self.record.subject} is ending, so its {what} is not called")
        text = f"{what} of {self.record.subject} was not done after {timeout:g} s"
        late = partial(_late, _LATE.get(what, HookTimeout), text)
        task = Beside(self._owner, self, work, f"{self.record.path} {what}", timeout, late, done).task
        if self._spawned is None:
            self._spawned = set()
        self._spawned.add(task)
        task.add_done_callback(self._spawned.discard)
        return task

    @property
    def can_pause(self) -> bool:
        """Whether it has the hooks, or has asked `unpaused`."""
        return self._asks or self.record.shape.pause

    @property
    def starts_paused(self) -> bool:
        """Whether it will be paused before it is ready."""
        return self._starts_paused

    @property
    def is_held(self) -> bool:
        """Whether it is paused, or on its way to that or from it."""
        return self._held is not None

    def hold(self) -> None:
        """From now on `unpaused` waits."""
        if self._held is None:
            self._held = asyncio.Event()

    def release(self) -> None:
        """It is resumed."""
        held, self._held = self._held, None
        if held is not None:
            held.set()

    async def unpaused(self) -> None:
        """See `Service.unpaused`."""
        if not self._asks:
            self._asks = True
            self._owner.asks_unpaused(self.record)
        is_mine = asyncio.current_task() is self._task
        while (held := self._held) is not None:
            self._is_held = is_mine
            try:
                await held.wait()
            finally:
                self._is_held = False

    def said_ready(self) -> None:
        """See `Service.ready`."""
        self._said_ready = True
        if self._phase is _UNREADY:
            self._ready()

    def extend_start(self, seconds: float) -> None:
        """See `Service.extend_start`."""
        deadline = self._deadline if self._phase in (_NEW, _START, _UNREADY) else None
        if deadline is not None and self._owner.loop.time() + seconds > deadline.when:
            self._arm(seconds)


_LATE: dict[str, type[Exception]] = {"on_pause": PauseTimeout, "on_resume": PauseTimeout, "check": CheckTimeout}


def _late(kind: type[Exception], text: str, task: asyncio.Task[Any]) -> Exception:
    return kind(f"{text}, it is at {where(task)}")


async def _leave_task_group(group: Any, kind: Any, error: BaseException | None, trace: Any) -> bool | None:
    """Its tasks are cancelled, as spawned ones are; left as after a body that is done it would wait for them."""
    if error is not None:
        left: bool | None = await group.__aexit__(kind, error, trace)
        return left
    if hasattr(group, "cancel_scope"):  # anyio's
        group.cancel_scope.cancel()
        await group.__aexit__(None, None, None)
        return None
    cancelled = CancelledError()
    try:
        await group.__aexit__(CancelledError, cancelled, None)
    except CancelledError as exc:
        if exc is not cancelled:
            raise
    return None


_ASYNCIO = asyncio.__path__[0]


def where(task: asyncio.Task[Any] | None) -> str:
    """The file and line a task is suspended at, for people."""
    coro: Any = task.get_coro() if task is not None else None
    frame = None
    while coro is not None:
        here = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None)
        if here is not None and (frame is None or not here.f_code.co_filename.startswith(_ASYNCIO)):
            frame = here
        coro = getattr(coro, "cr_await", None) or getattr(coro, "gi_yieldfrom", None)
    return f"{frame.f_code.co_filename}:{frame.f_lineno} ({frame.f_code.co_qualname})" if frame else "an unknown line"
