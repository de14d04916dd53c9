"""Reloading: what is different, what follows from it, and one at a time.

Rules: a plan says what a reload does: nothing, or give running services their arguments live, or put a new
generation in the place of the present one; and because of what. Reloads that are asked for while one is under way
become one, which begins when that has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from plait._kernel.application import Application
from plait._kernel.changes import Change, changes
from plait.errors import LifecycleError
from plait.observe.logs import Logs
from plait.options.resolving import Resolved
from plait.options.sources import Inputs
from plait.plugins.target import Target

Kind = Literal["nothing", "live", "generation"]

_SAID: dict[Kind, str] = {
    "nothing": "nothing is different",
    "live": "the services that are running take it",
    "generation": "a new generation takes over",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a reload does.

    `kind`: "nothing", "live" (running services are given their arguments) or "generation" (a new tree takes over).
    `changes` names what is different, and why it is not live where it is not; never a value.
    """

    kind: Kind
    changes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([_SAID[self.kind], *(f"  {change}" for change in self.changes)])


LOGS = ("level", "format", "file", "syslog")
"""What of the runner's own options a reload changes."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reload has read and built: `application` is the second tree, None where the options are the same."""

    plan: Plan
    resolved: Resolved
    logs: Logs | None
    application: Application | None = None
    found: tuple[Change, ...] = ()


def read(
    target: Target, inputs: Inputs, in_force: Resolved, serving: Application, logs: tuple[Logs | None, Logs | None]
) -> Reading:
    """The options anew, the tree they make, and what follows; `logs` as they are, and as they are to be.

    OptionsError, UsageError, InvalidTree or TargetFailed if anything is wrong; nothing but memory was touched.
    """
    if not target.rebuildable:
        raise LifecycleError(f"target {target.text!r} is an instance, made once; restart required")
    resolved, now = target.resolve(inputs), logs[1]
    differing = tuple(name for name in LOGS if getattr(logs[0], name, None) != getattr(now, name, None))
    if resolved.options == in_force.options:
        return Reading(plan_of((), differing), resolved, now)
    application = target.build(resolved.options)
    found = tuple(changes(serving._record, application._record))
    return Reading(plan_of(found, differing), resolved, now, application, found)


def plan_of(found: Sequence[Change], runner: Sequence[str] = ()) -> Plan:
    """What follows from differences of the trees, and of the runner's own options."""
    said = (*map(str, found), *(f"runner: {name}" for name in runner))
    if not said:
        return Plan("nothing")
    return Plan("live" if all(change.why_not is None for change in found) else "generation", said)


class Reloads:
    """One reload at a time; see the module's rules. `reload` does one."""

    def __init__(self, reload: Callable[[], Coroutine[Any, Any, Plan]]) -> None:
        self._reload = reload
        self._running: asyncio.Task[Plan] | None = None
        self._waiting: asyncio.Task[Plan] | None = None

    async def ask(self) -> Plan:
        """The plan of one that begins after this call. Cancelling it ends only the wait."""
        if self._running is None:
            task = self._running = self._begin(self._reload())
        else:
            task = self._waiting = self._waiting or self._begin(self._after(self._running))
        return await asyncio.shield(task)

    def _begin(self, work: Coroutine[Any, Any, Plan]) -> asyncio.Task[Plan]:
        task = asyncio.get_running_loop().create_task(work, name="plait reload")
        task.add_done_callback(self._ended)
        return task

    async def _after(self, other: asyncio.Task[Plan]) -> Plan:
        await asyncio.wait([other])
        return await self._reload()

    def _ended(self, task: asyncio.Task[Plan]) -> None:
        if not task.cancelled():
            task.exception()  # who asked may have gone; an event has told of it
        self._running, self._waiting = self._waiting, None

    @property
    def is_busy(self) -> bool:
        """Whether one is under way."""
        return self._running is not None

    async def settled(self) -> None:
        """Until none is under way."""
        while self._running is not None:
            await asyncio.wait([self._running])
