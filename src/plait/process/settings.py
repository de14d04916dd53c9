"""The runner's own settings: command line > `[plait]` of the configuration file > default.

Rules: the file is the one given with --config, or the target itself if that is a TOML file. A file that cannot be read
is the application's to complain about, which reads it next; a key of `[plait]` that nobody knows is an error here.
What is no text has one reader in `READERS`, for both sources.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from plait.errors import OptionsError, Problem
from plait.observe.logs import FORMATS, LEVELS, Logs, Syslog
from plait.observe.syslog import FACILITIES
from plait.options.arguments import parse_arguments
from plait.options.convert import unknown_key
from plait.options.sources import runner_table
from plait.options.values import parse_size

log = logging.getLogger("plait")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to run, whatever is run."""

    loop: str = "uvloop"
    log_level: str = "info"
    log_format: str = "auto"
    log_file: str | None = None
    syslog: bool = False
    syslog_facility: str = "daemon"
    syslog_tag: str = "plait"
    state_dir: str | None = None
    control: bool = True
    runtime_dir: str | None = None
    daemon: bool = False
    pidfile: str | None = None
    umask: int | None = None
    nofile: int | None = None
    memory: int | None = None
    title: str | None = None
    crash_report: str | None = None

    @property
    def logs(self) -> Logs:
        """The part that logging takes. UsageError if it does not fit together."""
        syslog = Syslog(self.syslog_facility, self.syslog_tag) if self.syslog else None
        return Logs(self.log_level, self.log_format, self.log_file, syslog)


CHOICES: dict[str, tuple[str, ...]] = {
    "loop": ("uvloop", "asyncio"),
    "log_level": LEVELS,
    "log_format": FORMATS,
    "syslog_facility": FACILITIES,
}
NAMES = tuple(field.name for field in fields(Settings))
FLAGS = tuple("--" + name.replace("_", "-") for name in (*NAMES, "rundir"))
LIVE = frozenset(["log_level", "log_format", "log_file", "syslog", "syslog_facility", "syslog_tag"])
"""What a reload changes; the rest takes a new start."""


def settle(given: Mapping[str, object], target: str, argv: Sequence[str]) -> Settings:
    """The settings in force. `given` is from the command line, None where nothing was. OptionsError."""
    path = _file_of(target, argv)
    found = _read_all(_table(path), lambda name: (f"{path} [plait]", name))
    there = {name: value for name, value in given.items() if value is not None}
    return Settings(**{**found, **_read_all(there, lambda name: ("command line", "--" + name.replace("_", "-")))})


class Live:
    """The settings in force, read anew by a reload: logs follow, what only a new start can change is said."""

    def __init__(self, given: Mapping[str, object], target: str, argv: Sequence[str]) -> None:
        self._read = partial(settle, given, target, argv)
        self.now = self._read()

    def logs(self) -> Logs:
        """How to log, by what stands in the file now. OptionsError."""
        now = self._read()
        for name in NAMES:
            if name not in LIVE and getattr(now, name) != getattr(self.now, name):
                log.warning("[plait] %s is another now; restart required", name)
        return now.logs


def _file_of(target: str, argv: Sequence[str]) -> Path | None:
    if target.endswith(".toml"):
        return Path(target)
    config = parse_arguments(argv, None).config
    return Path(config) if config is not None else None


def _table(path: Path | None) -> dict[str, object]:
    if path is None:
        return {}
    try:
        return runner_table(path)
    except OptionsError as error:
        if any(problem.key == "plait" for problem in error.problems):
            raise
        return {}


def _read_all(values: Mapping[str, object], where: Callable[[str], tuple[str, str]]) -> dict[str, Any]:
    """Each as its setting has it. OptionsError with everything that is wrong; `where` names source and key of one."""
    read: dict[str, Any] = {}
    problems = []
    for name, value in values.items():
        source, key = where(name)
        try:
            read[name] = _read(name, value)
        except KeyError:
            problems.append(Problem(source, key, "", unknown_key(name, NAMES)))
        except ValueError as error:
            problems.append(Problem(source, key, repr(value), str(error)))
    if problems:
        raise OptionsError(problems)
    return read


def _read(name: str, value: object) -> Any:
    """KeyError for a setting that nobody knows, ValueError with what was expected."""
    if name not in NAMES:
        raise KeyError(name)
    result = READERS.get(name, _text)(value)
    if name in CHOICES and result not in CHOICES[name]:
        raise ValueError(f"expected one of {', '.join(CHOICES[name])}")
    return result


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text")
    return value


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def _octal(value: object) -> int:
    """Text alone: a bare 022 in a file is 22 in tens, or no TOML at all."""
    if not isinstance(value, str) or not re.fullmatch(r"(0o?)?[0-7]{1,3}", value):
        raise ValueError('expected octal digits as text, such as "027"')
    return int(value.removeprefix("0o"), 8)


def _count(value: object) -> int:
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise ValueError("expected a number above zero")
    return int(text)


def _size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("expected a size such as 512MiB, or a number of bytes")
    size = parse_size(str(value))
    if size == 0:
        raise ValueError("expected a size above zero")
    return size


READERS: dict[str, Callable[[object], Any]] = {
    "syslog": _switch,
    "control": _switch,
    "daemon": _switch,
    "umask": _octal,
    "nofile": _count,
    "memory": _size,
}
