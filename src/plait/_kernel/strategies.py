"""Who is stopped and started again with a service that failed: the strategies of a group.

Rules:
- one_for_one: nobody. rest_for_one: those of its group that need it, or need one that does. one_for_all: all of its
  group. What needs it elsewhere keeps running under each of them, and is degraded.
- They stop at once, dependents before what they need. The failed one starts when they have stopped and its delay is
  over; what it needs itself starts with it, the others after it.
- One that waits to be started already goes on waiting for its own; one that fails while its turn to stop has not come
  has failed by itself, and is counted. One that fails before it was ready takes nobody along.
"""

from __future__ import annotations

from collections.abc import Iterator

from plait._kernel.engine import Engine
from plait._kernel.graph import known_needs
from plait._kernel.operations import Stop
from plait._kernel.record import Record


class Clearing(Stop):
    """The stop of those that `failed` takes along."""

    def __init__(self, engine: Engine, failed: Record, records: list[Record]) -> None:
        super().__init__(engine, failed, records)
        self.stopped: list[Record] = []
        """Those of them that it has stopped; the others had begun to end by themselves."""

    def on_ended(self, record: Record) -> bool:
        if not super().on_ended(record):
            return False
        return record in self._begun

    def covers(self, records: list[Record]) -> bool:
        """Whether it waits for all of these."""
        return all(record in self._members for record in records)

    def stops(self, record: Record) -> bool:
        return False

    def _complete(self) -> None:
        self.stopped = [record for record in self._records if record in self._begun]
        super()._complete()


def taken_along(record: Record) -> list[Record]:
    """Who is stopped and started again because `record` failed, by its group's strategy."""
    group = record.parent
    assert group is not None
    strategy = group.service.strategy  # type: ignore[attr-defined]  # a group's record has a Group
    if strategy == "one_for_one":
        return []
    others = [other for other in (group.children or {}).values() if other is not record]
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


def needed_by(record: Record) -> set[Record]:
    """All that must be there before `record` can be: what it needs, what that needs, and the groups these are in."""
    found: set[Record] = set()
    queue = [record]
    while queue:
        for need in known_needs(queue.pop()):
            for one in (*need.below(), *need.above()):
                if one not in found:
                    found.add(one)
                    queue.append(one)
    return found
