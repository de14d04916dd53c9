"""Starting and stopping many services in order.

Rules:
- An operation is a set of services and, for each, a count of what it still waits for. Nothing polls: a service
  begins in the very call that brought its count to zero.
- Start: a service waits for its group to open and for what it needs to be ready. The first failure ends the
  operation: what is starting is cancelled, what has started is stopped, in reverse. One that can be parked, and what
  needs it, is left to supervision instead, and holds up nothing.
- Stop: a service waits for its group to have drained and for its dependents to have stopped; of those that nothing
  orders the last one begins. A group ends after its services. Errors are collected, and keep nothing from stopping.
- Cancelling one who waits for an operation ends his wait; when the last who waits for a start is cancelled, the
  start is rolled back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from plait._kernel import collector
from plait._kernel.budget import shrink
from plait._kernel.engine import Engine, Operation
from plait._kernel.graph import is_met, missing, needs_among, needs_of
from plait._kernel.record import Record
from plait._kernel.states import AT_REST, BACKOFF, DOWN, HELD, LIVE, RUNNING, STARTING, STOPPING
from plait.errors import Escalate

log = logging.getLogger("plait.kernel")

SLICE = 500
"""How many services begin in one go before the loop gets a turn, so that a large tree does not block it."""


class Ordered(Operation):
    """Counts, and a queue of those whose count has come to zero."""

    def __init__(self, engine: Engine, target: Record) -> None:
        self.engine = engine
        self.target = target
        self.errors: list[Exception] = []
        self.done: asyncio.Future[None] = engine.loop.create_future()
        self._members: dict[Record, None] = {}
        """Those the operation still waits for."""
        self._waits: dict[Record, int] = {}
        """What a member waits for; a member without an entry waits for its group alone."""
        self._blocks: dict[Record, list[Record]] = {}
        """The members that wait for a record."""
        self._unfinished: dict[Record, int] = {}
        """How many of its services an open group waits for."""
        self._queue: deque[Record] = deque()
        self._pumping = False
        self._holds_collector = False

    def _launch(self, members: Iterable[Record]) -> None:
        self.engine.operations.append(self)
        self._members = dict.fromkeys(members)
        self._holds_collector = collector.hold(len(self._members))

    def _block(self, record: Record, on: Record) -> None:
        self._blocks.setdefault(on, []).append(record)
        self._waits[record] = self._waits.get(record, 1 if record.parent in self._members else 0) + 1

    def _release(self, record: Record) -> None:
        left = self._waits.get(record, 1) - 1
        if left > 0:
            self._waits[record] = left
        else:
            self._waits.pop(record, None)
            self._queue.append(record)

    def _release_blocked(self, by: Record) -> None:
        for record in self._blocks.pop(by, ()) if self._blocks else ():
            if record in self._members:
                self._release(record)

    def _open(self, group: Record) -> bool:
        """Let the services of a group go; whether there are any."""
        members = [child for child in (group.children or {}).values() if child in self._members]
        self._unfinished[group] = len(members)
        for child in self._in_order(members):
            self._release(child)
        return bool(members)

    def _in_order(self, services: list[Record]) -> Iterable[Record]:
        """Which of those that nothing orders begins first."""
        return services

    def _less_one(self, group: Record | None) -> bool:
        """Whether this was the last service that an open group waited for."""
        left = self._unfinished.get(group, 0) if group is not None else 0
        if group is None or not left:
            return False
        self._unfinished[group] = left - 1
        return left == 1

    def _begin(self, record: Record) -> None:
        raise NotImplementedError

    def _complete(self) -> None:
        raise NotImplementedError

    def _pump(self) -> None:
        if self._pumping or (not self._queue and self._members):
            return
        self._pumping = True
        for _ in range(SLICE):
            if not self._queue:
                break
            self._begin(self._queue.popleft())
        self._pumping = False
        if self._queue:
            self.engine.loop.call_soon(self._pump)
        elif not self._members and not self.done.done():
            self._complete()

    def _close(self) -> None:
        self.engine.operations.remove(self)
        if self._holds_collector:
            collector.release()
        self.done.set_result(None)
        self.engine.supervision.look()


class Start(Ordered):
    """Bring `target`, and all below it that is at rest and meant to be up, to readiness."""

    def __init__(self, engine: Engine, target: Record, *, omit: Callable[[Record], bool] | None = None) -> None:
        super().__init__(engine, target)
        self._omit = omit
        self._then: Callable[[], object] | None = None
        self.waiters = 0
        self.interrupted = False
        """It was told to stop, and nothing failed."""
        self.begun: dict[Record, int] = {}
        """What this has started, and which incarnation of it."""
        self.culprit = target
        """Whose failure it was."""
        self.undone: list[Record] = []
        """What was stopped again, in the order of its start."""
        self._rollback: Stop | None = None
        self._ends = engine.ends
        """If more have begun to end since, what was there when a service began to wait may be gone by its turn."""
        self._gate: Record | None = None
        """The group that must open before the target may start."""

    def launch(self, then: Callable[[], object] | None = None) -> None:
        """Begin with all that waits for nothing; `then` is called at the end. What `omit` says is left alone."""
        self._then = then
        self._launch(_to_start(self.engine, self.target, self._omit))
        group = self.target.parent
        if group is not None and not group.is_open:
            self._gate = group
            self._waits[self.target] = 1
        for record in tuple(self._members):
            if record.needs and record in self._members:
                self._await_needs(record)
        self._queue.extend(r for r in self._members if not self._waits.get(r) and r.parent not in self._members)
        self._pump()

    def covers(self, record: Record) -> bool:
        """Whether `record` will be ready because of this."""
        return not self.interrupted and self._rollback is None and (record is self.target or record in self._members)

    def _await_needs(self, record: Record) -> None:
        for need in needs_of(record):
            if need in self._members or need.state is STARTING:
                self._block(record, need)
                continue
            coming = [one for one in need.below() if one in self._members or one.state is STARTING]
            if not is_met(need) and any(not one.met and one not in coming for one in need.below()):
                self._skip(record, need)
                return
            for one in coming:  # also what had finished, and starts once more
                self._block(record, one)

    def _begin(self, record: Record) -> None:
        if record not in self._members or record.state not in AT_REST:  # or another operation has begun it
            return
        need = missing(record) if record.needs and self.engine.ends > self._ends else None
        if need is None:
            self.begun[record] = record.incarnation + 1
            self.engine.begin(record)
        elif need in self._members or need.state is STARTING:
            self._waits[record] = 1
            self._blocks.setdefault(need, []).append(record)
        else:
            self._skip(record, need)

    def on_started(self, record: Record) -> None:
        if record is self._gate and self.target in self._members:
            self._release(self.target)
        elif record in self.begun and record in self._members and not self._open(record):
            self.engine.ready(record)
        self._pump()

    def on_ready(self, record: Record) -> None:
        if record.children and record in self._blocks and not is_met(record):
            for dependent in self._blocks.pop(record):
                self._skip(dependent, record)
        self._release_blocked(record)
        if record in self._members:
            del self._members[record]
            self._child_done(record)
        self._pump()

    def _child_done(self, record: Record) -> None:
        group = record.parent
        if self._rollback is None and not self.interrupted and self._less_one(group):
            assert group is not None
            if group.state is STARTING:
                self.engine.ready(group)

    def on_ended(self, record: Record) -> bool:
        if self.interrupted or self._rollback is not None:
            return False
        if record is self._gate and self.target in self._members:
            self.abort(None)  # it starts with its group, when that does
        if record not in self.begun and record not in self._members:
            for dependent in self._blocks.pop(record, ()):  # it was starting by itself
                self._skip(dependent, record)
            self._pump()
            return False
        if record.error is not None and (record.by_itself or _is_passed_on(record, record.error)):
            self.failed(record, record.error)
            return True
        if record in self._members:  # an operator stopped it while it was starting, and be it uncleanly
            del self._members[record]
            for dependent in self._blocks.pop(record, ()):
                self._skip(dependent, record)
            self._child_done(record)
        self._pump()
        return False

    def has_begun(self, record: Record) -> bool:
        """Whether this has begun it, and its failure is the failure of this."""
        return record in self.begun and not self.interrupted and self._rollback is None

    def failed(self, record: Record, error: Exception) -> None:
        """One that has begun failed; a group still has to stop."""
        shelter = self._shelter(record, error)
        if shelter is not None:
            self._leave_out(shelter, record, error)
        else:
            self.culprit = record
            self.abort(error)

    def _shelter(self, record: Record, error: Exception) -> Record | None:
        """The nearest that can be parked, of the failed one and the groups it is in; not the target."""
        one: Record | None = record.parent if holds(error, Escalate) and record is not self.target else record
        while one is not None and one is not self.target:
            if one.policy.on_exhausted == "park":
                return one
            one = one.parent
        return None

    def _leave_out(self, shelter: Record, culprit: Record, error: Exception) -> None:
        """Supervision takes it from here, once all that has begun in it has stopped."""
        was_awaited = shelter in self._members
        for record in shelter.below():
            self._members.pop(record, None)
            self._waits.pop(record, None)
            self.begun.pop(record, None)
        not_started = partial(self.engine.supervision.not_started, shelter, culprit)
        if shelter.state in AT_REST:
            not_started()
        else:
            Stop(self.engine, shelter, [shelter], cause=error).launch(not_started)
        for record in shelter.below():
            for dependent in self._blocks.pop(record, ()):
                self._skip(dependent, record)
        if was_awaited:
            self._child_done(shelter)
        self._pump()

    def _skip(self, record: Record, need: Record) -> None:
        """What needs a service that is away stays as it is, and nobody waits for it."""
        if record not in self._members:
            return
        self.engine.supervision.wait_for(record, need)
        for other in record.below():
            self._members.pop(other, None)
            self._waits.pop(other, None)
        for other in record.below():
            for dependent in self._blocks.pop(other, ()):
                self._skip(dependent, other)
        self._child_done(record)

    def give_up(self, records: Iterable[Record]) -> None:
        """An operator wants these down: what of them has not begun does not begin."""
        below = dict.fromkeys(other for top in records for other in top.below())
        given_up = [record for record in below if record in self._members and record not in self.begun]
        for record in given_up:
            del self._members[record]
            self._waits.pop(record, None)
        for record in given_up:
            for dependent in self._blocks.pop(record, ()):
                self._skip(dependent, record)
            self._child_done(record)
        self._pump()

    def abort(self, cause: Exception | None) -> None:
        """Stop again all that has begun; `cause` is the failure, None if nobody waits any more."""
        if self._rollback is not None or self.interrupted or self.done.done():
            return
        self.interrupted = cause is None
        due = [record for record in self._members if record.state is BACKOFF]
        self._members.clear()
        self._queue.clear()
        if cause is not None:
            self.errors.append(cause)
        self.undone = [record for record in self.begun if record.state in LIVE and not record.shape.group]
        timeout = self.engine.shutdown_timeout if self.target is self.engine.root else None
        self._rollback = Stop(self.engine, self.target, self.begun, cause=cause, timeout=timeout)
        self._rollback.launch(self._rolled_back)
        self.engine.supervision.bring_back([one for one in due if one.state is BACKOFF], "its start was taken back")

    def undo(self) -> asyncio.Future[None]:
        """As `abort` for want of a caller, also when all is ready but he has not heard of it; done when it is over."""
        if not self.done.done():
            self.abort(None)
        elif not self.errors and not self.interrupted:
            still = [record for record, incarnation in self.begun.items() if record.incarnation == incarnation]
            stop = Stop(self.engine, self.target, still)
            stop.launch()
            return stop.done
        return self.done

    def _rolled_back(self) -> None:
        assert self._rollback is not None
        self.errors += self._rollback.errors
        self._end()

    def superseded(self, stop: Stop) -> None:
        """A stop of all that this starts has begun; it does the work."""
        if self._rollback is None and not self.interrupted:
            self.interrupted = True
            self._members.clear()
            self._queue.clear()
            stop.done.add_done_callback(lambda _: self._end())

    def _complete(self) -> None:
        if self._rollback is None and not self.interrupted:
            self._end()

    def _end(self) -> None:
        self._close()
        if self._then is not None:
            self._then()


def _to_start(engine: Engine, target: Record, omit: Callable[[Record], bool] | None) -> Iterable[Record]:
    """Below `target`, each group before its services: what is at rest and meant to be up."""
    stack = [target]
    while stack:
        record = stack.pop()
        engine.has_held = engine.has_held or record.intent is HELD
        if record is not target and (record.intent is DOWN or (record.care is not None and record.care.is_parked)):
            continue
        if omit is not None and omit(record):
            continue
        if record.state is STOPPING:  # what is in it starts with it, if that is to start again
            continue
        if record.state in AT_REST:
            yield record
        if record.children:
            stack.extend(reversed(record.children.values()))


class Stop(Ordered):
    """Bring `records`, and all below them, to rest; `target` is what messages and other operations go by."""

    def __init__(
        self,
        engine: Engine,
        target: Record,
        records: Iterable[Record],
        *,
        cause: Exception | None = None,
        delay: float = 0.0,
        timeout: float | None = None,
    ) -> None:
        super().__init__(engine, target)
        self.cause = cause
        self._records = records
        self._delay = delay
        self._timeout = timeout
        self._shrink: dict[Record, float] = {}
        self._then: Callable[[], object] = lambda: None
        self._begun: set[Record] = set()
        self.culprit = target
        """Whose error the first of them was."""

    def launch(self, then: Callable[[], object] | None = None) -> None:
        """Begin with what nothing depends on; `then` is called when all is at rest."""
        self._then = then or self._then
        records = tuple(self._records)
        self._launch(other for record in records for other in record.below() if other.state in LIVE)
        for record in self._members:
            for need in needs_among(record, self._members) if record.needs else ():
                self._block(need, record)
        self.engine.supervision.withdraw(records)
        for operation in tuple(self.engine.operations):
            if isinstance(operation, Start):
                if any(operation.target.within(record) for record in records):
                    operation.superseded(self)
                else:
                    operation.give_up(records)
        if self._delay and self.target.state is RUNNING:
            # Still accepting, no longer ready: load balancers need a moment to turn away.
            self._begun.add(self.target)
            self.engine.ending(self.target)
            self.engine.deadlines.after(self._delay, self._go)
        else:
            self._delay = 0.0
            self._go()

    def _go(self) -> None:
        if self._timeout is not None:
            self._cut(self._timeout - self._delay)
        self._queue.extend(r for r in self._members if not self._waits.get(r) and r.parent not in self._members)
        self._pump()

    def _in_order(self, services: list[Record]) -> Iterable[Record]:
        return reversed(services)

    def stops(self, record: Record) -> bool:
        """Whether a stop of `record` may join this one, which may be of less than its target."""
        return record is self.target and record in self._members

    def hurry(self, timeout: float) -> None:
        """It has only `timeout` seconds from now on: all its deadlines are cut, those that run included."""
        self.engine.shutdown_timeout = timeout
        self._cut(timeout)

    def _cut(self, timeout: float) -> None:
        self._shrink = self.engine.shrink = shrink(self._members, self._blocks, timeout)
        for record in self._members if self._shrink else ():
            if record.state is STOPPING and record.life is not None:  # it has begun, because of something else
                record.life.hurry()

    def _begin(self, record: Record) -> None:
        if record.state in LIVE and (record in self._begun or record.state is not STOPPING):
            self._begun.add(record)
            self.engine.stop(record)

    def on_drained(self, record: Record) -> None:
        if record in self._begun and record in self._members and not self._open(record):
            self.engine.finish(record, self._cause_of(record))
        self._pump()

    def on_ended(self, record: Record) -> bool:
        if record not in self._members:
            return False
        del self._members[record]
        if record.error is not None and self._went_wrong(record, record.error):
            self.culprit = self.culprit if self.errors else record
            self.errors.append(record.error)
        self._release_blocked(record)
        if self._less_one(record.parent):
            assert record.parent is not None
            self.engine.finish(record.parent, self._cause_of(record.parent))
        self._pump()
        return True

    def _went_wrong(self, record: Record, error: Exception) -> bool:
        """Whether this is an error of stopping, and not what a service failed of before, or its group with it."""
        return error is not self.cause and not record.by_itself and not _is_passed_on(record, error)

    def _cause_of(self, record: Record) -> Exception | None:
        return self.cause if record is self.target else None

    def _complete(self) -> None:
        if self._shrink is self.engine.shrink:  # or another stop has less time, or more
            self.engine.shrink = {}
        self._close()
        self._then()


def _is_passed_on(group: Record, error: Exception) -> bool:
    """Whether a group failed of what one of its services failed of."""
    return any(child.error is error for child in (group.children or {}).values())


def withdraw(engine: Engine, records: Iterable[Record]) -> None:
    """What is at rest, and may be about to start, shall not."""
    records = tuple(records)
    engine.supervision.withdraw(records)
    for operation in tuple(engine.operations):
        if isinstance(operation, Start):
            if any(operation.target.within(record) for record in records):
                operation.abort(None)
            else:
                operation.give_up(records)


def holds(error: BaseException | None, kind: type[Exception]) -> bool:
    """Whether this is such an error, or a group with one in it."""
    if isinstance(error, BaseExceptionGroup):
        return any(holds(one, kind) for one in error.exceptions)
    return isinstance(error, kind)


async def wait(done: asyncio.Future[Any]) -> None:
    """Wait; cancelling the caller does not cancel what is waited for."""
    await asyncio.shield(done)


async def wait_out(done: asyncio.Future[Any]) -> None:
    """Wait whatever comes: for a caller that was cancelled, and owes an orderly end that has a deadline."""
    while not done.done():
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError:
            continue
