"""`${VAR}` in the strings of a file, and `--set` on its keys: what changes a file's values before they are read.

`${VAR}` is the variable, an error if it is not set; `${VAR:-default}` is the default if the variable is not set
or empty; `$${` is `${` itself. Keys are left alone. `--set` changes keys of services that are there, and
registers none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from plait.errors import Problem
from plait.options.convert import unknown_key
from plait.options.sources import Source, SourceKind

_VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{")


@dataclass(slots=True)
class Tables:
    """A file's tables, expanded and changed, and for each dotted key where its value comes from."""

    place: str
    data: dict[str, object]
    problems: list[Problem] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    expanded: dict[str, str] = field(default_factory=dict)

    def source(self, key: str) -> Source:
        """Where the value of a dotted key stands."""
        if key in self.changed:
            return Source(SourceKind.COMMAND_LINE, "", f"--set {key}")
        return Source(SourceKind.FILE, self.place, key, self.expanded.get(key, ""))

    def problem(self, key: str, expected: str, value: str = "") -> None:
        """Something wrong with the value of a dotted key."""
        name = key.rpartition(".")[2]
        self.problems.append(Problem(self.source(key).in_error, name, value, expected))


def expand(tables: Tables, variables: Mapping[str, str]) -> None:
    """Every string of the file with its variables put in; the names of what is not set become problems."""
    tables.data = {name: _expanded(tables, value, name, variables) for name, value in tables.data.items()}


def _expanded(tables: Tables, value: object, key: str, variables: Mapping[str, str]) -> object:
    if isinstance(value, dict):
        return {name: _expanded(tables, one, f"{key}.{name}", variables) for name, one in value.items()}
    if isinstance(value, list):
        return [_expanded(tables, one, key, variables) for one in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    used: list[str] = []

    def put_in(match: re.Match[str]) -> str:
        return _value(tables, match, key, variables, used)

    text = _VARIABLE.sub(put_in, value)
    if used:
        tables.expanded[key] = ", ".join(used)
    return text


def _value(tables: Tables, match: re.Match[str], key: str, variables: Mapping[str, str], used: list[str]) -> str:
    name, default = match[1], match[2]
    if match[0] == "$${":
        return "${"
    if name is None:
        tables.problem(key, "has a '${' that begins no ${VAR} or ${VAR:-default}; write $${ for the text itself")
        return ""
    used.append(f"${{{name}}}")
    if variables.get(name) or (name in variables and default is None):
        return variables[name]
    if default is None:
        tables.problem(key, f"variable {name} is not set; set it, or give a default: ${{{name}:-default}}")
    return default or ""


def change(tables: Tables, sets: Sequence[tuple[str, str]]) -> None:
    """Put the values of --set in their places; a key that leads nowhere is a problem that names the nearest."""
    for key, text in sets:
        parts = key.split(".")
        table = _table_for(tables, parts)
        if table is not None:
            table[parts[-1]] = text
            tables.changed.add(key)


def _table_for(tables: Tables, parts: list[str]) -> dict[str, object] | None:
    table = tables.data
    for depth, name in enumerate(parts[:-1]):
        if name not in table and _may_be_made(parts[: depth + 1]):
            table[name] = {}
        inner = table.get(name)
        if not isinstance(inner, dict):
            said = f"{name!r} is no table" if name in table else unknown_key(name, _names(table))
            tables.problems.append(Problem("--set", ".".join(parts), "", said))
            return None
        table = inner
    if len(parts) == 1 or parts[-2] == "services":
        said = "names a table; set one of its keys, as in --set services.NAME.options.KEY=VALUE"
        tables.problems.append(Problem("--set", ".".join(parts), "", said))
        return None
    return table


def _may_be_made(path: list[str]) -> bool:
    """Whether --set may make the table at this path: [application], a service's options, and tables in these."""
    if path == ["application"]:
        return True
    return any(name == "options" and path[at - 2] == "services" for at, name in enumerate(path) if at >= 2)


def _names(table: Mapping[str, object]) -> list[str]:
    return list(_tables_in(table)) or ["application", "services"]


def _tables_in(table: Mapping[str, object]) -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield name
