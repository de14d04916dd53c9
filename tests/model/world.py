"""The world: services that do as they are told, and the diary of what they did.

Rules: a `Plan` says which hooks a service has; its `script` says what the next calls of each hook do, and is changed
by the machine while everything runs. Each call of a hook is written into the `Life` of the incarnation that it
belongs to, so that nothing an older one still does is taken for the present one's. Nothing here knows what ought to
follow: that is the model's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

from plait import Group, Service, State
from plait._kernel.health import Health, degraded
from plait.errors import DoNotRestart, Escalate

TINY, SHORT, LONG, AGES = 0.0, 0.7, 7.0, 500.0


class Broken(Exception):
    """What services raise on purpose."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a service or a group is made of."""

    is_group: bool = False
    start: bool = False
    run: str = ""
    """"plain", "heeds" (reads `stopping`), "unpaused" (asks that), or "" for none."""
    drain: bool = False
    stop: bool = False
    pause: bool = False
    check: bool = False
    enters: bool = False
    takes: bool = False
    """Has on_reload, so arguments can be given to it while it runs."""
    manual: bool = False
    """Says itself when it is ready; it has a run, which does."""


@dataclass(slots=True, eq=False)
class Call:
    """One call of one hook, from its beginning to its end."""

    hook: str
    began: float


@dataclass(slots=True, eq=False)
class Life:
    """What happened in one incarnation."""

    number: int
    began: float
    calls: list[Call] = field(default_factory=list)
    """Those under way."""
    called: set[str] = field(default_factory=set)
    returned: set[str] = field(default_factory=set)
    """The hooks that have returned."""
    errors: list[BaseException] = field(default_factory=list)
    """What its own task raised."""
    raised: list[BaseException] = field(default_factory=list)
    """What any of its hooks raised."""
    may_fall: bool = False
    """It has cause to end by itself: it raised, returned, or was cancelled."""
    finished: bool = False
    """`run` returned before anybody wanted it to stop."""
    took_time: bool = False
    """A hook took longer than an instant, so a deadline may have passed."""
    asks: bool = False
    """It has called `unpaused`."""
    stuck: bool = False
    """Something of it was left behind."""
    was_ready: bool = False
    ready_at: float | None = None
    """Since when it is in health."""
    ended_at: float = 0.0
    """When it began to end."""
    lacks: bool = False
    """Something that it needs was away then."""
    health: str = "ready"
    """What its last check said."""
    task: asyncio.Task[Any] | None = None

    def busy(self, *hooks: str) -> bool:
        """Whether one of these is under way; of none given, any but run and what stands beside it."""
        return any(call.hook in hooks if hooks else call.hook not in ("run", "spawned", "check") for call in self.calls)


class Subject(Protocol):
    """What a service of the world tells; the model's Node."""

    plan: Plan
    script: dict[str, list[str]]
    life: Life
    trigger: asyncio.Future[str] | None

    def enter(self, hook: str) -> Call: ...
    def leave(self, life: Life, call: Call, error: BaseException | None) -> None: ...
    def checked(self, life: Life, call: Call, level: str) -> None: ...
    def works(self) -> None: ...


# -- what a hook may do ------------------------------------------------------------------------------------------------


async def _sleep(_: Actor, seconds: float) -> None:
    await asyncio.sleep(seconds)


async def _fail(_: Actor, seconds: float) -> None:
    if seconds:
        await asyncio.sleep(seconds)
    raise Broken("on purpose")


async def _deaf(_: Actor, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        try:
            await asyncio.sleep(end - loop.time())
        except asyncio.CancelledError:
            continue


async def _cancel_itself(actor: Actor, _: float) -> None:
    actor.node.life.may_fall = True
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def _raise(_: Actor, seconds: float) -> None:
    raise {1: DoNotRestart, 2: Escalate, 3: SystemExit}[int(seconds)]("on purpose")


async def _spawn(actor: Actor, seconds: float) -> None:
    if actor.state in (State.STARTING, State.RUNNING):
        actor.spawn(actor.aside("fail" if seconds else "deaf"))


BEHAVIOURS: dict[str, tuple[Callable[[Actor, float], Awaitable[None]], float]] = {
    "ok": (_sleep, TINY),
    "slow": (_sleep, SHORT),
    "long": (_sleep, LONG),
    "hang": (_sleep, AGES),
    "fail": (_fail, 0),
    "fail_late": (_fail, SHORT),
    "deaf": (_deaf, 3.0),
    "stone": (_deaf, AGES),
    "cancel": (_cancel_itself, 0),
    "no_restart": (_raise, 1),
    "escalate": (_raise, 2),
    "exit": (_raise, 3),
    "spawn_fail": (_spawn, 1),
    "spawn_deaf": (_spawn, 0),
}
CHECKS = ("ok", "slow", "long", "fail", "degraded")
ENDS = (
    "return",
    "fail",
    "fail",
    "fail",
    "cancel",
    "no_restart",
    "escalate",
    "exit",
    "spawn_fail",
    "spawn_deaf",
    "work",
)
"""What `run` may be told to do."""


class Actor(Service):
    """The base of every service of the world; `node` is its entry in the model."""

    node: Subject

    async def act(self, hook: str, default: str = "") -> str:
        """Do what the script says; the result is what that was."""
        script = self.node.script.get(hook)
        if not script and not default:
            call = self.node.enter(hook)
            self.node.leave(self.node.life, call, None)
            return "ok"
        return await self._perform(hook, script.pop() if script else default)

    async def _perform(self, hook: str, what: str) -> str:
        life, call, error = self.node.life, self.node.enter(hook), None
        try:
            if what == "run":
                await self._wait_to_be_told()
            elif what != "degraded":
                behaviour, seconds = BEHAVIOURS[what]
                await behaviour(self, seconds)
        except BaseException as exc:
            error = exc
            raise
        finally:
            self.node.leave(life, call, error)
        return what

    async def _wait_to_be_told(self) -> None:
        while True:
            if self.node.plan.run == "unpaused":
                self.node.life.asks = True
                await self.unpaused()
                self.node.works()
            self.node.trigger = asyncio.get_running_loop().create_future()
            told = await self.node.trigger
            if told == "return":
                return
            if told != "work":
                behaviour, seconds = BEHAVIOURS[told]
                await behaviour(self, seconds)

    async def aside(self, what: str) -> None:
        """A task that the service spawns: it fails, or does not hear."""
        await self._perform("spawned", "fail_late" if what == "fail" else what)


class Part(Actor):
    """A service that has an argument, which a reload changes."""

    def __init__(self, turn: int = 0) -> None:
        self.turn = turn


class Entered(AbstractAsyncContextManager[None]):
    """What on_start enters."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor

    async def __aexit__(self, *_: object) -> None:
        await self.actor.act("exit")


async def _on_start(self: Actor) -> None:
    if self.node.plan.enters:
        await self.enter(Entered(self))
    await self.act("on_start")


async def _run(self: Actor) -> None:
    if self.node.plan.manual:
        await self.act("ready")
        self.ready()
    await self.act("run", "run")


async def _run_heeding(self: Actor) -> None:
    stopping = self.stopping
    if self.node.plan.manual:
        await self.act("ready")
        self.ready()
    life, call = self.node.life, self.node.enter("run")
    error: BaseException | None = None
    try:
        await stopping
    except BaseException as exc:
        error = exc
        raise
    finally:
        self.node.leave(life, call, error)


async def _on_drain(self: Actor) -> None:
    await self.act("on_drain")


async def _on_stop(self: Actor) -> None:
    await self.act("on_stop")


async def _on_pause(self: Actor) -> None:
    await self.act("on_pause")


async def _on_resume(self: Actor) -> None:
    await self.act("on_resume")


async def _check(self: Actor) -> Health | None:
    node, life = self.node, self.node.life
    call = Call("check", asyncio.get_running_loop().time())
    level = "unready"
    try:
        what = await self.act("check")
        level = "degraded" if what == "degraded" else "ready"
    except asyncio.CancelledError:
        level = ""
        raise
    finally:
        node.checked(life, call, level)
    return degraded("on purpose") if level == "degraded" else None


async def _on_reload(self: Part, turn: int = 0) -> None:
    await self.act("on_reload")
    self.turn = turn


@cache
def class_of(plan: Plan) -> type[Any]:
    """A class with just these hooks."""
    hooks: dict[str, Any] = {}
    if plan.start or plan.enters:
        hooks["on_start"] = _on_start
    if plan.run:
        hooks["run"] = _run_heeding if plan.run == "heeds" else _run
    if plan.drain:
        hooks["on_drain"] = _on_drain
    if plan.stop:
        hooks["on_stop"] = _on_stop
    if plan.pause:
        hooks.update(on_pause=_on_pause, on_resume=_on_resume)
    if plan.check:
        hooks["check"] = _check
    if plan.manual:
        hooks["readiness"] = "manual"
    if plan.is_group:
        return type("Nest", (Actor, Group), hooks)
    if plan.takes:
        hooks["on_reload"] = _on_reload
    return type("Part", (Part,), hooks)
