"""What follows when a service fails, or finishes, by itself.

Rules: the engine asks here when an incarnation has ended that no operation was about. A failure of a running
service stops the application. The application ends by itself once every service that has a `run` has ended and
none without one is left; one that is down by intent keeps it alive.
"""

from __future__ import annotations

from plait._kernel.engine import Engine
from plait._kernel.operations import Start, Stop
from plait._kernel.record import Record
from plait._kernel.states import AT_REST, FAILED, RUNNING, UP


def supervise(engine: Engine, record: Record) -> None:
    """`record` has ended by itself, or was stopped alone."""
    if record.error is not None and record.intent is UP:
        fail(engine, record, record.error)
    elif engine.ends_itself and is_finished(engine):
        stop_application(engine, delay=0.0)


def fail_group(engine: Engine, group: Record) -> None:
    """A group's own hook or task failed while it ran: its services stop, then it does."""
    Stop(engine, group, [group]).launch(lambda: supervise(engine, group))


def fail(engine: Engine, culprit: Record, error: Exception) -> None:
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
    return (
        bool(services)
        and all(record.returned or record.state is FAILED for record in services if record.intent is UP)
        and not any(record.intent is not UP for record in services)
    )


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
