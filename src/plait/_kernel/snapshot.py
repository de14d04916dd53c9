"""What a tree looks like at one moment, as a frozen value.

Rule: a snapshot holds no reference into the running tree, and names no secret: constructor arguments are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from plait._kernel.record import Record
from plait._kernel.states import Intent, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One service, and in `services` what it holds. `age` is seconds in the present state, 0 if never started."""

    name: str
    path: str
    kind: str
    state: State
    intent: Intent
    incarnation: int
    age: float
    error: str | None
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
    cls = type(record.service)
    return f"{cls.__module__}:{cls.__qualname__}"


def error_text(error: BaseException | None) -> str | None:
    """An error for people: its type and message."""
    return None if error is None else f"{type(error).__name__}: {error}".rstrip(": ")


def take(record: Record, now: float) -> Snapshot:
    """`record` and all below it; `now` is the loop's time."""
    return Snapshot(
        name=record.name,
        path=record.path,
        kind=kind_of(record),
        state=record.state,
        intent=record.intent,
        incarnation=record.incarnation,
        age=max(0.0, now - record.since) if record.incarnation else 0.0,
        error=error_text(record.error),
        needs=tuple(need if isinstance(need, str) else "/" + need.path for need in record.needs),
        endpoints=record.endpoints,
        services=tuple(take(child, now) for child in (record.children or {}).values()),
    )
