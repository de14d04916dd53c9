"""The checks of services, called on time, and who tells when the health of something has changed.

Rules:
- A service's own health is the worse of what its `check` says and what it says itself. A check is called when the
  service gets ready, and again `check_period` after it ended; never twice at a time, and only while it is RUNNING.
- What that means for those that need it and for the groups it is in (assessment.py) is computed when somebody asks.
  Changes are looked for once a turn, after something has moved, only where that can have changed anything, and only
  while the application runs and has a sink.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

from plait._kernel.assessment import Assessments, assess, assess_one
from plait._kernel.bus import Bus
from plait._kernel.deadlines import Deadline, Deadlines
from plait._kernel.events import Event, HealthChanged
from plait._kernel.graph import known_needs
from plait._kernel.health import READY, Health, Level, unready
from plait._kernel.record import Life, Record
from plait._kernel.states import AT_REST, RUNNING, STOPPING
from plait._kernel.states import READY as LIVES
from plait._kernel.words import error_text


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
        self._told: dict[Record, Health] = {}
        """What was told last of those that run, but for those that are ready."""
        self._known: Assessments = {}
        """All of the tree, as it was when it was looked at last; empty if that is no help."""
        self._users: dict[Record, list[Record]] = {}
        """Who needs a record."""
        self._moved: dict[Record, None] = {}
        """What may have changed since."""
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
        if where.get(record, READY) == health:
            return
        was_unready = self.own(record).level is Level.UNREADY
        if health == READY:
            where.pop(record, None)
        else:
            where[record] = health
        is_unready = self.own(record).level is Level.UNREADY
        if was_unready != is_unready and record.state in LIVES:
            self._engine.fit(record, is_unready)
        self.moved(record)

    def own(self, record: Record) -> Health:
        """What the service and its check say."""
        if not self._checked and not self.said:
            return READY
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

    def assess(self, record: Record) -> Assessments:
        """The health of `record` and all below it."""
        return assess(record, self.own)

    def moved(self, record: Record) -> None:
        """Something about it is another."""
        if record.state is not RUNNING:
            self._told.pop(record, None)  # its state says it all; when it runs again it is ready, unless it is said
        if self._engine.root.state not in LIVES:
            self._forget()
        elif self._known:
            self._moved[record] = None
        self.look()

    def _forget(self) -> None:
        self._known, self._told, self._moved = {}, {}, {}

    def tree_changed(self) -> None:
        """Services were added or removed."""
        self._known = {}
        self.look()

    def look(self) -> None:
        """Tell, at the end of this turn, whose health is another."""
        engine = self._engine
        if not self._is_looking and engine.root.state in LIVES and engine.bus.sinks and not engine.is_changing:
            self._is_looking = True
            engine.loop.call_soon(self._tell)

    def told(self) -> Iterable[tuple[Record, Health]]:
        """Who is not ready, as it has been told by now; with no sink there, as it is."""
        if not self._engine.bus.sinks:
            self._forget()
        if self._engine.root.state in LIVES and not self._engine.is_changing:
            self._tell()
        return self._told.items()

    def _tell(self) -> None:
        self._is_looking = False
        if self._engine.root.state not in LIVES:
            self._forget()
        elif not self._engine.is_changing:
            for record in self._assess_again():
                self._tell_of(record)

    def _tell_of(self, record: Record) -> None:
        if record.state is not RUNNING:  # its state says it all
            self._told.pop(record, None)
            return
        assessment = self._known[record]
        health = assessment.health if assessment is not None else READY
        old = self._told.get(record, READY)
        if health.level is Level.READY:
            self._told.pop(record, None)
        else:
            self._told[record] = health
        if health.level is not old.level:
            self._engine.emit(HealthChanged, record, old=old.level, new=health.level, reason=health.reason)

    def _assess_again(self) -> Iterable[Record]:
        """Look at what may be another, and say what that is; each comes after what it holds."""
        if not self._known:
            self._look_at_all()
            return list(self._known)
        services, groups = self._affected()
        for record in (*services, *groups):
            self._known[record] = assess_one(record, self.own, self._known)
        return [*services, *groups]

    def _look_at_all(self) -> None:
        self._moved.clear()
        self._known = self.assess(self._engine.root)
        self._told = {record: health for record, health in self._told.items() if record in self._known}
        self._users = {}
        for record in self._known:
            for need in known_needs(record):
                self._users.setdefault(need, []).append(record)

    def _affected(self) -> tuple[list[Record], list[Record]]:
        """What has moved, what needs it or a group it is in, and the groups that all these are in, the inner first."""
        affected = dict(self._moved)
        self._moved.clear()
        for record in tuple(affected):
            for one in (record, *record.above()):
                affected.update(dict.fromkeys(self._users.get(one, ())))
        groups: dict[Record, int] = {}
        for record in affected:
            above = list(record.above())
            if record.children is not None:
                above.insert(0, record)
            for group in above:
                groups.setdefault(group, sum(1 for _ in group.above()))
        services = [record for record in affected if record.children is None]
        return services, sorted(groups, key=lambda group: -groups[group])


_WORSE = list(Level)


def _said(result: Any, error: Exception | None) -> Health:
    if error is not None:
        return unready(error_text(error))
    if result is None:
        return READY
    if isinstance(result, Health):
        return result
    return unready(f"check() returned {result!r}; it returns nothing, or degraded('why')")
