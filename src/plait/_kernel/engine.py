"""The engine: it alone moves the services of one tree, tells sinks, and keeps the deadlines.

Rules: one engine a tree, made with the application. All of it runs on the loop, in plain calls; nothing here
awaits. Operations (operations.py) decide what starts and stops when; the engine does it, and tells them what
came of it. What follows from a service that failed or finished while no operation was about it is supervision's
(supervision.py) to say.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from typing import Any, TypeVar

from plait._kernel.bus import Bus
from plait._kernel.deadlines import Deadlines
from plait._kernel.events import Event, Listening, ServiceStuck, StateChanged
from plait._kernel.hooks import Hooks, Shape
from plait._kernel.incarnation import Incarnation
from plait._kernel.record import Arguments, Record
from plait._kernel.states import FAILED, LIVE, RUNNING, STARTING, STOPPED, STOPPING, State
from plait.errors import IllegalTransition, LifecycleError

T = TypeVar("T")

log = logging.getLogger("plait.kernel")


class Operation:
    """A start or a stop that is under way. The engine calls these as things happen to any service."""

    def on_started(self, record: Record) -> None:
        """A group's `on_start` returned: its services may start now."""

    def on_ready(self, record: Record) -> None:
        """What needs it may start."""

    def on_drained(self, record: Record) -> None:
        """A group took its last work; its services may stop now."""

    def on_ended(self, record: Record) -> bool:
        """Its incarnation is over. Whether this operation was about it, and has dealt with it."""
        return False


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
        self.supervise: Callable[[Engine, Record], None] = _nobody
        """Called when an incarnation has ended that no operation was about."""
        self.fail_group: Callable[[Engine, Record], None] = _nobody
        """Called when a running group itself failed: its services must stop first."""
        self.on_failure: Callable[[], None] = lambda: None
        """Called at once when the application begins to fail."""
        self.ends_itself = False
        """Whether the application stops when every service has ended by itself."""
        self.shutdown_delay = 0.0
        self.shutdown_timeout = 25.0
        self.leaving: set[Record] = set()
        """What is being removed, and shall not start again."""
        self.restarts: dict[Record, asyncio.Task[None]] = {}
        """Restarts under way, for those who ask for the same."""
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
        self.alive = 0
        """How many services, not counting groups, have an incarnation."""
        self._threads: ThreadPoolExecutor | None = None
        self._watchers: dict[Record, list[asyncio.Future[None]]] = {}

    def open(self) -> None:
        """Take the running loop, and the context that every service's tasks begin with."""
        loop = asyncio.get_running_loop()
        if getattr(self, "loop", None) is not loop:
            self.loop: asyncio.AbstractEventLoop = loop
            self._time = loop.time
            self.deadlines = Deadlines(loop)
        self.context: Context = copy_context()
        self.over: asyncio.Future[None] = loop.create_future()
        """Done when the application itself has stopped or failed."""
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

    def close(self) -> None:
        """Give back what the engine itself holds; the tree has stopped."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
        if not self.over.done():
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
        if self.bus.sinks:
            self.emit(StateChanged, record, incarnation=record.incarnation, old=old, new=new, error=error)

    def emit(self, make: Callable[..., Event], record: Record, /, **fields: Any) -> None:
        """An event about `record`, if there is anybody to hear it."""
        if self.bus.sinks:
            self.bus.emit(make(time=time.time(), path=record.path, generation=self.generation, **fields))

    def begin(self, record: Record) -> None:
        """A new incarnation. What has no task is started at once."""
        record.incarnation += 1
        record.returned = False
        record.error = None
        self.alive += not record.shape.group
        self.move(record, STARTING)
        if record.shape.task:
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
        self.move(record, RUNNING)
        for operation in tuple(self.operations):
            operation.on_ready(record)
        self._tell(record)

    def stop(self, record: Record) -> None:
        """A requested stop: drain, then end. A group hears `finish` once its services have stopped."""
        self.ending(record)
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
                f"{record.subject} is {record.state.value}; this can only be asked of it while it runs"
            )
        if record.life is None:
            record.life = Incarnation(self, record)
        assert isinstance(record.life, Incarnation)
        return record.life

    # -- what an incarnation tells -----------------------------------------------------------------------------------

    def failing(self, record: Record) -> None:
        """A running group itself failed."""
        self.fail_group(self, record)

    def ending(self, record: Record) -> None:
        """The incarnation has begun to end, asked or not."""
        if record.state is not STOPPING:
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
        record.returned = returned and not errors
        record.error = one_error(record, errors)
        self.alive -= not record.shape.group
        self.move(record, FAILED if errors else STOPPED, record.error)
        self._tell(record)
        if record is self.root:
            self.close()
        known = False
        for operation in tuple(self.operations):
            known = operation.on_ended(record) or known
        if not known:
            self.supervise(self, record)

    def stuck(self, record: Record, what: str) -> None:
        """Something would not stop, and is left behind."""
        self.left_behind.append(f"{record.subject}: {what}")
        self.emit(ServiceStuck, record, incarnation=record.incarnation, what=what)

    def announce(self, record: Record, endpoint: str) -> None:
        """A service accepts work at `endpoint`."""
        record.endpoints += (endpoint,)
        self.emit(Listening, record, incarnation=record.incarnation, endpoint=endpoint)

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
        """Done when the service next becomes ready, stops or fails."""
        future = asyncio.get_running_loop().create_future()
        self._watchers.setdefault(record, []).append(future)
        return future

    def _tell(self, record: Record) -> None:
        if self._watchers:
            for future in self._watchers.pop(record, ()):
                if not future.done():
                    future.set_result(None)

    # -- one of a kind -----------------------------------------------------------------------------------------------

    def resource(self, kind: Callable[[], T]) -> T:
        """The tree's one object of this kind."""
        if kind not in self.resources:
            self.resources[kind] = kind()
        resource: T = self.resources[kind]
        return resource


def one_error(record: Record, errors: list[Exception]) -> Exception | None:
    """What a service failed of: its one error, or a group of them, root cause first."""
    for error in errors:
        if not hasattr(error, "__notes__"):  # a group passes on what a service below it failed of
            error.add_note(f"this ended {record.subject}, incarnation {record.incarnation}")
    if len(errors) > 1:
        return ExceptionGroup(f"{record.subject} failed, and then failed to stop cleanly", errors)
    return errors[0] if errors else None


def _nobody(engine: Engine, record: Record) -> None:
    """Until supervision takes its place."""
