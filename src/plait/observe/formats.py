"""Log records as text: for people on a terminal, and as JSON lines for everything else.

Rules: a formatter never raises; a record that cannot be formatted is shown as it is, with the reason. Times on a
terminal are local, in JSON they are UTC. What is passed as `extra` becomes fields of the JSON object.
"""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from typing import Any

from plait._kernel.words import error_text
from plait.observe.tracebacks import render

SERVICES = "plait.service"
"""The logger of `self.log`; its records carry `service` and `incarnation`."""

_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def message_of(record: logging.LogRecord) -> str:
    """The record's message; what is wrong with a call of the logger is said in its place."""
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001  # a record's arguments are anybody's
        return f"{record.msg!r} with {record.args!r} ({type(error).__name__}: {error})"


def _traceback_of(record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info and record.exc_info[1] is not None:
        full = logging.getLogger().isEnabledFor(logging.DEBUG)
        parts.append(render(record.exc_info[1], full=full))
    elif record.exc_text:
        parts.append(record.exc_text)
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(part for part in parts if part)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, then what else there is to say."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its newline."""
        line: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message_of(record),
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["error"] = error_text(error)
        if traceback := _traceback_of(record):
            line["traceback"] = traceback
        for name, value in extras(record).items():
            line.setdefault(name, value)
        return _dumps(line)


def extras(record: logging.LogRecord) -> dict[str, Any]:
    """What was passed as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _KNOWN}


def _utc(created: float) -> str:
    return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _dumps(line: dict[str, Any]) -> str:
    try:
        return json.dumps(line, ensure_ascii=False, allow_nan=False, default=str)
    except Exception:  # noqa: BLE001  # NaN, a cycle, a key that is no text, a __str__ that raises
        return json.dumps({name: _text(value) for name, value in line.items()})


def _text(value: object) -> str:
    try:
        return value if isinstance(value, str) else repr(value)
    except Exception as error:  # noqa: BLE001
        return f"<a {type(value).__name__}, whose repr raised {type(error).__name__}>"


_COLOURS = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}


class TextFormatter(logging.Formatter):
    """Who says it, and what; a traceback below. For a log that keeps time and level itself."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, or the lines of a traceback, without the last newline."""
        text = f"{_speaker(record)}{message_of(record)}"
        if traceback := _traceback_of(record):
            text += "\n" + "\n".join(f"    {line}" for line in traceback.splitlines())
        return text


class ConsoleFormatter(TextFormatter):
    """Time, level, who says it, and what; a traceback below."""

    def __init__(self, *, colour: bool = False) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """The line, or the lines of a traceback, without the last newline."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = self._paint(f"{record.levelname.lower():<8}", _COLOURS.get(record.levelname))
        head = self._paint(f"{clock}.{int(record.msecs):03d}", "2")
        return f"{head} {level} {super().format(record)}"

    def _paint(self, text: str, colour: str | None) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour and colour else text


def _speaker(record: logging.LogRecord) -> str:
    """A service by its path, a library by its logger; what Plait says names its subject itself."""
    if record.name == SERVICES:
        return f"{getattr(record, 'service', '?')}: "
    if record.name == "plait" or record.name.startswith("plait."):
        return ""
    return f"{record.name}: "
