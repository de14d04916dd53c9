"""A target: what `plait run` runs, as a text, and what it stands for.

    module[:attr]    an importable module's attribute: a service, a factory, an ASGI application
    file.py[:attr]   the same of a file; its folder becomes importable
    file.toml        an application composed by a file
    file.tac         an application of plait.classic
    NAME             a plugin; a module of that name, if no plugin has it

Rules: the working directory becomes importable. Loading imports the target's code and calls none of its
factories. `resolve` reads the sources of options, `build` makes the tree; both may be called again, for a reload,
unless the target is an instance. A .tac is a program that makes the tree, so reading its options runs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from plait._kernel.application import Application
from plait._kernel.service import Service
from plait.errors import LifecycleError, TargetNotFound, UsageError
from plait.options.gathering import gather
from plait.options.resolving import Resolved, finish, wants_help
from plait.options.show import render_help, starting_file
from plait.options.sources import Inputs
from plait.plugins.compose import Composition, compose, keys_help
from plait.plugins.entries import find_plugin, load_plugin, nearest_plugin
from plait.plugins.factory import Factory, as_application, factory_of, load_by
from plait.plugins.lookup import Loading, attribute_of, load_file, load_module, loading_with, make_importable
from plait.plugins.tree import build


class Target:
    """What a target's text stands for; `load` makes it.

    `name` is short and for people, `description` one line or nothing. `options_class` is the class of its
    options, or None. With `rebuildable` False the target is an instance: `build` works once.
    """

    def __init__(self, text: str, name: str, factory: Factory | None = None) -> None:
        self.text = text
        self.name = name
        self._factory = factory
        self._built = False

    @property
    def _made(self) -> Factory:
        assert self._factory is not None
        return self._factory

    @property
    def description(self) -> str:
        """One line of what it is, from a docstring."""
        return self._made.description

    @property
    def options_class(self) -> Any:
        """The class of its options: a subclass of Options, a pydantic model, or None."""
        return self._made.options_class

    @property
    def rebuildable(self) -> bool:
        """Whether `build` can be called again, as a reload does; if not, new options need a restart."""
        return self._made.call is not None

    def wants_help(self, argv: Sequence[str]) -> bool:
        """Whether the command line after the target asks for --help."""
        return wants_help(self.options_class, argv)

    def help(self, *, width: int = 80) -> str:
        """What can be given after the target."""
        return render_help(self.options_class, width=width)

    def resolve(self, inputs: Inputs) -> Resolved:
        """The target's options from these inputs, with provenance. OptionsError with everything wrong in them."""
        return finish(gather(self.options_class, inputs))

    def build(self, options: object) -> Application:
        """The application, made with these options (those of `resolve`).

        Nothing is touched but memory. UsageError or InvalidTree if the target says so, TargetFailed if it
        raises anything else or gives no service, LifecycleError if it is an instance and was built before.
        """
        if self._built and not self.rebuildable:
            raise LifecycleError(f"target {self.text!r} is an instance, made once; restart required")
        self._built = True
        return as_application(self._made.make(options))

    def starting_file(self, format: str, inputs: Inputs) -> str:
        """A file to start from, with the values of these inputs; what is missing is marked.

        UsageError if there is nothing to write or the format is none; OptionsError if a value is wrong.
        """
        if self.options_class is None:
            raise UsageError(f"target {self.text!r} has no options, so there is no file to write")
        gathered = gather(self.options_class, inputs)
        if gathered.problems:
            finish(gathered)
        return starting_file(self.options_class, format, gathered)


class FileTarget(Target):
    """An application composed by a file, which is read anew by each `resolve`."""

    def __init__(self, text: str, path: Path) -> None:
        super().__init__(text, path.stem)
        self.path = path

    description = ""
    options_class = None
    rebuildable = True

    def wants_help(self, argv: Sequence[str]) -> bool:
        return wants_help(None, argv)

    def help(self, *, width: int = 80) -> str:
        return keys_help(self.path, width)

    def resolve(self, inputs: Inputs) -> Resolved:
        return compose(self.path, inputs, self.text)

    def build(self, options: object) -> Application:
        assert isinstance(options, Composition)
        return build(options)

    def starting_file(self, format: str, inputs: Inputs) -> str:
        raise UsageError(f"{self.text} is the file that gives the values; edit it, or copy it")


class ProgramTarget(Target):
    """A program that makes the application whenever its options are read: a .tac, by the loader for it."""

    def __init__(self, text: str, path: Path, inputs: Inputs) -> None:
        super().__init__(text, path.stem)
        self.path = path
        self._inputs = inputs
        self._first: Resolved | None = self._run(inputs)

    description = ""
    rebuildable = True
    options_class: Any = None
    """The class of the options that the program has read."""

    def resolve(self, inputs: Inputs) -> Resolved:
        first, self._first = self._first, None
        is_of_these = first is not None and inputs is self._inputs
        self._inputs = inputs
        return first if first is not None and is_of_these else self._run(inputs)

    def _run(self, inputs: Inputs) -> Resolved:
        with loading_with(inputs) as loading:
            factory = factory_of(load_by("tac", self.path, self.text), repr(self.text))
            service = factory.make(None)
        self.options_class = loading.options_class
        return replace(finish(gather(self.options_class, inputs)), options=_Made(service))

    def build(self, options: object) -> Application:
        assert isinstance(options, _Made)
        if options.is_used:
            options = self._run(self._inputs).options
        assert isinstance(options, _Made)
        options.is_used = True
        return as_application(options.service)


@dataclass(slots=True, eq=False)
class _Made:
    """What a run of a program made. It equals no other, so that a reload compares the trees."""

    service: Service
    is_used: bool = False


def load(text: str, cwd: Path | None = None, inputs: Inputs | None = None) -> Target:
    """The target that this text names; its module is imported.

    `cwd` is the working directory if left out; it becomes importable. `inputs` are for code that reads its options
    while it is imported. Raises TargetNotFound, TargetFailed, or
    UsageError for something that is no service and gives none.
    """
    folder, inputs = cwd or Path.cwd(), inputs or Inputs()
    make_importable(folder)
    path, colon, attribute = text.rpartition(":") if text.rpartition(":")[0] else (text, "", "")
    suffix = Path(path).suffix
    if suffix in (".toml", ".tac") and not colon:
        return _load_special(text, folder / path, suffix, inputs)
    with loading_with(inputs) as loading:
        if suffix == ".py":
            factory = _factory_in(load_file(folder / path), attribute, path, text, loading)
            return Target(text, Path(path).stem, factory)
        return _load_name(text, loading)


def _factory_in(module: ModuleType, attribute: str, name: str, text: str, loading: Loading) -> Factory:
    """What the module's attribute is; of a module that asked to run a loop, what it would have served there."""
    if loading.asked_to_run and not attribute:
        thing = load_by("loop", (module, loading), text)
    else:
        thing = attribute_of(module, attribute, name)
    factory = factory_of(thing, repr(text))
    return factory if factory.options_class else replace(factory, options_class=loading.options_class)


def _load_special(text: str, path: Path, suffix: str, inputs: Inputs) -> Target:
    if not path.is_file():
        raise TargetNotFound(f"there is no file {text!r}")
    make_importable(path.absolute().parent)
    if suffix == ".toml":
        return FileTarget(text, path)
    return ProgramTarget(text, path, inputs)


def _load_name(text: str, loading: Loading) -> Target:
    """A plugin's name, or a module with or without an attribute."""
    name, colon, attribute = text.partition(":")
    if not colon and (entry := find_plugin(name)) is not None:
        return Target(text, name, factory_of(load_plugin(entry), f"plugin {name!r}"))
    try:
        factory = _factory_in(load_module(name), attribute, name, text, loading)
    except TargetNotFound as error:
        if colon or "." in name:
            raise
        raise TargetNotFound(f"there is no plugin {text!r}, and {error}; {nearest_plugin(name)}") from None
    return Target(text, name.rpartition(".")[2], factory)
