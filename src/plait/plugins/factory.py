"""What a target's attribute is: a service, or a factory of one.

A factory is a function or class without required parameters, or with one that is annotated with an Options
class (or a pydantic model). It builds the tree and touches nothing else, so it may be called again and again:
by `check`, by `options`, by a reload. An ASGI application becomes a factory by its loader.
"""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

from plait._kernel.application import Application
from plait._kernel.service import Service, makes_service, service_of
from plait.errors import InvalidTree, TargetFailed, UsageError
from plait.options.meta import plain
from plait.options.schema import first_line, is_options_class
from plait.plugins.lookup import told


def _is_ours(thing: object) -> bool:
    """Whether its docstring tells of Plait's kernel rather than of the user's application."""
    return getattr(thing, "__module__", getattr(thing, "__name__", "")).startswith(("plait._kernel", "plait.classic"))


LOADERS = {
    "asgi": "plait.net.asgi:factory_of",  # takes the ASGI application
    "tac": "plait.classic.tac:factory_of",  # takes the Path of the file
    "loop": "plait.classic.tac:application_of",  # takes the module that asked to run a loop, and its Loading
}
"""What layers above this one make of things this one cannot know; each gives what an attribute may be."""


def load_by(loader: str, thing: object, subject: str) -> object:
    """The service or factory that a loader of a higher layer makes of the thing; UsageError if there is none."""
    module, _, name = LOADERS[loader].partition(":")
    try:
        load = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if not module.startswith(error.name or ""):
            raise
        raise UsageError(f"{subject}: this version of Plait cannot run {_KINDS[loader]}") from None
    return load(thing)


_KINDS = {"asgi": "ASGI applications", "tac": ".tac files", "loop": "programs with a loop of their own"}


@dataclass(frozen=True, slots=True)
class Factory:
    """Something that gives a service; `call` is None if it is a service that was made once and for all."""

    subject: str
    thing: object
    call: Callable[..., object] | None
    parameter: str | None = None
    options_class: Any = None

    @property
    def description(self) -> str:
        """The first line of the docstring of the options class, else of the factory or service, else of its module."""
        thing = type(self.thing) if self.call is None else self.thing
        while isinstance(thing, functools.partial):
            thing = thing.func
        module = sys.modules.get(getattr(thing, "__module__", "") or "")
        said = (first_line(one) for one in (self.options_class, thing, module) if one is not None and not _is_ours(one))
        return next(filter(None, said), "")

    def make(self, options: object) -> Service:
        """The service that the factory gives.

        UsageError and InvalidTree leave as they are; anything else it raises becomes TargetFailed.
        """
        if self.call is None:
            return checked(self.thing, self.subject, as_root=True)
        arguments = {self.parameter: options} if self.parameter is not None else {}
        return checked(call(self.call, arguments, self.subject), self.subject, as_root=True)


def call(function: Callable[..., object], arguments: Mapping[str, object], subject: str) -> object:
    """What the function returns; what is neither the user's doing nor the tree's becomes TargetFailed."""
    try:
        return function(**arguments)
    except (UsageError, InvalidTree):
        raise
    except (Exception, SystemExit) as error:
        raise TargetFailed(f"{subject} raised {told(error)}") from error


def checked(result: object, subject: str, *, as_root: bool = False) -> Service:
    """The result, if it is a service, or what stands for it; TargetFailed if a factory returned anything else."""
    service = service_of(result, as_root=as_root)
    if service is not None:
        return service
    if inspect.iscoroutine(result):
        result.close()
    what = "nothing" if result is None else f"{type(result).__name__}"
    raise TargetFailed(f"{subject} returned {what}, not a service; return the Application it makes")


def factory_of(thing: object, subject: str) -> Factory:
    """The thing as a factory. Raises UsageError, with the cure, for what gives no service."""
    if makes_service(type(thing)):
        return Factory(subject, thing, None)
    if not callable(thing):
        raise UsageError(f"{subject} is {_a(type(thing).__name__)}, not a service and not a factory of one")
    if is_asgi(thing):
        return factory_of(load_by("asgi", thing, subject), subject)
    if inspect.isasyncgenfunction(thing):
        raise UsageError(f"{subject} is an async generator; decorate it with @plait.service to make it a service")
    if inspect.iscoroutinefunction(thing):
        raise UsageError(f"{subject} is async; a factory awaits nothing: make it a plain function")
    parameters, hints = signature_of(thing, subject)
    name, options_class = _options_parameter(parameters, hints)
    others = [one for one in required(parameters) if one != name]
    if others:
        raise UsageError(_too_many(subject, thing, others))
    return Factory(subject, thing, thing, name, options_class)


def _a(word: str) -> str:
    return ("an " if word[:1].lower() in "aeiou" else "a ") + word


def _too_many(subject: str, thing: object, others: list[str]) -> str:
    kind = "class" if isinstance(thing, type) else "function"
    return (
        f"{subject} is a {kind} that takes {', '.join(map(repr, others))}; a factory takes nothing, "
        "or one parameter annotated with a subclass of plait.Options"
    )


def _options_parameter(parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]) -> tuple[str | None, Any]:
    for name in parameters:
        base = plain(hints.get(name, Any)).base
        if is_options_class(base):
            return name, base
    return None, None


def required(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """The names of the parameters without a default."""
    return [name for name, one in parameters.items() if one.default is one.empty]


_NOT_NAMED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)


def signature_of(thing: Any, subject: str) -> tuple[dict[str, inspect.Parameter], dict[str, Any]]:
    """The parameters that can be given by name, and the annotations of those, evaluated where they can be."""
    try:
        parameters = inspect.signature(thing).parameters
    except (ValueError, TypeError):
        raise UsageError(f"{subject} does not say what it takes; wrap it in a function") from None
    named = {name: one for name, one in parameters.items() if one.kind not in _NOT_NAMED}
    return named, hints_of(thing, named)


def hints_of(thing: Any, parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """The annotations of a callable's parameters; one that cannot be evaluated at run time accepts anything."""
    function = _function_of(thing)
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, SyntaxError, AttributeError):
        names = getattr(inspect.unwrap(function), "__globals__", {})
        return {name: _evaluated(one.annotation, names) for name, one in parameters.items()}


def _evaluated(annotation: Any, names: dict[str, Any]) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    probe = type("probe", (), {"__annotations__": {"it": annotation}})
    try:
        return typing.get_type_hints(probe, globalns=names, include_extras=True)["it"]
    except (NameError, TypeError, SyntaxError, AttributeError):
        return Any


def _function_of(thing: Any) -> Any:
    """What carries the annotations: of a class its constructor, of a @service its generator."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    if isinstance(thing, type):
        generator = getattr(thing, "_function", None)
        made_of_one = generator is not None and issubclass(thing, Service)
        return generator if made_of_one else cast(Any, thing).__init__
    return thing if inspect.isroutine(thing) else type(thing).__call__


def is_asgi(thing: object) -> bool:
    """Whether this is an ASGI application: it takes scope, receive and send."""
    if isinstance(thing, type):
        return False
    try:
        parameters = inspect.signature(thing).parameters  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return False
    return tuple(parameters)[:3] == ("scope", "receive", "send")


def as_application(service: Service) -> Application:
    """The service if it is an application, else an application of its name that holds it alone."""
    if isinstance(service, Application):
        return service
    application = Application(service.name)
    application.add(service)
    return application
