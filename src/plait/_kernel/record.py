"""What the kernel knows of one service: a record the author never sees.

Rules: made by `Service.__new__`, so that no author ever has to call `super().__init__()`; changed by the engine
alone once the tree runs. It is a record and no more: slots, and what can be read off them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from plait._kernel.hooks import Hooks, Shape
from plait._kernel.policy import DEFAULT, Policy
from plait._kernel.states import NEW, READY, STARTING, UP

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
NO_ARGUMENTS: Arguments = ((), {})
Done = Callable[[Any, Exception | None], None]


class Life:
    """One incarnation, as the rest of the kernel sees it; incarnation.py has the only kind."""

    __slots__ = ("number", "record")

    record: Record
    """Whose life it is."""
    number: int
    """Of the incarnation."""

    async def enter(self, manager: Any) -> Any:
        """Enter a context manager in this incarnation's task, to be unwound when it ends."""
        raise NotImplementedError

    def spawn(self, coro: Coroutine[Any, Any, Any], name: str | None) -> asyncio.Task[Any]:
        """A task that this incarnation owns."""
        raise NotImplementedError

    def stopping(self) -> Any:
        """The awaitable that is set when a stop is requested."""
        raise NotImplementedError

    @property
    def has_started(self) -> bool:
        """Whether on_start has returned, and nothing has ended it yet."""
        raise NotImplementedError

    def drain(self) -> None:
        """A stop was requested: drain, then end; a group then waits for `finish`."""
        raise NotImplementedError

    def finish(self, cause: Exception | None = None) -> None:
        """End now, as failed if there is a `cause`: `run` is cancelled, `on_stop` called, what was entered unwound."""
        raise NotImplementedError

    def hurry(self) -> None:
        """Its deadlines have been cut: the one that runs as well."""
        raise NotImplementedError

    def beside(self, work: Coroutine[Any, Any, Any], what: str, timeout: float, done: Done) -> asyncio.Task[Any]:
        """Run a hook beside `run`; `done` is called once, with its result or with what went wrong."""
        raise NotImplementedError

    def fail(self, exc: BaseException) -> None:
        """Something beside the task failed: the incarnation ends, a group after its services."""
        raise NotImplementedError

    @property
    def can_pause(self) -> bool:
        """Whether it can be told to pause."""
        raise NotImplementedError

    @property
    def starts_paused(self) -> bool:
        """Whether it will be paused before it is ready."""
        raise NotImplementedError

    @property
    def is_held(self) -> bool:
        """Whether it is paused, or on its way to that or from it."""
        raise NotImplementedError

    def hold(self) -> None:
        """From now on `unpaused` waits."""
        raise NotImplementedError

    def release(self) -> None:
        """It is resumed."""
        raise NotImplementedError

    async def unpaused(self) -> None:
        """Until it is not paused."""
        raise NotImplementedError

    def said_ready(self) -> None:
        """The service says that it is ready."""
        raise NotImplementedError

    def extend_start(self, seconds: float) -> None:
        """The service asks for more time to start."""
        raise NotImplementedError


def class_of(record: Record) -> type:
    """The class of a service, or of what it stands for."""
    stands_for = getattr(record.service, "_stands_for", None)
    return type(record.service if stands_for is None else stands_for)


class Record:
    """One service: its place in the tree, its state, and its present life if it has one."""

    __slots__ = (
        "arguments",
        "by_itself",
        "care",
        "children",
        "endpoints",
        "error",
        "health",
        "incarnation",
        "intent",
        "life",
        "log",
        "name",
        "needs",
        "parent",
        "pause_mode",
        "policy",
        "ready_at",
        "returned",
        "service",
        "shape",
        "since",
        "state",
    )

    def __init__(self, service: Hooks, shape: Shape, arguments: Arguments) -> None:
        self.service = service
        self.shape = shape
        self.arguments = arguments
        """What the constructor was called with, to compare trees at a reload."""
        self.name = ""
        self.parent: Record | None = None
        self.children: dict[str, Record] | None = {} if shape.group else None
        self.needs: tuple[Record | str, ...] = ()
        self.policy: Policy = DEFAULT
        self.state = NEW
        self.intent = UP
        self.pause_mode: str | None = None
        """How the operator wants it paused, where its class knows several ways."""
        self.incarnation = 0
        self.life: Life | None = None
        self.by_itself = False
        """The last incarnation began to end without being told to."""
        self.returned = False
        """The last incarnation ended because `run` returned, so a need for this service stays met."""
        self.error: Exception | None = None
        self.endpoints: tuple[str, ...] = ()
        self.since = 0.0
        self.ready_at = -1.0
        """When its present or last incarnation got ready, in the loop's time; below 0 if it has not."""
        self.health = 0.0
        """Seconds for which its last incarnation was in health, up to the moment in which it began to end."""
        self.care: Any = None
        """What supervision remembers of its failures; None for one that has had none."""
        self.log: logging.LoggerAdapter[logging.Logger] | None = None

    @property
    def path(self) -> str:
        """Names from the root, joined by "/"; the root itself is "/"."""
        if self.parent is None:
            return self.name
        above = self.parent.path
        return self.name if above == "/" else f"{above}/{self.name}"

    @property
    def subject(self) -> str:
        """What messages call this service."""
        return f"{'group' if self.shape.group else 'service'} {self.path!r}"

    @property
    def met(self) -> bool:
        """Whether what needs this service may start."""
        return self.state in READY or self.returned

    @property
    def is_open(self) -> bool:
        """Whether the services of this group may start."""
        return self.state in READY or (self.state is STARTING and (self.life is None or self.life.has_started))

    def below(self) -> Iterator[Record]:
        """This record and all below it, each before its children, in the order of `add`."""
        stack = [self]
        while stack:
            record = stack.pop()
            yield record
            if record.children:
                stack.extend(reversed(record.children.values()))

    def above(self) -> Iterator[Record]:
        """The groups it is in, the nearest first."""
        record = self.parent
        while record is not None:
            yield record
            record = record.parent

    def within(self, other: Record) -> bool:
        """Whether this is `other` or stands below it."""
        record: Record | None = self
        while record is not None and record is not other:
            record = record.parent
        return record is other

    @property
    def top(self) -> Record:
        """The uppermost record of this tree: the application's, once the service was added to one."""
        record = self
        while record.parent is not None:
            record = record.parent
        return record
