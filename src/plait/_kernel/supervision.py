"""What follows when a service fails, or finishes, by itself.

Rules:
- A failure is counted (backoff.py), and the service is in BACKOFF until it is started again; what its group's strategy
  names is stopped first, in reverse, and started after it. What fails while something it needs is away waits for that,
  and is not counted. What must not be started again stays FAILED.
- Whoever shall be started is in `waiting`, and starts in the call that brought the last thing it waited for: its delay,
  its group, what it needs, what must have stopped or started before it.
- A group whose services have used up their restarts gives up: the rest of it stops, and it fails. So does one with a
  significant service that failed. What that means is its own group's to say; the application ends.
- A service that is parked, down or paused by intent keeps the application alive; without one it ends when every
  service has ended by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from plait._kernel import engine as kernel
from plait._kernel.backoff import IN_A_ROW, WINDOW, Care, allowed
from plait._kernel.engine import Engine
from plait._kernel.events import GaveUp, NotStarted, Parked, RestartScheduled
from plait._kernel.graph import is_met, known_needs
from plait._kernel.operations import Start, Stop
from plait._kernel.pausing import Pause, Resume
from plait._kernel.record import Record
from plait._kernel.states import (
    AT_REST,
    BACKOFF,
    DOWN,
    FAILED,
    LIVE,
    NEW,
    READY,
    RUNNING,
    STARTING,
    STOPPED,
    STOPPING,
    UP,
)
from plait.errors import DoNotRestart, Escalate


class Supervision(kernel.Supervision):
    """See the module's rules."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.waiting: dict[Record, None] = {}
        """Who shall be started, in the order in which that was decided."""
        self._is_looking = False
        self._look_again = False

    # -- what has happened -------------------------------------------------------------------------------------------

    def ended(self, record: Record) -> None:
        if record.intent is DOWN or record in self._engine.leaving or not _may_run(record):
            self._look_whether_finished()
        elif record.error is not None:
            self.failed(record)
        elif record.returned and record.policy.restart == "always":
            self._schedule(record, _care(record).next_delay(), "run() returned")
        elif record.returned and record.policy.significant:
            self._end_group(record, None)
        else:
            self._look_whether_finished()
        self.look()

    def failing(self, group: Record) -> None:
        Stop(self._engine, group, [group]).launch(partial(self.ended, group))

    def failed(self, record: Record) -> None:
        error, care = record.error, _care(record)
        assert error is not None
        gave_up, care.gave_up = care.gave_up, False
        if record.parent is None:
            end_application(self._engine, record, error)
        elif not gave_up and _holds(error, Escalate):
            self._give_up(record, error, f"{record.subject} asked for it: {_text(error)}")
        elif record.policy.restart == "never" or (not gave_up and _holds(error, DoNotRestart)):
            self._stays_failed(record, error)
        elif (need := _away(record)) is not None:
            self._schedule(record, None, f"{_text(error)}; waits for {need.subject}, which is {need.state.value}")
        else:
            self._count(record, error)

    def _stays_failed(self, record: Record, error: Exception) -> None:
        if record.policy.significant:
            self._end_group(record, error)
        else:
            self._look_whether_finished()

    def _count(self, record: Record, error: Exception) -> None:
        care, now = _care(record), self._engine.now()
        care.failed(now - record.ready_at if record.ready_at >= 0 else 0.0)
        group = record.parent
        assert group is not None
        is_parkable = record.policy.on_exhausted == "park"
        most = allowed(1 if is_parkable else len(group.children or ()))
        in_window = (care if is_parkable else _care(group)).count(now)
        if care.failures >= IN_A_ROW:
            reason = f"{record.subject} failed {care.failures} times in a row: {_text(error)}"
        elif in_window > most:
            whose = "" if is_parkable else " in its group"
            reason = f"{in_window} failures{whose} in {WINDOW:g} s, the last of {record.subject}: {_text(error)}"
        else:
            self._restart(record, care.next_delay(), _text(error))
            return
        if is_parkable:
            care.is_parked = True
            self._engine.emit(Parked, record, incarnation=record.incarnation, reason=reason)
        else:
            self._give_up(record, error, reason)

    # -- starting again ----------------------------------------------------------------------------------------------

    def _restart(self, record: Record, delay: float, reason: str) -> None:
        """Once its delay is over, and what the strategy names has stopped; that follows it."""
        self._schedule(record, delay, reason)
        others = [other for other in strategy_set(record) if other.state in LIVE and other not in self._engine.leaving]
        if others:
            stop = Stop(self._engine, record, others)
            _care(record).blocked = stop
            stop.launch(partial(self._stopped_others, record, others))

    def _stopped_others(self, record: Record, others: list[Record]) -> None:
        for other in others:
            is_wanted = other.intent is not DOWN and other.parent is record.parent and not other.returned
            if is_wanted and other.state in AT_REST and other.policy.restart != "never" and _may_run(other):
                _care(other).after = record
                self._schedule(other, None, f"stopped because of {record.subject}")
        self.look()

    def _schedule(self, record: Record, delay: float | None, reason: str) -> None:
        """It shall start again, `delay` seconds from now at the earliest."""
        engine, care = self._engine, _care(record)
        self.waiting[record] = None
        care.due = engine.now() + (delay or 0.0)
        if delay is not None:
            care.wake = engine.deadlines.after(delay, partial(self._due, record))
        if record.state in (STOPPED, FAILED):
            engine.move(record, BACKOFF, record.error)
        failures, incarnation = care.failures, record.incarnation
        engine.emit(RestartScheduled, record, incarnation=incarnation, failures=failures, delay=delay, reason=reason)
        self.look()

    def _due(self, record: Record) -> None:
        _care(record).wake = None
        self.look()

    def wait_for(self, record: Record, need: Record) -> None:
        reason = f"it needs {need.subject}, which is {'down' if need.intent is DOWN else need.state.value}"
        self._engine.emit(NotStarted, record, reason=reason)
        if record.intent is not DOWN and record not in self._engine.leaving:
            self.waiting[record] = None
            if record.state in (STOPPED, FAILED):
                self._engine.move(record, BACKOFF, record.error)

    def bring_back(self, records: Iterable[Record], reason: str) -> None:
        for record in records:
            self._schedule(record, None, reason)

    def look(self) -> None:
        if not self.waiting:
            return
        if self._is_looking:
            self._look_again = True
            return
        self._is_looking = self._look_again = True
        while self._look_again:
            self._look_again = False
            for record in tuple(self.waiting):
                if record in self.waiting and self._may_start(record):
                    self._start(record)
        self._is_looking = False

    def _may_start(self, record: Record) -> bool:
        care, group = _care(record), record.parent
        if care.wake is not None or group is None or not group.is_open or not _may_run(record):
            return False
        if care.blocked is not None and not care.blocked.done.done():
            return False
        after = care.after
        if after is not None and after.parent is group and (after in self.waiting or after.state is STARTING):
            return False
        return all(map(is_met, known_needs(record))) and not _is_covered(self._engine, record)

    def _start(self, record: Record) -> None:
        care = _care(record)
        del self.waiting[record]
        care.blocked = care.after = None
        care.restarts += record.incarnation > 0
        for below in record.below():
            if below is not record and below.care is not None and not below.care.is_parked:
                below.care = None  # the group begins anew, and so do they
        start = Start(self._engine, record)
        start.waiters = 1
        start.launch(partial(self._started, start))

    def _started(self, start: Start) -> None:
        if start.errors and start.target.state is FAILED:
            self.not_started(start.target, start.culprit)
        self.look()

    def not_started(self, record: Record, culprit: Record) -> None:
        _care(record).gave_up = culprit is not record
        self.failed(record)
        self.look()

    def begun(self, record: Record) -> None:
        if record.care is not None:
            self._forget(record)
            record.care.is_parked = record.care.gave_up = False

    def clear(self, record: Record) -> None:
        for below in record.below():
            self._forget(below)
            below.care = None

    def _forget(self, record: Record) -> None:
        self.waiting.pop(record, None)
        care = record.care
        if care is not None and care.wake is not None:
            self._engine.deadlines.cancel(care.wake)
            care.wake = None

    def withdraw(self, records: Iterable[Record]) -> None:
        if not self.waiting:
            return
        for record in [one for top in records for one in top.below()]:
            if record in self.waiting:
                self._forget(record)
                if record.state is BACKOFF:
                    self._engine.move(record, STOPPED)
        self._engine.loop.call_soon(self.look)

    def asks_unpaused(self, record: Record) -> None:
        if record.state is RUNNING and self._engine.wants_paused(record):
            Pause(self._engine, record).launch()

    def settle(self, record: Record) -> None:
        if self._engine.wants_paused(record):
            Pause(self._engine, record).launch()
        else:
            Resume(self._engine, record).launch()

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
            _care(group).gave_up = error is not None
            Stop(engine, group, [group], cause=error).launch(partial(self._group_ended, group))

    def _group_ended(self, group: Record) -> None:
        group.returned = group.error is None
        self.ended(group)

    def _look_whether_finished(self) -> None:
        engine = self._engine
        if engine.ends_itself and is_finished(engine):
            failed = [record for record in engine.root.below() if record.state is FAILED]
            for record in failed:
                assert record.error is not None
                engine.culprit = engine.culprit if engine.failures else record
                engine.failures.append(record.error)
            stop_application(engine, delay=0.0)


def _care(record: Record) -> Care:
    if record.care is None:
        record.care = Care()
    care: Care = record.care
    return care


def _may_run(record: Record) -> bool:
    """Whether all that it stands in is there, or on its way."""
    group = record.parent
    while group is not None:
        if group.state not in READY and group.state is not STARTING:
            return False
        group = group.parent
    return True


def _away(record: Record) -> Record | None:
    return next((need for need in known_needs(record) if not is_met(need)), None)


def _is_covered(engine: Engine, record: Record) -> bool:
    return any(isinstance(operation, Start) and operation.covers(record) for operation in engine.operations)


def _holds(error: BaseException, kind: type[Exception]) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_holds(one, kind) for one in error.exceptions)
    return isinstance(error, kind)


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def strategy_set(record: Record) -> list[Record]:
    """Who is stopped and started again because `record` failed, by its group's strategy."""
    group = record.parent
    assert group is not None
    others = [other for other in (group.children or {}).values() if other is not record]
    strategy = group.service.strategy  # type: ignore[attr-defined]  # a group's record has a Group
    if strategy == "one_for_one":
        return []
    return others if strategy == "one_for_all" else list(_dependents(record, others))


def _dependents(record: Record, others: list[Record]) -> Iterator[Record]:
    """Those of `others` that need `record`, or one that does."""
    found, queue = {record}, [record]
    while queue:
        one = queue.pop()
        for other in others:
            if other not in found and any(need.within(one) for need in known_needs(other)):
                found.add(other)
                queue.append(other)
                yield other


# -- the application ---------------------------------------------------------------------------------------------------


def end_application(engine: Engine, culprit: Record, error: Exception) -> None:
    """The application stops, and says why."""
    engine.culprit = engine.culprit if engine.failures else culprit
    engine.failures.append(error)
    engine.on_failure()
    stop_application(engine)


def is_finished(engine: Engine) -> bool:
    """Whether every service has ended by itself."""
    if engine.alive or engine.root.state is not RUNNING:
        return False
    if any(isinstance(operation, Start) for operation in engine.operations):
        return False
    services = [record for record in engine.root.below() if not record.shape.group]
    return bool(services) and all(map(_has_ended, services))


def _has_ended(record: Record) -> bool:
    if record.intent is not UP or record.state is BACKOFF or record.state is NEW:
        return False
    if record.state is FAILED:
        return record.care is None or not record.care.is_parked
    return record.returned or record.policy.restart == "never"


def stop_application(engine: Engine, *, delay: float | None = None) -> Stop | None:
    """Stop everything in order; None if it is at rest already. One that is under way is joined."""
    root = engine.root
    for operation in engine.operations:
        if isinstance(operation, Stop) and operation.target is root:
            return operation
    if root.state in AT_REST:
        return None
    stop = Stop(
        engine,
        root,
        [root],
        cause=engine.failures[0] if engine.failures else None,
        delay=engine.shutdown_delay if delay is None else delay,
        timeout=engine.shutdown_timeout,
    )
    stop.launch(lambda: engine.failures.extend(stop.errors))
    return stop
