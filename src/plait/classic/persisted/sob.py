"""Small objects in files: an application, or what it was made of.

A file has a style, by its ending if nobody says it:

    python   .py .tac    a program; a variable of it is the object
    source   .tas        a program that Plait wrote; its variable `app` is the object
    pickle   .tap        a pickle

Rules: loading any of them runs what it holds, so load only files you would run. A source is text where the object is
made of numbers, text and containers of those, so that it can be read and changed; anything else is a pickle inside it.
Files appear whole or not at all. There is no encryption: a passphrase is refused.
"""

from __future__ import annotations

import ast
import os
import pickle
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from zope.interface import Interface, implementer

from plait.classic.persisted.styles import Ephemeral

__all__ = ["IPersistable", "Persistant", "Persistent", "guessType", "load", "loadValueFromFile"]

FileName = str | os.PathLike[str]


class IPersistable(Interface):  # type: ignore[misc]
    """An object that can be saved in a file."""

    def setStyle(style: str) -> None:
        """Save as "source" or "pickle" from now on."""

    def save(tag: str | None = None, filename: FileName | None = None, passphrase: object = None) -> None:
        """Save in a file of that name, or in one named after the object and the tag."""


@implementer(IPersistable)
class Persistent:
    """Saves an object, `original`, in files named after `name`."""

    style = "pickle"

    def __init__(self, original: Any, name: str) -> None:
        self.original = original
        self.name = name

    def setStyle(self, style: str) -> None:
        """Save as "source" or "pickle" from now on."""
        self.style = style

    def save(self, tag: str | None = None, filename: FileName | None = None, passphrase: object = None) -> None:
        """Save it in this file, else in NAME.tap or NAME.tas, or NAME-TAG.tap. TypeError for a passphrase."""
        if passphrase is not None:
            raise TypeError("passphrase must be None: files are not encrypted")
        ending, dump = _DUMPS[self.style]
        name = filename if filename is not None else f"{self.name}{f'-{tag}' if tag else ''}.{ending}"
        _write_whole(Path(name), lambda file: dump(self.original, file))


Persistant = Persistent
"""The name it had in old programs."""


def _write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file beside the path, and put it in its place."""
    descriptor, beside = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def _dump_pickle(original: Any, file: BinaryIO) -> None:
    pickle.dump(original, file, 2)


def _dump_source(original: Any, file: BinaryIO) -> None:
    text = repr(original)
    if not _reads_back(text, original):
        text = f"__import__('pickle').loads({pickle.dumps(original, 2)!r})"
    file.write(f"app = {text}\n".encode())


def _reads_back(text: str, original: Any) -> bool:
    """Whether this text is the whole of the object."""
    try:
        return repr(ast.literal_eval(text)) == text and type(original).__module__ == "builtins"
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False


_DUMPS: dict[str, tuple[str, Callable[[Any, BinaryIO], None]]] = {
    "pickle": ("tap", _dump_pickle),
    "source": ("tas", _dump_source),
}


# -- loading ----------------------------------------------------------------------------------------------------------


def load(filename: FileName, style: str) -> Any:
    """The object in a file of style "source" or "pickle"; what is stored in it as ephemeral comes back empty.

    What is loaded may read `__main__`, and cannot change it. If the object is persistable itself, it is saved in the
    same style from then on.
    """
    main = sys.modules["__main__"]
    standing_in = _EverythingEphemeral(main)
    sys.modules["__main__"] = standing_in  # type: ignore[assignment]
    standing_in.initRun = 1
    try:
        loaded = _LOADS[style](filename)
    finally:
        sys.modules["__main__"] = main
        standing_in.initRun = 0
    persistable: Any = IPersistable(loaded, None)
    if persistable is not None:
        persistable.setStyle(style)
    return loaded


class _EverythingEphemeral(Ephemeral):
    """Stands for `__main__` during a load, which may read and not change it; whoever keeps it has a hollow one."""

    initRun = 0

    def __init__(self, mainMod: Any) -> None:
        self.mainMod = mainMod

    def __getattr__(self, key: str) -> Any:
        try:
            return getattr(self.__dict__["mainMod"], key)
        except AttributeError:
            if self.initRun:
                raise
            return Ephemeral()


def _load_pickle(filename: FileName) -> Any:
    with open(filename, "rb") as file:
        return pickle.load(file)


def _load_source(filename: FileName) -> Any:
    return loadValueFromFile(filename, "app")


_LOADS: dict[str, Callable[[FileName], Any]] = {"pickle": _load_pickle, "source": _load_source}


def loadValueFromFile(filename: FileName, variable: str) -> Any:
    """What this variable of a program is after the program has run; KeyError if it has none of that name.

    It runs with `__file__` as its name, and is no module.
    """
    names: dict[str, Any] = {"__file__": os.fspath(filename)}
    exec(compile(Path(filename).read_bytes(), os.fspath(filename), "exec"), names, names)
    return names[variable]


def guessType(filename: FileName) -> str:
    """The style that the ending of a file's name stands for; KeyError if for none."""
    return _STYLES[os.path.splitext(filename)[1]]


_STYLES = {
    **dict.fromkeys((".py", ".tac", ".etac"), "python"),
    **dict.fromkeys((".tap", ".etap"), "pickle"),
    **dict.fromkeys((".tas", ".etas"), "source"),
}
