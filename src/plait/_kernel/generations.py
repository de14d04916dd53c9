"""From the tree that serves to the one that takes over, on the same loop and the same sockets.

Rules:
- The new tree starts beside the old one, with what operators want of services at the same paths. What is to run only
  once (placement "one") waits until the rest is ready.
- Then each such service of the old tree stops, and its successor starts: those that need each other together, all
  others side by side, so that none is missing for longer than its own change-over takes.
- If anything of the new tree fails, it is stopped, what was stopped of the old starts again, and the old serves on.
- The old tree then drains and stops, under its services' own deadlines.

    old   RUNNING ───────────────────── ones stop ─┐                  ┌─→ drain, STOPPED
    new             the rest is ready ─────────────┴→ ones start ─→ serves
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterable

from plait._kernel import commands
from plait._kernel.application import Application
from plait._kernel.engine import Engine
from plait._kernel.graph import check, find, known_needs
from plait._kernel.operations import Start, Stop, wait, wait_out
from plait._kernel.record import Record
from plait._kernel.states import AT_REST, BACKOFF, DOWN, HELD, LIVE, NEW, READY, UP, Intent
from plait._kernel.supervision import stop_application
from plait.errors import PlaitError, StartInterrupted

log = logging.getLogger("plait.kernel")

Wish = tuple[Intent, str | None]
"""What the operator wants of a service, and how it shall be paused."""


class Switch:
    """One change of generations. `dropped` names those whose intent is lost, since they are gone."""

    def __init__(self, old: Application, new: Application) -> None:
        self._application = new
        self._old, self._new = old._root_engine, new._root_engine
        self._new.generation = self._old.generation + 1
        self._carried: dict[str, Wish] = {}
        self._to_return: list[Record] = []
        self._moved: list[Record] = []
        self.dropped: list[str] = []
        self.is_given_up = False

    def give_up(self) -> None:
        """The application is to stop: the new tree, which is stopped elsewhere, shall not take over."""
        self.is_given_up = True

    async def run(self) -> None:
        """Until the new tree serves. Raises what it failed of; the old one serves on by then."""
        check(self._new.root)
        engine = self._application._prepare_to_serve()
        self._carry()
        units = [*_units(engine.root)]
        self._old.is_changing = self._new.is_changing = True
        try:
            await self._start(exclusive=units)
            await self._move_all(units)
            await self._follow()
            self._check_serving()
        except BaseException:
            await self._undo()
            self._settle(self._old)
            raise
        self._settle(self._new)

    @staticmethod
    def _settle(engine: Engine) -> None:
        """This tree serves, and its health counts from now on."""
        engine.is_changing = False
        engine.checks.look()

    # -- what operators want -----------------------------------------------------------------------------------------

    def _carry(self) -> None:
        self._carried = wishes(self._old)
        for path, (intent, mode) in self._carried.items():
            record = at(self._new.root, path)
            if record is None:
                self.dropped.append(path)
            else:
                record.intent, record.pause_mode = intent, mode

    async def _follow(self) -> None:
        """What operators have come to want meanwhile is done in the new tree as well."""
        while (wanted := wishes(self._old)) != self._carried:
            before, self._carried = self._carried, wanted
            for path in dict.fromkeys((*before, *wanted)):
                record = at(self._new.root, path)
                if record is not None and before.get(path) != wanted.get(path):
                    await self._fulfil(record, wanted.get(path, (UP, None)))

    async def _fulfil(self, record: Record, wish: Wish) -> None:
        intent, mode = wish
        try:
            if intent is DOWN:
                await commands.stop(record)
            elif intent is HELD:
                await commands.pause(record, mode, () if mode is None else (mode,))
            elif record.intent is DOWN:
                await commands.start(record)
            else:
                await commands.resume(record)
        except (PlaitError, ExceptionGroup) as error:
            log.warning("%s is to be %s in the new generation: %s", record.subject, intent.value, error)

    # -- starting ----------------------------------------------------------------------------------------------------

    async def _start(self, exclusive: list[Record]) -> None:
        """All of the new tree but what is to run only once."""
        self._new.open()
        await self._bring_up(Start(self._new, self._new.root, omit=lambda record: record in exclusive))

    async def _bring_up(self, start: Start) -> None:
        start.launch()
        await commands.join_start(start)
        commands.raise_start(start)

    def _check_serving(self) -> None:
        if self.is_given_up:
            raise StartInterrupted("the application was told to stop while it was reloading")
        self._application._raise_failures(())

    # -- what runs only once -----------------------------------------------------------------------------------------

    async def _move_all(self, units: list[Record]) -> None:
        """Side by side what has nothing to do with each other; the first failure ends all of it."""
        try:
            async with asyncio.TaskGroup() as group:
                for together in _components(units, self._old.root):
                    group.create_task(self._move(together))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _move(self, units: list[Record]) -> None:
        self._check_serving()
        there = [old for unit in units if (old := at(self._old.root, unit.path)) is not None]
        self._cede(there)
        if there:
            stop = Stop(self._old, there[0], there)
            stop.launch()
            await wait(stop.done)
        self._check_serving()
        if self._new.root.state in READY:
            self._moved += units
            await self._bring_up(Start(self._new, self._new.root, omit=lambda record: not _touches(record, units)))

    def _cede(self, records: Iterable[Record]) -> None:
        """These belong to the new tree now: nothing starts them in the old one."""
        for record in records:
            if record.intent is not DOWN and (record.state in LIVE or record.state is BACKOFF):
                self._to_return.append(record)
            self._old.ceded[record] = record.intent
            record.intent = DOWN

    def _reclaim(self) -> list[asyncio.Future[None]]:
        """What was ceded starts again."""
        for record, intent in self._old.ceded.items():
            record.intent = intent
        self._old.ceded.clear()
        if self._old.root.state not in READY:
            return []
        back = [record for record in self._to_return if record.state in AT_REST and record.top is self._old.root]
        done = [self._old.next_rest(record) for record in back]
        self._old.supervision.bring_back(back, "its successor did not take over")
        return done

    async def _undo(self) -> None:
        """The new tree stops, first what runs only once, so that it is never there twice."""
        if self._moved:
            first = Stop(self._new, self._moved[0], self._moved)
            first.launch()
            await wait_out(first.done)
        returned = self._reclaim()
        stop = stop_application(self._new, delay=0.0)
        if stop is not None:
            await wait_out(stop.done)
        elif self._new.root.state is NEW:
            self._new.close()
        if returned and not self.is_given_up:
            longest = max(record.policy.start_timeout for record in self._to_return)
            await asyncio.wait(returned, timeout=longest)


def retire(application: Application) -> Stop | None:
    """The old tree, whose successor serves: it drains and stops, and nobody shortens its services' deadlines."""
    engine = application._root_engine
    engine.ends_itself = False
    engine.ceded[engine.root] = engine.root.intent
    engine.shutdown_timeout = math.inf
    return stop_application(engine, delay=0.0)


def wishes(engine: Engine) -> dict[str, Wish]:
    """What operators want of the services of a tree, by path, where it is not simply that they be up."""
    found = {}
    for record in engine.root.below():
        intent = engine.ceded.get(record, record.intent)
        if intent is not UP and record not in engine.leaving:
            found[record.path] = (intent, record.pause_mode)
    return found


def at(root: Record, path: str) -> Record | None:
    """The record at a path, "/" for the root."""
    return root if path == "/" else find(root, path)


def _units(root: Record) -> Iterable[Record]:
    """What is to run only once: services and groups with placement "one", the uppermost of each."""
    stack = [root]
    while stack:
        record = stack.pop()
        if record is not root and record.policy.placement == "one":
            yield record
        else:
            stack.extend(reversed((record.children or {}).values()))


def _touches(record: Record, units: list[Record]) -> bool:
    """Whether it is in one of these, or holds one."""
    return any(record.within(unit) or unit.within(record) for unit in units)


def _components(units: list[Record], old: Record) -> list[list[Record]]:
    """The units in sets that have nothing to do with each other, by the needs of both trees."""
    found: list[list[Record]] = []
    for unit in units:
        related = [other for other in found if any(_related(unit, one, old) for one in other)]
        found = [other for other in found if other not in related]
        found.append([one for other in related for one in other] + [unit])
    return found


def _related(a: Record, b: Record, old: Record) -> bool:
    pairs = [(a, b)]
    before = at(old, a.path), at(old, b.path)
    if before[0] is not None and before[1] is not None:
        pairs.append((before[0], before[1]))
    return any(_needs(one, other) or _needs(other, one) for one, other in pairs)


def _needs(a: Record, b: Record) -> bool:
    return any(need.within(b) or b.within(need) for record in a.below() for need in known_needs(record))
