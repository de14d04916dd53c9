"""The present state of a tree, as the events that would have told it.

Rule: who subscribes late and takes these as any other events knows what one knows who was there from the beginning,
but for what is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from plait._kernel.engine import Engine
from plait._kernel.events import (
    Event,
    HealthChanged,
    IntentChanged,
    Listening,
    NotPaused,
    NotStarted,
    Parked,
    RestartScheduled,
    ServiceAdded,
    StateChanged,
)
from plait._kernel.health import Level
from plait._kernel.pausing import why_not
from plait._kernel.record import Record
from plait._kernel.snapshot import kind_of
from plait._kernel.states import BACKOFF, FAILED, NEW, RUNNING, UP

Make = Callable[..., Event]
"""Makes an event about one record, of a kind and with its fields."""


def present(engine: Engine) -> Iterator[Event]:
    """Each service with its intent, state, endpoints, and what it waits for; then who is not ready."""
    now = engine.wall_time()

    def about(record: Record) -> Make:
        return partial(_make, time=now, path=record.path, generation=engine.generation)

    for record in engine.root.below():
        yield from _of(record, engine, about(record))
    for record, health in engine.checks.told():
        yield about(record)(HealthChanged, old=Level.READY, new=health.level, reason=health.reason)


def _make(kind: Callable[..., Event], /, **fields: Any) -> Event:
    return kind(**fields)


def _of(record: Record, engine: Engine, make: Make) -> Iterator[Event]:
    state, incarnation = record.state, record.incarnation
    yield make(ServiceAdded, kind=kind_of(record))
    if record.intent is not UP:
        yield make(IntentChanged, old=UP, new=record.intent, pause_mode=record.pause_mode)
    if state is not NEW:
        yield make(StateChanged, incarnation=incarnation, old=NEW, new=state, error=record.error)
    for endpoint in record.endpoints:
        yield make(Listening, incarnation=incarnation, endpoint=endpoint)
    if record.care is not None:
        yield from _of_care(record, record.care, engine, make)
    if state is RUNNING and record.children is None and engine.wants_paused(record):
        yield make(NotPaused, incarnation=incarnation, reason=why_not(record))


def _of_care(record: Record, care: Any, engine: Engine, make: Make) -> Iterator[Event]:
    if record.state is BACKOFF:
        left = max(0.0, care.due - engine.now()) if care.wake is not None else None
        yield make(
            RestartScheduled, incarnation=record.incarnation, failures=care.failures, delay=left, reason=care.reason
        )
    elif record.state is NEW and care.reason:
        yield make(NotStarted, reason=care.reason)
    elif record.state is FAILED and care.is_parked:
        yield make(Parked, incarnation=record.incarnation, reason=care.reason)
