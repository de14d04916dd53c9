"""The operator's verbs, start and stop and restart, for any service of a tree.

Rules: commands with the same target join. Cancelling a caller ends only its wait, except that when the last
caller of a start is cancelled the start is rolled back. A stop goes before a start; a start waits for a stop
that is under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from plait._kernel.engine import Engine, engine_of
from plait._kernel.graph import check, needs_of
from plait._kernel.operations import Start, Stop, wait, wait_out
from plait._kernel.record import Record
from plait._kernel.states import AT_REST, DOWN, LIVE, NEW, STARTING, STOPPING, UP
from plait._kernel.supervision import stop_application
from plait.errors import InvalidTree, LifecycleError, StartFailed, StartInterrupted, StopFailed


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
    record.intent = UP
    if record is engine.root and record.state in AT_REST:
        engine.open()
    while record.state is STOPPING:
        await wait(engine.next_rest(record))
    _check_start(engine, record)
    operation = _start_of(engine, record)
    if operation is None:
        if _is_being_started(engine, record):
            await _wait_ready(engine, record)
            return
        operation = Start(engine, record)
        operation.launch()
    await _join_start(operation)
    _raise_start(operation)


def _check_start(engine: Engine, record: Record) -> None:
    if record is engine.root:
        if record.state in AT_REST:
            check(record)
        return
    assert record.parent is not None
    if record.parent.state not in LIVE or record.parent.state is STOPPING:
        raise LifecycleError(
            f"{record.subject} cannot start while {record.parent.subject} is {record.parent.state.value}; "
            f"start that, and its services start with it"
        )
    if any(other.needs for other in record.below()):
        check(engine.root)
    if record.state in AT_REST:
        _check_needs(record)


def _check_needs(record: Record) -> None:
    for need in needs_of(record):
        if not need.met and need.state is not STARTING:
            raise LifecycleError(
                f"{record.subject} needs {need.subject}, which is {need.state.value}; start that first"
            )


def _start_of(engine: Engine, record: Record) -> Start | None:
    for operation in engine.operations:
        if isinstance(operation, Start) and operation.target is record and not operation.interrupted:
            return operation
    return None


def _is_being_started(engine: Engine, record: Record) -> bool:
    return any(
        isinstance(operation, Start) and record.within(operation.target) for operation in engine.operations
    ) and record.state in (NEW, STARTING)


async def _wait_ready(engine: Engine, record: Record) -> None:
    await wait(engine.next_rest(record))
    if not record.met:
        if record.error is not None:
            raise StartFailed(f"{record.subject} did not start: {record.error}", [record.error])
        raise StartInterrupted(f"{record.subject} was stopped while it was starting")


async def _join_start(operation: Start) -> None:
    operation.waiters += 1
    try:
        await wait(operation.done)
    except asyncio.CancelledError:
        operation.waiters -= 1
        if not operation.waiters:
            operation.abort(None)
            await wait_out(operation.done)
        raise


def _raise_start(operation: Start) -> None:
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
        f"{operation.target.subject} did not start: {operation.culprit.subject}: {type(error).__name__}: {error}"
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
    record.intent = DOWN
    for operation in engine.operations:
        if isinstance(operation, Stop) and operation.target is record:
            return operation
        if isinstance(operation, Start):
            operation.leave_out(record)
    if record.state in AT_REST:
        return None
    operation = Stop(engine, record, [record])
    operation.launch()
    return operation


async def restart(record: Record) -> None:
    """A new incarnation, of this service alone: stop, then start."""
    engine = engine_for(record, "restart")
    task = engine.restarts.get(record)
    if task is None:
        task = engine.create_task(_restart(record), f"{record.path} restart")
        engine.restarts[record] = task
        task.add_done_callback(partial(_restarted, engine, record))
    await asyncio.shield(task)


def _restarted(engine: Engine, record: Record, task: asyncio.Task[None]) -> None:
    del engine.restarts[record]
    if not task.cancelled():
        task.exception()  # every caller may have gone; it is in the service's state all the same


async def _restart(record: Record) -> None:
    await stop(record)
    await start(record)


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
    try:
        await _stop_all(group, record, leaving)
    finally:
        for other in leaving:
            if all(below.state in AT_REST for below in other.below()):
                removed(other)
                _forget(other)


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
            if other not in found and any(n.within(need) or need.within(n) for n in _known_needs(other)):
                found[other] = None
                visit(other)

    visit(record)
    return list(reversed(found))


def _known_needs(record: Record) -> list[Record]:
    try:
        return needs_of(record)
    except InvalidTree:  # it was never started, or it would have been found out
        return []


async def _stop_all(group: Record, record: Record, leaving: list[Record]) -> None:
    engine = engine_of(group)
    if engine is None or all(other.state in AT_REST for top in leaving for other in top.below()):
        return
    for other in leaving:
        other.intent = DOWN
    operation = Stop(engine, record, leaving)
    operation.launch()
    await wait(operation.done)
    if operation.errors:
        raise StopFailed(f"{record.subject} stopped and was removed, but not cleanly", operation.errors)
