"""What a tree looks like at one moment, as a frozen value.

Rule: a snapshot holds no reference into the running tree, and names no secret: constructor arguments are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from plait._kernel.assessment import Assessments, health_of
from plait._kernel.engine import Engine
from plait._kernel.health import Health
from plait._kernel.record import Record, class_of
from plait._kernel.states import Intent, State
from plait._kernel.words import error_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One service, and in `services` what it holds.

    `age` is seconds in the present state, 0 if it never started. `failures` is how often it failed in a row,
    `restarts` how often it was started again by itself; `restart_in` is seconds until the next time, None if it waits
    for nothing or for another service. `reason` says why it waits or is parked.
    """

    name: str
    path: str
    kind: str
    state: State
    intent: Intent
    pause_mode: str | None
    health: Health
    generation: int
    incarnation: int
    age: float
    error: str | None
    failures: int
    restarts: int
    restart_in: float | None
    is_parked: bool
    reason: str | None
    needs: tuple[str, ...]
    endpoints: tuple[str, ...]
    services: tuple[Snapshot, ...]

    def walk(self) -> Iterator[Snapshot]:
        """This and all below it, each before what it holds."""
        yield self
        for service in self.services:
            yield from service.walk()


def kind_of(record: Record) -> str:
    """A service's class, as module:name."""
    cls = class_of(record)
    return f"{cls.__module__}:{cls.__qualname__}"


def take(record: Record, engine: Engine) -> Snapshot:
    """`record` and all below it."""
    return _take(record, engine, engine.checks.assess(record))


def _take(record: Record, engine: Engine, assessments: Assessments) -> Snapshot:
    now, care = engine.now(), record.care
    return Snapshot(
        name=record.name,
        path=record.path,
        kind=kind_of(record),
        state=record.state,
        intent=record.intent,
        pause_mode=record.pause_mode,
        health=health_of(assessments[record]),
        generation=engine.generation,
        incarnation=record.incarnation,
        age=max(0.0, now - record.since) if record.incarnation else 0.0,
        error=error_text(record.error) if record.error is not None else None,
        failures=care.failures if care is not None else 0,
        restarts=care.restarts if care is not None else 0,
        restart_in=max(0.0, care.due - now) if care is not None and care.wake is not None else None,
        is_parked=care is not None and care.is_parked,
        reason=(care.reason or None) if care is not None else None,
        needs=tuple(need if isinstance(need, str) else "/" + need.path for need in record.needs),
        endpoints=record.endpoints,
        services=tuple(_take(child, engine, assessments) for child in (record.children or {}).values()),
    )
