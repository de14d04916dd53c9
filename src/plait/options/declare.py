"""`Options`: declared, frozen settings, as a class whose fields are annotated.

An Options class is a frozen, keyword-only msgspec.Struct. Its annotations are evaluated when the class is
made, so that a name that collides or is reserved is refused there and then, not in production; a name that
is defined only later, or only for the type checker, is a TypeError that says so.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any, Literal, dataclass_transform

import msgspec

from plait.options import meta as shapes
from plait.options.schema import prefix_of, schema_of
from plait.options.values import MASK


class OptionsMeta(msgspec.StructMeta):
    """The class of Options classes: takes `env=`, evaluates annotations, refuses names that cannot work."""

    def __new__(
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        env: str | None = None,
        frozen: Literal[True] = True,
    ) -> OptionsMeta:
        """A new Options class; `env` is the prefix of its environment variables.

        `frozen` is for type checkers, which learn from it that every instance is. Raises TypeError if an annotation
        cannot be evaluated, or if names collide or are reserved.
        """
        made = super().__new__(mcls, name, bases, namespace, frozen=True, kw_only=True, forbid_unknown_fields=True)
        cls: Any = made
        if any(isinstance(base, OptionsMeta) for base in bases):
            cls.__env_prefix__ = (prefix_of(name) or None) if env is None else env
            cls.__annotations__ = _evaluated(cls, sys._getframe(1).f_locals)
            schema_of(cls)
        return made


def _evaluated(cls: type, names: dict[str, Any]) -> dict[str, Any]:
    """The class's own annotations, each text among them evaluated where the class statement stands."""
    own = inspect.get_annotations(cls)
    try:
        hints = shapes.resolved_hints(cls, {**names, cls.__name__: cls})
    except NameError as error:
        raise TypeError(
            f"{cls.__name__}: {error}; an option's type must be importable when its class is made "
            "(not only under TYPE_CHECKING)"
        ) from error
    return {name: hints[name] for name in own}


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class Options(msgspec.Struct, metaclass=OptionsMeta, frozen=True):
    """Settings of an application or a service: subclass it and annotate the fields.

    A field without a default is required. `class EchoOptions(Options)` reads the variables ECHO_LISTEN, …;
    `class EchoOptions(Options, env="E_")` reads E_LISTEN. Instances are frozen and compare by value; secrets
    are masked in their repr. A `__post_init__` may check fields against each other and raise ValueError.
    """

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_shown(self, name)}" for name in self.__struct_fields__)
        return f"{type(self).__name__}({shown})"


def _shown(options: Options, name: str) -> str:
    hint = shapes.resolved_hints(type(options)).get(name)
    return MASK if hint is not None and shapes.facts(hint).meta.secret else repr(getattr(options, name))
