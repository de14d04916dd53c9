"""The runner's own settings: command line > `[plait]` of the configuration file > default.

Rules: the file is the one given with --config, or the target itself if that is a TOML file. A file that cannot be read
is the application's to complain about, which reads it next; a key of `[plait]` that nobody knows is an error here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

from plait.errors import OptionsError, Problem
from plait.observe.logs import FORMATS, LEVELS, Logs
from plait.options.arguments import parse_arguments
from plait.options.convert import unknown_key
from plait.options.sources import runner_table

log = logging.getLogger("plait")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to run, whatever is run."""

    loop: str = "uvloop"
    log_level: str = "info"
    log_format: str = "auto"
    log_file: str | None = None
    state_dir: str | None = None

    @property
    def logs(self) -> Logs:
        """The part that logging takes."""
        return Logs(self.log_level, self.log_format, self.log_file)


CHOICES: dict[str, tuple[str, ...]] = {
    "loop": ("uvloop", "asyncio"),
    "log_level": LEVELS,
    "log_format": FORMATS,
}
NAMES = tuple(field.name for field in fields(Settings))
FLAGS = tuple("--" + name.replace("_", "-") for name in NAMES)


def settle(given: Mapping[str, str | None], target: str, argv: Sequence[str]) -> Settings:
    """The settings in force. `given` is from the command line, None where nothing was. OptionsError."""
    found = _from_file(_file_of(target, argv))
    return Settings(**{**found, **{name: value for name, value in given.items() if value is not None}})


class Live:
    """The settings in force, read anew by a reload: logs follow, what only a new start can change is said."""

    def __init__(self, given: Mapping[str, str | None], target: str, argv: Sequence[str]) -> None:
        self._read = partial(settle, given, target, argv)
        self.now = self._read()

    def logs(self) -> Logs:
        """How to log, by what stands in the file now. OptionsError."""
        now = self._read()
        for name in ("loop", "state_dir"):
            if getattr(now, name) != getattr(self.now, name):
                log.warning("[plait] %s is another now; restart required", name)
        return now.logs


def _file_of(target: str, argv: Sequence[str]) -> Path | None:
    if target.endswith(".toml"):
        return Path(target)
    config = parse_arguments(argv, None).config
    return Path(config) if config is not None else None


def _from_file(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        table = runner_table(path)
    except OptionsError as error:
        if any(problem.key == "plait" for problem in error.problems):
            raise
        return {}
    problems = [problem for name, value in table.items() if (problem := _wrong(path, name, value)) is not None]
    if problems:
        raise OptionsError(problems)
    return {name: str(value) for name, value in table.items()}


def _wrong(path: Path, name: str, value: object) -> Problem | None:
    source = f"{path} [plait]"
    if name not in NAMES:
        return Problem(source, name, "", unknown_key(name, NAMES))
    if not isinstance(value, str):
        return Problem(source, name, repr(value), "expected text")
    if name in CHOICES and value not in CHOICES[name]:
        return Problem(source, name, repr(value), f"expected one of {', '.join(CHOICES[name])}")
    return None
