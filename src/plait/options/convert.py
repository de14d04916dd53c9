"""Turning what was given into what a field wants: text into numbers, lists into tuples, tables into groups.

Rules: text is converted wherever it comes from ("7" to 7, "yes" to True, JSON where a list or a table is
wanted); anything else must already have the type. A value of the right type stays as it is. Every mismatch
inside a list or a table is found, not only the first, and each is said with its place ("hosts[1]"). msgspec
converts and checks what has no parts; parts are walked here, since msgspec stops at its first error.
"""

from __future__ import annotations

import contextlib
import enum
import json
import math
import pathlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from plait.options import meta as shapes
from plait.options.meta import Facts, describe, facts
from plait.options.values import Secret


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A part of a value that is not what was wanted; `at` is its place inside the value, "[1].name"."""

    at: str
    value: object
    expected: str


@dataclass(slots=True)
class Reading:
    """One conversion: where it stands, and what did not fit so far."""

    mismatches: list[Mismatch] = field(default_factory=list)

    def wrong(self, at: str, value: object, expected: str) -> None:
        self.mismatches.append(Mismatch(at, value, expected))


def convert(value: object, annotation: Any) -> tuple[Any, list[Mismatch]]:
    """The value as the annotation wants it, and all that kept it from fitting."""
    reading = Reading()
    result = _read(value, annotation, "", reading)
    return result, reading.mismatches


def _read(value: object, annotation: Any, at: str, reading: Reading) -> Any:
    here = facts(annotation)
    before = len(reading.mismatches)
    result = _read_base(value, here, annotation, at, reading)
    if len(reading.mismatches) == before and not _long_enough(result, here):
        reading.wrong(at, value, describe(annotation))
    return result


def _read_base(value: object, here: Facts, annotation: Any, at: str, reading: Reading) -> Any:
    base = here.base
    if base is Any or base is object:
        return value
    if base is None or base is type(None) or shapes.union_members(base)[:1] != (base,):
        return _read_union(value, here, annotation, at, reading)
    if isinstance(base, type) and issubclass(base, msgspec.Struct):
        return _read_struct(value, base, at, reading)
    if shapes.list_type(base) is not None:
        return _read_list(value, here, annotation, at, reading)
    if shapes.is_table(base):
        return _read_table(value, here, annotation, at, reading)
    return _read_leaf(value, here, annotation, at, reading)


def _read_union(value: object, here: Facts, annotation: Any, at: str, reading: Reading) -> Any:
    members = shapes.union_members(here.base)
    nothing = shapes.is_optional(annotation)
    if value is None and nothing:
        return None
    # Text is tried as every other type first, else a `int | str` would never be a number.
    for member in sorted(members, key=lambda member: facts(member).base is str):
        trial = Reading()
        result = _read(value, _limited(member, here), at, trial)
        if not trial.mismatches:
            return result
    if nothing and isinstance(value, str) and value.lower() in ("null", "none"):
        return None
    if len(members) == 1:
        return _read(value, _limited(members[0], here), at, reading)
    reading.wrong(at, value, describe(annotation))
    return None


def _limited(member: Any, here: Facts) -> Any:
    # The limits of `Annotated[int | None, Meta(ge=1)]` are those of its int.
    return Annotated[member, here.meta] if here.meta.limits() else member


def _read_struct(value: object, struct: type[msgspec.Struct], at: str, reading: Reading) -> Any:
    if isinstance(value, struct):
        return value
    value = _from_json(value)
    if not isinstance(value, Mapping):
        reading.wrong(at, value, f"a table of {struct.__name__}")
        return None
    before = len(reading.mismatches)
    known = {part.name: part for part in msgspec.structs.fields(struct)}
    for key in value:
        if key not in known:
            reading.wrong(f"{at}.{key}", "", unknown_key(str(key), known))
    arguments = {}
    for name, part in known.items():
        if name in value:
            arguments[name] = _read(value[name], part.type, f"{at}.{name}", reading)
        elif part.required:
            reading.wrong(f"{at}.{name}", "", f"missing: {describe(part.type)} is required")
    if len(reading.mismatches) > before:
        return None
    try:
        return struct(**arguments)
    except (ValueError, TypeError) as error:  # the class's own check, in __post_init__
        reading.wrong(at, "", str(error))
        return None


def _read_list(value: object, here: Facts, annotation: Any, at: str, reading: Reading) -> Any:
    value = _from_json(value)
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Collection):
        hint = '; in a variable or --set, JSON such as ["a", "b"]' if isinstance(value, str) else ""
        reading.wrong(at, value, describe(annotation) + hint)
        return None
    types = shapes.item_types(here.base)
    if shapes.is_fixed(here.base):
        if len(value) != len(types):
            reading.wrong(at, value, f"exactly {len(types)} items")
            return None
    else:
        types = types * len(value)
    items = [_read(item, kind, f"{at}[{i}]", reading) for i, (item, kind) in enumerate(zip(value, types, strict=True))]
    make = shapes.list_type(here.base)
    assert make is not None
    try:
        return make(items)
    except TypeError:  # a set of what cannot be hashed
        reading.wrong(at, value, describe(annotation))
        return None


def _read_table(value: object, here: Facts, annotation: Any, at: str, reading: Reading) -> Any:
    value = _from_json(value)
    if not isinstance(value, Mapping):
        hint = "; in a variable or --set, a JSON object" if isinstance(value, str) else ""
        reading.wrong(at, value, describe(annotation) + hint)
        return None
    key_type, item_type = shapes.item_types(here.base)
    return {
        _read(key, key_type, f"{at}.{key}", reading): _read(item, item_type, f"{at}.{key}", reading)
        for key, item in value.items()
    }


def _from_json(value: object) -> object:
    """What a JSON text means; text that is none stays, and is then refused for being text."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def _long_enough(value: object, here: Facts) -> bool:
    """Whether a collection, or another thing that msgspec does not measure, has the length asked for."""
    if here.base in (int, float, str) or isinstance(value, int | float):
        return True
    limits: dict[str, float] = here.meta.limits()
    text = value.reveal() if isinstance(value, Secret) else value
    if not hasattr(text, "__len__"):
        return True
    return limits.get("min_length", 0) <= len(text) <= limits.get("max_length", math.inf)


def _read_leaf(value: object, here: Facts, annotation: Any, at: str, reading: Reading) -> Any:
    try:
        return _leaf(value, here)
    except (ValueError, TypeError, OverflowError):
        reading.wrong(at, value, describe(annotation))
        return None


def _leaf(value: object, here: Facts) -> object:
    """A value without parts; raises ValueError, TypeError or OverflowError if it does not fit."""
    base = here.base
    if here.unit is not None:
        return _counted(value, here)
    if get_origin(base) is Literal:
        return _choice(value, get_args(base))
    if isinstance(base, type):
        if issubclass(base, enum.Enum):
            return _member(value, base)
        if base in (Secret, bool) or issubclass(base, pathlib.PurePath):
            return _made(value, base)
        if base not in (int, float, str) and isinstance(value, base):
            return value
    strict = not isinstance(value, str)
    return msgspec.convert(value, shapes.narrowed(base, here.meta), strict=strict, dec_hook=_refuse)


def _refuse(wanted: type, value: object) -> object:
    raise TypeError(f"{wanted.__name__} cannot be read from {type(value).__name__}")


def _counted(value: object, here: Facts) -> object:
    assert here.unit is not None
    number = here.unit.parse(value) if isinstance(value, str) else value
    number = msgspec.convert(number, shapes.narrowed(here.base, here.meta))
    if not (isinstance(number, int | float) and 0 <= number < math.inf):
        raise ValueError("negative or infinite")
    return number


def _choice(value: object, choices: tuple[object, ...]) -> object:
    for choice in choices:
        if value == choice and type(value) is type(choice):
            return choice
    for choice in choices:
        if isinstance(value, str) and value == str(choice):
            return choice
    raise ValueError("not among the choices")


def _member(value: object, kind: type[enum.Enum]) -> enum.Enum:
    members = list(kind)
    for member in members:
        if value is member or (type(value) is type(member.value) and value == member.value):
            return member
    if isinstance(value, str):
        for text in (str.__str__, str.lower):
            for member in members:
                if text(value) in (text(str(member.value)), text(member.name)):
                    return member
    raise ValueError("no such member")


_YES = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def _made(value: object, base: type) -> object:
    if isinstance(value, base):
        return value
    if not isinstance(value, str):
        raise TypeError("not text")
    if base is bool:
        if value.lower() not in _YES:
            raise ValueError("not a truth value")
        return _YES[value.lower()]
    return base(value)


def unknown_key(key: str, known: Collection[str]) -> str:
    """What to say of a key that nobody knows: the nearest there is, else all there are."""
    if close := nearest(key, known):
        return f"unknown; did you mean {close!r}?"
    return "unknown; known are " + ", ".join(sorted(known)) if known else "unknown; there are none"


def nearest(word: str, known: Collection[str]) -> str | None:
    """The known word most like this one, if any is; a dash and an underscore are the same here."""
    import difflib

    alike = {one.replace("-", "_"): one for one in known}
    close = difflib.get_close_matches(word.replace("-", "_"), list(alike), n=1)
    return alike[close[0]] if close else None
