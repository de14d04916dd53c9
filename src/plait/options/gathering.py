"""All sources read and all values converted, before the options are made of them.

Only the value that wins is converted; a key nobody knows is an error wherever it stands. Nothing is raised:
every problem is collected, so that a starting file can be written of what is known.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plait.errors import OptionsError, Problem
from plait.options import meta as shapes
from plait.options.arguments import NO_OPTIONS, Arguments, parse_arguments, take_arguments
from plait.options.convert import convert
from plait.options.dotenv import parse_env_file
from plait.options.schema import Field, Schema, is_model, schema_of
from plait.options.sources import (
    DEFAULT,
    Found,
    Given,
    Inputs,
    Read,
    Source,
    SourceKind,
    parse_file,
    read_input,
    take_file,
    take_table,
    take_variables,
)
from plait.options.values import MASK


@dataclass(slots=True)
class Gathered:
    """All values, converted, before the options are made of them.

    `problems` is everything wrong with what was given, `missing` what was not given and has no default.
    """

    schema: Schema | None
    found: Found
    values: dict[str, object] = field(default_factory=dict, repr=False)
    problems: list[Problem] = field(default_factory=list)
    missing: list[Problem] = field(default_factory=list)

    @property
    def provenance(self) -> dict[str, Source]:
        return {key: self.source(key) for key in self.values}

    def source(self, key: str) -> Source:
        given = self.found.values.get(key)
        return given.source if given else DEFAULT

    def is_absent(self, key: str) -> bool:
        """Whether a group stays None, or its default, because nothing of it was given."""
        assert self.schema is not None
        group = self.schema.groups[key]
        return group.optional and key not in self.found.present


def gather(cls: type | None, inputs: Inputs) -> Gathered:
    """Everything the sources give for this class (None: an application without options), converted."""
    schema = schema_of(cls) if cls is not None else None
    reading = schema or Schema(type(None), "")
    found = Found()
    arguments = parse_arguments([*_as_flags(inputs.sets), *inputs.argv], schema, runner_flags=inputs.runner_flags)
    found.problems += arguments.problems
    _take_config(found, reading, arguments.config or inputs.config, inputs.read, schema is None)
    place, variables = env_file_variables(found, arguments, inputs)
    take_variables(found, reading, variables, SourceKind.ENV_FILE, place, inputs.read)
    take_variables(found, reading, inputs.environ, SourceKind.ENVIRONMENT, "", inputs.read)
    take_arguments(found, reading, arguments)
    gathered = Gathered(schema, found, problems=found.problems)
    if schema is not None:
        _convert_all(gathered, schema, _missing)
    return gathered


def _as_flags(sets: Sequence[str]) -> list[str]:
    return [f"--set={text}" for text in sets]


def _take_config(found: Found, schema: Schema, config: str | os.PathLike[str] | None, read: Read, refuse: bool) -> None:
    if config is None:
        return
    path = Path(config)
    try:
        data = found.files[str(path)] = read_input(path, "--config", read)
        tables = parse_file(path, data)
    except OptionsError as error:
        found.problems += error.problems
        return
    if not refuse:
        take_file(found, schema, path, tables)
        return
    for key in tables:
        if key != "plait":
            found.problem(str(path), key, NO_OPTIONS)


def env_file_variables(found: Found, arguments: Arguments, inputs: Inputs) -> tuple[str, dict[str, str]]:
    """The env file's name and its variables; what is wrong with it becomes problems."""
    named = arguments.env_file or inputs.env_file
    if named is None:
        return "", {}
    path = Path(named)
    try:
        data = found.files[str(path)] = read_input(path, "--env-file", inputs.read)
        return str(path), parse_env_file(str(path), data)
    except OptionsError as error:
        found.problems += error.problems
        return str(path), {}


def gather_table(schema: Schema, table: Mapping[str, object], source: Callable[[str], Source]) -> Gathered:
    """What one table gives for this schema, converted; `source` says where the value of a key stands."""
    found = Found()
    take_table(found, schema, table, source)
    gathered = Gathered(schema, found, problems=found.problems)
    _convert_all(gathered, schema, lambda one: _missing_in(one, source(one.key)))
    return gathered


def _missing_in(one: Field, source: Source) -> Problem:
    return Problem(source.in_error, one.key, "", f"missing: {shapes.describe(one.annotation)} is required")


def _convert_all(gathered: Gathered, schema: Schema, missing: Callable[[Field], Problem]) -> None:
    for one in schema.fields.values():
        if _in_absent_group(gathered, schema, one.path):
            continue
        given = gathered.found.values.get(one.key)
        if given is not None:
            convert_given(gathered, one, given, is_model(schema.cls))
        elif one.default is None:
            gathered.missing.append(missing(one))
        elif schema.checks_defaults:
            convert_given(gathered, one, Given(one.key, one.default(), DEFAULT))
        else:
            gathered.values[one.key] = one.default()


def _in_absent_group(gathered: Gathered, schema: Schema, path: tuple[str, ...]) -> bool:
    keys = (".".join(path[:i]) for i in range(1, len(path)))
    return any(gathered.is_absent(key) for key in keys)


def convert_given(gathered: Gathered, one: Field, given: Given, by_model: bool = False) -> None:
    """Converts one value; a pydantic model converts its own, all that is done for it is to read JSON."""
    if by_model:
        gathered.values[one.key] = _for_model(one, given.value)
        return
    value, mismatches = convert(given.value, one.annotation)
    for wrong in mismatches:
        shown = MASK if one.secret and wrong.value != "" else show_given(wrong.value)
        gathered.problems.append(Problem(given.source.in_error, one.key + wrong.at, shown, _expected(wrong.expected)))
    if not mismatches:
        gathered.values[one.key] = value


def _expected(words: str) -> str:
    return words if words.startswith(("unknown", "missing")) else f"expected {words}"


def _for_model(one: Field, value: object) -> object:
    if isinstance(value, str) and (one.is_list or one.is_table):
        return convert(value, list[Any] if one.is_list else dict[str, Any])[0] or value
    return value


def show_given(value: object) -> str:
    """A value as an error shows it: short, and text in quotes."""
    if value == "" or value is None:
        return ""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _missing(one: Field) -> Problem:
    """The problem of a value that must be given: the ways to give it."""
    name = Source(SourceKind.FILE, "", one.key)
    ways = f"give {one.flag}, or {one.variable}, or{name} in a --config file"
    return Problem("missing", one.key, "", f"{shapes.describe(one.annotation)} is required; {ways}")
