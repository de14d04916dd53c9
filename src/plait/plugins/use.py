"""What a service of a file is made by, and what its `options` may be.

`use` names a plugin or `module:attr`. A factory takes the fields of its options class; a Service class takes the
parameters of its constructor, checked against their annotations. A parameter annotated with a Service class takes
the name of another service; one annotated as a callable takes `module:attr`.
"""

from __future__ import annotations

import collections.abc
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, get_origin

from plait._kernel.service import makes_service
from plait.errors import TargetNotFound, UsageError
from plait.options import meta as shapes
from plait.options.meta import plain
from plait.options.schema import Part, Schema, parts_of_parameters, schema_of, schema_of_parts
from plait.plugins.entries import find_plugin, load_plugin, nearest_plugin
from plait.plugins.factory import Factory, factory_of, required, signature_of
from plait.plugins.lookup import attribute_of, load_module


@dataclass(frozen=True, slots=True)
class Use:
    """Something that makes a service of a file, and the schema of its `options`.

    `services` are the parameters that take another service, with its class; `callables` those that take
    `module:attr`.
    """

    subject: str
    make: Callable[..., object]
    schema: Schema
    factory: Factory | None = None
    parts: tuple[Part, ...] = ()
    services: dict[str, type] = field(default_factory=dict)
    callables: frozenset[str] = frozenset()


def find_use(text: str) -> Use:
    """What `use` names. Raises TargetNotFound, TargetFailed, or UsageError for what makes no service."""
    module, colon, attribute = text.partition(":")
    if colon:
        if not attribute:
            raise TargetNotFound(f"{text!r} names no attribute; write module:attr")
        thing = attribute_of(load_module(module), attribute, module)
    elif (entry := find_plugin(text)) is not None:
        thing = load_plugin(entry)
    else:
        raise TargetNotFound(f"there is no plugin {text!r} ({nearest_plugin(text)}); code is named as module:attr")
    return _use_of(thing, text)


def _use_of(thing: object, text: str) -> Use:
    if makes_service(type(thing)):
        raise UsageError(f"{text!r} is a service that was made already; name its class, or a factory")
    if makes_service(thing) and not _takes_options_alone(thing):
        return _constructor(thing, text)
    factory = factory_of(thing, repr(text))
    if factory.call is None:
        raise UsageError(f"{text!r} is no class and no factory")
    no_options = schema_of_parts(text, ())
    schema = schema_of(factory.options_class) if factory.options_class is not None else no_options
    return Use(repr(text), factory.call, schema, factory)


def _takes_options_alone(service: Any) -> bool:
    """Whether the class is a factory by its constructor: it has one parameter, of an Options class."""
    try:
        factory = factory_of(service, "")
    except UsageError:
        return False
    parameters, _ = signature_of(service, "")
    return factory.parameter is not None and set(parameters) <= {factory.parameter, *required(parameters)}


def _constructor(service: Any, text: str) -> Use:
    parameters, hints = signature_of(service, repr(text))
    parts, services, callables = [], {}, set()
    for part in parts_of_parameters(parameters, hints):
        base = plain(part.annotation).base
        if makes_service(base):
            services[part.name] = base
            part = _named(part)
        elif takes_callable(part.annotation):
            callables.add(part.name)
            part = _named(part)
        parts.append(part)
    schema = schema_of_parts(service.__name__, parts)
    return Use(repr(text), service, schema, None, tuple(parts), services, frozenset(callables))


def _named(part: Part) -> Part:
    """The part as a file gives it: by name."""
    annotation: Any = str | None if shapes.is_optional(part.annotation) else str
    meta = plain(part.annotation).meta
    return Part(part.name, Annotated[annotation, meta], part.default)


def takes_callable(annotation: Any) -> bool:
    """Whether a callable, a class or a protocol of a call may be given here."""
    return any(_is_callable_type(shapes.facts(one).base) for one in _members(annotation))


def _members(annotation: Any) -> Iterator[Any]:
    for member in shapes.union_members(shapes.facts(annotation).base):
        inner = shapes.facts(member).base
        if inner is member:
            yield member
        else:
            yield from _members(inner)


def _is_callable_type(base: Any) -> bool:
    if (get_origin(base) or base) in (collections.abc.Callable, type, typing.Type):  # noqa: UP006
        return True
    return getattr(base, "_is_protocol", False) and "__call__" in vars(base)


def annotation_in_words(use: Use, name: str) -> str:
    """What a parameter takes, for the help."""
    if name in use.services:
        return f"the name of a service, {use.services[name].__name__}"
    if name in use.callables:
        return "module:attr of a callable"
    return shapes.describe(use.schema.fields[name].annotation)
