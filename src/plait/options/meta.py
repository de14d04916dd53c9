"""What an annotation says of a value: its type, its limits, and how to put both into words.

`Meta` stands in `Annotated[...]`. msgspec.Meta cannot be subclassed, so this one is a class of its own that
`narrowed` translates, for the types whose limits msgspec checks: numbers and text. Limits of collections
and paths are checked where those are read, in convert.py.
"""

from __future__ import annotations

import collections.abc
import enum
import functools
import pathlib
import types
import typing
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from plait.options.values import Secret, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """What `Annotated[type, Meta(...)]` tells of a field: its description, its limits, whether it is secret.

    `ge gt le lt multiple_of` limit numbers, `pattern min_length max_length` text, and the lengths also lists
    and dicts. `secret=True` masks a field of any type in every output, as the type `Secret` does by itself.
    `examples` are shown in the help. `variable` is the whole name of its environment variable. Several in an annotation
    add up, the later one wins.
    """

    description: str = ""
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    multiple_of: float | None = None
    pattern: str | None = None
    min_length: int | None = None
    max_length: int | None = None
    examples: tuple[object, ...] = ()
    secret: bool = False
    variable: str = ""

    def then(self, later: Meta) -> Meta:
        """Both in one, what the later one says winning."""
        return replace(self, **_said(later))

    def limits(self) -> dict[str, Any]:
        """Those limits that are set."""
        return {name: value for name, value in _said(self).items() if name in _LIMITS}


_LIMITS = ("ge", "gt", "le", "lt", "multiple_of", "pattern", "min_length", "max_length")


def _said(meta: Meta) -> dict[str, Any]:
    return {field.name: value for field in fields(meta) if (value := getattr(meta, field.name)) != field.default}


@dataclass(frozen=True, slots=True)
class Facts:
    """An annotation taken apart: the bare type, what our `Meta` says, the unit of a number."""

    base: Any
    meta: Meta
    unit: Unit | None


def facts(annotation: Any) -> Facts:
    """The annotation's bare type with everything said about it."""
    annotation = _unnamed(annotation)
    if get_origin(annotation) is not Annotated:
        return Facts(annotation, Meta(), None)
    inner, *notes = get_args(annotation)
    here = facts(inner)
    for note in notes:
        if isinstance(note, Unit):
            here = replace(here, unit=note)
        elif isinstance(note, Meta):
            here = replace(here, meta=here.meta.then(note))
    return here


def _unnamed(annotation: Any) -> Any:
    """The type behind a NewType or a `type` statement."""
    while type(annotation).__name__ in ("NewType", "TypeAliasType"):
        annotation = getattr(annotation, "__supertype__", None) or annotation.__value__
    return annotation


def union_members(base: Any) -> tuple[Any, ...]:
    """The types of a union, None left out; those of a type that is no union are itself."""
    if get_origin(base) in (Union, types.UnionType):
        return tuple(member for member in get_args(base) if member is not type(None))
    return (base,)


def is_optional(annotation: Any) -> bool:
    """Whether None is allowed."""
    base = facts(annotation).base
    return base is None or (get_origin(base) in (Union, types.UnionType) and type(None) in get_args(base))


def plain(annotation: Any) -> Facts:
    """The facts of `X` for `X | None`, with what is said of the whole added; of anything else, its own."""
    outer = facts(annotation)
    members = union_members(outer.base)
    if len(members) != 1 or members[0] is outer.base:
        return outer
    inner = plain(members[0])
    return Facts(inner.base, inner.meta.then(outer.meta), outer.unit or inner.unit)


_LISTS: dict[Any, type] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    collections.abc.Sequence: tuple,
    collections.abc.Collection: tuple,
    collections.abc.Iterable: tuple,
    collections.abc.Set: frozenset,
}
_TABLES = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def list_type(base: Any) -> type | None:
    """What to make of many items (list, tuple, set, frozenset), or None if the type is no such collection."""
    return _LISTS.get(get_origin(base) or base) if not isinstance(base, str) else None


def is_table(base: Any) -> bool:
    """Whether the type is a dict from names to values."""
    return (get_origin(base) or base) in _TABLES


def item_types(base: Any) -> tuple[Any, ...]:
    """Of a list (item,), of a dict (key, value), of a tuple of fixed length the type of each item."""
    args = get_args(base)
    if not args:
        return (str, Any) if is_table(base) else (Any,)
    return args[:1] if args[-1] is Ellipsis else args


def is_fixed(base: Any) -> bool:
    """Whether the type is a tuple of a fixed number of items."""
    args = get_args(base)
    return get_origin(base) is tuple and bool(args) and args[-1] is not Ellipsis


def holds_secret(annotation: Any) -> bool:
    """Whether any part of a value of this type must not be shown."""
    here = facts(annotation)
    if here.meta.secret or here.base is Secret or _is_foreign_secret(here.base):
        return True
    return any(holds_secret(part) for part in get_args(here.base))


def _is_foreign_secret(base: Any) -> bool:
    # pydantic's own: known by name, since it must not be imported for an application that does not use it.
    return isinstance(base, type) and hasattr(base, "get_secret_value")


_WORDS: dict[Any, str] = {
    str: "text",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    Secret: "text (kept secret)",
    type(None): "nothing",
    Any: "any value",
}
_MANY: dict[type, str] = {list: "a list", tuple: "a list", set: "a set", frozenset: "a set"}


def describe(annotation: Any) -> str:
    """The type and its limits in words, as they stand in errors: "an integer, at least 1"."""
    here = facts(annotation)
    words = _describe_base(here)
    limits = [text.format(value) for name, value in here.meta.limits().items() if (text := _LIMIT_WORDS[name])]
    return ", ".join([words, *limits])


_LIMIT_WORDS = {
    "ge": "at least {}",
    "gt": "more than {}",
    "le": "at most {}",
    "lt": "less than {}",
    "multiple_of": "a multiple of {}",
    "pattern": "matching {!r}",
    "min_length": "of length at least {}",
    "max_length": "of length at most {}",
}


def _describe_base(here: Facts) -> str:
    base = here.base
    if here.unit is not None:
        return here.unit.value
    if len(members := union_members(base)) > 1 or (members and members[0] is not base):
        return " or ".join(describe(member) for member in members)
    if choices := choices_of(base):
        return "one of " + ", ".join(choices)
    if (many := list_type(base)) is not None:
        return f"{_MANY[many]} of " + ", ".join(describe(item) for item in item_types(base))
    if is_table(base):
        return "a table of " + describe(item_types(base)[1])
    return _WORDS.get(base) or _describe_class(base)


def _describe_class(base: Any) -> str:
    if isinstance(base, type) and issubclass(base, pathlib.PurePath):
        return "a path"
    return f"a value for {getattr(base, '__name__', base)}"


def choices_of(base: Any) -> tuple[str, ...]:
    """The texts a Literal or an Enum can be given as; empty for other types."""
    if get_origin(base) is Literal:
        return tuple(str(choice) for choice in get_args(base))
    if isinstance(base, type) and issubclass(base, enum.Enum):
        return tuple(member_text(member) for member in base)
    return ()


def member_text(member: enum.Enum) -> str:
    """How a member of an Enum is written: its value if that is text, else its name in small letters."""
    return member.value if isinstance(member.value, str) else member.name.lower()


_KINDS: dict[Any, str] = {str: "TEXT", int: "INT", float: "FLOAT", bool: "BOOL", Secret: "SECRET"}
_UNIT_KINDS = {Unit.SECONDS: "DURATION", Unit.BYTES: "SIZE"}


def kind_of(annotation: Any) -> str:
    """The type in one word for the help's left column: INT, DURATION, red|blue."""
    here = plain(annotation)
    base = here.base
    if here.unit is not None:
        return _UNIT_KINDS[here.unit]
    if choices := choices_of(base):
        return "|".join(choices)
    if list_type(base) is not None:
        return kind_of(item_types(base)[0])
    if is_table(base):
        return f"NAME={kind_of(item_types(base)[1])}"
    if len(members := union_members(base)) > 1:
        return "|".join(kind_of(member) for member in members)
    if isinstance(base, type) and issubclass(base, pathlib.PurePath):
        return "PATH"
    return _KINDS.get(base) or getattr(base, "__name__", "VALUE").upper()


@functools.cache
def _msgspec_meta(limits: tuple[tuple[str, Any], ...]) -> Any:
    import msgspec

    return msgspec.Meta(**dict(limits))


def narrowed(base: Any, meta: Meta) -> Any:
    """The type with the limits that msgspec can check: of a number, or of text."""
    limits = tuple(meta.limits().items())
    return Annotated[base, _msgspec_meta(limits)] if limits and base in (int, float, str) else base


def resolved_hints(owner: Any, namespace: dict[str, Any] | None = None) -> dict[str, Any]:
    """The annotations of a class or function, texts among them evaluated; NameError if one cannot be."""
    return typing.get_type_hints(owner, localns=namespace, include_extras=True)
