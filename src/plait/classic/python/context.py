"""Values that hold for a call and all that it calls, by key.

Rule: they are kept in a context variable, so each thread has its own, and a coroutine or task those of its maker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

_T = TypeVar("_T")

defaultContextDict: dict[Any, Any] = {}

_values: ContextVar[Mapping[Any, Any]] = ContextVar("plait.classic.python.context")


def setDefault(key: Any, value: Any) -> None:
    """What `get` returns for a key wherever no call has set it."""
    defaultContextDict[key] = value


def get(key: Any, default: Any = None) -> Any:
    """The value of the innermost call that set it, else what `setDefault` did, else `default`."""
    values = _values.get({})
    return values[key] if key in values else defaultContextDict.get(key, default)


def call(ctx: Mapping[Any, Any], func: Callable[..., _T], *args: Any, **kw: Any) -> _T:
    """What the call returns; in it, `ctx` holds beside what holds already."""
    token = _values.set({**_values.get({}), **ctx})
    try:
        return func(*args, **kw)
    finally:
        _values.reset(token)
