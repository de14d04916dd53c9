"""Fitting an orderly stop into the time that the application has.

Rule: where the longest chain of services that stop one after another would need more than there is, every
deadline on that chain is cut by one factor; a service's factor is that of the longest chain through it. So no
chain can overrun, and a service off the chain keeps its own time. (A scheme that runs the clock down instead
leaves nothing for the last services, which are the databases.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter

from plait._kernel.incarnation import grace
from plait._kernel.record import Record

Node = tuple[Record, bool]
"""A record's stopping, and, for a group, (record, True): its end, after its services."""


def cost(record: Record) -> float:
    """Seconds that stopping this service alone may take at most."""
    return _drain_cost(record) + _stop_cost(record)


def _drain_cost(record: Record) -> float:
    return record.policy.drain_timeout if record.shape.drain or record.shape.run else 0.0


def _stop_cost(record: Record) -> float:
    if not (record.shape.task or record.shape.drain) and record.life is None:
        return 0.0
    return record.policy.stop_timeout + grace(record.policy.stop_timeout)


def shrink(
    members: Mapping[Record, None], blocks: Mapping[Record, Iterable[Record]], timeout: float
) -> dict[Record, float]:
    """Factors below 1 for the services on chains longer than `timeout` seconds; the others are left out.

    `blocks` maps a record to those that stop only after it.
    """
    costs = {record: need for record in members if (need := cost(record))}
    if _surely_fits(costs, blocks, timeout):
        return {}
    longest = _longest_through(members, blocks)
    timeout = max(timeout, 0.001)
    return {record: timeout / longest[record] for record in costs if longest[record] > timeout}


def _surely_fits(costs: dict[Record, float], blocks: Mapping[Record, Iterable[Record]], timeout: float) -> bool:
    """Cheap and mostly right: without needs a chain is a service and the groups above it."""
    if not costs:
        return True
    above = sum(need for record, need in costs.items() if record.shape.group)
    return not blocks and above + max(costs.values()) <= timeout


def _longest_through(members: Mapping[Record, None], blocks: Mapping[Record, Iterable[Record]]) -> dict[Record, float]:
    after: dict[Node, list[Node]] = {}
    for record in members:
        after[record, False] = [_first(later) for later in blocks.get(record, ())] if record.children is None else []
        if record.children is not None:
            after[record, True] = [_first(later) for later in blocks.get(record, ())]
            after[record, False] = [(record, True), *map(_first, record.children.values())]
        if record.parent in members:
            assert record.parent is not None
            after[_last(record)].append((record.parent, True))
    after = {node: [later for later in laters if later in after] for node, laters in after.items()}
    order = list(TopologicalSorter(_reverse(after)).static_order())
    head = dict.fromkeys(order, 0.0)
    for node in order:
        for later in after[node]:
            head[later] = max(head[later], head[node] + _weight(node))
    tail: dict[Node, float] = {}
    for node in reversed(order):
        tail[node] = _weight(node) + max((tail[later] for later in after[node]), default=0.0)
    return {record: max(head[n] + tail[n] for n in {_first(record), _last(record)}) for record in members}


def _reverse(after: dict[Node, list[Node]]) -> dict[Node, list[Node]]:
    before: dict[Node, list[Node]] = {node: [] for node in after}
    for node, laters in after.items():
        for later in laters:
            before[later].append(node)
    return before


def _first(record: Record) -> Node:
    return (record, False)


def _last(record: Record) -> Node:
    return (record, record.children is not None)


def _weight(node: Node) -> float:
    record, is_end = node
    if record.children is None:
        return cost(record)
    return _stop_cost(record) if is_end else _drain_cost(record)
