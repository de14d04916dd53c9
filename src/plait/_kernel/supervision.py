"""What follows when a service fails, or finishes, by itself.

Rules:
- A failure is counted (backoff.py), and the service is in BACKOFF until it is started again; what its group's strategy
  takes along (strategies.py) is stopped first and started after it. What fails while something it needs is away waits
  for that, and is not counted. What must not be started again stays FAILED.
- Whoever shall be started is in `waiting`, and starts in the turn of the loop that brought the last thing it waited
  for: its delay, its group, what it needs, what must have stopped or started before it.
- A group whose services have used up their restarts gives up: the rest of it stops, and it fails. So does one with a
  significant service that failed. What that means is its own group's to say; the application ends. A group that is
  started again begins anew: all in it but what is parked or down starts, and nothing is counted yet.
- A group was in health for as long as all that shall be up in it was up.
- The application ends by itself when every service has ended by itself. One that is parked, down or paused by intent,
  or waits to be started, keeps it alive, unless it waits for one that has failed for good.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from plait._kernel import engine as kernel
from plait._kernel.backoff import IN_A_ROW, WINDOW, Care, allowed, count
from plait._kernel.engine import Engine
from plait._kernel.events import GaveUp, NotStarted, Parked, RestartScheduled
from plait._kernel.graph import is_met, known_needs, missing
from plait._kernel.operations import Start, Stop, holds
from plait._kernel.pausing import Pause, Resume
from plait._kernel.record import Record
from plait._kernel.states import (
    AT_REST,
    BACKOFF,
    DOWN,
    FAILED,
    LIVE,
    READY,
    RUNNING,
    STARTING,
    STOPPED,
    STOPPING,
    UP,
)
from plait._kernel.strategies import Clearing, needed_by, taken_along
from plait._kernel.words import error_text
from plait.errors import DoNotRestart, Escalate


class Supervision(kernel.Supervision):
    """See the module's rules."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.waiting: dict[Record, None] = {}
        """Who shall be started, in the order in which that was decided."""
        self._due: dict[Record, None] = {}
        """Those of them whose delay is over."""
        self._is_looking = False

    # -- what has happened -------------------------------------------------------------------------------------------

    def ended(self, record: Record) -> None:
        engine = self._engine
        is_wanted = record.intent is not DOWN and record not in engine.leaving
        if is_wanted and _may_run(record):
            if record.error is not None:
                self._failed(record, record.error)
            elif record.returned:
                self._returned(record)
        self.look()

    def ending(self, record: Record) -> None:
        if record.needs and (need := missing(record)) is not None:
            _care(record).lacks = need

    def failing(self, group: Record, cause: Exception) -> None:
        engine = self._engine
        if group.state is STOPPING:
            return
        self.ending(group)
        for operation in tuple(engine.operations):
            if isinstance(operation, Start) and operation.has_begun(group):
                operation.failed(group, cause)
                return
        if group is engine.root:
            end_application(engine, group, cause)
        else:
            Stop(engine, group, [group]).launch(partial(self.ended, group))

    def not_started(self, record: Record, culprit: Record) -> None:
        _care(record).gave_up = culprit is not record
        self.ended(record)

    def _returned(self, record: Record) -> None:
        if record.policy.restart == "always":
            care = _care(record)
            care.rested(record.health)
            self._schedule(record, care.next_delay(), "its run() returned")
        elif record.policy.significant:
            self._end_group(record, None)

    def _failed(self, record: Record, error: Exception) -> None:
        care = _care(record)
        self._rested(record)
        asked = None if care.gave_up else error  # what a service asks for concerns its own group
        if record.parent is None:
            end_application(self._engine, record, error)
        elif holds(asked, Escalate):
            self._give_up(record, error, f"{record.subject} asked for it: {error_text(error)}")
        elif record.policy.restart == "never" or holds(asked, DoNotRestart):
            if record.policy.significant:
                self._give_up(record, error, f"{record.subject} is significant, and failed: {error_text(error)}")
        elif (need := care.lacks) is not None:
            self._restart(record, None, f"{error_text(error)}; waits for {need.subject}, which is {need.state.words}")
        else:
            self._count(record, error)
        care.gave_up = False

    def _rested(self, record: Record) -> None:
        """Its group has failed before; whether it was in health since, until now."""
        group = record.parent
        if group is not None and group.care is not None and group.care.failures:
            group.care.rested(_health_together(group, record, self._engine.now()))

    def _count(self, record: Record, error: Exception) -> None:
        care, group, now = _care(record), record.parent, self._engine.now()
        assert group is not None
        above = _care(group)
        care.failed(0.0 if care.gave_up else record.health)
        is_parkable = record.policy.on_exhausted == "park"
        most = allowed(1 if is_parkable else len(group.children or ()))
        in_window = count(care.recent if is_parkable else above.services, now)
        if care.failures >= IN_A_ROW:
            reason = f"{record.subject} failed {care.failures} times in a row: {error_text(error)}"
        elif in_window > most:
            whose = "" if is_parkable else " in its group"
            reason = f"{in_window} failures{whose} in {WINDOW:g} s, the last of {record.subject}: {error_text(error)}"
        else:
            self._restart(record, care.next_delay(), error_text(error))
            return
        if is_parkable:
            care.is_parked, care.reason = True, reason
            self._engine.emit(Parked, record, incarnation=record.incarnation, reason=reason)
        else:
            self._give_up(record, error, reason)

    # -- starting again ----------------------------------------------------------------------------------------------

    def _restart(self, record: Record, delay: float | None, reason: str) -> None:
        """Once its delay is over, and what the strategy takes along has stopped; that follows it."""
        self._schedule(record, delay, reason)
        along = taken_along(record) if record.ready_at >= 0 else ()
        others = [other for other in along if other.state in LIVE and other not in self._engine.leaving]
        if others:
            clearing = _clearing_of(self._engine, others)
            _care(record).blocked = clearing or self._take_along(record, others)

    def _take_along(self, record: Record, others: list[Record]) -> Clearing:
        clearing = Clearing(self._engine, record, others)
        clearing.launch(partial(self._cleared, clearing))
        return clearing

    def _cleared(self, clearing: Clearing) -> None:
        first = clearing.target
        needed = needed_by(first) if clearing.stopped else ()
        for other in clearing.stopped:
            if other.policy.restart == "never" or other.intent is DOWN or not _may_run(other):
                continue
            if other.state in AT_REST and other not in self._engine.leaving and not self._waits_itself(other):
                after, alongside = (None, first) if other in needed else (first, None)
                self._schedule(other, None, f"stopped because of {first.subject}", after=after, alongside=alongside)
        self.look()

    def _waits_itself(self, record: Record) -> bool:
        """Whether it was started again since a strategy has stopped it, has failed, and waits because of that."""
        care = _care(record)
        return record in self.waiting and care.after is None and care.alongside is None

    def _schedule(
        self,
        record: Record,
        delay: float | None,
        reason: str,
        *,
        after: Record | None = None,
        alongside: Record | None = None,
    ) -> None:
        """It shall start again, `delay` seconds from now at the earliest."""
        engine, care = self._engine, _care(record)
        self._forget(record)
        care.after, care.alongside = after, alongside
        self.waiting[record] = None
        care.due, care.reason = engine.now() + (delay or 0.0), reason
        if delay is None:
            self._due[record] = None
        else:
            care.wake = engine.deadlines.after(delay, partial(self._is_due, record))
        if record.state in (STOPPED, FAILED):
            engine.move(record, BACKOFF, record.error)
        failures, incarnation = care.failures, record.incarnation
        engine.emit(RestartScheduled, record, incarnation=incarnation, failures=failures, delay=delay, reason=reason)
        self.look()

    def _is_due(self, record: Record) -> None:
        _care(record).wake = None
        self._due[record] = None
        self.look()

    def wait_for(self, record: Record, need: Record) -> None:
        care, need = _care(record), missing(record) or need
        self._forget(record)
        care.reason = f"it needs {need.subject}, which is {'down' if need.intent is DOWN else need.state.words}"
        self._engine.emit(NotStarted, record, reason=care.reason)
        if record.intent is not DOWN and record not in self._engine.leaving:
            self.waiting[record] = self._due[record] = None
            if record.state in (STOPPED, FAILED):
                self._engine.move(record, BACKOFF, record.error)
        self.look()

    def is_due(self, record: Record) -> bool:
        return record in self._due

    def bring_back(self, records: Iterable[Record], reason: str) -> None:
        for record in records:
            self._schedule(record, None, reason)

    def look(self) -> None:
        if not self._is_looking and (self._due or self._may_be_finished()):
            self._is_looking = True
            self._engine.loop.call_soon(self._look)

    def _look(self) -> None:
        self._is_looking = False
        for record in tuple(self._due):
            if record in self._due and self._may_start(record):
                self._start(record)
        if self._may_be_finished() and self._is_finished():
            self._finish()

    def _may_be_finished(self) -> bool:
        engine = self._engine
        return engine.ends_itself and not engine.alive and engine.root.state is RUNNING

    def _may_start(self, record: Record) -> bool:
        care, group = _care(record), record.parent
        if group is None or not group.is_open or not _may_run(record):
            return False
        if care.blocked is not None and not care.blocked.done.done():
            return False
        if (first := care.after) is not None and (first in self.waiting or first.state in (STARTING, STOPPING)):
            return False
        if (first := care.alongside) is not None and first in self.waiting and first not in self._due:
            return False
        return all(map(is_met, known_needs(record))) and not _is_covered(self._engine, record)

    def _start(self, record: Record) -> None:
        care = _care(record)
        self._forget(record)
        care.restarts += record.incarnation > 0
        care.services.clear()
        for below in record.below():
            if below is not record and below.care is not None and not below.care.is_parked:
                below.care.begin_anew()
        start = Start(self._engine, record)
        start.waiters = 1
        start.launch(partial(self._started, start))

    def _started(self, start: Start) -> None:
        if start.errors and start.target.state is FAILED:
            self.not_started(start.target, start.culprit)
        self.look()

    def begun(self, record: Record) -> None:
        if record.care is not None:
            self._forget(record)
            record.care.is_parked, record.care.gave_up, record.care.lacks = False, False, None

    def clear(self, record: Record, *, joins: bool) -> None:
        for below in record.below():
            if below.care is not None:
                if not joins:
                    self._forget(below)
                below.care.is_parked = False
                below.care.begin_anew()

    def _forget(self, record: Record) -> None:
        """It waits no more."""
        self.waiting.pop(record, None)
        self._due.pop(record, None)
        care = record.care
        if care is not None:
            care.reason = ""
            care.blocked = care.after = care.alongside = None
            if care.wake is not None:
                self._engine.deadlines.cancel(care.wake)
                care.wake = None

    def withdraw(self, records: Iterable[Record]) -> None:
        for record in [one for top in records for one in top.below()]:
            if record in self.waiting:
                self._forget(record)
            if record.state is BACKOFF:  # also if a start that is under way has taken it over
                self._engine.withdraw(record)
        self.look()

    def asks_unpaused(self, record: Record) -> None:
        if record.state is RUNNING and self._engine.wants_paused(record):
            Pause(self._engine, record).launch()

    def settle(self, record: Record) -> None:
        if not self._engine.wants_paused(record):
            Resume(self._engine, record).launch()
        elif record.shape.pause:
            Pause(self._engine, record).launch()
        elif record.parent is None or record.parent.state in READY or not record.parent.shape.pause:
            self._engine.loop.call_soon(self._pause, record, record.incarnation)  # run may ask in its first step

    def _pause(self, record: Record, incarnation: int) -> None:
        if record.incarnation == incarnation and record.state is RUNNING and self._engine.wants_paused(record):
            Pause(self._engine, record).launch()

    # -- the end of a group ------------------------------------------------------------------------------------------

    def _give_up(self, record: Record, error: Exception, reason: str) -> None:
        group = record.parent
        assert group is not None
        self._engine.emit(GaveUp, group, culprit=record.path, reason=reason)
        self._end_group(record, error)

    def _end_group(self, record: Record, error: Exception | None) -> None:
        """Stop the rest, cleanly or as failed."""
        engine, group = self._engine, record.parent
        assert group is not None
        if group.parent is None:
            if error is not None:
                end_application(engine, record, error)
            else:
                stop_application(engine)
        elif group.state in LIVE and group.state is not STOPPING:
            self.ending(group)
            _care(group).gave_up = error is not None
            Stop(engine, group, [group], cause=error).launch(partial(self._group_ended, group))

    def _group_ended(self, group: Record) -> None:
        group.returned = group.error is None
        self.ended(group)

    def _finish(self) -> None:
        """Every service has ended by itself: so does the application, as failed if one has."""
        engine = self._engine
        failed = [record for record in engine.root.below() if record.state is FAILED and record.error is not None]
        for record in sorted(failed, key=lambda record: record.since):
            assert record.error is not None
            _note_failure(engine, record, record.error)
        stop_application(engine, delay=0.0)

    def _is_finished(self) -> bool:
        """Whether every service has ended by itself."""
        engine = self._engine
        if any(isinstance(operation, Start) for operation in engine.operations):
            return False
        has_services = any(record.children is None for record in engine.root.below())
        return has_services and self._has_ended(engine.root, {})

    def _has_ended(self, record: Record, known: dict[Record, bool]) -> bool:
        """Whether it has ended by itself, and so has all in it."""
        if record not in known:
            known[record] = False
            known[record] = record.intent is UP and self._is_over(record, known)
        return known[record]

    def _is_over(self, record: Record, known: dict[Record, bool]) -> bool:
        if record.children is not None and record.state in READY:
            return all(self._has_ended(child, known) for child in record.children.values())
        if record.state is FAILED:
            return record.care is None or not record.care.is_parked
        if record.state is STOPPED:
            return record.returned or record.policy.restart == "never"
        return record in self._due and any(self._is_lost(need, known) for need in known_needs(record))

    def _is_lost(self, need: Record, known: dict[Record, bool]) -> bool:
        """Whether it is away, or part of it, and will not come by itself."""
        return any(
            not one.returned and one.state in AT_REST and self._has_ended(one, known)
            for one in (*need.below(), *need.above())
        )


def _care(record: Record) -> Care:
    if record.care is None:
        record.care = Care()
    care: Care = record.care
    return care


def _may_run(record: Record) -> bool:
    """Whether all that it stands in is there, or on its way."""
    return all(group.state in READY or group.state is STARTING for group in record.above())


def _health_together(group: Record, failed: Record, now: float) -> float:
    """Seconds for which all that shall be up in a group was up, before this failure."""
    since = group.ready_at
    for child in (group.children or {}).values():
        if child is failed or child.state in READY:
            since = max(since, child.ready_at)
        elif child.state in (BACKOFF, STARTING, STOPPING):
            return 0.0
    return now - since if failed.ready_at >= 0 else 0.0


def _clearing_of(engine: Engine, others: list[Record]) -> Clearing | None:
    """One under way that waits for all of these; a thousand that fail at once need no thousand."""
    clearings = (operation for operation in engine.operations if isinstance(operation, Clearing))
    return next((clearing for clearing in clearings if clearing.covers(others)), None)


def _is_covered(engine: Engine, record: Record) -> bool:
    return any(isinstance(operation, Start) and operation.covers(record) for operation in engine.operations)


# -- the application ---------------------------------------------------------------------------------------------------


def end_application(engine: Engine, culprit: Record, error: Exception) -> None:
    """The application stops, and says why."""
    _note_failure(engine, culprit, error)
    engine.on_failure()
    stop_application(engine)


def _note_failure(engine: Engine, record: Record, error: Exception) -> None:
    """The first is the application's own; a group passes on that of a service in it, which is the one to name."""
    if any(error is other for other in engine.failures):
        return
    if not engine.failures:
        engine.culprit = [one for one in record.below() if one is record or one.error is error][-1]
    engine.failures.append(error)


def stop_application(engine: Engine, *, delay: float | None = None, restart: bool = False) -> Stop | None:
    """Stop everything in order; None if it is at rest already. One that is under way is joined.

    Only after one for a `restart`, with nothing else in between, will it start again.
    """
    root = engine.root
    engine.is_restarting = restart
    if not restart:
        engine.stops += 1
        engine.restarts.pop(root, None)  # one that is commanded after this is another
    for operation in engine.operations:
        if isinstance(operation, Stop) and operation.stops(root):
            return operation
    if root.state in AT_REST:
        if engine.is_open:
            engine.close()
        return None
    stop = Stop(
        engine,
        root,
        [root],
        cause=engine.failures[0] if engine.failures else None,
        delay=engine.shutdown_delay if delay is None else delay,
        timeout=engine.shutdown_timeout,
    )
    stop.launch(partial(_stopped, engine, stop))
    return stop


def _stopped(engine: Engine, stop: Stop) -> None:
    if stop.errors:
        engine.culprit = engine.culprit if engine.failures else stop.culprit
        engine.failures += stop.errors
