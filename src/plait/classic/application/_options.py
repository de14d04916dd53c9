"""Options of a program in the handbook's way: declared one by one, read like a mapping.

    options = Options("echo")
    options.addOpt("port", type="int", default=1234, help="The port to listen on.")
    options["port"]

Rules: they are Plait's own options, made into a class at the first read: default < `--config FILE` < environment
(ECHO_PORT) < command line. The command line is that of the program in which they were made: of `__main__`, or what
follows the target under `plait run`; where another program merely imports the module it is not looked at. Several
objects in one program share its command line: they are read together, at the first read of any. What is wrong ends the
program with a line for each thing and code 2; `--help` ends it with 0.
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

_of_main: list[Options] = []
"""Those of the program that runs by itself."""


class Options(Mapping[str, Any]):
    """The options of the program `name`, which gives the prefix of their environment variables. See the module."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._loading = lookup.loading
        self._is_program = sys._getframe(1).f_globals.get("__name__") == "__main__"
        self._declared: dict[str, tuple[Any, Any]] = {}
        self._values: dict[str, Any] | None = None
        self._together: list[Options] = []
        """Those that are read together, which share a command line."""
        if self._loading is not None:
            self._together = self._loading.declaring
        elif self._is_program:
            self._together = _of_main
        self._together.append(self)

    def addOpt(self, name: str, type: Any = str, default: Any = None, help: str = "") -> None:
        """Declare an option: its type, or the name of one, its value if nothing gives one, and a line of help.

        TypeError for a type that is none, ValueError for a name that is none or is declared, LifecycleError once the
        program's options were read.
        """
        if any(one._values is not None for one in self._together):
            raise LifecycleError(f"option {name!r} of {self.name!r} is declared after they were read; move it up")
        field = _field(name)
        for one in self._together:
            if field in map(_field, one._declared):
                raise ValueError(f"option {name!r} of {self.name!r} is declared already, by {one.name!r}")
        variable = f"{_field(self.name)}_{field}".upper()
        meta = Meta(description=help, variable=variable)
        self._declared[name] = Annotated[_type(name, type, default), meta], default
        self._class()  # a name that cannot work is refused here

    def _class(self) -> Any:
        """The class of Plait's options that these are, with those that are read together with them."""
        fields = {_field(name): kept for one in self._together for name, kept in one._declared.items()}
        body: dict[str, Any] = {field: default for field, (_, default) in fields.items()}
        body["__annotations__"] = {field: annotation for field, (annotation, _) in fields.items()}
        body |= {"__module__": __name__, "__doc__": None}
        program = _field(self._together[0].name)
        return OptionsMeta(f"{program}Options", (Declared,), body, env=program.upper() + "_")

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
            for one in self._together:
                one._values = {name: getattr(made, _field(name)) for name in one._declared}
        assert self._values is not None
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
