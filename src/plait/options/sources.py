"""Where values come from: files and variables; each value with the place it was given.

A source knows nothing of types: it says which field was given which text or TOML value, and where. What it
cannot make sense of (an unknown key, a file that cannot be read or parsed) is a Problem.
The value of a key that is not known is never shown: it may be a misspelt password.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from plait.errors import OptionsError, Problem
from plait.options.convert import unknown_key
from plait.options.schema import Field, Schema


class SourceKind(enum.Enum):
    """The kinds of source, the weakest first."""

    DEFAULT = "default"
    FILE = "file"
    ENV_FILE = "env file"
    ENVIRONMENT = "environment"
    COMMAND_LINE = "command line"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value came from: `place` is a file (or nothing), `name` the key, variable or flag in it."""

    kind: SourceKind
    place: str = ""
    name: str = ""
    via: str = ""  # the variables that a text in a file names

    def __str__(self) -> str:
        match self.kind:
            case SourceKind.DEFAULT:
                return "default"
            case SourceKind.FILE:
                return f"{self.place} {_under_table(self.name)}" + (f" ({self.via})" if self.via else "")
            case SourceKind.ENVIRONMENT:
                return f"environment {self.name}" + (f" ({self.place})" if self.place else "")
            case SourceKind.ENV_FILE:
                return f"{self.place} {self.name}"
        return self.name

    @property
    def in_error(self) -> str:
        """The source as an error names it: the key itself is named beside it."""
        if self.kind is SourceKind.FILE:
            table = self.name.rpartition(".")[0]
            return f"{self.place} [{table}]" if table else self.place
        return self.name if self.kind is SourceKind.ENVIRONMENT else str(self)


DEFAULT = Source(SourceKind.DEFAULT)


def _under_table(key: str) -> str:
    table, _, name = key.rpartition(".")
    return f"[{table}] {name}" if table else name


@dataclass(frozen=True, slots=True)
class Given:
    """One value as it was given, before any conversion."""

    key: str
    value: object
    source: Source


@dataclass(slots=True)
class Found:
    """What the sources gave, later ones above earlier ones, and what was wrong with them."""

    values: dict[str, Given] = field(default_factory=dict)
    present: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    def give(self, key: str, value: object, source: Source) -> None:
        self.values[key] = Given(key, value, source)
        self.present.update(_groups_above(key))

    def problem(self, source: str, key: str, expected: str, value: str = "") -> None:
        self.problems.append(Problem(source, key, value, expected))


def _groups_above(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


Read = Callable[[Path], bytes]


def read_bytes(path: Path) -> bytes:
    """The file's bytes, from disk."""
    return path.read_bytes()


def read_input(path: Path, asked_by: str, read: Read) -> bytes:
    """The bytes of a file that somebody named; raises OptionsError with one line if it cannot be read."""
    try:
        return read(path)
    except FileNotFoundError:
        said = "no such file"
    except OSError as error:
        said = f"cannot be read: {error.strerror or error}"
    except ValueError as error:  # a NUL in the name
        said = f"cannot be read: {error}"
    raise OptionsError([Problem(asked_by, str(path), "", said)])


def parse_file(path: Path, data: bytes, place: str | None = None) -> dict[str, object]:
    """The tables of a TOML file, or the objects of a JSON file; raises OptionsError with line and column.

    `place` is what errors call the file; its path, if left out.
    """
    try:
        text = data.decode("utf-8-sig")
        return _parse_json(text) if path.suffix == ".json" else _parse_toml(text)
    except RecursionError:
        said = "nested too deeply"
    except UnicodeDecodeError as error:
        said = f"byte {error.start}: not UTF-8"
    except ValueError as error:
        said = str(error)
    where, _, words = said.rpartition(": ")
    raise OptionsError([Problem(place or str(path), where or "content", "", words)])


def _parse_toml(text: str) -> dict[str, object]:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, _, place = str(error).rpartition(" (at ")
        raise ValueError(f"{place.rstrip(')')}: {message.replace(': ', ', ')} (this is not valid TOML)") from None


def _parse_json(text: str) -> dict[str, object]:
    import json

    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"line {error.lineno}, column {error.colno}: {error.msg.rstrip(':')} (this is not valid JSON)"
        ) from None
    if not isinstance(data, dict):
        raise ValueError("a JSON object was expected")
    return data


def runner_table(path: Path, *, read: Read = read_bytes) -> dict[str, object]:
    """The table [plait] of a file: the runner's own options, not the application's.

    Raises OptionsError if the file cannot be read or parsed, or if `plait` is no table in it.
    """
    table = parse_file(path, read_input(path, "[plait]", read)).get("plait", {})
    if not isinstance(table, dict):
        raise OptionsError([Problem(str(path), "plait", "", "expected a table: it holds the runner's options")])
    return table


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that options are read from, apart from the class: the same inputs give equal options.

    `argv` is the command line after the target; its --config and --env-file win over `config` and `env_file`.
    `sets` are texts "key=value", below those of argv. `runner_flags` names the runner's own options, for the
    error about one in the wrong place. `read` gives a file's bytes (of a frozen snapshot, in a worker).
    """

    argv: Sequence[str] = ()
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    config: str | os.PathLike[str] | None = None
    env_file: str | os.PathLike[str] | None = None
    sets: Sequence[str] = ()
    runner_flags: Collection[str] = ()
    read: Read = read_bytes


# -- files ---------------------------------------------------------------------------------------------------


def take_file(found: Found, schema: Schema, path: Path, data: Mapping[str, object]) -> None:
    """The values of a configuration file; its table [plait] is the runner's."""
    rest = {key: value for key, value in data.items() if key != "plait"}
    take_table(found, schema, rest, lambda key: Source(SourceKind.FILE, str(path), key))


def take_table(
    found: Found,
    schema: Schema,
    table: Mapping[str, object],
    source: Callable[[str], Source],
    above: str = "",
) -> None:
    """The values of nested tables; `source` says where the value of a dotted key stands."""
    for name, value in table.items():
        key = above + str(name)
        if key in schema.fields:
            found.give(key, value, source(key))
        elif key not in schema.groups:
            found.problem(source(key).in_error, key, unknown_key(str(name), _names(schema, above)))
        elif isinstance(value, Mapping):
            found.present.update((key, *_groups_above(key)))
            take_table(found, schema, value, source, key + ".")
        elif not (value is None and schema.groups[key].optional):
            found.problem(source(key).in_error, key, "expected a table")


def _names(schema: Schema, above: str) -> set[str]:
    """The names of fields and groups that stand directly in this group."""
    keys = (*schema.fields, *schema.groups)
    return {key.removeprefix(above).partition(".")[0] for key in keys if key.startswith(above)}


# -- variables -----------------------------------------------------------------------------------------------


def take_variables(
    found: Found, schema: Schema, variables: Mapping[str, str], kind: SourceKind, place: str, read: Read
) -> None:
    """The values of environment variables, or of those in an env file; NAME_FILE is read for a secret."""
    for one in schema.fields.values():
        text, file = variables.get(one.variable), None
        if one.secret:
            file = variables.get(one.variable + "_FILE")
        if text is not None and file is not None:
            found.problem(one.variable, one.key, f"both {one.variable} and {one.variable}_FILE are set; keep one")
        elif text is not None:
            found.give(one.key, text, Source(kind, place, one.variable))
        elif file is not None:
            _take_secret_file(found, one, kind, file, read)
    _note_near_misses(found, schema, variables)


def _take_secret_file(found: Found, one: Field, kind: SourceKind, file: str, read: Read) -> None:
    variable = one.variable + "_FILE"
    try:
        text = read_input(Path(file), variable, read).decode()
    except OptionsError as error:
        found.problems += error.problems
    except UnicodeDecodeError:
        found.problem(variable, file, "not UTF-8")
    else:
        found.give(one.key, text.removesuffix("\n").removesuffix("\r"), Source(kind, file, variable))


def _note_near_misses(found: Found, schema: Schema, variables: Mapping[str, str]) -> None:
    # Not an error: the prefix may be shared (Kubernetes sets ECHO_PORT_80_TCP for a service named echo).
    import difflib

    known = schema.variables()
    for name in sorted(variables):
        if schema.prefix and name.startswith(schema.prefix) and name not in known:
            for close in difflib.get_close_matches(name, known, n=1, cutoff=0.9):
                found.notes.append(f"variable {name} is no option and was ignored; did you mean {close}?")
