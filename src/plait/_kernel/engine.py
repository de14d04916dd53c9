"""The engine: it alone moves the services of one tree, tells sinks, and keeps the deadlines.

Rules: one engine a tree, made with the application. All of it runs on the loop, in plain calls; nothing here
awaits. Operations (operations.py) decide what starts and stops when; the engine does it, and tells them what
came of it. What follows from a service that failed or finished while no operation was about it is supervision's
(supervision.py) to say.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any, TypeVar

from plait._kernel.bus import Bus
from plait._kernel.checks import Checks
from plait._kernel.deadlines import Deadlines
from plait._kernel.events import Event, IntentChanged, Listening, ServiceStuck, StateChanged
from plait._kernel.health import Level
from plait._kernel.hooks import Hooks, Shape
from plait._kernel.incarnation import Incarnation
from plait._kernel.record import Arguments, Record
from plait._kernel.states import (
    FAILED,
    HELD,
    LIVE,
    PAUSED,
    PAUSING,
    RESUMING,
    RUNNING,
    STARTING,
    STOPPED,
    STOPPING,
    Intent,
    State,
)
from plait.errors import IllegalTransition, LifecycleError

T = TypeVar("T")

log = logging.getLogger("plait.kernel")


class Operation:
    """A start, stop, pause or resume that is under way. The engine calls these as things happen to any service."""

    def on_started(self, record: Record) -> None:
        """A group's `on_start` returned: its services may start now."""

    def on_ready(self, record: Record) -> None:
        """What needs it may start."""

    def on_drained(self, record: Record) -> None:
        """A group took its last work; its services may stop now."""

    def on_ended(self, record: Record) -> bool:
        """Its incarnation is over. Whether this operation was about it, and has dealt with it."""
        return False

    def on_paused(self, record: Record) -> None:
        """It is PAUSED."""

    def on_unheld(self, record: Record) -> None:
        """A group's on_resume has returned: its services may resume now."""

    def on_resumed(self, record: Record) -> None:
        """It is RUNNING again."""


class Supervision:
    """What follows from what nobody commanded; supervision.py has the only kind that does anything."""

    def ended(self, record: Record) -> None:
        """Its incarnation has ended, and no operation was about it."""

    def ending(self, record: Record) -> None:
        """Its incarnation has begun to end by itself."""

    def failing(self, group: Record, cause: Exception) -> None:
        """A group itself failed: its services must stop first."""

    def not_started(self, record: Record, culprit: Record) -> None:
        """It did not start, because of `culprit`, and whoever started it leaves the rest to supervision."""

    def wait_for(self, record: Record, need: Record) -> None:
        """It shall start when `need` is there."""

    def is_due(self, record: Record) -> bool:
        """Whether it shall start as soon as all that it needs is there."""
        return False

    def bring_back(self, records: Iterable[Record], reason: str) -> None:
        """They were stopped, and shall start again as soon as they may."""

    def begun(self, record: Record) -> None:
        """It starts, whoever started it."""

    def withdraw(self, records: Iterable[Record]) -> None:
        """These, and all below them, shall not be started by anybody but the operator."""

    def clear(self, record: Record, *, joins: bool) -> None:
        """An operator starts it, and all below it: what was counted is forgotten.

        So is what it waits for, unless he `joins` a start under way, which has seen to that.
        """

    def look(self) -> None:
        """Something is ready, or over: whoever waited for that may start, and if nothing is left that is the end."""

    def asks_unpaused(self, record: Record) -> None:
        """It has shown that it can pause."""

    def settle(self, record: Record) -> None:
        """It is ready, and paused where it is wanted up, or the other way round."""


class Root(Record):
    """The application's record, which knows the engine of its tree."""

    __slots__ = ("engine",)

    def __init__(self, service: Hooks, shape: Shape, arguments: Arguments) -> None:
        super().__init__(service, shape, arguments)
        self.engine = Engine(self)

    @property
    def path(self) -> str:
        return "/"

    @property
    def subject(self) -> str:
        return f"application {self.name!r}"


def engine_of(record: Record) -> Engine | None:
    """The engine of the tree that `record` stands in, if its top is an application."""
    top = record.top
    return top.engine if isinstance(top, Root) else None


class Engine:
    """See the module's rules."""

    def __init__(self, root: Record) -> None:
        self.root = root
        self.bus = Bus()
        self.operations: list[Operation] = []
        self.supervision = Supervision()
        self.checks = Checks(self)
        self.on_failure: Callable[[], None] = lambda: None
        """Called at once when the application begins to fail."""
        self.ends_itself = False
        """Whether the application stops when every service has ended by itself."""
        self.shutdown_delay = 0.0
        self.shutdown_timeout = 25.0
        self.leaving: set[Record] = set()
        """What is being removed, and shall not start again."""
        self.ceded: dict[Record, Intent] = {}
        """What a next generation has taken over, with the intents that it had here; it shall not start again."""
        self.is_changing = False
        """Another generation takes over from this one, or this from another: its health is nobody's business yet."""
        self.is_restarting = False
        """The application stops in order to start again, so its end is not the end."""
        self.has_held = False
        """Whether anything may be wanted paused."""
        self.stops = 0
        """How often the application was told to stop, for a start that waits for that."""
        self.restarts: dict[Record, tuple[asyncio.Task[None], int]] = {}
        """Restarts under way, for those who ask for the same, and of which incarnation."""
        self.errands: set[asyncio.Task[Any]] = set()
        """What callers wait for who may go away meanwhile."""
        self.shrink: dict[Record, float] = {}
        """By what factor the deadlines of a service are cut, where shutdown_timeout is short."""
        self.left_behind: list[str] = []
        self.failures: list[Exception] = []
        """Why the application is failing, root cause first."""
        self.culprit = root
        """Whose failure the first of them was."""
        self.resources: dict[Any, Any] = {}
        self.generation = 1
        """Which of the trees this is that reloads made."""
        self.ends = 0
        """How many incarnations have begun to end."""
        self.alive = 0
        """How many services, not counting groups, have an incarnation."""
        self._threads: ThreadPoolExecutor | None = None
        self._watchers: dict[Record, asyncio.Future[None]] = {}

    def open(self) -> None:
        """Take the running loop, the context that every service's tasks begin with, and the time to stop in."""
        loop = asyncio.get_running_loop()
        if getattr(self, "loop", None) is not loop:
            self.loop: asyncio.AbstractEventLoop = loop
            self._time = loop.time
            self._wall_time = wall_time_of(loop)
            self.deadlines = Deadlines(loop)
        self.context: Context = copy_context()
        if not self.is_restarting:
            self.over: asyncio.Future[None] = loop.create_future()
            """Done when the application itself has stopped or failed, and does not start again."""
        application: Any = self.root.service
        self.shutdown_delay, self.shutdown_timeout = application.shutdown_delay, application.shutdown_timeout
        self.left_behind.clear()
        self.failures.clear()
        self.culprit = self.root

    @property
    def is_open(self) -> bool:
        """Whether the application has ever run, and so has a loop."""
        return hasattr(self, "loop")

    def now(self) -> float:
        """The loop's time; 0 before the application first ran."""
        return self.loop.time() if self.is_open else 0.0

    def wall_time(self) -> float:
        """Seconds since the epoch: those of the loop, if it has its own, as a virtual clock does."""
        return self._wall_time() if self.is_open else wall_time_of(asyncio._get_running_loop())()

    def close(self) -> None:
        """Give back what the engine itself holds; the tree has stopped."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
        if not self.over.done() and not self.is_restarting:
            self.over.set_result(None)

    def create_task(self, coro: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """A task in a copy of the application's context, not of the caller's, which may be another service."""
        return self.loop.create_task(coro, name=name, context=self.context.copy())

    def threads(self) -> ThreadPoolExecutor:
        """The tree's own threads, for `run_in_thread`."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(thread_name_prefix="plait")
        return self._threads

    # -- moves -------------------------------------------------------------------------------------------------------

    def move(self, record: Record, new: State, error: Exception | None = None) -> None:
        """Along the table, or IllegalTransition."""
        old = record.state
        if new not in old.next:
            raise IllegalTransition(record.subject, old.value, new.value)
        record.state = new
        record.since = self._time()
        self.ends += new is STOPPING
        if self.bus.sinks:
            self.emit(StateChanged, record, incarnation=record.incarnation, old=old, new=new, error=error)
            self.checks.moved(record)

    def emit(self, make: Callable[..., Event], record: Record, /, **fields: Any) -> None:
        """An event about `record`, if there is anybody to hear it."""
        if self.bus.sinks:
            self.bus.emit(make(time=self.wall_time(), path=record.path, generation=self.generation, **fields))

    def begin(self, record: Record) -> None:
        """A new incarnation. What has no task is started at once."""
        record.incarnation += 1
        record.returned = record.by_itself = False
        record.error = None
        record.ready_at = -1.0
        self.alive += not record.shape.group
        self.supervision.begun(record)
        self.move(record, STARTING)
        if record.shape.task or (record.shape.pause and self.starts_paused(record)):
            life = Incarnation(self, record)
            record.life = life
            life.begin()
        else:
            self.started(record)

    def started(self, record: Record) -> None:
        """on_start has returned. A group is ready later, when its services are."""
        if not record.shape.group:
            self.ready(record)
            return
        for operation in tuple(self.operations):
            operation.on_started(record)

    def ready(self, record: Record) -> None:
        """What needs this service may start."""
        wanted = self.has_held and self.wants_paused(record)
        is_held = record.life is not None and record.life.is_held
        if record.children is not None and not record.shape.pause:
            is_held = wanted
        self.move(record, PAUSED if is_held else RUNNING)
        record.ready_at = record.since
        if record in self.checks.said:
            self.fit(record, self.checks.own(record).level is Level.UNREADY)
        if not is_held and record.shape.check:
            self.checks.begin(record)
        for operation in tuple(self.operations):
            operation.on_ready(record)
        self._tell(record)
        if is_held is not wanted:
            self.supervision.settle(record)  # it asks only later, or cannot; a group's hook comes after its services
        self.supervision.look()

    def stop(self, record: Record) -> None:
        """A requested stop: drain, then end. A group hears `finish` once its services have stopped."""
        if record.state is not STOPPING:
            self.move(record, STOPPING)
        if record.life is not None or record.shape.drain:
            self.life(record).drain()
        elif record.shape.group:
            self.drained(record, in_time=True)
        else:
            self.ended(record, [], returned=False)

    def finish(self, record: Record, cause: Exception | None = None) -> None:
        """The services of a stopping group have stopped: now it does, as failed if there is a `cause`."""
        if record.life is not None:
            record.life.finish(cause)
        else:
            self.ended(record, [cause] if cause else [], returned=False)

    def life(self, record: Record) -> Incarnation:
        """The present incarnation, made now for a service without a task that turns out to need one."""
        if record.state not in LIVE:
            raise LifecycleError(
                f"{record.subject} is {record.state.words}; this can only be asked of it while it runs"
            )
        if record.life is None:
            record.life = Incarnation(self, record)
        assert isinstance(record.life, Incarnation)
        return record.life

    # -- pause and resume --------------------------------------------------------------------------------------------

    def intend(self, record: Record, intent: Intent, mode: str | None = None) -> None:
        """What the operator wants of it from now on."""
        old = record.intent
        self.has_held = self.has_held or intent is HELD
        if (old, record.pause_mode) != (intent, mode):
            record.intent, record.pause_mode = intent, mode
            self.emit(IntentChanged, record, old=old, new=intent, pause_mode=mode)

    def wants_paused(self, record: Record) -> bool:
        """Whether it shall be paused, it or a group it is in."""
        return record.intent is HELD or any(group.intent is HELD for group in record.above())

    def starts_paused(self, record: Record) -> bool:
        """Whether it goes from STARTING to PAUSED; a group's hook has to wait for its services."""
        return record.shape.pause and not record.shape.group and self.wants_paused(record)

    def asks_unpaused(self, record: Record) -> None:
        """It has shown that it can pause."""
        self.supervision.asks_unpaused(record)

    def pausing(self, record: Record) -> None:
        """It begins to pause: `unpaused` waits from now on."""
        self.move(record, PAUSING)
        if record.life is not None:
            record.life.hold()

    def pause(self, record: Record) -> None:
        """Its on_pause, then PAUSED; a group's services have paused by now."""
        hook = record.service.on_pause if record.shape.pause else None
        self._beside(record, "on_pause", hook, self._paused)

    def _paused(self, record: Record) -> None:
        self.move(record, PAUSED)
        for operation in tuple(self.operations):
            operation.on_paused(record)
        self._tell(record)

    def resume(self, record: Record) -> None:
        """Its on_resume, then RUNNING; a group's services resume in between."""
        self.move(record, RESUMING)
        hook = record.service.on_resume if record.shape.pause else None
        self._beside(record, "on_resume", hook, self._unheld)

    def _unheld(self, record: Record) -> None:
        if record.children is None:
            self.resumed(record)
            return
        for operation in tuple(self.operations):
            operation.on_unheld(record)

    def resumed(self, record: Record) -> None:
        """It is RUNNING again."""
        if record.life is not None:
            record.life.release()
        self.move(record, RUNNING)
        if record.shape.check:
            self.checks.begin(record)
        for operation in tuple(self.operations):
            operation.on_resumed(record)
        self._tell(record)

    def _beside(
        self,
        record: Record,
        what: str,
        hook: Callable[[], Coroutine[Any, Any, None]] | None,
        then: Callable[[Record], None],
    ) -> None:
        """Call a hook that may fail the incarnation; `then` follows if it did not, and nothing else came between."""
        if hook is None:
            then(record)
            return
        life, state = self.life(record), record.state

        def done(_: None, error: Exception | None) -> None:
            if record.life is not life or record.state is not state:
                return
            if error is not None:
                life.fail(error)
            else:
                then(record)

        life.beside(hook(), what, record.policy.pause_timeout, done)

    def fit(self, record: Record, is_unready: bool) -> None:
        """Its own health has turned: time in which it was unready is no time of health."""
        record.ready_at = math.inf if is_unready else self.now()

    # -- what an incarnation tells -----------------------------------------------------------------------------------

    def failing(self, record: Record, cause: Exception) -> None:
        """A group itself failed, after its on_start."""
        record.by_itself = record.by_itself or record.state is not STOPPING
        self.supervision.failing(record, cause)

    def ending(self, record: Record) -> None:
        """The incarnation has begun to end, asked or not."""
        if record.state is not STOPPING:
            record.by_itself = True
            self.supervision.ending(record)
            self.move(record, STOPPING)

    def drained(self, record: Record, *, in_time: bool) -> None:
        """on_drain is over; one that was cut short is said."""
        if not in_time:
            log.warning(
                "%s was still draining after %.3g s%s; what it had left was cancelled",
                record.subject,
                self.drain_timeout(record),
                self.why_cut(record, record.policy.drain_timeout),
            )
        if record.shape.group:
            for operation in tuple(self.operations):
                operation.on_drained(record)

    def ended(self, record: Record, errors: list[Exception], *, returned: bool) -> None:
        """The incarnation is over: STOPPED, or FAILED with its errors."""
        record.life = None
        record.endpoints = ()
        if record.shape.check or record in self.checks.said:
            self.checks.end(record)
        record.returned = returned and not errors
        record.error = one_error(record, errors)
        record.health = record.since - record.ready_at if record.ready_at >= 0 else 0.0
        self.alive -= not record.shape.group
        self.move(record, FAILED if errors else STOPPED, record.error)
        self._tell(record)
        if record is self.root:
            self.close()
        known = False
        for operation in tuple(self.operations):
            known = operation.on_ended(record) or known
        if not known:
            self.supervision.ended(record)

    def withdraw(self, record: Record) -> None:
        """It does not start again after all."""
        self.move(record, STOPPED)
        self._tell(record)

    def stuck(self, record: Record, what: str) -> None:
        """Something would not stop, and is left behind."""
        which = f", incarnation {record.incarnation}" if record.incarnation > 1 else ""
        self.left_behind.append(f"{record.subject}{which}: {what}")
        self.emit(ServiceStuck, record, incarnation=record.incarnation, what=what)

    def announce(self, record: Record, endpoint: str) -> None:
        """A service accepts work at `endpoint`."""
        record.endpoints += (endpoint,)
        self.emit(Listening, record, incarnation=record.incarnation, endpoint=endpoint)

    def retract(self, record: Record) -> None:
        """A service accepts work nowhere."""
        record.endpoints = ()

    def drain_timeout(self, record: Record) -> float:
        """Seconds, cut where the application's own time is short."""
        return record.policy.drain_timeout * self.shrink.get(record, 1.0)

    def why_cut(self, record: Record, timeout: float) -> str:
        """For messages: why a deadline was shorter than its policy says."""
        if record not in self.shrink:
            return ""
        return f" (cut from {timeout:g} s, for the application has {self.shutdown_timeout:g} s to stop)"

    def stop_timeout(self, record: Record) -> float:
        """Seconds, cut where the application's own time is short."""
        timeout = record.policy.stop_timeout
        return timeout * self.shrink.get(record, 1.0) if self.shrink else timeout

    # -- waiting for one service -------------------------------------------------------------------------------------

    def next_rest(self, record: Record) -> asyncio.Future[None]:
        """Done when the service next becomes ready, stops or fails. All share it, so nobody may cancel it."""
        loop, future = asyncio.get_running_loop(), self._watchers.get(record)
        if future is None or future.get_loop() is not loop:
            future = self._watchers[record] = loop.create_future()
        return future

    def _tell(self, record: Record) -> None:
        future = self._watchers.pop(record, None) if self._watchers else None
        if future is not None and not future.done():
            future.set_result(None)

    # -- one of a kind -----------------------------------------------------------------------------------------------

    def resource(self, kind: Callable[[], T]) -> T:
        """The tree's one object of this kind."""
        if kind not in self.resources:
            self.resources[kind] = kind()
        resource: T = self.resources[kind]
        return resource


def wall_time_of(loop: asyncio.AbstractEventLoop | None) -> Callable[[], float]:
    """What tells seconds since the epoch on this loop."""
    own: Callable[[], float] = getattr(loop, "wall_time", time.time)
    return own


def one_error(record: Record, errors: list[Exception]) -> Exception | None:
    """What a service failed of: its one error, or a group of them, root cause first."""
    for error in errors:
        if not hasattr(error, "__notes__"):  # a group passes on what a service below it failed of
            with suppress(Exception):  # an exception may be frozen
                error.add_note(f"this ended {record.subject}, incarnation {record.incarnation}")
    if len(errors) > 1:
        return ExceptionGroup(f"{record.subject} failed, and then more went wrong", errors)
    return errors[0] if errors else None
