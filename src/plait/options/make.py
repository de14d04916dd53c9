"""The options made of the values gathered: an instance of an Options class, or of a pydantic model.

A group is made from its fields; one that may be None is None unless something of it was given. What a class
itself objects to, in `__post_init__` or a validator, is a problem like the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from plait.errors import Problem
from plait.options.gathering import Gathered, show_given
from plait.options.schema import Part, Schema, is_model, parts_of
from plait.options.values import MASK, Secret


def make(gathered: Gathered, cls: Any, problems: list[Problem]) -> Any:
    """The options; None, with what was wrong added to `problems`, if the class objects to the values."""
    return (_make_model if is_model(cls) else _make)(gathered, cls, "", problems)


def _make(gathered: Gathered, cls: Any, above: str, problems: list[Problem]) -> Any:
    """An instance of this group, or None with what was wrong added to `problems`."""
    before = len(problems)
    arguments = arguments_of(gathered, parts_of(cls), above, problems)
    if len(problems) > before:
        return None
    try:
        return cls(**arguments)
    except (ValueError, TypeError) as error:
        said = masked(gathered, str(error))
        problems.append(Problem("options", above.rstrip(".") or cls.__name__, "", said))
        return None


def arguments_of(gathered: Gathered, parts: Iterable[Part], above: str, problems: list[Problem]) -> dict[str, Any]:
    """What to call a class or function with: the values of its fields, and its groups, made."""
    assert gathered.schema is not None
    arguments: dict[str, Any] = {}
    for part in parts:
        key = above + part.name
        group = gathered.schema.groups.get(key)
        if group is None:
            arguments[part.name] = gathered.values[key]
        elif gathered.is_absent(key):
            arguments[part.name] = group.default
        else:
            make_one = _make_model if is_model(group.cls) else _make
            arguments[part.name] = make_one(gathered, group.cls, key + ".", problems)
    return arguments


def _make_model(gathered: Gathered, cls: Any, above: str, problems: list[Problem]) -> Any:
    import pydantic

    try:
        return cls.model_validate(_model_data(gathered, cls, above))
    except pydantic.ValidationError as error:
        problems += _model_problems(gathered, cls, above, error)
        return None


def _model_data(gathered: Gathered, cls: Any, above: str) -> dict[str, Any]:
    """What was given, as pydantic takes it; its own defaults it puts in itself."""
    from plait.options.models import alias_of

    assert gathered.schema is not None
    data: dict[str, Any] = {}
    for part in parts_of(cls):
        key = above + part.name
        group = gathered.schema.groups.get(key)
        if group is not None and (key in gathered.found.present or (part.default is None and not group.optional)):
            data[alias_of(cls, part.name)] = _model_data(gathered, group.cls, key + ".")
        elif key in gathered.found.values or _of_default_group(gathered, key):
            data[alias_of(cls, part.name)] = gathered.values[key]
    return data


def _of_default_group(gathered: Gathered, key: str) -> bool:
    # `db: Db = Db(dsn="x")`: with only db.pool given, db.dsn is that of this instance, not of the class.
    assert gathered.schema is not None
    group = gathered.schema.groups.get(key.rpartition(".")[0])
    return group is not None and group.default is not None and key in gathered.values


def _model_problems(gathered: Gathered, cls: Any, above: str, error: Any) -> list[Problem]:
    from plait.options.models import errors_of

    return [_model_problem(gathered, cls, above, *one) for one in errors_of(error)]


def _model_problem(
    gathered: Gathered, cls: Any, above: str, place: tuple[str | int, ...], value: object, message: str
) -> Problem:
    assert gathered.schema is not None
    key, at = _field_at(gathered.schema, cls, above, place)
    one = gathered.schema.fields.get(key)
    if one is None:
        return Problem("options", key or cls.__name__, "", masked(gathered, message))
    source = gathered.source(key)
    shown = MASK if one.secret and value is not None else show_given(value)
    return Problem(source.in_error, key + at, shown, masked(gathered, message))


def masked(gathered: Gathered, message: str) -> str:
    """The class's own message, with every secret value that it shows masked."""
    assert gathered.schema is not None
    for key, value in gathered.values.items():
        text = value.reveal() if isinstance(value, Secret) else value
        if gathered.schema.fields[key].secret and isinstance(text, str) and text:
            message = message.replace(text, MASK)
    return message


def _field_at(schema: Schema, cls: Any, above: str, place: tuple[str | int, ...]) -> tuple[str, str]:
    """The dotted key that pydantic's location stands for, and what of the location lies inside the value."""
    from plait.options.models import name_of

    key = above.rstrip(".")
    for depth, step in enumerate(place):
        name = name_of(cls, str(step))
        longer = f"{key}.{name}" if key else name
        if longer in schema.fields:
            return longer, "".join(f"[{rest}]" if isinstance(rest, int) else f".{rest}" for rest in place[depth + 1 :])
        if longer not in schema.groups:
            break
        key, cls = longer, schema.groups[longer].cls
    return key, ""
