"""Names of a service that are Plait's: overriding one, or assigning to it, is refused with the cure.

Rules: a class of the kernel lists its names in `_reserved` and calls `guard` on itself. A subclass that defines
one raises TypeError when the class is made; an instance that assigns one, at the assignment. Guarded methods are
data descriptors, so all other attributes of a service keep their full speed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any, NoReturn


class _Guarded:
    """A method nobody may assign to."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name = name
        self._function = function
        self.__doc__ = function.__doc__

    def __get__(self, instance: object, owner: type) -> Any:
        return self._function if instance is None else MethodType(self._function, instance)

    def __set__(self, instance: object, value: object) -> NoReturn:
        _refuse(instance, self._name)


def _refuse(instance: object, name: str) -> NoReturn:
    raise TypeError(
        f"{type(instance).__name__} assigns to self.{name}, which is Plait's own; choose another name for yours"
    )


def _refuse_value(name: str, instance: object, value: object) -> NoReturn:
    _refuse(instance, name)


def guard(cls: type, names: frozenset[str]) -> None:
    """Make `names`, methods and properties of `cls`, refuse assignment."""
    for name in names:
        own = cls.__dict__.get(name)
        if isinstance(own, property):
            setattr(cls, name, own.setter(partial(_refuse_value, name)))
        elif callable(own):
            setattr(cls, name, _Guarded(name, own))


def check_subclass(cls: type) -> None:
    """TypeError if `cls` defines a name that one of its bases reserves."""
    for base in cls.__mro__[1:]:
        for name in base.__dict__.get("_reserved", frozenset()) & cls.__dict__.keys():
            raise TypeError(
                f"{cls.__module__}.{cls.__qualname__} overrides {name!r}, which {base.__name__} keeps for itself; "
                f"{_CURES.get(name, 'choose another name')}"
            )


_CURES = {
    "start": "put what it does into on_start",
    "stop": "put what it does into on_stop",
    "pause": "put what it does into on_pause",
    "resume": "put what it does into on_resume",
    "ready": "await something in on_start instead, it is ready when that returns",
    "name": "give the name to add(service, name=...)",
}
