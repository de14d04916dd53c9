"""Hooks of services that are not ours, intercepted for a time.

Rules: a class keeps its identity, which a reload compares, and its instances need no room for anything: the hook is
replaced on the class, and what comes for any other service than the intercepted ones goes on to the hook as it was. A
hook that the class has not is called because the shape of that one record says so; if nothing strikes, it then behaves
as if it were not there. When the last interception of a hook is taken back, the class is as it was.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from plait._kernel.engine import engine_of
from plait._kernel.hooks import HOOKS, Shape
from plait._kernel.record import Record
from plait._kernel.states import LIVE, RUNNING

Real = Callable[[], Awaitable[Any]]
Intercept = Callable[[Real], Awaitable[Any]]
"""Called in place of the hook, with what calls that."""

_ABSENT = object()
_PARTS = {name: name.removeprefix("on_") for name in HOOKS} | {"on_resume": "pause"}
"""What of a shape says that a hook is there."""


class _Replaced:
    """One hook of one class, while any service has an interception on it."""

    def __init__(self, cls: type, hook: str) -> None:
        self.cls = cls
        self.hook = hook
        self.was = cls.__dict__.get(hook, _ABSENT)
        self.intercepts: dict[Record, list[Intercept]] = {}

        async def intercepted(service: Any, /, *args: Any, **kwargs: Any) -> Any:
            call: Real = partial(self._real_of(service._record), *args, **kwargs)
            for one in reversed(self.intercepts.get(service._record, ())):
                call = partial(one, call)
            return await call()

        setattr(cls, hook, intercepted)

    def real(self, service: Any) -> Callable[..., Awaitable[Any]]:
        """The hook as it was, bound."""
        if self.was is _ABSENT:
            found: Callable[..., Awaitable[Any]] = getattr(super(self.cls, service), self.hook)
            return found
        bound: Callable[..., Awaitable[Any]] = self.was.__get__(service, type(service))
        return bound

    def _real_of(self, record: Record) -> Callable[..., Awaitable[Any]]:
        is_added = self.hook == "run" and record in _added and "run" in _added[record][1]
        return _until_cancelled if is_added else self.real(record.service)

    def put_back(self) -> None:
        if self.was is _ABSENT:
            delattr(self.cls, self.hook)
        else:
            setattr(self.cls, self.hook, self.was)


_replaced: dict[tuple[type, str], _Replaced] = {}
_added: dict[Record, tuple[Shape, set[str]]] = {}
"""Records that were given hooks their class has not: the shape of the class, and those hooks."""


async def _until_cancelled(*args: Any, **kwargs: Any) -> None:
    """What a service without a `run` does."""
    await asyncio.get_running_loop().create_future()


def check(hook: str) -> None:
    """ValueError if no service has such a hook."""
    if hook not in HOOKS:
        raise ValueError(f"{hook!r} is no hook of a service; those are {', '.join(HOOKS)}")


def intercept(record: Record, hook: str, intercept: Intercept) -> None:
    """Call `intercept` in place of a hook, from its next call on; several are one in the other.

    ValueError if the service can have no such hook.
    """
    check(hook)
    if hook == "run" and record.shape.group:
        raise ValueError(f"{record.subject} is a group, which has no run")
    cls = type(record.service)
    if (cls, hook) not in _replaced:
        _replaced[cls, hook] = _Replaced(cls, hook)
    _replaced[cls, hook].intercepts.setdefault(record, []).append(intercept)
    if not getattr(record.shape, _PARTS[hook]):
        _add(record, hook)


def take_back(record: Record, hook: str, intercept: Intercept) -> None:
    """Call the hook without it again; what is in the middle of a call is the interception's own business."""
    cls = type(record.service)
    replaced = _replaced[cls, hook]
    replaced.intercepts[record].remove(intercept)
    if replaced.intercepts[record]:
        return
    del replaced.intercepts[record]
    if not replaced.intercepts:
        replaced.put_back()
        del _replaced[cls, hook]
    if record in _added:
        _drop(record, hook)


def _add(record: Record, hook: str) -> None:
    _, hooks = _added.setdefault(record, (record.shape, set()))
    hooks.add(hook)
    record.shape = _with(record.shape, hook)
    engine = engine_of(record)
    if engine is None or record.state not in LIVE:
        return
    if hook == "check" and record.state is RUNNING:
        engine.checks.begin(record)
    elif hook == "on_stop":
        engine.life(record)  # what has no task would else end without a call


def _drop(record: Record, hook: str) -> None:
    shape, hooks = _added[record]
    if hook not in hooks:
        return
    hooks.discard(hook)
    record.shape = shape
    for other in hooks:
        record.shape = _with(record.shape, other)
    if not hooks:
        del _added[record]
    engine = engine_of(record)
    if hook == "check" and engine is not None:
        engine.checks.end(record)


def _with(shape: Shape, hook: str) -> Shape:
    shape = copy.copy(shape)
    setattr(shape, _PARTS[hook], True)
    shape.task = shape.start or shape.run or shape.stop
    return shape
