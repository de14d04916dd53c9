"""Options for people: the help, the table of values with their sources, a file to start from.

A starting file, read back, gives the options it was written from: what cannot be written (a secret, nothing)
stands in it as a comment, and so does what is required and not yet given.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from plait.errors import UsageError
from plait.options import meta as shapes
from plait.options.dotenv import quote
from plait.options.gathering import Gathered, gather
from plait.options.resolving import Row
from plait.options.schema import Field, Schema, first_line, schema_of
from plait.options.sources import Inputs
from plait.options.text import shown, to_plain, toml_value

_RESERVED_FLAGS = (
    ("--config FILE", "read values from a TOML or JSON file"),
    ("--env-file FILE", "read variables from a file, below the environment"),
    ("--set KEY=VALUE", "set any option by its dotted key; lists and tables as JSON"),
    ("--help", "show this and exit"),
)


def render_help(cls: type | None, *, width: int = 80) -> str:
    """The help of an options class: each flag with its type, description, default and variable."""
    if cls is None:
        return "This application has no options.\n"
    schema = schema_of(cls)
    blocks = [render_entries(_help_rows(schema, ""), width)]
    for key, group in schema.groups.items():
        said = first_line(group.cls)
        heading = f"[{key}]" + (f" {said}" if said else "") + (" (optional)" if group.optional else "")
        blocks.append(f"{heading}\n{render_entries(_help_rows(schema, key + '.'), width)}")
    blocks.append(render_entries(_RESERVED_FLAGS, width))
    return "\n".join(block for block in blocks if block)


def _help_rows(schema: Schema, above: str) -> Iterator[tuple[str, str]]:
    for one in schema.fields.values():
        if one.key.rpartition(".")[0] == above.rstrip("."):
            yield _left(one), _right(one)


def _left(one: Field) -> str:
    if one.is_switch:
        return " / ".join(one.flags())
    return f"{one.flag} {shapes.kind_of(one.annotation)}" + (" …" if one.is_list or one.is_table else "")


def _right(one: Field) -> str:
    facts = [f"variable: {one.variable}"]
    facts.insert(0, "required" if one.default is None else f"default: {shown(one.default(), one.annotation)}")
    if one.examples:
        facts.append("such as " + ", ".join(shown(example, one.annotation) for example in one.examples))
    limits = shapes.describe(one.annotation)
    words = one.description or limits
    if one.description and shapes.plain(one.annotation).meta.limits():
        words += f" ({limits})"
    return f"{words} [{'; '.join(facts)}]"


def render_entries(rows: Iterable[tuple[str, str]], width: int) -> str:
    """Two columns; a left side too wide for its column has a line to itself."""
    rows = list(rows)
    column = min(max((len(left) for left, _ in rows), default=0), 28) + 4
    lines = []
    for left, right in rows:
        wrapped = textwrap.wrap(right, max(width - column, 20), break_long_words=False, break_on_hyphens=False) or [""]
        if len(left) + 4 > column:
            lines.append(f"  {left}")
        else:
            lines.append(f"  {left}".ljust(column) + wrapped.pop(0))
        lines += [" " * column + line for line in wrapped]
    return "".join(line.rstrip() + "\n" for line in lines)


def render_table(rows: Iterable[Row]) -> str:
    """Key, value and source of every option, in columns; ends with a newline, empty if there are none."""
    lines = [(row.key, row.value, str(row.source)) for row in rows]
    wide = [min(max((len(line[i]) for line in lines), default=0), 48) for i in (0, 1)]
    return "".join(f"{key:<{wide[0]}}  {value:<{wide[1]}}  {source}\n" for key, value, source in lines)


FORMATS = ("toml", "json", "env")


def starting_file(cls: type, format: str, gathered: Gathered | None = None) -> str:
    """A file for `--config` (toml, json) or `--env-file` (env), of the values gathered, else of the defaults.

    Secrets are never written. Raises UsageError for a format that is not among FORMATS.
    """
    gathered = gathered or gather(cls, Inputs(environ={}))
    if format not in _WRITERS:
        raise UsageError(f"there is no format {format!r}; choose one of {', '.join(FORMATS)}")
    assert gathered.schema is not None
    return _WRITERS[format](gathered, gathered.schema)


def _plain_value(gathered: Gathered, one: Field) -> Any:
    """The value to write. Raises ValueError if none can or may be written."""
    if one.secret or gathered.values.get(one.key) is None:
        raise ValueError("not to be written")
    return to_plain(gathered.values[one.key], one.annotation)


def _note(one: Field) -> str:
    """What the comment above a value says."""
    words = (
        f"{one.description} ({shapes.describe(one.annotation)})" if one.description else shapes.describe(one.annotation)
    )
    return ("required: " if one.default is None else "") + words


def _comment(text: str) -> str:
    return "".join(f"# {line}\n" for line in text.splitlines())


def _assignment(gathered: Gathered, one: Field, name: str, write: Callable[[Any], str], equals: str) -> str:
    """The comment and the line that gives the value; a comment as well if there is none to write."""
    try:
        line = f"{name}{equals}{write(_plain_value(gathered, one))}\n"
    except ValueError:
        line = f"# {name}{equals}\n".replace(" \n", "\n")
    return _comment(_note(one)) + line


def _as_toml(gathered: Gathered, schema: Schema) -> str:
    blocks = [_comment(schema.description)] if schema.description else []
    blocks += _toml_fields(gathered, schema, "")
    for key, group in schema.groups.items():
        said = first_line(group.cls)
        table = [(_comment(said) if said else "") + f"[{key}]\n", *_toml_fields(gathered, schema, key)]
        blocks += [_all_comment(block) for block in table] if _is_none(gathered, schema, key) else table
    return "\n".join(blocks)


def _is_none(gathered: Gathered, schema: Schema, key: str) -> bool:
    above = ("." + key).rpartition(".")[0].lstrip(".")
    return gathered.is_absent(key) or (bool(above) and _is_none(gathered, schema, above))


def _toml_fields(gathered: Gathered, schema: Schema, group: str) -> list[str]:
    return [
        _assignment(gathered, one, one.path[-1], toml_value, " = ")
        for one in schema.fields.values()
        if ".".join(one.path[:-1]) == group
    ]


def _all_comment(block: str) -> str:
    return "".join(line if line.startswith("#") else f"# {line}" for line in block.splitlines(keepends=True))


def _as_env(gathered: Gathered, schema: Schema) -> str:
    blocks = [_comment(schema.description)] if schema.description else []
    blocks += [_assignment(gathered, one, one.variable, _env_value, "=") for one in schema.fields.values()]
    return "\n".join(blocks)


def _env_value(value: Any) -> str:
    return quote(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _as_json(gathered: Gathered, schema: Schema) -> str:
    tables: dict[str, Any] = {}
    for one in schema.fields.values():
        try:
            value = _plain_value(gathered, one)
        except ValueError:
            if one.default is not None or _in_absent(gathered, schema, one):
                continue
            value = None  # required: null is refused when it is read, by name
        table = tables
        for name in one.path[:-1]:
            table = table.setdefault(name, {})
        table[one.path[-1]] = value
    return json.dumps(tables, indent=2, ensure_ascii=False) + "\n"


def _in_absent(gathered: Gathered, schema: Schema, one: Field) -> bool:
    group = ".".join(one.path[:-1])
    return bool(group) and _is_none(gathered, schema, group)


_WRITERS: dict[str, Callable[[Gathered, Schema], str]] = {"toml": _as_toml, "json": _as_json, "env": _as_env}
