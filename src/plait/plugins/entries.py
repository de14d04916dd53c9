"""Plugins: services and applications that installed packages offer by name.

A package offers one as an entry point of the group `plait.services`, which names an object as a target does.
A plugin that cannot be loaded is reported where plugins are listed or where it is asked for, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plait._kernel.service import Service
from plait.errors import PlaitError, TargetFailed, TargetNotFound, UsageError
from plait.options.convert import nearest
from plait.options.schema import first_line
from plait.plugins.factory import factory_of
from plait.plugins.lookup import load_object

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "plait.services"


def _entries(name: str | None = None) -> list[EntryPoint]:
    from importlib.metadata import entry_points  # it takes longer than the rest of this layer

    return list(entry_points(group=GROUP) if name is None else entry_points(group=GROUP, name=name))


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry of `plait list`; `error` says what is broken, and is None for one that works.

    `runnable` is False for a service that takes parameters: it can be used in a file, not run by name.
    """

    name: str
    description: str
    distribution: str
    version: str
    runnable: bool = True
    error: str | None = None


def plugins() -> list[Plugin]:
    """Every installed plugin, by name; each is imported to describe it, and what is broken is said in `error`."""
    found = sorted(_entries(), key=lambda one: (one.name, distribution_of(one)))
    return [_described(entry) for entry in found]


def _described(entry: EntryPoint) -> Plugin:
    name, version = distribution_of(entry)
    try:
        thing = load_plugin(entry)
        if isinstance(thing, type) and issubclass(thing, Service):
            return Plugin(entry.name, _description(thing), name, version, runnable=_is_runnable(thing))
        factory = factory_of(thing, repr(entry.name))
    except PlaitError as error:
        return Plugin(entry.name, "", name, version, runnable=False, error=str(error))
    return Plugin(entry.name, factory.description, name, version)


def _is_runnable(thing: object) -> bool:
    try:
        factory_of(thing, "")
    except UsageError:
        return False
    return True


def _description(service: type[Service]) -> str:
    return factory_of(service, "").description if _is_runnable(service) else first_line(service)


def distribution_of(entry: EntryPoint) -> tuple[str, str]:
    """The name and version of the package that offers this plugin."""
    if entry.dist is None:
        return "unknown", ""
    return entry.dist.name, entry.dist.version


def find_plugin(name: str) -> EntryPoint | None:
    """The entry point of this name, or None. UsageError if two packages offer the name."""
    found = _entries(name)
    if len({one.value for one in found}) > 1:
        offers = ", ".join(f"{one.value} of {distribution_of(one)[0]}" for one in found)
        raise UsageError(f"several packages offer a plugin {name!r}: {offers}; name one of them as module:attr")
    return found[0] if found else None


def load_plugin(entry: EntryPoint) -> object:
    """What the plugin names; TargetFailed, naming its package, if that cannot be loaded."""
    try:
        return load_object(entry.value.partition("[")[0].strip().replace(" ", ""))
    except (TargetNotFound, TargetFailed) as error:
        name, version = distribution_of(entry)
        raise TargetFailed(f"plugin {entry.name!r} of {name} {version} is broken: {error}") from error


def nearest_plugin(name: str) -> str:
    """Words for an error about a name that no plugin has."""
    names = sorted({one.name for one in _entries()})
    close = nearest(name, names)
    return f"did you mean {close!r}?" if close else f"installed are {', '.join(names) or 'none'}"
