"""From a name to a Python object: modules, files, attributes.

Rules: what is not there is TargetNotFound, and names what is nearest; what is there and fails while it is
imported is TargetFailed, with the cause chained and the place in the user's own code. A module inside the
imported one that is missing is a failure of that one, not a target that was not found. A UsageError of the imported
code is told as it is.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from plait.errors import TargetFailed, TargetNotFound, UsageError
from plait.options.convert import nearest
from plait.options.sources import Inputs

DEFAULT_ATTRIBUTES = ("make_app", "app", "application")


@dataclass(slots=True)
class Loading:
    """What the code of a target says while it is imported, for whoever makes an application of it.

    `inputs` are where its options come from, `options_class` the class that the code has read them by itself with,
    `declaring` what has declared them there.
    `asked_to_run` is where it asked to run a loop of its own, as "line 7 of echo.py calls reactor.run()";
    `applications` what it would have served there.
    """

    inputs: Inputs
    options_class: Any = None
    declaring: list[Any] = field(default_factory=list)
    asked_to_run: str = ""
    applications: list[Any] = field(default_factory=list)


loading: Loading | None = None
"""The target that is being imported now."""


@contextlib.contextmanager
def loading_with(inputs: Inputs) -> Iterator[Loading]:
    """Within it, what is imported is a target's code."""
    global loading
    before, loading = loading, Loading(inputs)
    try:
        yield loading
    finally:
        loading = before


def make_importable(folder: Path) -> None:
    """Put the folder at the head of sys.path, unless it is in it."""
    text = str(folder.absolute())
    if text not in sys.path:
        sys.path.insert(0, text)
        importlib.invalidate_caches()


def load_object(text: str) -> object:
    """What `module:attr` names; with `module` alone, its make_app, app or application."""
    module, _, attribute = text.partition(":")
    return attribute_of(load_module(module), attribute, module)


def load_module(name: str) -> ModuleType:
    """The imported module. Raises TargetNotFound or TargetFailed."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise TargetNotFound(f"{name!r} is no name of a module; write module:attr, as in shop.main:make_app")
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(missing + "."):
            raise TargetNotFound(f"there is no module {missing!r}; is it installed, or is this its folder?") from None
        raise import_failed(name, error) from error
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise import_failed(name, error) from error


def import_failed(name: str, error: BaseException) -> TargetFailed:
    """The error of a module that raised while it was imported."""
    return TargetFailed(f"importing {name!r} raised {told(error)}")


def told(error: BaseException) -> str:
    """An exception on one line: its type, its message, and where in the user's code it was raised."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}, line {error.lineno})"
    said = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {said}{_where(error)}" if said else f"{name}{_where(error)}"


def _where(error: BaseException) -> str:
    ours = str(Path(__file__).parent.parent)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(("<frozen", ours)) and "importlib" not in frame.filename:
            return f" ({frame.filename}, line {frame.lineno})"
    return ""


def load_file(path: Path) -> ModuleType:
    """The module in this file, imported under the file's name; within a package, under its dotted name.

    A file that was imported before is not imported again.
    """
    path = path.absolute()
    if not path.is_file():
        raise TargetNotFound(f"there is no file {str(path)!r}")
    make_importable(path.parent)
    name, root = _module_name(path)
    make_importable(root)
    if "." in name:
        return load_module(name)
    known = sys.modules.get(name)
    if known is not None and _is_of(known, path):
        return known
    # A name that is taken (the file may be called json.py) stays with the module that has it.
    return _execute(f"_target_{name}" if known is not None or not name.isidentifier() else name, path)


def _module_name(path: Path) -> tuple[str, Path]:
    """The dotted name of a file, and the folder it counts from: above all packages it lies in."""
    parts, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts), folder


def _is_of(module: ModuleType, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).absolute() == path


def _execute(name: str, path: Path) -> ModuleType:
    known = sys.modules.get(name)
    if known is not None and _is_of(known, path):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TargetNotFound(f"{str(path)!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, Exception | SystemExit) and not isinstance(error, UsageError):
            raise import_failed(str(path), error) from error
        raise
    return module


def attribute_of(module: ModuleType, attribute: str, text: str) -> object:
    """The module's attribute, dotted perhaps; left out, the first there is of make_app, app, application."""
    if not attribute:
        for name in DEFAULT_ATTRIBUTES:
            if hasattr(module, name):
                return getattr(module, name)
        raise TargetNotFound(f"{text!r} has no make_app, app or application; name the attribute, as {text}:NAME")
    if not all(part.isidentifier() for part in attribute.split(".")):
        hint = "; leave out the parentheses, Plait calls it" if "(" in attribute else ""
        raise TargetNotFound(f"{attribute!r} is no name of an attribute{hint}")
    thing: object = module
    for name in attribute.split("."):
        if not hasattr(thing, name):
            raise TargetNotFound(f"{text!r} has no attribute {name!r}{_suggest(name, dir(thing))}")
        thing = getattr(thing, name)
    return thing


def _suggest(name: str, known: list[str]) -> str:
    public = [one for one in known if not one.startswith("_")]
    return f"; did you mean {close!r}?" if (close := nearest(name, public)) else ""
