"""Group: a service made of services.

Rules: `add` is synchronous, checks what can be checked now, and touches nothing; `needs` may name services added
later. In a running group an added service stays NEW until it is started. Names are unique in a group.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, ClassVar, Literal, TypeVar

from plait._kernel import commands
from plait._kernel.engine import Engine, engine_of
from plait._kernel.events import ServiceAdded, ServiceRemoved
from plait._kernel.graph import find
from plait._kernel.record import Arguments, Record
from plait._kernel.reserved import guard
from plait._kernel.service import Represented, Service, makes_service, service_of
from plait._kernel.snapshot import Snapshot, kind_of, take
from plait.errors import InvalidTree

S = TypeVar("S", bound=Service | Represented)
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
Needs = Iterable[Service | Represented | str]
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:+-]*")


class Group(Service):
    """Services that start by their needs, concurrently where nothing orders them, and stop in reverse.

    A subclass may have hooks, but no `run`: its `on_start` is called before its services start, its `on_stop`
    after they have stopped.
    """

    __slots__ = ("strategy",)

    _reserved: ClassVar[frozenset[str]] = frozenset({"add", "remove", "snapshot", "run"})
    _is_group = True

    strategy: Strategy
    """What a failure of one service means for the others."""

    def __init__(self, *, strategy: Strategy = "one_for_one") -> None:
        if strategy not in STRATEGIES:
            raise ValueError(f"strategy is {strategy!r}; it may be {', '.join(STRATEGIES)}")
        self.strategy = strategy

    @classmethod
    def _make_record(cls, service: Service, arguments: Arguments) -> Record:
        record = super()._make_record(service, arguments)
        if isinstance(service, Group):
            service.strategy = "one_for_one"
        return record

    def add(self, service: S, name: str | None = None, needs: Needs = (), **policy: Any) -> S:
        """Register `service`, or the service that stands for it, under `name`, and return it.

        `needs`: services, siblings' names, or paths from the root that begin with "/"; it starts after them and
        stops before them. `policy`: fields of Policy that override those of the service's class. TypeError,
        ValueError or InvalidTree say what is wrong; nothing was changed then.
        """
        member = _service(service)
        record = self._check_add(member, name)
        name = name if name is not None else member.name
        needs_checked = _check_needs(member, needs)
        in_force = record.policy.override(policy)
        record.name, record.needs, record.policy = name, needs_checked, in_force
        record.parent = self._record
        self._children[name] = record
        self._emit_added(record)
        return service

    def _check_add(self, service: Service, name: Any) -> Record:
        record = service._record
        if record.parent is not None:
            raise InvalidTree(f"{record.subject} is in {record.parent.subject} already; make a second one to add")
        if engine_of(record) is not None:
            raise InvalidTree(f"{record.subject} is an application, the root of its own tree; add a Group instead")
        if record is self._record.top:
            raise InvalidTree(f"{type(record.service).__name__} would hold itself")
        name = check_name(service.name if name is None else name)
        if name in self._children:
            raise InvalidTree(f"{self._record.subject} has a service {name!r} already; pass add(..., name=...)")
        return record

    async def remove(self, name: str, *, dependents: bool = False) -> None:
        """Drain, stop and forget a service.

        LifecycleError if another needs it, unless `dependents`, which removes those first. StopFailed if it
        did not stop cleanly; it is removed all the same.
        """
        await commands.remove(self._record, name, dependents=dependents, removed=self._emit_removed)

    def __getitem__(self, path: str) -> Service:
        """The service at `path` below this group, as `app["backend/db"]`; KeyError names the nearest."""
        record = find(self._record, path)
        if record is None or path == "":
            near = get_close_matches(path, [other.path for other in self._record.below()], 1)
            raise KeyError(f"no service {path!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        assert isinstance(record.service, Service)
        return record.service

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and path != "" and find(self._record, path) is not None

    def __iter__(self) -> Iterator[Service]:
        """The group's own services, in the order of `add`."""
        for record in tuple(self._children.values()):
            assert isinstance(record.service, Service)
            yield record.service

    def snapshot(self) -> Snapshot:
        """The whole tree below, as a frozen value: states, incarnations, errors, endpoints."""
        return take(self._record, engine_of(self._record) or Engine(self._record))

    @property
    def _children(self) -> dict[str, Record]:
        children = self._record.children
        assert children is not None
        return children

    def _emit_added(self, record: Record) -> None:
        engine = engine_of(record)
        if engine is not None and engine.bus.sinks:
            for added in record.below():
                engine.emit(ServiceAdded, added, kind=kind_of(added))
            engine.checks.tree_changed()

    def _emit_removed(self, record: Record) -> None:
        engine = engine_of(self._record)
        if engine is not None and engine.bus.sinks:
            for removed in reversed(tuple(record.below())):
                engine.emit(ServiceRemoved, removed)
            engine.checks.tree_changed()


guard(Group, Group._reserved)


def check_name(name: Any) -> str:
    """`name`, if a service or an application may have it."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name for a service; use letters, digits and any of _ . @ : + -")
    return name


def _service(thing: Any) -> Service:
    """The service that is to be added."""
    if makes_service(thing):
        raise TypeError(f"add() takes a service, not the class {thing.__name__}; call it first")
    service = service_of(thing)
    if service is None:
        raise TypeError(f"add() takes a Service, not {thing!r}")
    return service


def _check_needs(service: Service, needs: Any) -> tuple[Record | str, ...]:
    if isinstance(needs, str) or service_of(needs) is not None:
        raise TypeError(f"needs takes a list; write needs=[{needs!r}]")
    checked: list[Record | str] = []
    for need in needs:
        needed = service_of(need)
        if needed is service:
            raise InvalidTree(f"{type(need).__name__} needs itself; drop that")
        if needed is not None:
            checked.append(needed._record)
        elif isinstance(need, str) and need:
            checked.append(need)
        else:
            raise TypeError(f"needs holds {need!r}; it takes services, names and paths")
    return tuple(checked)
