"""The options a class declares, laid flat: every field with its key, its flag, its variable and its default.

A field whose type is itself an Options class is a group: its fields have dotted keys ("db.dsn"), dotted
flags ("--db.dsn") and variables joined by two underscores (ECHO_DB__DSN). Underscores of a name are dashes in
its flag. A bool has a second flag, --no-NAME; a secret has a second variable, NAME_FILE, that names a file.
Two fields may not answer to one name, and none to a name that the runner needs.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from plait.options import meta as shapes
from plait.options.meta import plain

RESERVED = {
    "config": "--config names the file",
    "env_file": "--env-file names the file of variables",
    "set": "--set sets any key",
    "help": "--help shows the options",
    "plait": "[plait] is the runner's table",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One value that can be given: a leaf of the options."""

    path: tuple[str, ...]
    annotation: Any
    default: Callable[[], object] | None
    variable: str
    description: str = ""
    examples: tuple[object, ...] = ()

    @property
    def key(self) -> str:
        return ".".join(self.path)

    @property
    def flag(self) -> str:
        return "--" + self.key.replace("_", "-")

    @property
    def secret(self) -> bool:
        return shapes.holds_secret(self.annotation)

    @property
    def base(self) -> Any:
        """The type without None and notes."""
        return plain(self.annotation).base

    @property
    def is_switch(self) -> bool:
        return self.base is bool

    @property
    def is_list(self) -> bool:
        return shapes.list_type(self.base) is not None

    @property
    def is_table(self) -> bool:
        return shapes.is_table(self.base)

    def flags(self) -> Iterator[str]:
        yield self.flag
        if self.is_switch:
            yield "--no-" + self.flag.removeprefix("--")

    def variables(self) -> Iterator[str]:
        yield self.variable
        if self.secret:
            yield self.variable + "_FILE"


@dataclass(frozen=True, slots=True)
class GroupOf:
    """A nested Options class; `default` stands for it when nothing of it is given."""

    path: tuple[str, ...]
    cls: type
    optional: bool
    default: object


@dataclass(slots=True)
class Schema:
    """All that a class of options declares; groups come outermost first, the class itself not among them."""

    cls: Any
    prefix: str
    checks_defaults: bool = True
    fields: dict[str, Field] = field(default_factory=dict)
    groups: dict[str, GroupOf] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.cls.__name__)

    @property
    def description(self) -> str:
        return first_line(self.cls)

    def flags(self) -> dict[str, Field]:
        return {flag: one for one in self.fields.values() for flag in one.flags()}

    def variables(self) -> dict[str, Field]:
        return {variable: one for one in self.fields.values() for variable in one.variables()}


def first_line(thing: object) -> str:
    """The first line of a class's or function's own docstring, or nothing."""
    own = vars(thing).get("__doc__") if isinstance(thing, type) else getattr(thing, "__doc__", None)
    lines = inspect.cleandoc(own).splitlines() if isinstance(own, str) else []
    return lines[0].strip() if lines else ""


@dataclass(frozen=True, slots=True)
class Part:
    """One field as its class declares it."""

    name: str
    annotation: Any
    default: Callable[[], object] | None


def is_options_class(thing: object) -> bool:
    """Whether this is a class that options can be resolved for: an Options class or a pydantic model."""
    declared = isinstance(thing, type) and issubclass(thing, msgspec.Struct) and hasattr(thing, "__env_prefix__")
    return declared or is_model(thing)


def is_model(thing: object) -> bool:
    """Whether this is a pydantic model class; pydantic is not imported to find out."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(thing, type) and issubclass(thing, pydantic.BaseModel)


def schema_of(cls: Any) -> Schema:
    """What the class declares. Raises TypeError if names collide, are reserved, or a group holds itself."""
    schema = Schema(cls, _prefix(cls), checks_defaults=not is_model(cls))
    _lay_out(schema, parts_of(cls), (), None, (cls,))
    _refuse_reserved(schema)
    _refuse_collisions(schema)
    return schema


def prefix_of(name: str) -> str:
    """The prefix of variables that a class of this name has: MyShopOptions gives MY_SHOP_."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name.removesuffix("Options"))
    return f"{words.strip('_').upper()}_" if words.strip("_") else ""


def _prefix(cls: Any) -> str:
    said = getattr(cls, "__env_prefix__", None)
    if said is None:
        said = getattr(cls, "model_config", {}).get("env_prefix") or prefix_of(cls.__name__) or None
    if said is None:
        raise TypeError(f"{cls.__name__}: its name gives no prefix for variables; give env='MYAPP_'")
    if said and not said.isidentifier():
        raise TypeError(f"{cls.__name__}: {said!r} cannot begin the name of a variable")
    return str(said)


def parts_of(cls: Any) -> Iterator[Part]:
    """The fields of an Options class or of a pydantic model, in their order."""
    if is_model(cls):
        from plait.options.models import model_parts

        for name, annotation, default in model_parts(cls):
            yield Part(name, annotation, default)
        return
    for one in msgspec.structs.fields(cls):
        yield Part(one.name, one.type, _default_of(one))


def _default_of(one: msgspec.structs.FieldInfo) -> Callable[[], object] | None:
    if one.default_factory is not msgspec.NODEFAULT:
        factory: Callable[[], object] = one.default_factory
        return factory
    if one.default is not msgspec.NODEFAULT:
        return lambda: one.default
    return None


def _lay_out(
    schema: Schema, parts: Iterable[Part], path: tuple[str, ...], default: object, above: tuple[Any, ...]
) -> None:
    for part in parts:
        here = (*path, part.name)
        known = plain(part.annotation)
        given = _constant(default, part.name) if default is not None else part.default
        if is_options_class(known.base):
            if known.base in above:
                raise TypeError(f"{schema.name}: group {part.name!r} holds itself")
            instance = given() if given else None
            optional = shapes.is_optional(part.annotation)
            schema.groups[".".join(here)] = GroupOf(here, known.base, optional, instance)
            _lay_out(schema, parts_of(known.base), here, instance, (*above, known.base))
        else:
            variable = known.meta.variable or schema.prefix + "__".join(here).upper()
            if not variable.isidentifier():
                raise TypeError(f"{schema.name}: {variable!r} is no name for a variable")
            schema.fields[".".join(here)] = Field(
                here, part.annotation, given, variable, known.meta.description, known.meta.examples
            )


def _constant(default: object, name: str) -> Callable[[], object]:
    return lambda: getattr(default, name)


def _refuse_reserved(schema: Schema) -> None:
    for key in (*schema.fields, *schema.groups):
        if key in RESERVED:
            raise TypeError(f"{schema.name}: an option cannot be called {key!r} ({RESERVED[key]}); rename it")


def _refuse_collisions(schema: Schema) -> None:
    taken: dict[str, Field] = {}
    for one in schema.fields.values():
        for name in (*one.flags(), *one.variables()):
            if name in taken:
                both = f"{taken[name].key!r} and {one.key!r}"
                raise TypeError(f"{schema.name}: options {both} collide, both are {name}; rename one")
            taken[name] = one


def schema_of_parts(subject: str, parts: Iterable[Part]) -> Schema:
    """What these parts declare, for a table that no options class stands behind; defaults are not checked."""
    schema = Schema(type(subject, (), {}), "", checks_defaults=False)
    _lay_out(schema, parts, (), None, ())
    return schema


def parts_of_parameters(parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]) -> Iterator[Part]:
    """The parameters of a function or constructor as parts."""
    for name, parameter in parameters.items():
        yield Part(name, hints.get(name, Any), constant_of(parameter.default))


def constant_of(default: object) -> Callable[[], object] | None:
    """A default as a Part has it; None if it is `inspect.Parameter.empty`."""
    return None if default is inspect.Parameter.empty else lambda: default
