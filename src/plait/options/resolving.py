"""From sources to options: default < file < env file < environment < command line, with provenance.

Only the value that wins is converted; a key nobody knows is an error wherever it stands. Every error is
collected. A group is made from its fields; one that may be None is None unless something of it was given.
Resolving reads the files it is told of and touches nothing else; the same inputs give equal options.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plait.errors import OptionsError
from plait.options.arguments import parse_arguments
from plait.options.gathering import Gathered, gather
from plait.options.make import make
from plait.options.schema import schema_of
from plait.options.sources import Inputs, Read, Source, read_bytes
from plait.options.text import shown


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of options: the value as text, masked if it is secret, and its source."""

    key: str
    value: str
    source: Source


@dataclass(frozen=True, slots=True)
class Resolved:
    """Options that fit, and where each value came from.

    `options` is the instance (None for an application without options), `provenance` has a Source for every
    dotted key, `rows` the same for people, secrets masked. `notes` are warnings worth a line each, `files`
    the bytes of every file that was read (but not of files of secrets), by path as it was given.
    """

    options: Any
    provenance: Mapping[str, Source]
    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)  # may hold secrets


def resolve(
    cls: type | None,
    argv: Sequence[str] = (),
    *,
    environ: Mapping[str, str] | None = None,
    config: str | os.PathLike[str] | None = None,
    env_file: str | os.PathLike[str] | None = None,
    sets: Sequence[str] = (),
    runner_flags: Collection[str] = (),
    read: Read = read_bytes,
) -> Resolved:
    """An instance of the options class, with the source of every value.

    The sources are as in `Inputs`; `environ` is os.environ if left out. Raises OptionsError with every
    problem there is, and TypeError if the class itself cannot work (a pydantic model with a reserved name).
    """
    environ = os.environ if environ is None else environ
    return finish(gather(cls, Inputs(argv, environ, config, env_file, sets, runner_flags, read)))


def wants_help(cls: type | None, argv: Sequence[str]) -> bool:
    """Whether this command line asks for --help; nothing else of it is looked at."""
    return parse_arguments(argv, schema_of(cls) if cls is not None else None).help


def finish(gathered: Gathered) -> Resolved:
    """The second half of `resolve`: makes the options. Raises OptionsError if anything was wrong."""
    problems = gathered.problems + gathered.missing
    options = None
    if not problems and gathered.schema is not None:
        options = make(gathered, gathered.schema.cls, problems)
    if problems:
        raise OptionsError(problems)
    return Resolved(
        options,
        gathered.provenance,
        tuple(rows_of(gathered, options)),
        tuple(gathered.found.notes),
        gathered.found.files,
    )


def rows_of(gathered: Gathered, options: object) -> list[Row]:
    """A row for every value in force, in the order of declaration."""
    rows = []
    for key in gathered.values:
        assert gathered.schema is not None
        one = gathered.schema.fields[key]
        value = _value_in(options, one.path)
        rows.append(Row(key, shown(value, one.annotation), gathered.source(key)))
    return rows


def _value_in(options: object, path: Sequence[str]) -> object:
    value = options
    for name in path:
        value = getattr(value, name, None)
    return value
