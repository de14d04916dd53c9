"""Values as text: for people (`shown`), and for files that are read back (`to_plain`, `toml_value`).

What a file gets is read back as an equal value. What cannot or must not be written (None, a secret, a type
that has no text) raises ValueError, and stands as a comment in a starting file.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import pathlib
from collections.abc import Mapping, Set
from typing import Any

import msgspec

from plait.options import meta as shapes
from plait.options.meta import holds_secret, plain
from plait.options.values import MASK, Secret


def shown(value: object, annotation: Any) -> str:
    """The value for a table or a help text, on one line; secrets masked, durations and sizes with units."""
    if value is None:
        return "none"
    if holds_secret(annotation):
        return MASK
    try:
        plain_value = to_plain(value, annotation)
    except ValueError:
        return repr(value)
    return _one_line(plain_value) if isinstance(plain_value, str) else json.dumps(plain_value, ensure_ascii=False)


def _one_line(text: str) -> str:
    return text if text.isprintable() and text == text.strip() and text else json.dumps(text, ensure_ascii=False)


def to_plain(value: object, annotation: Any) -> Any:
    """The value as text, numbers, booleans, lists and tables, which convert back to it.

    Raises ValueError for a secret, for None, and for what has no such form.
    """
    here = plain(annotation)
    if here.meta.secret or isinstance(value, Secret):
        raise ValueError("secret")
    if here.unit is not None and isinstance(value, int | float) and math.isfinite(value):
        return here.unit.format(value)
    if isinstance(value, enum.Enum):
        return shapes.member_text(value)
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        item = shapes.item_types(here.base)[-1] if shapes.is_table(here.base) else Any
        return {str(key): to_plain(one, item) for key, one in value.items()}
    if isinstance(value, list | tuple | Set):
        return _plain_list(value, here.base)
    return _plain_object(value)


def _plain_list(values: list[Any] | tuple[Any, ...] | Set[Any], base: Any) -> list[Any]:
    types = shapes.item_types(base) if shapes.list_type(base) is not None else (Any,)
    if len(types) == 1:
        types = types * len(values)
    items = [to_plain(one, kind) for one, kind in zip(values, types, strict=True)]
    return sorted(items, key=str) if isinstance(values, Set) else items


def _plain_object(value: object) -> Any:
    if isinstance(value, pathlib.PurePath):
        return str(value)
    if isinstance(value, msgspec.Struct):
        parts = msgspec.structs.fields(type(value))
        return {part.name: to_plain(getattr(value, part.name), part.type) for part in parts if _is_said(value, part)}
    if dataclasses.is_dataclass(value) or value is None:
        raise ValueError("has no text")
    try:
        made = msgspec.to_builtins(value)
    except TypeError:
        made = str(value)
    if not isinstance(made, str | int | float):
        raise ValueError("has no text")
    return made


def _is_said(value: object, part: msgspec.structs.FieldInfo) -> bool:
    return getattr(value, part.name) is not None


def toml_value(value: Any) -> str:
    """A plain value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return toml_text(value)
    if isinstance(value, int | float):
        return repr(value)  # TOML spells inf and nan as Python does
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{toml_key(key)} = {toml_value(one)}" for key, one in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return "[" + ", ".join(map(toml_value, value)) + "]"


def toml_text(text: str) -> str:
    # JSON's escapes are TOML's, but TOML wants DEL escaped as well.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_key(key: str) -> str:
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if bare else toml_text(key)
