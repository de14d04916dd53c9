"""An application composed by a file: reading it, and checking everything that can be checked without building.

    [application]              name, version, strategy, shutdown_delay, shutdown_timeout
    [services.NAME]            use, needs, enabled, options, and every field of Policy
    [services.NAME.services.…] without a `use` above: a group, of services of its own

Only the file, its ${VAR} and --set give values: no prefixed variables, no flags, no --config. Every error names
the file, the table and the key, and all are collected. What a `use` names is imported here; a service that is not
enabled is left out with everything below it, and its `use` is not imported. tree.py builds what was read.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plait._kernel.group import Strategy, check_name
from plait._kernel.policy import DURATIONS, FIELDS, Policy
from plait.errors import OptionsError, Problem, UsageError
from plait.options.arguments import parse_arguments
from plait.options.convert import nearest, unknown_key
from plait.options.gathering import Gathered, env_file_variables, gather_table
from plait.options.resolving import Resolved, Row
from plait.options.schema import Part, constant_of, schema_of_parts
from plait.options.show import render_entries
from plait.options.sources import Found, Inputs, parse_file, read_input
from plait.options.text import shown
from plait.options.values import Duration
from plait.plugins.expand import Tables, change, expand
from plait.plugins.use import Use, annotation_in_words, find_use


@dataclass(slots=True)
class Entry:
    """One enabled table of services, read: what makes the service, with what, and how it stands in its group."""

    path: tuple[str, ...]
    settings: Gathered
    use: Use | None = None
    options: Gathered | None = None
    services: dict[str, Entry] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The dotted key of its table."""
        return "services." + ".services.".join(self.path)

    @property
    def needs(self) -> tuple[str, ...]:
        needs: Any = self.settings.values.get("needs", ())
        return tuple(needs)

    def named(self) -> dict[str, str]:
        """The parameters that take another service, with the name each was given."""
        if self.use is None or self.options is None:
            return {}
        values = self.options.values
        return {name: str(values[name]) for name in self.use.services if values.get(name) is not None}

    def policy(self) -> dict[str, Any]:
        """The fields of Policy that the table gives."""
        given, values = self.settings.found.values, self.settings.values
        return {name: values[name] for name in FIELDS if name in given and name in values}

    def walk(self) -> Iterator[Entry]:
        """This entry and all below it."""
        yield self
        for one in self.services.values():
            yield from one.walk()


@dataclass(slots=True, eq=False)
class Composition:
    """A file that was read and found right; tree.py makes its application, as often as it is asked to.

    Two are equal if their files say the same, with variables put in and --set applied.
    """

    path: Path
    tables: Tables
    settings: Gathered
    services: dict[str, Entry]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Composition):
            return NotImplemented
        return (self.path, self.tables.data) == (other.path, other.tables.data)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Composition {self.path}>"  # the data may hold secrets

    def entries(self) -> Iterator[Entry]:
        """Every enabled service and group, a group before what it holds."""
        for one in self.services.values():
            yield from one.walk()


def compose(path: Path, inputs: Inputs, place: str | None = None) -> Resolved:
    """The file's composition, with the source of every value; raises OptionsError with everything wrong in it.

    `place` is what errors call the file; its path, if left out.
    """
    found = Found()
    tables = _read(path, inputs, found, place or str(path))
    settings = _application(tables)
    disabled: set[tuple[str, ...]] = set()
    services = _services(tables, tables.data.get("services", {}), (), disabled)
    composition = Composition(path, tables, settings, services)
    for entry in composition.entries():
        _check_names(composition, entry, disabled)
    if problems := found.problems + tables.problems:
        raise OptionsError(problems)
    rows = tuple(_rows(composition))
    return Resolved(composition, {row.key: row.source for row in rows}, rows, (), found.files)


def _read(path: Path, inputs: Inputs, found: Found, place: str) -> Tables:
    because = f"does not apply to {path.name}, which gives the values itself; use --set services.NAME.options.KEY=VALUE"
    sets = [f"--set={text}" for text in inputs.sets]
    arguments = parse_arguments([*sets, *inputs.argv], None, runner_flags=inputs.runner_flags, none_because=because)
    found.problems += arguments.problems
    if arguments.config is not None or inputs.config is not None:
        found.problem("command line", "--config", because)
    data = found.files[str(path)] = read_input(path, "target", inputs.read)
    tables = Tables(place, parse_file(path, data, place))
    _, variables = env_file_variables(found, arguments, inputs)
    expand(tables, {**variables, **inputs.environ})
    change(tables, [(key, text) for _, key, text in arguments.given])
    _check_top(tables)
    return tables


_TOP = ("application", "services", "plait")


def _check_top(tables: Tables) -> None:
    for name, value in tables.data.items():
        if name not in _TOP:
            tables.problem(name, unknown_key(name, _TOP))
        elif not isinstance(value, dict):
            tables.problem(name, "expected a table")
            tables.data[name] = {}
    if not tables.data.get("services"):
        tables.problem("services", "missing: no table [services.NAME], so there is nothing to run")


# -- tables -------------------------------------------------------------------------------------------------------


def _policy_parts() -> Iterator[Part]:
    hints = typing.get_type_hints(Policy)
    for name in FIELDS:
        yield Part(name, Duration if name in DURATIONS else hints[name], constant_of(None))


def _application_parts() -> Iterator[Part]:
    yield Part("name", str | None, constant_of(None))
    yield Part("version", str | None, constant_of(None))
    yield Part("strategy", Strategy, constant_of("one_for_one"))
    yield Part("shutdown_delay", Duration, constant_of(0.0))
    yield Part("shutdown_timeout", Duration, constant_of(25.0))


def _service_parts() -> Iterator[Part]:
    yield Part("use", str | None, constant_of(None))
    yield Part("needs", list[str], constant_of([]))
    yield Part("enabled", bool, constant_of(True))
    yield Part("strategy", Strategy | None, constant_of(None))
    yield Part("options", dict[str, Any], constant_of({}))
    yield Part("services", dict[str, Any], constant_of({}))
    yield from _policy_parts()


def _table(tables: Tables, parts: Iterator[Part], data: Mapping[str, object], key: str) -> Gathered:
    """The table's values, converted; what is wrong in it is added to the file's problems."""
    gathered = gather_table(schema_of_parts(key, parts), data, lambda name: tables.source(f"{key}.{name}"))
    tables.problems += gathered.problems + gathered.missing
    return gathered


def _application(tables: Tables) -> Gathered:
    data: Any = tables.data.get("application", {})
    settings = _table(tables, _application_parts(), data, "application")
    name = settings.values.get("name")
    if name is not None:
        _check_name(tables, "application.name", name)
    return settings


def _check_name(tables: Tables, key: str, name: object) -> None:
    try:
        check_name(name)
    except ValueError as error:
        tables.problem(key, str(error))


def _services(tables: Tables, data: object, above: tuple[str, ...], disabled: set[tuple[str, ...]]) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for name, table in data.items() if isinstance(data, dict) else ():
        entry = _service(tables, table, (*above, name), disabled)
        if entry is not None:
            entries[name] = entry
    return entries


def _service(tables: Tables, table: object, path: tuple[str, ...], disabled: set[tuple[str, ...]]) -> Entry | None:
    key = "services." + ".services.".join(path)
    if not isinstance(table, dict):
        tables.problem(key, "expected a table: a service has at least `use`")
        return None
    _check_name(tables, key, path[-1])
    entry = Entry(path, _table(tables, _service_parts(), table, key))
    if entry.settings.values.get("enabled") is False:
        disabled.add(path)
        return None
    _check_policy(tables, entry)
    if entry.settings.values.get("use") is not None:
        _read_use(tables, entry)
    else:
        _read_group(tables, entry, disabled)
    return entry


def _check_policy(tables: Tables, entry: Entry) -> None:
    try:
        Policy().override(entry.policy())
    except (ValueError, TypeError) as error:
        tables.problems.append(Problem(f"{tables.place} [{entry.key}]", "policy", "", str(error)))


def _read_use(tables: Tables, entry: Entry) -> None:
    values = entry.settings.values
    for name, why in (("services", "hold services of its own"), ("strategy", "have a strategy")):
        if name in entry.settings.found.values:
            tables.problem(f"{entry.key}.{name}", f"a service with `use` cannot {why}; only a group can")
    try:
        entry.use = find_use(str(values["use"]))
    except UsageError as error:
        tables.problem(f"{entry.key}.use", str(error))
        return
    key = f"{entry.key}.options"
    data: Any = values.get("options", {})
    entry.options = gather_table(entry.use.schema, data, lambda name: tables.source(f"{key}.{name}"))
    tables.problems += entry.options.problems + entry.options.missing


def _read_group(tables: Tables, entry: Entry, disabled: set[tuple[str, ...]]) -> None:
    found = entry.settings.found.values
    if "options" in found:
        tables.problem(f"{entry.key}.options", "are given to what `use` names, and there is no `use`")
    if "services" in found:
        data = entry.settings.values.get("services", {})
        entry.services = _services(tables, data, entry.path, disabled)
    elif "options" not in found:
        tables.problem(f"{entry.key}.use", "missing: a service has `use`, a group has tables under `services`")


# -- names --------------------------------------------------------------------------------------------------------


def _check_names(composition: Composition, entry: Entry, disabled: set[tuple[str, ...]]) -> None:
    """Everything that this entry needs, or is given as a parameter, must be there and be enabled."""
    for need in entry.needs:
        if said := _wrong_with(composition, entry, need, disabled):
            composition.tables.problem(f"{entry.key}.needs", said, repr(need))
    for parameter, name in entry.named().items():
        if said := _wrong_with(composition, entry, name, disabled):
            composition.tables.problem(f"{entry.key}.options.{parameter}", said, repr(name))


def _wrong_with(composition: Composition, entry: Entry, name: str, disabled: set[tuple[str, ...]]) -> str:
    path = path_of(entry, name)
    for depth in range(1, len(path) + 1):
        if path[:depth] in disabled:
            return f"service {'/'.join(path[:depth])!r} is not enabled; drop this, or enable it"
    if path == entry.path:
        return "a service cannot need itself"
    if find(composition, path) is not None or _is_inside_use(composition, path):
        return ""
    if name.startswith("/"):
        known = {"/" + "/".join(one.path) for one in composition.entries()}
    else:
        known = {one.path[-1] for one in composition.entries() if one.path[:-1] == entry.path[:-1]} - {entry.path[-1]}
    close = nearest(name, known)
    hint = f"did you mean {close!r}?" if close else f"there are {', '.join(sorted(known)) or 'no others'}"
    return f"there is no such service; {hint}"


def path_of(entry: Entry, name: str) -> tuple[str, ...]:
    """The path that a name in this entry's table means: a sibling's, or from the root if it begins with "/"."""
    return tuple(name[1:].split("/")) if name.startswith("/") else (*entry.path[:-1], name)


def find(composition: Composition, path: tuple[str, ...]) -> Entry | None:
    """The enabled entry at this path."""
    entries, entry = composition.services, None
    for name in path:
        entry = entries.get(name)
        if entry is None:
            return None
        entries = entry.services
    return entry


def _is_inside_use(composition: Composition, path: tuple[str, ...]) -> bool:
    """Whether the path leads into what a factory makes; whether it is there is seen when the tree is built."""
    owners = (find(composition, path[:depth]) for depth in range(1, len(path)))
    return any(owner is not None and owner.use is not None for owner in owners)


# -- for people ---------------------------------------------------------------------------------------------------


def _rows(composition: Composition) -> Iterator[Row]:
    yield from _rows_of(composition.settings, "application", composition.tables)
    for entry in composition.entries():
        yield from _rows_of(entry.settings, entry.key, composition.tables)
        if entry.options is not None:
            yield from _rows_of(entry.options, f"{entry.key}.options", composition.tables, defaults=True)


def _rows_of(gathered: Gathered, key: str, tables: Tables, *, defaults: bool = False) -> Iterator[Row]:
    assert gathered.schema is not None
    for name, value in gathered.values.items():
        if name in ("options", "services") and not defaults:
            continue
        if defaults or name in gathered.found.values:
            one = gathered.schema.fields[name]
            yield Row(f"{key}.{name}", shown(value, one.annotation), gathered.source(name))


def keys_help(path: Path, width: int) -> str:
    """The services of a file with the keys that --set can give them; of a file that is wrong, what is wrong."""
    said = f"{path.name} gives the values; --set KEY=VALUE changes one, and ${{VAR}} is a variable of the environment\n"
    said += "or of --env-file FILE.\n"
    try:
        composition = compose(path, Inputs(), path.name).options
    except OptionsError as error:
        return f"{said}\nThe file cannot be used as it is:\n{error}\n"
    blocks = [said]
    for entry in composition.entries():
        if entry.use is not None:
            rows = _key_rows(entry, entry.use)
            blocks.append(f"[{entry.key}] use = {entry.use.subject}\n{render_entries(rows, width)}")
    return "\n".join(blocks)


def _key_rows(entry: Entry, use: Use) -> list[tuple[str, str]]:
    rows = []
    for key, one in use.schema.fields.items():
        words = one.description or annotation_in_words(use, key)
        default = "required" if one.default is None else f"default: {shown(one.default(), one.annotation)}"
        rows.append((f"{entry.key}.options.{key}", f"{words} [{default}]"))
    return rows
