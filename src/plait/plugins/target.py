"""A target: what `plait run` runs, as a text, and what it stands for.

    module[:attr]    an importable module's attribute: a service, a factory, an ASGI application
    file.py[:attr]   the same of a file; its folder becomes importable
    file.toml        an application composed by a file
    file.tac         an application of plait.classic
    NAME             a plugin; a module of that name, if no plugin has it

Rules: the working directory becomes importable. Loading imports the target's code and calls none of its
factories. `resolve` reads the sources of options, `build` makes the tree; both may be called again, for a reload,
unless the target is an instance.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plait._kernel.application import Application
from plait.errors import LifecycleError, TargetNotFound, UsageError
from plait.options.gathering import gather
from plait.options.resolving import Resolved, finish, wants_help
from plait.options.show import render_help, starting_file
from plait.options.sources import Inputs
from plait.plugins.compose import Composition, compose, keys_help
from plait.plugins.entries import find_plugin, load_plugin, nearest_plugin
from plait.plugins.factory import Factory, as_application, factory_of, load_by
from plait.plugins.lookup import attribute_of, load_file, load_module, make_importable
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


def load(text: str, cwd: Path | None = None) -> Target:
    """The target that this text names; its module is imported.

    `cwd` is the working directory if left out; it becomes importable. Raises TargetNotFound, TargetFailed, or
    UsageError for something that is no service and gives none.
    """
    folder = cwd or Path.cwd()
    make_importable(folder)
    path, colon, attribute = text.rpartition(":") if text.rpartition(":")[0] else (text, "", "")
    suffix = Path(path).suffix
    if suffix in (".toml", ".tac") and not colon:
        return _load_special(text, folder / path, suffix)
    if suffix == ".py":
        module = load_file(folder / path)
        return Target(text, Path(path).stem, factory_of(attribute_of(module, attribute, path), repr(text)))
    return _load_name(text)


def _load_special(text: str, path: Path, suffix: str) -> Target:
    if not path.is_file():
        raise TargetNotFound(f"there is no file {text!r}")
    make_importable(path.absolute().parent)
    if suffix == ".toml":
        return FileTarget(text, path)
    return Target(text, path.stem, factory_of(load_by("tac", path, text), repr(text)))


def _load_name(text: str) -> Target:
    """A plugin's name, or a module with or without an attribute."""
    name, colon, attribute = text.partition(":")
    if not colon and (entry := find_plugin(name)) is not None:
        return Target(text, name, factory_of(load_plugin(entry), f"plugin {name!r}"))
    try:
        thing = attribute_of(load_module(name), attribute, name)
    except TargetNotFound as error:
        if colon or "." in name:
            raise
        raise TargetNotFound(f"there is no plugin {text!r}, and {error}; {nearest_plugin(name)}") from None
    return Target(text, name.rpartition(".")[2], factory_of(thing, repr(text)))
