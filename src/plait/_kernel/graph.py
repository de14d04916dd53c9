"""Who needs whom: names to records, and the check of a whole tree before anything is touched.

Rules: `needs` holds records, siblings' names, or paths from the root that begin with "/". Needing a group is
needing all of its services. A check reports everything that is wrong, in one InvalidTree.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from plait._kernel.record import Record
from plait.errors import InvalidTree

Node = tuple[str, Record]


def needs_of(record: Record) -> list[Record]:
    """The records that `record` needs, resolved; InvalidTree for a name that is not there."""
    return [_resolve(record, need) for need in record.needs] if record.needs else []


def known_needs(record: Record) -> list[Record]:
    """As needs_of, but a name that is not there is passed over: whoever stops must not fail of it."""
    if not record.needs:
        return []
    return [found for need in record.needs if (found := _found(record, need)) is not None]


def _found(record: Record, need: Record | str) -> Record | None:
    if isinstance(need, Record):
        return need if need.top is record.top else None
    return find(record.top, need[1:]) if need.startswith("/") else _siblings(record).get(need)


def _resolve(record: Record, need: Record | str) -> Record:
    found = _found(record, need)
    if found is not None:
        return found
    if isinstance(need, Record):
        raise InvalidTree(
            f"{record.subject} needs {need.subject}, which is in no group of this application; add it first"
        )
    raise InvalidTree(f"{record.subject} needs {need!r}, which is not there; {_nearest(record, need)}")


def is_met(need: Record) -> bool:
    """Whether what needs this may start: it is ready, or has finished; of a group, all of it."""
    if need.children and not need.returned:
        return need.met and all(map(is_met, need.children.values()))
    return need.met


def needs_among(record: Record, members: Container[Record]) -> Iterator[Record]:
    """Those of `members` that it needs, be it by way of others that are none of them."""
    found, queue = {record}, [record]
    for one in queue:
        for need in known_needs(one):
            if need not in found:
                found.add(need)
                if need in members:
                    yield need
                else:
                    queue.extend(need.below())


def missing(record: Record) -> Record | None:
    """The first of all that `record` needs which is not there; of a group, the first of its services."""
    for need in known_needs(record):
        if not is_met(need):
            return next((one for one in need.below() if not one.met), need)
    return None


def _siblings(record: Record) -> dict[str, Record]:
    return (record.parent.children or {}) if record.parent is not None else {}


def _nearest(record: Record, need: str) -> str:
    if need.startswith("/"):
        names = ["/" + other.path for other in record.top.below() if other.parent is not None]
    else:
        names = [name for name in _siblings(record) if name != record.name]
    near = get_close_matches(need, names, 1)
    if near:
        return f"did you mean {near[0]!r}?"
    return "name a service of the same group, or a path from the root, as '/group/service'"


def find(record: Record, path: str) -> Record | None:
    """The record at `path` below `record`, names joined by "/"."""
    found: Record | None = record
    for name in path.split("/"):
        found = (found.children or {}).get(name) if found is not None else None
    return found


def check(root: Record) -> None:
    """InvalidTree with everything that would keep this tree from starting: unknown needs, cycles, placement."""
    needing = [record for record in root.below() if record.needs]
    problems: list[str] = []
    resolved: dict[Record, list[Record]] = {}
    for record in needing:
        resolved[record] = []
        for need in record.needs:
            try:
                resolved[record].append(_resolve(record, need))
            except InvalidTree as error:
                problems.append(str(error))
    problems += _misplaced(resolved)
    if resolved:
        problems += _cycle(root, resolved)
    if problems:
        raise InvalidTree("\n".join(problems))


def _misplaced(resolved: dict[Record, list[Record]]) -> Iterator[str]:
    for record, needs in resolved.items():
        if _is_one(record):
            continue
        for need in needs:
            for service in need.below():
                if _is_one(service):
                    yield (
                        f"{record.subject} runs in each worker and needs {service.subject}, which runs in only "
                        "one; give both placement='one', or drop the need"
                    )
                    break


def _is_one(record: Record | None) -> bool:
    while record is not None:
        if record.policy.placement == "one":
            return True
        record = record.parent
    return False


def _cycle(root: Record, resolved: dict[Record, list[Record]]) -> Iterator[str]:
    """A group opens before its services start, and is ready after them: two nodes."""
    sorter: TopologicalSorter[Node] = TopologicalSorter()
    for record in root.below():
        before: list[Node] = [_ready(need) for need in resolved.get(record, ())]
        if record.parent is not None:
            before.append(("open", record.parent))
        if record.children is None:
            sorter.add(("ready", record), *before)
        else:
            sorter.add(("open", record), *before)
            sorter.add(("ready", record), ("open", record), *map(_ready, record.children.values()))
    try:
        sorter.prepare()
    except CycleError as error:
        yield _describe(error.args[1], resolved)


def _ready(record: Record) -> Node:
    return ("ready", record)


def _describe(cycle: Iterable[Node], resolved: dict[Record, list[Record]]) -> str:
    nodes = list(cycle)  # each is waited for by the next, first and last are the same
    links = []
    for (_, earlier), (_, later) in pairwise(nodes):
        if earlier in resolved.get(later, ()):
            links.append(f"{later.path!r} needs {earlier.path!r}")
        elif earlier.parent is later:
            links.append(f"{later.path!r} holds {earlier.path!r}")
        elif later.parent is earlier:
            links.append(f"{later.path!r} is in {earlier.path!r}")
    return f"a cycle, in which nothing could start first: {', '.join(reversed(links))}; drop one of these needs"
