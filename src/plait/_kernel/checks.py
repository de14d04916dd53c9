"""The health of a tree: checks called on time, what they say gathered up the tree, changes told.

Rules:
- A service's own health is the worse of what its `check` says and what it says itself. A check is called when the
  service gets ready, and again `check_period` after it ended; never twice at a time, and only while it is RUNNING.
- A group is unready unless it is RUNNING, or if one of its services is so by its check or in its first start, or if all
  are. What is paused, down, parked or in backoff makes it degraded; what has finished does not count. One that runs
  while something it needs is away is degraded.
- All of it is computed when somebody asks; changes are looked for once a turn, after something has moved, and only
  while the application runs and has a sink.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

from plait._kernel.bus import Bus
from plait._kernel.deadlines import Deadline, Deadlines
from plait._kernel.events import Event, HealthChanged
from plait._kernel.graph import known_needs
from plait._kernel.health import READY, Health, Level, degraded, unready
from plait._kernel.record import Life, Record
from plait._kernel.states import AT_REST, BACKOFF, DOWN, FAILED, NEW, RUNNING, STARTING, STOPPING

NAMED = 3
"""How many of a group's services its reason names."""


class Assessment:
    """A record's health, and whether it alone makes its group unready."""

    __slots__ = ("health", "is_hard")

    def __init__(self, health: Health, *, is_hard: bool = False) -> None:
        self.health = health
        self.is_hard = is_hard


_FINE = Assessment(READY)
Assessments = dict[Record, Assessment | None]
"""By record; None for one that has finished, and does not count."""


class Owner(Protocol):
    """What it takes of the engine."""

    root: Record
    bus: Bus
    loop: asyncio.AbstractEventLoop
    deadlines: Deadlines
    is_changing: bool

    def life(self, record: Record) -> Life: ...
    def fit(self, record: Record, is_unready: bool) -> None: ...
    def emit(self, make: Callable[..., Event], record: Record, /, **fields: Any) -> None: ...


class Checks:
    """See the module's rules. One for an engine."""

    def __init__(self, engine: Owner) -> None:
        self._engine = engine
        self._checked: dict[Record, Health] = {}
        self.said: dict[Record, Health] = {}
        """What services say of themselves, where they are not ready."""
        self._calls: dict[Record, asyncio.Task[Any]] = {}
        self._next: dict[Record, Deadline] = {}
        self._told: dict[Record, Level] = {}
        """The levels that were told, but for those that are ready."""
        self._is_looking = False

    # -- a service's own health --------------------------------------------------------------------------------------

    def begin(self, record: Record) -> None:
        """It is RUNNING: check it, unless a check is under way."""
        self._cancel_next(record)
        call = self._calls.get(record)
        if call is not None and not call.done():
            self._again(record)
            return
        life = self._engine.life(record)
        done = partial(self._done, record, record.incarnation)
        self._calls[record] = life.beside(record.service.check(), "check", record.policy.check_timeout, done)

    def _done(self, record: Record, incarnation: int, result: Any, error: Exception | None) -> None:
        if record.incarnation != incarnation or record.state in AT_REST or record.state is STOPPING:
            return
        self._set(self._checked, record, _said(result, error))
        if record.state is RUNNING:
            self._again(record)

    def _again(self, record: Record) -> None:
        self._cancel_next(record)
        self._next[record] = self._engine.deadlines.after(record.policy.check_period, partial(self._due, record))

    def _due(self, record: Record) -> None:
        self._next.pop(record, None)
        if record.state is RUNNING:
            self.begin(record)

    def say(self, record: Record, health: Health) -> None:
        """What a service says of itself."""
        self._set(self.said, record, health)

    def _set(self, where: dict[Record, Health], record: Record, health: Health) -> None:
        was_unready = self.own(record).level is Level.UNREADY
        if health == READY:
            where.pop(record, None)
        else:
            where[record] = health
        is_unready = self.own(record).level is Level.UNREADY
        if was_unready != is_unready:
            self._engine.fit(record, is_unready)
        self.look()

    def own(self, record: Record) -> Health:
        """What the service and its check say."""
        found = [where[record] for where in (self._checked, self.said) if record in where]
        return max(found, key=lambda health: _WORSE.index(health.level), default=READY)

    def end(self, record: Record) -> None:
        """Its incarnation is over."""
        self._cancel_next(record)
        self._calls.pop(record, None)
        self._checked.pop(record, None)
        self.said.pop(record, None)

    def _cancel_next(self, record: Record) -> None:
        deadline = self._next.pop(record, None)
        if deadline is not None:
            self._engine.deadlines.cancel(deadline)

    # -- a tree's ----------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Something has moved: tell, at the end of this turn, whose health is another."""
        engine = self._engine
        if not self._is_looking and engine.root.state is RUNNING and engine.bus.sinks and not engine.is_changing:
            self._is_looking = True
            engine.loop.call_soon(self._tell)

    def _tell(self) -> None:
        self._is_looking = False
        engine = self._engine
        if engine.root.state is not RUNNING:
            self._told.clear()
            return
        if engine.is_changing:
            return
        told: dict[Record, Level] = {}
        for record, assessment in self.assess(engine.root).items():
            health = assessment.health if assessment is not None else READY
            old = self._told.get(record, Level.READY)
            if record.state is not RUNNING:  # its state says it all
                continue
            if health.level is not Level.READY:
                told[record] = health.level
            if health.level is not old:
                engine.emit(HealthChanged, record, old=old, new=health.level, reason=health.reason)
        self._told = told

    def assess(self, record: Record) -> Assessments:
        """The health of `record` and all below it."""
        found: Assessments = {}
        for one in reversed(tuple(record.below())):
            found[one] = self._of_group(one, found) if one.children is not None else self._of_service(one)
        return found

    def _of_service(self, record: Record) -> Assessment | None:
        if record.returned and record.state in AT_REST:
            return None
        return self._of_running(record) if record.state is RUNNING else _of_state(record)

    def _of_running(self, record: Record) -> Assessment:
        own = self.own(record) if self._checked or self.said else READY
        if own.level is Level.UNREADY:
            return Assessment(own, is_hard=True)
        if own.level is Level.READY and record.needs and (away := next(_away(record), None)) is not None:
            return Assessment(degraded(f"{away.path} is {away.state.value}"))
        return Assessment(own) if own is not READY else _FINE

    def _of_group(self, group: Record, found: Assessments) -> Assessment | None:
        if group.returned and group.state in AT_REST:
            return None
        if group.state is not RUNNING:
            return _of_state(group)
        own = self._of_running(group)
        if own.is_hard:
            return own
        counted = [(child, one) for child in (group.children or {}).values() if (one := found[child]) is not None]
        hard = [(child, one) for child, one in counted if one.is_hard]
        if hard:
            return Assessment(unready(_reason(hard)), is_hard=True)
        lacking = [(child, one) for child, one in counted if one.health.level is not Level.READY]
        if lacking and len(lacking) == len(counted) and all(one.health.level is Level.UNREADY for _, one in lacking):
            return Assessment(unready(_reason(lacking)))
        return Assessment(degraded(_reason(lacking))) if lacking else own


def health_of(assessment: Assessment | None) -> Health:
    """An assessment's health; of what has finished, that."""
    return assessment.health if assessment is not None else FINISHED


FINISHED = Health(Level.READY, "finished")
_WORSE = list(Level)


def _said(result: Any, error: Exception | None) -> Health:
    if error is not None:
        return unready(f"{type(error).__name__}: {error}".rstrip(": "))
    if result is None:
        return READY
    if isinstance(result, Health):
        return result
    return unready(f"check() returned {result!r}; it returns nothing, or degraded('why')")


def _of_state(record: Record) -> Assessment:
    """Of one that is not RUNNING."""
    state = record.state
    words = {NEW: "not started", BACKOFF: "waits to be started again", FAILED: "failed"}.get(state, state.value)
    if record.intent is DOWN and state in AT_REST:
        words = "down"
    elif state is FAILED and record.care is not None and record.care.is_parked:
        words = "parked"
    if record.error is not None and state in (FAILED, BACKOFF):
        words += f" after {type(record.error).__name__}"
    return Assessment(unready(words), is_hard=state is STARTING and record.incarnation == 1)


def _reason(lacking: list[tuple[Record, Assessment]]) -> str:
    named = [f"{record.name}: {one.health.reason}" for record, one in lacking[:NAMED]]
    more = len(lacking) - len(named)
    return "; ".join(named) + (f"; and {more} more" if more else "")


def _away(record: Record) -> Iterator[Record]:
    """What of all that `record` needs does not run, and has not finished either."""
    for need in known_needs(record):
        for one in need.below():
            if one.state is not RUNNING and not one.returned:
                yield one
