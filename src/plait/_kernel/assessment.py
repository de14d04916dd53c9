"""The health of a tree, made of that of its services.

Rules:
- A service that is RUNNING is as it says and its check says; degraded, if something that it needs is away. One that is
  not RUNNING is unready, and its state is the reason.
- A group is unready unless it is RUNNING, or if one of its services is so by its check or in its first start, or if all
  are. What is paused, down, parked or in backoff makes it degraded; what has finished does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from plait._kernel.graph import known_needs
from plait._kernel.health import READY, Health, Level, degraded, unready
from plait._kernel.record import Record
from plait._kernel.states import AT_REST, BACKOFF, DOWN, FAILED, NEW, RUNNING, STARTING, STOPPED

NAMED = 3
"""How many of a group's services its reason names."""

FINISHED = Health(Level.READY, "finished")


class Assessment:
    """A record's health, and whether it alone makes its group unready."""

    __slots__ = ("health", "is_hard")

    def __init__(self, health: Health, *, is_hard: bool = False) -> None:
        self.health = health
        self.is_hard = is_hard


_FINE = Assessment(READY)
Assessments = dict[Record, Assessment | None]
"""By record; None for one that has finished, and does not count."""

Own = Callable[[Record], Health]
"""What a service and its check say."""


def assess(record: Record, own: Own) -> Assessments:
    """The health of `record` and all below it; each comes after what it holds."""
    found: Assessments = {}
    for one in reversed(tuple(record.below())):
        found[one] = assess_one(one, own, found)
    return found


def assess_one(record: Record, own: Own, found: Assessments) -> Assessment | None:
    """The health of `record`, where that of all below it has been `found`."""
    if record.returned and record.state is STOPPED:
        return None
    if record.state is not RUNNING:
        return _not_running(record)
    itself = _running(record, own(record))
    return itself if record.children is None or itself.is_hard else _group(record.children, itself, found)


def health_of(assessment: Assessment | None) -> Health:
    """An assessment's health; of what has finished, that."""
    return assessment.health if assessment is not None else FINISHED


def _running(record: Record, own: Health) -> Assessment:
    if own.level is Level.UNREADY:
        return Assessment(own, is_hard=True)
    if own.level is Level.READY and record.needs and (away := next(_away(record), None)) is not None:
        return Assessment(degraded(f"{away.path} is {away.state.words}"))
    return Assessment(own) if own is not READY else _FINE


def _group(children: dict[str, Record], itself: Assessment, found: Assessments) -> Assessment:
    counted = [(child, one) for child in children.values() if (one := found[child]) is not None]
    hard = [(child, one) for child, one in counted if one.is_hard]
    if hard:
        return Assessment(unready(_reason(hard)), is_hard=True)
    lacking = [(child, one) for child, one in counted if one.health.level is not Level.READY]
    if not lacking:
        return itself
    if len(lacking) == len(counted) and all(one.health.level is Level.UNREADY for _, one in lacking):
        return Assessment(unready(_reason(lacking)))
    return Assessment(degraded(_reason(lacking)))


def _not_running(record: Record) -> Assessment:
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
            if one.state is not RUNNING and not (one.returned and one.state is STOPPED):
                yield one
