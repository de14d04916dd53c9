"""Options of a program in the handbook's way: declared one by one, read like a mapping.

    options = Options("echo")
    options.addOpt("port", type="int", default=1234, help="The port to listen on.")
    options["port"]

Rules: they are Plait's own options, made into a class at the first read: default < `--config FILE` < environment
(ECHO_PORT) < command line. The command line is that of the program in which they were made: of `__main__`, or what
follows the target under `plait run`; where another program merely imports the module it is not looked at. What is wrong
ends the program with a line for each thing and code 2; `--help` ends it with 0.
"""

from __future__ import annotations

import keyword
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from plait.errors import LifecycleError, OptionsError
from plait.options.declare import Options as Declared
from plait.options.declare import OptionsMeta
from plait.options.meta import Meta
from plait.options.resolving import resolve, wants_help
from plait.options.show import render_help
from plait.options.sources import Inputs
from plait.plugins import lookup

TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}
"""The types that may be given by name."""


class Options(Mapping[str, Any]):
    """The options of the program `name`, which gives the prefix of their environment variables. See the module."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._loading = lookup.loading
        self._is_program = sys._getframe(1).f_globals.get("__name__") == "__main__"
        self._declared: dict[str, tuple[Any, Any]] = {}
        self._values: dict[str, Any] | None = None

    def addOpt(self, name: str, type: Any = str, default: Any = None, help: str = "") -> None:
        """Declare an option: its type, or the name of one, its value if nothing gives one, and a line of help.

        TypeError for a type that is none, ValueError for a name that is none or is declared, LifecycleError once the
        options were read.
        """
        if self._values is not None:
            raise LifecycleError(f"option {name!r} of {self.name!r} is declared after they were read; move it up")
        field = _field(name)
        if field in map(_field, self._declared):
            raise ValueError(f"option {name!r} of {self.name!r} is declared already")
        self._declared[name] = Annotated[_type(name, type, default), Meta(description=help)], default
        self._class()  # a name that cannot work is refused here

    def _class(self) -> Any:
        """The class of Plait's options that these are."""
        fields = {_field(name): declared for name, declared in self._declared.items()}
        body: dict[str, Any] = {field: default for field, (_, default) in fields.items()}
        body["__annotations__"] = {field: annotation for field, (annotation, _) in fields.items()}
        body |= {"__module__": __name__, "__doc__": None}
        prefix = _field(self.name).upper() + "_"
        return OptionsMeta(f"{_field(self.name)}Options", (Declared,), body, env=prefix)

    # -- reading them -------------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Any:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._declared)

    def __len__(self) -> int:
        return len(self._declared)

    def __repr__(self) -> str:
        return f"<Options {self.name!r}: {', '.join(self._declared) or 'none'}>"

    def _read(self) -> dict[str, Any]:
        if self._values is None:
            made = self._parsed(self._class())
            self._values = {name: getattr(made, _field(name)) for name in self._declared}
        return self._values

    def _parsed(self, cls: Any) -> Any:
        if self._loading is not None:
            self._loading.options_class = cls
            return _resolved(cls, self._loading.inputs)  # what is wrong is told by who loads it
        argv = sys.argv[1:] if self._is_program else []
        if wants_help(cls, argv):
            print(f"Usage: {os.path.basename(sys.argv[0])} [OPTIONS]\n\n{render_help(cls)}", end="")  # noqa: T201
            raise SystemExit(0)
        try:
            return _resolved(cls, Inputs(argv, os.environ))
        except OptionsError as error:
            sys.stderr.write("".join(f"{self.name}: error: {problem}\n" for problem in error.problems))
            raise SystemExit(2) from None


def _resolved(cls: Any, inputs: Inputs) -> Any:
    found = resolve(
        cls,
        inputs.argv,
        environ=inputs.environ,
        config=inputs.config,
        env_file=inputs.env_file,
        sets=inputs.sets,
        runner_flags=inputs.runner_flags,
        read=inputs.read,
    )
    return found.options


def _field(name: str) -> str:
    """An option's name as that of an attribute."""
    field = name.replace("-", "_") if isinstance(name, str) else ""
    if not field.isidentifier() or keyword.iskeyword(field) or field.startswith("_"):
        raise ValueError(f"{name!r} is no name for an option; use letters, digits and -")
    return field


def _type(name: str, given: Any, default: Any) -> Any:
    kind = TYPES.get(given) if isinstance(given, str) else given
    if not isinstance(kind, type):
        raise TypeError(f"type of option {name!r} is {given!r}; it may be a type, or {', '.join(map(repr, TYPES))}")
    return kind | None if default is None else kind
