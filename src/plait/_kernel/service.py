"""Service: what authors subclass.

Rules: authors override hooks (hooks.py), and nothing else; `start`, `stop`, `restart`, `pause` and `resume` own the
state machine.
No upcall is ever needed: `__new__` makes the kernel's record. A service belongs to one group, once.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import re
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from typing import Any, ClassVar, Literal, ParamSpec, Protocol, TypeVar, cast, overload

from plait._kernel import commands
from plait._kernel.assessment import health_of
from plait._kernel.engine import Engine, engine_of
from plait._kernel.health import Health
from plait._kernel.hooks import HOOKS, Hooks, Shape
from plait._kernel.host import Host
from plait._kernel.incarnation import Incarnation, Stopping
from plait._kernel.policy import DEFAULT, Policy, duration
from plait._kernel.record import NO_ARGUMENTS, Arguments, Record
from plait._kernel.reserved import check_subclass, guard
from plait._kernel.states import LIVE, Intent, State
from plait._kernel.whose import check_present
from plait.errors import LifecycleError

P = ParamSpec("P")
T = TypeVar("T")

RESERVED = frozenset(
    {"application", "effective_policy", "enter", "extend_start", "health", "intent", "log", "name", "path", "pause"}
    | {"ready", "restart", "resume", "run_in_thread", "spawn", "start", "state", "stop", "stopping", "unpaused"}
)
"""What a service may neither override nor assign."""

_logger = logging.getLogger("plait.service")


class Service(Hooks):
    """Something that starts, runs, can pause, and stops, as part of an application.

    Override any of `on_start`, `run`, `on_drain`, `on_stop`, `on_pause` with `on_resume`, `on_reload`, `check`. Add
    it to a group or an application, which starts it after what it needs, stops it before that, and starts it again
    when it fails. Each of its lives is an incarnation, with a task of its own if a hook needs one.
    """

    __slots__ = ("__weakref__", "_record")

    _reserved: ClassVar[frozenset[str]] = RESERVED
    _shape: ClassVar[Shape]
    _is_group: ClassVar[bool] = False

    policy: ClassVar[Policy] = DEFAULT
    """The class's own policy; keyword arguments of `add` override its fields."""

    readiness: ClassVar[Literal["auto", "manual"]] = "auto"
    """Ready when `on_start` has returned, or, "manual", when the service calls `self.ready()`."""

    pause_modes: tuple[str, ...] = ()
    """The ways in which `pause(mode=...)` may pause it; its `on_pause` asks `self._pause_mode`."""

    _stands_for: Any = None
    """What it was made to stand for in the tree, an object of another programming model; None for itself."""

    live_parameters: ClassVar[tuple[str, ...] | None] = None
    """Which of its constructor's parameters `on_reload` can take while it runs; None for all of them."""

    _record: Record

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:  # Any: or every subclass's constructor loses its type
        self = super().__new__(cls)
        self._record = cls._make_record(self, (args, kwargs) if args or kwargs else NO_ARGUMENTS)
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_subclass(cls)
        if not isinstance(cls.policy, Policy):
            raise TypeError(f"{cls.__name__}.policy is {cls.policy!r}; it takes a Policy(...)")
        if cls.readiness not in ("auto", "manual"):
            raise ValueError(f"{cls.__name__}.readiness is {cls.readiness!r}; it may be auto, manual")
        if cls.readiness == "manual" and cls._is_group:
            raise TypeError(f"{cls.__name__}.readiness is 'manual', but a group is ready when its services are")
        cls._shape = Shape(cls, group=cls._is_group, manual=cls.readiness == "manual")

    @classmethod
    def _make_record(cls, service: Service, arguments: Arguments) -> Record:
        record = Record(service, cls._shape, arguments)
        record.policy = service.policy
        return record

    def __repr__(self) -> str:
        record = self._record
        return f"<{type(self).__name__} {record.path or 'not added'} {record.state.value}>"

    # -- what it is --------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name in its group: the one given to `add`, else the class's in snake case."""
        return self._record.name or snake_case(type(self).__name__)

    @property
    def path(self) -> str:
        """Its place in the application: names joined by "/", as "backend/db"."""
        return self._record.path or self.name

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self._record.state

    @property
    def intent(self) -> Intent:
        """What the operator wants of it."""
        return self._record.intent

    @property
    def effective_policy(self) -> Policy:
        """The policy in force: the class's, with what `add` was given."""
        return self._record.policy

    @property
    def application(self) -> Host:
        """The application it is in. LifecycleError before it was added to one."""
        return cast(Host, self._engine().root.service)

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records carry `service`, this one's path, and `incarnation`."""
        record = self._record
        if record.log is None:
            record.log = _ServiceLog(_logger, {"record": record})
        return record.log

    # -- commands ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start it, and all below it; return when it is ready.

        A service that is ready already is left alone, one that is stopping is awaited first. StartFailed, an
        ExceptionGroup with the root cause first, if anything failed: what had started was stopped again.
        InvalidTree if the composition is wrong, LifecycleError if its group or what it needs is not running,
        StartInterrupted if it was stopped meanwhile. Cancelling the last caller rolls the start back.
        """
        await commands.start(self._record)

    async def stop(self) -> None:
        """Drain and stop it, and all below it; return when it is at rest, within its deadlines.

        What needs it keeps running. It stays down until started again. StopFailed if something went wrong on
        the way; it has stopped all the same. Cancelling a caller ends only its wait.
        """
        await commands.stop(self._record)

    async def restart(self) -> None:
        """Stop it and start it again, it alone: a new incarnation; one that is paused comes back paused.

        What goes wrong while it stops is an event and a log line. Errors are those of `start`.
        """
        await commands.restart(self._record)

    async def pause(self, mode: str | None = None) -> tuple[str, ...]:
        """Let it take no new work, and keep what is open; return when it is paused.

        A group pauses all in it that can; the result is the paths of those that cannot, and go on. CannotPause if
        this service cannot, PauseFailed if one failed of it, ValueError if the class does not know the `mode`. What
        is at rest and not down comes up paused when it starts: the intent stays until `resume`.
        """
        modes = {mode for one in self._record.below() for mode in _modes(one)}
        return await commands.pause(self._record, mode, sorted(modes))

    async def resume(self) -> None:
        """Take work again; return when it does. What was paused by itself in a group stays paused with that.

        LifecycleError if a group it is in is paused: resume that. PauseFailed if a hook failed.
        """
        await commands.resume(self._record)

    @property
    def health(self) -> Health:
        """How well it does now: ready, degraded or unready, and why. A group's is made of what it holds."""
        engine = engine_of(self._record) or Engine(self._record)
        return health_of(engine.checks.assess(self._record)[self._record])

    # -- what its own code may ask -----------------------------------------------------------------------------------

    @property
    def stopping(self) -> Stopping:
        """Await it, or ask `is_set()`, to learn that a stop was requested.

        A `run` that has read it is given `drain_timeout` to return by itself before it is cancelled.
        """
        return self._life().stopping()

    @overload
    async def enter(self, manager: AbstractAsyncContextManager[T]) -> T: ...
    @overload
    async def enter(self, manager: AbstractContextManager[T]) -> T: ...
    async def enter(self, manager: Any) -> Any:
        """Enter a context manager, sync or async; it is left when this incarnation ends, in reverse order.

        Whatever ended the incarnation, it is left in the task that entered it, so task groups and cancel
        scopes may be entered; it sees the failure that ended the incarnation, and nothing after a requested stop
        or when `run` returned. The tasks of a task group are then cancelled, as spawned ones are.
        LifecycleError anywhere but in `on_start`, `run` and `on_stop`.
        """
        return await self._life().enter(manager)

    def spawn(self, coro: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Run `coro` in a task that this incarnation owns.

        It is cancelled with `run`, or when `run` returns. If it raises, the incarnation fails. LifecycleError
        if the service is not running.
        """
        try:
            life = self._life()
        except LifecycleError:
            coro.close()
            raise
        return life.spawn(coro, name)

    async def run_in_thread(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function in one of the application's threads, with this context's variables.

        A thread cannot be interrupted: a cancelled caller waits until the function has returned, so that
        `on_stop` never runs beside it; past the service's deadline it is left behind.
        """
        engine = self._engine()
        call = partial(contextvars.copy_context().run, function, *args, **kwargs)
        future = engine.loop.run_in_executor(engine.threads(), call)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if not future.done():
                await asyncio.wait([future])
            if not future.cancelled() and (error := future.exception()) is not None:
                self.log.warning("a thread that was waited for while stopping raised %r", error)
            raise

    def ready(self) -> None:
        """Say that it is ready, for a class with `readiness = "manual"`. LifecycleError for any other."""
        if not self._record.shape.manual:
            raise LifecycleError(
                f"{type(self).__name__} is ready when its on_start returns; set readiness = 'manual' to say it yourself"
            )
        self._life().said_ready()

    def extend_start(self, seconds: float) -> None:
        """Ask for more time to start: `seconds` from now, if that is later than the deadline. No effect once ready."""
        seconds = duration("extend_start()", seconds)
        self._life().extend_start(seconds)

    async def unpaused(self) -> None:
        """Wait while it is paused; return at once if it is not.

        A service whose `run` calls this before it takes work can be paused without any hook.
        """
        await self._life().unpaused()

    @property
    def _pause_mode(self) -> str | None:
        """How it shall be paused: what was said to `pause` of it, or of a group it is in."""
        record: Record | None = self._record
        while record is not None:
            if record.intent is Intent.PAUSED and record.pause_mode is not None:
                return record.pause_mode
            record = record.parent
        return None

    @property
    def _starts_paused(self) -> bool:
        """Whether this incarnation goes from STARTING to PAUSED, so on_start need not open what on_pause closes.

        It does then, whatever is wanted meanwhile; the other way round it may still be paused at the end of its start.
        """
        return self._life().starts_paused

    def _set_health(self, health: Health) -> None:
        """Say how well it does, where that is known without a check."""
        if self._record.state in LIVE:
            self._engine().checks.say(self._record, health)

    def _retract(self) -> None:
        """Say that this incarnation accepts work nowhere, for now."""
        self._engine().retract(self._record)

    def _announce(self, endpoint: str) -> None:
        """Say that this incarnation accepts work at `endpoint`, a URL with the real port."""
        self._engine().announce(self._record, endpoint)

    def _life(self) -> Incarnation:
        """The present incarnation; LifecycleError if there is none, or if it is one that is over that asks."""
        life = self._engine().life(self._record)
        check_present(life)
        return life

    def _engine(self) -> Engine:
        engine = engine_of(self._record)
        if engine is None:
            raise LifecycleError(
                f"{self._record.subject if self._record.name else type(self).__name__} is in no application; "
                "add it to one first"
            )
        return engine


class Represented(Protocol):
    """An object that a service stands for in the tree."""

    def __plait_service__(self) -> Service:
        """The service, the same one each time."""
        raise NotImplementedError


def service_of(thing: object, *, as_root: bool = False) -> Service | None:
    """The thing if it is a service, or the service that stands for it, the same one each time; None for anything else.

    An object has one by its class's `__plait_service__`, and as the root of a tree by its `__plait_application__`.
    """
    if isinstance(thing, Service):
        return thing
    for name in ("__plait_application__", "__plait_service__") if as_root else ("__plait_service__",):
        make = getattr(type(thing), name, None)
        if make is not None:
            made: Service = make(thing)
            return made
    return None


def makes_service(thing: object) -> bool:
    """Whether calling this makes a service: it is a class of them, or of objects that have one to stand for them."""
    return isinstance(thing, type) and (issubclass(thing, Service) or hasattr(thing, "__plait_service__"))


Service._shape = Shape(Service, group=False)
guard(Service, RESERVED)
guard(Hooks, frozenset(HOOKS))


class _ServiceLog(logging.LoggerAdapter[logging.Logger]):
    """Adds the service's path and incarnation at the time of the message."""

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        record: Record = cast(Any, self.extra)["record"]
        extra = {"service": record.path, "incarnation": record.incarnation, **(kwargs.get("extra") or {})}
        return msg, {**kwargs, "extra": extra}


def _modes(record: Record) -> tuple[str, ...]:
    return record.service.pause_modes if isinstance(record.service, Service) else ()


_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def snake_case(name: str) -> str:
    """ "HTTPServer" as "http_server"."""
    return _WORD.sub("_", name).lower().strip("_") or "service"
