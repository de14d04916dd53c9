"""Application: the root group, with a name and a version.

Rules: it runs in one of two ways. `await app.serve()` runs it until it ends, by itself or because it was told to;
`async with app:` runs it around a body. Either way it has stopped when control returns, and a failure leaves as
one ExceptionGroup, root cause first.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import ClassVar, Self, TypeVar

from plait._kernel import commands, supervision
from plait._kernel.engine import Engine, Root
from plait._kernel.events import Event, EventsDropped, Sink, StateChanged
from plait._kernel.group import Group, Strategy, check_name
from plait._kernel.operations import wait, wait_out
from plait._kernel.policy import duration
from plait._kernel.record import Arguments, Record
from plait._kernel.replay import present
from plait._kernel.reserved import guard
from plait._kernel.service import Service, snake_case
from plait._kernel.states import AT_REST, State
from plait._kernel.words import error_text
from plait.errors import ApplicationFailed, InvalidTree, LifecycleError, StartInterrupted

T = TypeVar("T")


class Application(Group):
    """The services of one program, with a name and a version.

    `shutdown_delay`: seconds between the moment a stop is requested, when the application is no longer ready, and
    the moment the first service stops: load balancers need it. `shutdown_timeout`: seconds a whole stop may take;
    where the services' own deadlines add up to more, they are cut in proportion.
    """

    __slots__ = ("_body", "shutdown_delay", "shutdown_timeout", "version")

    _reserved: ClassVar[frozenset[str]] = frozenset(
        ["serve", "subscribe", "events", "wait_ready", "wait_stopped", "resource", "provide", "left_behind"]
    )

    _may_be_empty: ClassVar[bool] = False
    """Whether one without services is served, until it is told to stop."""

    version: str | None
    shutdown_delay: float
    shutdown_timeout: float

    def __init__(
        self,
        name: str | None = None,
        version: str | None = None,
        *,
        strategy: Strategy = "one_for_one",
        shutdown_delay: float = 0.0,
        shutdown_timeout: float = 25.0,
    ) -> None:
        super().__init__(strategy=strategy)
        if name is not None:
            self._record.name = check_name(name)
        self.version = version
        self.shutdown_delay = duration("shutdown_delay", shutdown_delay, zero=True)
        self.shutdown_timeout = duration("shutdown_timeout", shutdown_timeout)

    @classmethod
    def _make_record(cls, service: Service, arguments: Arguments) -> Record:
        root = Root(service, cls._shape, arguments)
        root.policy = service.policy
        assert isinstance(service, Application)
        root.name = snake_case(cls.__name__)
        service.strategy, service.version = "one_for_one", None
        service.shutdown_delay, service.shutdown_timeout = 0.0, 25.0
        root.engine.supervision = supervision.Supervision(root.engine)
        return root

    # -- running it --------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Start it, and return when it has ended: stopped on request, or because every service has finished.

        StartFailed or ApplicationFailed, ExceptionGroups with the root cause first, once all has stopped.
        InvalidTree if the composition is wrong or empty. Cancelling it stops the application in order, and
        then raises CancelledError.
        """
        engine = self._prepare_to_serve()
        try:
            with contextlib.suppress(StartInterrupted):
                await commands.start(self._record)
            await wait(engine.over)
        except asyncio.CancelledError:
            await self._stop_whatever_comes()
            raise
        self._raise_failures(())

    def _prepare_to_serve(self) -> Engine:
        if not self._children and not self._may_be_empty:
            raise InvalidTree(f"{self._record.subject} has no services; add one")
        return self._prepare(ends_itself=not self._may_be_empty)

    async def __aenter__(self) -> Self:
        """Start it around a body, which a failure cancels. It may be empty, and be added to in the body."""
        engine = self._prepare(ends_itself=False)
        await commands.start(self._record)
        self._body = asyncio.current_task()
        engine.on_failure = self._cancel_body
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it. ApplicationFailed if a service failed meanwhile; what the body raised is in it as well."""
        cancelled_by_us = self._body is None
        self._root_engine.on_failure = _nothing
        await self._stop_whatever_comes()
        task = asyncio.current_task()
        if cancelled_by_us and isinstance(error, asyncio.CancelledError) and task is not None:
            if task.uncancel():
                return  # somebody else cancelled it as well, and that goes first
            error = None
        if error is None or isinstance(error, Exception):
            self._raise_failures((error,) if error is not None else ())

    def _cancel_body(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.cancel()

    def _prepare(self, *, ends_itself: bool) -> Engine:
        engine = self._root_engine
        if self._record.state not in AT_REST:
            raise LifecycleError(f"{self._record.subject} is {self._record.state.words} already")
        engine.ends_itself = ends_itself
        engine.on_failure = _nothing
        return engine

    async def _stop_whatever_comes(self) -> None:
        stop = supervision.stop_application(self._root_engine)
        if stop is None:
            return
        try:
            await wait(stop.done)
        except asyncio.CancelledError:
            await wait_out(stop.done)
            raise

    def _raise_failures(self, others: tuple[Exception, ...]) -> None:
        failures = self._root_engine.failures
        if failures:
            first = failures[0]
            culprit = self._root_engine.culprit
            text = f"{self._record.subject} failed: {culprit.subject}: {error_text(first)}"
            raise ApplicationFailed(text, [*failures, *others])

    # -- watching it -------------------------------------------------------------------------------------------------

    async def wait_ready(self) -> None:
        """Until every service is ready. LifecycleError if the application ends before that."""
        while not self._record.met:
            await wait(self._root_engine.next_rest(self._record))
            if self._record.state in AT_REST:
                raise LifecycleError(f"{self._record.subject} is {self._record.state.words}, and was not ready")

    async def wait_stopped(self) -> None:
        """Until it has stopped or failed; at once if it has already."""
        while self._record.state not in (State.STOPPED, State.FAILED):
            await wait(self._root_engine.next_rest(self._record))

    def subscribe(self, sink: Sink) -> Callable[[], None]:
        """Call `sink` with each event from now on, in order; the result unsubscribes it.

        It is first called with the present state, as if that had just come about. What it raises is logged.
        """
        return self._root_engine.bus.subscribe(sink, list(present(self._root_engine)))

    async def events(self, *, limit: int = 10_000) -> AsyncIterator[Event]:
        """The present state, then each event, until the application has stopped.

        A reader that falls more than `limit` events behind loses the oldest, and sees EventsDropped for them.
        """
        queue: deque[Event] = deque()
        more = asyncio.Event()
        dropped = 0

        def sink(event: Event) -> None:
            nonlocal dropped
            if len(queue) >= limit:
                queue.popleft()
                dropped += 1
            queue.append(event)
            more.set()

        unsubscribe = self.subscribe(sink)
        try:
            while True:
                if dropped:
                    count, dropped = dropped, 0
                    yield EventsDropped(time=self._root_engine.wall_time(), count=count)
                elif queue:
                    event = queue.popleft()
                    yield event
                    if _is_last(event):
                        return
                else:
                    more.clear()
                    await more.wait()
        finally:
            unsubscribe()

    @property
    def left_behind(self) -> tuple[str, ...]:
        """What would not stop, by name, in the last run; its tasks and threads may still be there."""
        return tuple(self._root_engine.left_behind)

    # -- what services share -----------------------------------------------------------------------------------------

    def resource(self, kind: Callable[[], T]) -> T:
        """The application's one object of this kind, made by `kind()` when first asked for."""
        return self._root_engine.resource(kind)

    def provide(self, kind: Callable[[], T], resource: T) -> None:
        """Put `resource` in place before anybody asks for its kind."""
        self._root_engine.resources[kind] = resource

    @property
    def _root_engine(self) -> Engine:
        assert isinstance(self._record, Root)
        return self._record.engine


def _is_last(event: Event) -> bool:
    return isinstance(event, StateChanged) and event.path == "/" and event.new in (State.STOPPED, State.FAILED)


def _nothing() -> None:
    pass


guard(Application, Application._reserved)
