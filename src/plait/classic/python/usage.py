"""Options of a command line, declared as attributes and methods of a class.

    class Options(usage.Options):
        optFlags = [["verbose", "v", "Say more."]]
        optParameters = [["port", "p", 8000, "Where to listen.", int]]
        subCommands = [["serve", None, ServeOptions, "Serve it."]]

        def opt_color(self, value):         # --color VALUE; one without a parameter is a flag
            self["color"] = value

Rules: an instance is a dict of the values, defaults first. Parsing goes from left to right by getopt, calls a handler
for each option, then the sub-command or `parseArgs`, then `postOptions`; whatever is wrong with what was typed is a
UsageError.
"""

from __future__ import annotations

import getopt
import inspect
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os import path
from typing import Any, BinaryIO, ClassVar, NoReturn

from plait.classic.python._completers import (
    _ZSH,
    CompleteDirs,
    CompleteFiles,
    CompleteGroups,
    CompleteHostnames,
    CompleteList,
    CompleteMultiList,
    CompleteNetInterfaces,
    Completer,
    CompleteUserAtHost,
    CompleteUsernames,
    Completions,
)
from plait.classic.python._shellcomp import shellComplete

__all__ = [
    "CoerceParameter",
    "CompleteDirs",
    "CompleteFiles",
    "CompleteGroups",
    "CompleteHostnames",
    "CompleteList",
    "CompleteMultiList",
    "CompleteNetInterfaces",
    "CompleteUserAtHost",
    "CompleteUsernames",
    "Completer",
    "Completions",
    "Options",
    "UsageError",
    "docMakeChunks",
    "error",
    "flagFunction",
    "portCoerce",
]

WIDTH = 80
"""Columns of the help where the environment has no COLUMNS."""


class UsageError(Exception):
    """Something is wrong with what was typed on the command line."""


error = UsageError


class CoerceParameter:
    """Takes the value of one parameter: converts it, and stores it in the options."""

    def __init__(self, options: Options, coerce: Any) -> None:
        self.options = options
        self.coerce = coerce
        self.doc = getattr(coerce, "coerceDoc", "")

    def dispatch(self, parameterName: str, value: str | None) -> None:
        """Store the value. UsageError if there is none, or if converting it raises ValueError."""
        if value is None:
            raise UsageError(f"Parameter '{parameterName}' requires an argument.")
        try:
            converted = self.coerce(value)
        except ValueError as mismatch:
            raise UsageError(f"Parameter type enforcement failed: {mismatch}") from mismatch
        self.options.opts[parameterName] = converted


class Options(dict[Any, Any]):
    """The options of a program, or of one of its sub-commands: subclass it; see the module.

    `synopsis` and `longdesc` are its usage line and a text for its help, `defaultSubCommand` the sub-command if none is
    named. After `parseOptions`: `subCommand` is the name of the one that was, `subOptions` its options, whose `parent`
    this is.
    """

    subCommand: str | None = None
    defaultSubCommand: str | None = None
    parent: Any = None
    compData: Completions | None = None

    _shellCompFile: BinaryIO | None = getattr(sys.stdout, "buffer", None)

    optFlags: ClassVar[Any]
    optParameters: ClassVar[Any]
    subOptions: Any
    subCommands: Any

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.opts = self
        self.defaults: dict[str, Any] = {}
        self.synonyms: dict[str, str] = {}
        """Every name that may be typed, without dashes, and the option it stands for."""
        self.docs: dict[str, str] = {}
        self.longOpt: list[str] = []
        self.shortOpt = ""
        self._dispatch: dict[str, Callable[[str, Any], object]] = {}
        self._parameters: dict[str, CoerceParameter] = {}
        self._declare_flags()
        self._declare_parameters()
        self._declare_handlers()
        self.update(self.defaults)

    # -- what the class declares --------------------------------------------------------------------------------------

    def _declare(self, name: str, short: str | None, doc: str, call: Callable[..., object], *, valued: bool) -> None:
        self._dispatch[name] = call
        self.docs[name] = doc
        self.synonyms[name] = name
        if short:
            self.synonyms[short] = name
        self.longOpt.append(name + ("=" if valued else ""))
        if short:
            self.shortOpt += short + (":" if valued else "")

    def _declare_flags(self) -> None:
        for long, short, doc, *_ in _declarations(type(self), "optFlags", 3):
            if not long:
                raise ValueError("A flag cannot be without a name.")
            self.defaults[long] = 0
            self._declare(long, short, doc or "", self._set_flag, valued=False)

    def _declare_parameters(self) -> None:
        for long, short, default, doc, coerce, *_ in _declarations(type(self), "optParameters", 5):
            if not long:
                raise ValueError("A parameter cannot be without a name.")
            self.defaults[long] = default
            self._parameters[long] = parameter = CoerceParameter(self, str if coerce is None else coerce)
            self._declare(long, short, doc or "", parameter.dispatch, valued=True)

    def _declare_handlers(self) -> None:
        """The `opt_` methods: one with several names is an option of the longest, the others stand for it."""
        for names, method in _handlers(type(self)):
            handler = getattr(self, f"opt_{names[0]}")
            is_flag = flagFunction(handler, names[0])
            main, *aliases = (name.replace("_", "-") for name in names)
            call = _call_flag(handler) if is_flag else _call_with_value(handler)
            self._declare(
                main, main if len(main) == 1 else None, inspect.getdoc(method) or "", call, valued=not is_flag
            )
            for alias in aliases:
                self._declare_alias(alias, main, valued=not is_flag)

    def _declare_alias(self, alias: str, main: str, *, valued: bool) -> None:
        self.synonyms[alias] = main
        if len(alias) == 1:
            self.shortOpt += alias + (":" if valued else "")
        else:
            self.longOpt.append(alias + ("=" if valued else ""))

    def _set_flag(self, flagName: str, value: str | None = None) -> None:
        if value not in ("", None):
            raise UsageError(f"Flag '{flagName}' takes no argument.  Not even \"{value}\".")
        self.opts[flagName] = 1

    # -- parsing ------------------------------------------------------------------------------------------------------

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse these words, or those of the process. UsageError for what is wrong with them."""
        words = list(sys.argv[1:] if options is None else options)
        if self._shellCompFile is not None and len(words) >= 2 and words[-2] == _COMPLETE:
            self._complete(words[-1], words[:-2])
        try:
            found, rest = getopt.getopt(words, self.shortOpt, self.longOpt)
        except getopt.error as wrong:
            raise UsageError(str(wrong)) from None
        for typed, value in found:
            name = typed[2:] if typed.startswith("--") else typed[1:]
            if name not in self.synonyms:
                raise UsageError(f"No such option '{name}'")
            main = self.synonyms[name]
            self._dispatch[main](main, value)
        self._parse_rest(rest)
        self.postOptions()

    def _parse_rest(self, rest: list[str]) -> None:
        if getattr(self, "subCommands", None) and (rest or self.defaultSubCommand is not None):
            name, *words = rest or [self.defaultSubCommand or ""]
            self._parse_command(name, words)
            return
        try:
            inspect.signature(self.parseArgs).bind(*rest)
        except TypeError:
            raise UsageError("Wrong number of arguments.") from None
        self.parseArgs(*rest)

    def _parse_command(self, typed: str, words: list[str]) -> None:
        for name, short, make, _ in self.subCommands:
            if typed == name or (short is not None and typed == short):
                self.subCommand = name
                self.subOptions = make()
                self.subOptions.parent = self
                self.subOptions.parseOptions(words)
                return
        raise UsageError(f"Unknown command: {typed}")

    def parseArgs(self) -> None:
        """Take the words that are no options; override it with as many parameters as there may be."""

    def postOptions(self) -> None:
        """Look at all values together, once all are there; override it, and raise UsageError."""

    def opt_help(self) -> NoReturn:
        """Display this help and exit."""
        print(self)  # noqa: T201
        raise SystemExit(0)

    def opt_version(self) -> NoReturn:
        """Display the version of Plait and exit."""
        from plait import __version__

        print("Plait version:", __version__)  # noqa: T201
        raise SystemExit(0)

    def _complete(self, shell: str, words: list[str]) -> NoReturn:
        """Tell a shell what may follow, as its completion function asks."""
        name, _, position = shell.partition(":")
        if name != _ZSH:
            raise UsageError(f"Unknown shell: {name}")
        assert self._shellCompFile is not None
        shellComplete(self, path.basename(sys.argv[0]), [*words[: max(int(position or 2) - 2, 0)]], self._shellCompFile)
        raise SystemExit(0)

    # -- help ---------------------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        return f"{self.getSynopsis()}\n{self.getUsage()}"

    def getSynopsis(self) -> str:
        """The line that says how to call it, with what it is a sub-command of."""
        options = "[options]" if self.longOpt else ""
        if self.parent is None:
            own: str = getattr(self, "synopsis", f"Usage: {path.basename(sys.argv[0])} {options}")
            return own.rstrip()
        own = getattr(self, "synopsis", options)
        return " ".join((self.parent.getSynopsis(), self.parent.subCommand or "", own.rstrip()))

    def getUsage(self, width: int | None = None) -> str:
        """The help: options, sub-commands and the long description, in so many columns; of the sub-command if any."""
        if hasattr(self, "subOptions"):
            usage: str = self.subOptions.getUsage(width)
            return usage
        width = width or int(os.environ.get("COLUMNS") or WIDTH)
        rows = [self._row(name) for name in sorted(self._dispatch)]
        text = "Options:\n" + "".join(docMakeChunks(rows, width))
        commands = [*self._command_lines(width)]
        if commands:
            text += "\nCommands:\n" + "".join(commands)
        described = self._described(width)
        return text + ("\n" + described if described else "")

    def _row(self, name: str) -> dict[str, Any]:
        short = next((one for one, main in self.synonyms.items() if main == name != one and len(one) == 1), None)
        row: dict[str, Any] = {"long": name, "short": short, "doc": self.docs[name], "optType": "flag", "default": None}
        if name in self._parameters:
            row |= {"optType": "parameter", "default": self.defaults[name], "dispatch": self._parameters[name]}
        elif name + "=" in self.longOpt:
            row["optType"] = "parameter"
        return row

    def _command_lines(self, width: int) -> Iterator[str]:
        commands = [*(getattr(self, "subCommands", None) or ())]
        longest = max((len(name) for name, *_ in commands), default=0)
        for name, _, _, doc in sorted(commands, key=lambda row: row[0]):
            yield from _columns(f"    {name}", doc or "", longest + 8, width)

    def _described(self, width: int) -> str:
        text = getattr(self, "longdesc", None)
        if text is None:
            text = getattr(sys.modules.get("__main__"), "__doc__", None)
        paragraphs = [" ".join(one.split()) for one in (text or "").strip().split("\n\n")]
        return "\n\n".join(textwrap.fill(one, width) for one in paragraphs) + "\n" if text else ""


_COMPLETE = "--_shell-completion"


def _declarations(cls: type, attribute: str, length: int) -> Iterator[list[Any]]:
    """The rows of this attribute of the class and all its bases, those of bases first, each filled up with None."""
    for one in _bases_first(cls):
        for row in one.__dict__.get(attribute, ()):
            yield [*row, *[None] * (length - len(row))]


def _bases_first(cls: type) -> Iterator[type]:
    return reversed(cls.__mro__)


def _handlers(cls: type) -> Iterator[tuple[list[str], Any]]:
    """The `opt_` methods, each with its names, the longest first."""
    names: dict[Any, list[str]] = {}
    for attribute in sorted({name for one in cls.__mro__ for name in vars(one) if name.startswith("opt_")}):
        method = inspect.getattr_static(cls, attribute)
        if callable(method) or isinstance(method, (classmethod, staticmethod)):
            names.setdefault(method, []).append(attribute.removeprefix("opt_"))
    for method, several in names.items():
        yield sorted(several, key=lambda name: (-len(name), name)), method


def _call_flag(handler: Callable[[], object]) -> Callable[[str, Any], object]:
    return lambda name, value: handler()


def _call_with_value(handler: Callable[[Any], object]) -> Callable[[str, Any], object]:
    return lambda name, value: handler(value)


def flagFunction(method: Callable[..., object], name: str | None = None) -> bool:
    """Whether this bound handler takes no value; UsageError if it takes more than one."""
    parameters = inspect.signature(method).parameters.values()
    count = sum(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in parameters)
    if count > 1:
        raise UsageError(f"Invalid Option function for {name or getattr(method, '__name__', method)}")
    return count == 0


def portCoerce(value: str) -> int:
    """The number of a port. ValueError if it is none."""
    number = int(value)
    if not 0 <= number <= 65535:
        raise ValueError(f"Port number not in range: {value}")
    return number


portCoerce.coerceDoc = "Must be an int between 0 and 65535."  # type: ignore[attr-defined]


# -- laying out the help ----------------------------------------------------------------------------------------------


def docMakeChunks(optList: Iterable[Mapping[str, Any]], width: int = WIDTH) -> list[str]:
    """The lines of a help, one text for each option: dicts with long, short, doc, optType, default and dispatch."""
    rows = [*optList]
    heads = [_head(row) for row in rows]
    indent = max(map(len, heads), default=0) + 2
    return ["".join(_columns(head, _doc_of(row), indent, width)) for head, row in zip(heads, rows, strict=True)]


def _head(row: Mapping[str, Any]) -> str:
    value = "=" if row.get("optType") == "parameter" else ""
    short = row.get("short")
    return f"  -{short}, --{row['long']}{value}" if short else f"      --{row['long']}{value}"


def _doc_of(row: Mapping[str, Any]) -> str:
    parts = [" ".join((row.get("doc") or "").split())]
    if row.get("optType") == "parameter" and row.get("default") is not None:
        parts.append(f"[default: {row['default']}]")
    parts.append(getattr(row.get("dispatch"), "doc", ""))
    return " ".join(filter(None, parts))


def _columns(head: str, doc: str, indent: int, width: int) -> Iterator[str]:
    lines = textwrap.wrap(" ".join(doc.split()), max(width - indent - 1, 10)) or [""]
    yield f"{head:<{indent}}{lines[0]}".rstrip() + "\n"
    for line in lines[1:]:
        yield " " * indent + line + "\n"
