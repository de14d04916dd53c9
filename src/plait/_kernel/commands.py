"""The operator's verbs, start, stop, restart, pause, resume and remove, for any service of a tree.

Rules: commands with the same target join. Cancelling a caller ends only its wait, except that when the last
caller of a start is cancelled the start is rolled back. A stop goes before a start; a start waits for a stop
that is under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from functools import partial
from typing import Any, TypeVar

from plait._kernel.engine import Engine, engine_of
from plait._kernel.graph import check, known_needs, missing, needs_of
from plait._kernel.operations import Start, Stop, wait, wait_out, withdraw
from plait._kernel.pausing import Pause, Resume, Settling, why_not
from plait._kernel.record import Record
from plait._kernel.states import AT_REST, DOWN, HELD, LIVE, READY, STARTING, STOPPING, UP
from plait._kernel.supervision import end_application, stop_application
from plait._kernel.words import error_text
from plait.errors import (
    CannotPause,
    InvalidTree,
    LifecycleError,
    PauseFailed,
    StartFailed,
    StartInterrupted,
    StopFailed,
)

T = TypeVar("T")


def engine_for(record: Record, verb: str) -> Engine:
    """The engine of this service's application; LifecycleError if it is in none."""
    engine = engine_of(record)
    if engine is None:
        raise LifecycleError(
            f"{record.subject} is in no application, so nothing can {verb} it; add it to one, and {verb} that"
        )
    return engine


# -- start -----------------------------------------------------------------------------------------------------------


async def start(record: Record) -> None:
    """Until `record`, and all below it that is meant to be up, is ready."""
    engine = engine_for(record, "start")
    _check_stays(engine, record)
    if record.state is STOPPING:
        await _stopped(engine, record)
    if record is engine.root and record.state in AT_REST:
        engine.open()
    _check_start(engine, record)
    if record.intent is DOWN:
        engine.intend(record, UP)
    operation = _start_of(engine, record)
    engine.supervision.clear(record, joins=operation is not None)
    if operation is not None and operation.target is not record:
        await _wait_ready(engine, operation, record)
        return
    is_ready = record.state in READY
    if operation is None:
        operation = Start(engine, record)
        operation.launch()
    await join_start(operation)
    raise_start(operation)
    if not is_ready and record not in operation.begun:
        await _left_out(engine, record)


async def _stopped(engine: Engine, record: Record) -> None:
    """Until a stop that is under way is over; another one that is commanded meanwhile comes after this start."""
    if record.intent is DOWN:
        engine.intend(record, UP)
    stops = engine.stops
    while record.state is STOPPING:
        await wait(engine.next_rest(record))
    _check_stays(engine, record)
    if record.intent is DOWN or (record is engine.root and engine.stops > stops):
        raise StartInterrupted(f"{record.subject} was stopped before it could start")
    _wait_if_needs_are_away(engine, record)


def _wait_if_needs_are_away(engine: Engine, record: Record) -> None:
    """It has been stopped to be started: what it needs has gone meanwhile, so it starts when that is back."""
    _check_above(record)
    need = missing(record)
    if need is not None and _start_of(engine, need) is None and record.state in AT_REST:
        engine.supervision.wait_for(record, need)


def _check_stays(engine: Engine, record: Record) -> None:
    if any(record.within(other) for other in engine.ceded):
        raise LifecycleError(f"{record.subject} was handed to the next generation; command that one")
    if engine_of(record) is not engine or any(record.within(other) for other in engine.leaving):
        raise LifecycleError(f"{record.subject} is being removed; add it again to start it")


def _check_above(record: Record) -> None:
    above = record.parent
    while above is not None:
        if above.state not in LIVE or above.state is STOPPING:
            raise LifecycleError(
                f"{record.subject} cannot start while {above.subject} is {above.state.words}; "
                "start that, and its services start with it"
            )
        above = above.parent


def _check_start(engine: Engine, record: Record) -> None:
    if record is engine.root:
        if record.state in AT_REST:
            check(record)
        return
    _check_above(record)
    if any(other.needs for other in record.below()):
        check(engine.root)
    if record.state in AT_REST:
        _check_needs(engine, record)


def _check_needs(engine: Engine, record: Record) -> None:
    needs_of(record)  # raises for a name that is not there
    need = missing(record)
    if need is not None and _start_of(engine, need) is None:
        raise LifecycleError(f"{record.subject} needs {need.subject}, which is {need.state.words}; start that first")


def _start_of(engine: Engine, record: Record) -> Start | None:
    """The start under way that will bring `record` to readiness, be it its own or that of a group above."""
    for operation in engine.operations:
        if isinstance(operation, Start) and operation.covers(record):
            return operation
    return None


async def _wait_ready(engine: Engine, operation: Start, record: Record) -> None:
    await asyncio.wait([engine.next_rest(record), operation.done], return_when=asyncio.FIRST_COMPLETED)
    if not record.met:
        await _left_out(engine, record)
        _raise_unless_ready(record)


async def _left_out(engine: Engine, record: Record) -> None:
    """The start has left it waiting for what it needs: until that has come, or LifecycleError if it does not."""
    while engine.supervision.is_due(record) or record.state is STARTING:
        need = missing(record) if record.state in AT_REST else None
        coming = _start_of(engine, need or record)
        if need is not None and coming is None:
            raise LifecycleError(
                f"{record.subject} needs {need.subject}, which is {need.state.words}; it will start when that is there"
            )
        rest = engine.next_rest(need or record)
        await asyncio.wait([rest] if coming is None else [rest, coming.done], return_when=asyncio.FIRST_COMPLETED)
    _raise_unless_ready(record)


def _raise_unless_ready(record: Record) -> None:
    if not record.met:
        if record.error is not None:
            raise StartFailed(f"{record.subject} did not start: {record.error}", [record.error])
        raise StartInterrupted(f"{record.subject} was stopped while it was starting")


async def join_start(operation: Start) -> None:
    """Until it is over; when the last who waits for it is cancelled, it is rolled back first."""
    operation.waiters += 1
    try:
        await wait(operation.done)
    except asyncio.CancelledError:
        operation.waiters -= 1
        if not operation.waiters:
            await wait_out(operation.undo())
        raise


def raise_start(operation: Start) -> None:
    """What a start that is over has failed of: StartFailed, or StartInterrupted."""
    subject = operation.target.subject
    if operation.errors:
        raise StartFailed(_start_text(operation), operation.errors)
    if operation.interrupted:
        raise StartInterrupted(f"{subject} was stopped while it was starting")


NAMED = 8


def _start_text(operation: Start) -> str:
    error = operation.errors[0]
    names = [repr(record.path) for record in operation.undone]
    undone = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    return (
        f"{operation.target.subject} did not start: {operation.culprit.subject}: {error_text(error)}"
        f"; {'stopped again: ' + undone if undone else 'nothing else had started'}"
    )


# -- stop ------------------------------------------------------------------------------------------------------------


async def stop(record: Record) -> None:
    """Until `record` and all below it is at rest. StopFailed if anything went wrong on the way; it has stopped."""
    engine = engine_for(record, "stop")
    operation = _stop_of(engine, record)
    if operation is None:
        return
    await wait(operation.done)
    if operation.errors:
        raise StopFailed(f"{record.subject} stopped, but not cleanly", operation.errors)


def _stop_of(engine: Engine, record: Record) -> Stop | None:
    if record is engine.root:
        return stop_application(engine)
    engine.intend(record, DOWN)
    engine.restarts.pop(record, None)  # one that is commanded after this is another
    return _stop_alone(engine, record)


def _stop_alone(engine: Engine, record: Record) -> Stop | None:
    if record.state in AT_REST:
        withdraw(engine, [record])
        return None
    for operation in engine.operations:
        if isinstance(operation, Stop) and operation.stops(record):
            return operation
    operation = Stop(engine, record, [record])
    operation.launch()
    return operation


async def restart(record: Record) -> None:
    """A new incarnation, of this service alone: stop, then start, paused if it was."""
    engine = engine_for(record, "restart")
    if record is engine.root and record.state in AT_REST:
        engine.open()
    elif record.state in AT_REST:
        _check_above(record)
    task = _restart_to_come(engine, record)
    if task is None:
        incarnation = record.incarnation
        stop = _stop_first(engine, record)
        task = engine.create_task(_restart(engine, record, stop, engine.stops), f"{record.path} restart")
        engine.restarts[record] = task, incarnation
        engine.errands.add(task)
        task.add_done_callback(engine.errands.discard)
        task.add_done_callback(partial(_restarted, engine, record))
    await asyncio.shield(task)


def _restart_to_come(engine: Engine, record: Record) -> asyncio.Task[None] | None:
    """One under way that is still to bring what is asked for, a new incarnation that is ready."""
    task, incarnation = engine.restarts.get(record, (None, 0))
    return task if record.incarnation == incarnation or record.state is STARTING else None


def _restarted(engine: Engine, record: Record, task: asyncio.Task[None]) -> None:
    if record in engine.restarts and engine.restarts[record][0] is task:
        del engine.restarts[record]
    if not task.cancelled():
        task.exception()  # every caller may have gone; it is in the service's state all the same


def _stop_first(engine: Engine, record: Record) -> Stop | None:
    """In the call itself, so that a stop which is commanded after it comes after it."""
    if record is engine.root:
        if record.state is STOPPING:
            raise StartInterrupted(_stopped_text(record))
        return stop_application(engine, restart=record.state in LIVE)
    _check_stays(engine, record)
    if record.intent is not DOWN:
        if record.state is not STOPPING:
            _check_needs(engine, record)
        return _stop_alone(engine, record)
    engine.intend(record, UP)
    return None


async def _restart(engine: Engine, record: Record, stop: Stop | None, stops: int) -> None:
    if record is engine.root and stop is not None:
        await _restart_application(engine, stop)
        return
    if stop is not None:
        await wait(stop.done)
    if record.intent is DOWN or (record is engine.root and engine.stops > stops):
        raise StartInterrupted(_stopped_text(record))
    _wait_if_needs_are_away(engine, record)
    await start(record)


async def _restart_application(engine: Engine, stop: Stop) -> None:
    """Whoever runs it goes on waiting, unless something else stops it meanwhile, or it does not start again."""
    root = engine.root
    try:
        await wait(stop.done)
        if not engine.is_restarting:
            raise StartInterrupted(_stopped_text(root))
        await start(root)
    except (StartFailed, InvalidTree) as error:
        if root.state in AT_REST:  # or somebody else has started it by now
            end_application(engine, root, error)
        raise
    finally:
        engine.is_restarting = False
        if root.state in AT_REST:
            engine.close()


def _stopped_text(record: Record) -> str:
    return f"{record.subject} was stopped while it was to be started again"


# -- pause and resume ------------------------------------------------------------------------------------------------


async def pause(record: Record, mode: str | None, modes: Collection[str]) -> tuple[str, ...]:
    """Until `record`, and all below it that can, is paused; the paths of those that cannot."""
    engine = engine_for(record, "pause")
    if mode is not None and mode not in modes:
        known = f"it knows {', '.join(modes)}" if modes else "it knows no modes; leave it out"
        raise ValueError(f"{record.subject} cannot pause in mode {mode!r}; {known}")
    _check_stays(engine, record)
    if record.intent is DOWN:
        raise LifecycleError(f"{record.subject} is down, so there is nothing to pause; start it first")
    if record.intent is HELD and record.state in READY and mode not in (None, record.pause_mode):
        raise LifecycleError(f"{record.subject} is paused already, otherwise than {mode!r}; resume it first")
    if not (_can_pause(record) if record.state in READY else _may_turn_out_to(record)):
        raise CannotPause(why_not(record))
    engine.intend(record, HELD, mode or record.pause_mode)
    return await _whoever_waits(engine, record, _pause(engine, record), "pause")


async def _pause(engine: Engine, record: Record) -> tuple[str, ...]:
    await _settled(engine, record)
    if record.state not in READY or not engine.wants_paused(record):
        return ()
    if not _can_pause(record):
        engine.intend(record, UP)
        raise CannotPause(why_not(record))
    operation = Pause(engine, record)
    operation.launch()
    await wait(operation.done)
    _raise_settling(operation, "pause")
    return tuple(one.path for one in operation.unable)


async def resume(record: Record) -> None:
    """Until `record`, and all below it that is not paused by itself, takes work again."""
    engine = engine_for(record, "resume")
    group = record.parent
    while group is not None:
        if group.intent is HELD:
            raise LifecycleError(f"{record.subject} is paused with {group.subject}; resume that")
        group = group.parent
    if record.intent is HELD:
        engine.intend(record, UP)
        engine.supervision.look()
    await _whoever_waits(engine, record, _resume(engine, record), "resume")


async def _resume(engine: Engine, record: Record) -> None:
    await _settled(engine, record)
    if record.state not in READY or engine.wants_paused(record):
        return
    operation = Resume(engine, record)
    operation.launch()
    await wait(operation.done)
    _raise_settling(operation, "resume")


def _may_turn_out_to(record: Record) -> bool:
    """Whether it can, or has a task of its own, which may ask `unpaused`."""
    return record.shape.group or record.shape.pause or record.shape.task


def _can_pause(record: Record) -> bool:
    return record.shape.group or record.shape.pause or (record.life is not None and record.life.can_pause)


async def _whoever_waits(engine: Engine, record: Record, work: Coroutine[Any, Any, T], verb: str) -> T:
    """Its result; where it cannot begin in this very call it has a task of its own, which no caller can cancel."""
    if not _settling(engine, record) and record.state not in (STARTING, STOPPING):
        return await work
    task = engine.create_task(work, f"{record.path} {verb}")
    engine.errands.add(task)
    task.add_done_callback(engine.errands.discard)
    return await asyncio.shield(task)


def _settling(engine: Engine, record: Record) -> list[asyncio.Future[None]]:
    """Done when those who pause or resume it, or something in it or around it, are."""
    return [
        operation.done
        for operation in engine.operations
        if isinstance(operation, Settling) and (operation.target.within(record) or record.within(operation.target))
    ]


async def _settled(engine: Engine, record: Record) -> None:
    """Until it has arrived wherever it is going, and nobody pauses or resumes it any more."""
    while True:
        if under_way := _settling(engine, record):
            await asyncio.wait(under_way)
        elif record.state is STARTING or record.state is STOPPING:
            await wait(engine.next_rest(record))
        else:
            return


def _raise_settling(operation: Settling, verb: str) -> None:
    if operation.errors:
        raise PauseFailed(f"{operation.target.subject} did not {verb} cleanly", operation.errors)


# -- remove ----------------------------------------------------------------------------------------------------------


async def remove(group: Record, name: str, *, dependents: bool, removed: Callable[[Record], None]) -> None:
    """Stop and forget a service, its dependents first; `removed` is called with each."""
    children = group.children or {}
    if name not in children:
        raise LifecycleError(f"{group.subject} has no service {name!r}; it has {', '.join(children) or 'none'}")
    record = children[name]
    needing = _dependents(record)
    if needing and not dependents:
        raise LifecycleError(
            f"{record.subject} is needed by {', '.join(other.subject for other in needing)}; "
            "remove those first, or pass dependents=True"
        )
    leaving = [*needing, record]
    engine = engine_of(group)
    if engine is None or engine.root.state in AT_REST:
        _forget_all(group.top, leaving, removed)
        return
    engine.leaving.update(leaving)
    for other in leaving:
        other.intent = DOWN  # quietly: it is no wish of the operator's that it be down, but that it be gone
    withdraw(engine, [other for other in leaving if other.state in AT_REST])
    operation = Stop(engine, record, leaving)
    gone: asyncio.Future[None] = engine.loop.create_future()

    def forget() -> None:
        _forget_all(group.top, leaving, removed)
        engine.leaving.difference_update(leaving)
        gone.set_result(None)
        engine.supervision.look()

    operation.launch(lambda: engine.loop.call_soon(forget))  # when every operation has heard of the last stop
    await wait(gone)
    if operation.errors:
        raise StopFailed(f"{record.subject} stopped and was removed, but not cleanly", operation.errors)


def _forget_all(top: Record, leaving: list[Record], removed: Callable[[Record], None]) -> None:
    for record in leaving:
        if record.top is top:  # or another remove has forgotten it, or a group that it was in
            removed(record)
            _forget(record)


def _forget(record: Record) -> None:
    if record.parent is not None and record.parent.children is not None:
        record.parent.children.pop(record.name, None)
        record.parent = None


def _dependents(record: Record) -> list[Record]:
    """Who needs `record` or something in it, transitively, each before what it needs; none of them within it."""
    everyone = [other for other in record.top.below() if other.needs and not other.within(record)]
    found: dict[Record, None] = {}

    def visit(need: Record) -> None:
        for other in everyone:
            if other not in found and any(n.within(need) or need.within(n) for n in known_needs(other)):
                found[other] = None
                visit(other)

    visit(record)
    return list(reversed(found))
