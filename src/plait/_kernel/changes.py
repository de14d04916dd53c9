"""What is different between two trees, for a reload: by path, class, needs, policy and constructor arguments.

Rules:
- Services are the same if they stand at the same path, functions if they are the same code with the same closure and
  defaults, anything else if its class says so. What has no equality counts as different.
- A change is live where nothing but plain values differs, given to a service whose class overrides `on_reload`, and
  which runs: it can be told. A service, or something that is called, is no plain value.
- A change names parameters, never values, which may be secret.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any

from plait._kernel.graph import known_needs
from plait._kernel.hooks import Hooks
from plait._kernel.policy import FIELDS
from plait._kernel.record import Arguments, Record, class_of
from plait._kernel.states import PAUSED, RUNNING


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """One service that is different: `what`, for people, and `why_not` it cannot be told live; None if it can."""

    old: Record | None
    new: Record | None
    what: str
    why_not: str | None

    def __str__(self) -> str:
        return self.what if self.why_not is None else f"{self.what} ({self.why_not})"


def changes(old: Record, new: Record) -> list[Change]:
    """What is different in the tree below `new`, its root included, in the order of the new tree; what is gone last."""
    before = {record.path: record for record in old.below()}
    after = {record.path: record for record in new.below()}
    found = [change for path, record in after.items() if (change := _change(before.get(path), record)) is not None]
    gone = [record for path, record in before.items() if path not in after and _parent_stays(record, after)]
    return found + [Change(record, None, f"{record.subject} is gone", _ADDED) for record in gone]


_ADDED = "a running tree is not changed"


def _parent_stays(record: Record, after: Mapping[str, Record]) -> bool:
    """Of a group that is gone only itself is named."""
    return record.parent is None or record.parent.path in after


def _change(old: Record | None, new: Record) -> Change | None:
    if old is None:
        return Change(None, new, f"{new.subject} is new", _ADDED)
    kinds = class_of(old), class_of(new)
    if kinds[0] is not kinds[1]:
        return Change(old, new, f"{new.subject} is another class, {kinds[1].__qualname__}", "only arguments are live")
    place = [*_place(old, new)]
    if place:
        return Change(old, new, f"{new.subject}: {', '.join(place)}", "only arguments are live")
    differing = [*_differing(old, new)]
    if not differing:
        return None
    names = ", ".join(name for name, _, _ in differing)
    return Change(old, new, f"{new.subject}: {names}", _why_not(old, differing))


def _place(old: Record, new: Record) -> Iterator[str]:
    """How it stands in its group, and what an application or group has as attributes."""
    if [need.path for need in known_needs(old)] != [need.path for need in known_needs(new)]:
        yield "needs"
    if old.policy is not new.policy:
        yield from (f"policy {name}" for name in FIELDS if getattr(old.policy, name) != getattr(new.policy, name))
    for name in ("name", "version", "strategy", "shutdown_delay", "shutdown_timeout") if old.shape.group else ():
        if getattr(old.service, name, None) != getattr(new.service, name, None):
            yield name


Differing = tuple[str, Any, Any]


def _differing(old: Record, new: Record) -> Iterator[Differing]:
    """The constructor's parameters that were given other values, each with both."""
    before, after = named(old), named(new)
    if before is None or after is None:
        if not _same(old.arguments, new.arguments):
            yield "its arguments", None, _changes_nothing
        return
    for name in dict.fromkeys((*before, *after)):
        if name not in before or name not in after or not _same(before[name], after[name]):
            yield name, before.get(name), after.get(name)


def _changes_nothing() -> None:
    """Stands for a value that is not plain."""


def _same(a: Any, b: Any) -> bool:
    try:
        return same(a, b)
    except RecursionError:  # what refers to itself
        return False


def named(record: Record) -> Mapping[str, Any] | None:
    """What the constructor was called with, by parameter, defaults put in; None if it does not say what it takes."""
    bound = bound_arguments(record)
    if bound is None:
        return None
    bound.apply_defaults()
    return bound.arguments


def bound_arguments(record: Record) -> inspect.BoundArguments | None:
    """What the constructor was called with, by parameter; None if it does not say what it takes."""
    args, kwargs = record.arguments
    try:
        return inspect.signature(type(record.service)).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return None


def arguments_for(old: Record, new: Record) -> Arguments:
    """What `new` was made with, for the service of `old`: what is the same in both trees is that of the old one."""
    given, before = bound_arguments(new), named(old)
    assert given is not None
    assert before is not None
    differing = {name for name, _, _ in _differing(old, new)}
    for name in given.arguments:
        if name in before and name not in differing:
            given.arguments[name] = before[name]
    return given.args, given.kwargs


def _why_not(old: Record, differing: list[Differing]) -> str | None:
    if not old.shape.reload:
        return f"{type(old.service).__name__} has no on_reload"
    for name, *values in differing:
        if old.shape.live is not None and name not in old.shape.live:
            return f"{type(old.service).__name__} cannot take {name} live"
        if not all(map(_is_plain, values)):
            return f"{name} is no plain value"
    return None if old.state in (RUNNING, PAUSED) else f"it is {old.state.value}"


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.keys())) and all(map(_is_plain, value.values()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(map(_is_plain, value))
    return not isinstance(value, Hooks) and not callable(value) and _has_equality(value)


# -- equality --------------------------------------------------------------------------------------------------------


def same(a: Any, b: Any) -> bool:
    """Whether two values of two trees mean the same; see the module's rules."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    compare = next((compare for kind, compare in _COMPARE.items() if isinstance(a, kind)), _equal)
    return compare(a, b)


def _same_place(a: Any, b: Any) -> bool:
    return bool(a._record.parent is not None and b._record.parent is not None and a._record.path == b._record.path)


def _same_function(a: FunctionType, b: FunctionType) -> bool:
    where = (a.__module__, a.__qualname__) == (b.__module__, b.__qualname__) and a.__code__ == b.__code__
    return where and same(_state_of(a), _state_of(b))


def _state_of(function: FunctionType) -> tuple[Any, ...]:
    cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    return (function.__defaults__, function.__kwdefaults__, cells, len(function.__closure__ or ()), function.__dict__)


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # a name that was never bound
        return False


def _same_method(a: MethodType, b: MethodType) -> bool:
    return same(a.__func__, b.__func__) and same(a.__self__, b.__self__)


def _same_partial(a: functools.partial[Any], b: functools.partial[Any]) -> bool:
    return same((a.func, a.args, a.keywords), (b.func, b.args, b.keywords))


def _same_mapping(a: dict[Any, Any], b: dict[Any, Any]) -> bool:
    return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())


def _same_sequence(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(map(same, a, b))


def _equal(a: Any, b: Any) -> bool:
    if not _has_equality(a):
        return False
    try:
        return bool(a == b)
    except Exception:  # noqa: BLE001  # what cannot be compared is different
        return False


def _has_equality(value: Any) -> bool:
    return any("__eq__" in vars(cls) for cls in type(value).__mro__[:-1])


_COMPARE: dict[Any, Any] = {
    Hooks: _same_place,
    FunctionType: _same_function,
    MethodType: _same_method,
    functools.partial: _same_partial,
    type: lambda a, b: False,
    dict: _same_mapping,
    (list, tuple): _same_sequence,
}
