"""Events as text.

Rules: a format is Python's own, `{name}`, with attributes and items, and `{name()}` calls what it finds. Formatting
never raises: an event that cannot be formatted is described.
"""

from __future__ import annotations

from _string import formatter_field_name_split  # type: ignore[import-not-found]
from collections.abc import Callable, Mapping
from datetime import datetime
from string import Formatter
from typing import Any

from plait.classic.logger._flatten import flatFormat
from plait.classic.logger._interfaces import LogEvent
from plait.classic.python._shown import safe_repr
from plait.classic.python.failure import Failure

timeFormatRFC3339 = "%Y-%m-%dT%H:%M:%S%z"


def formatEvent(event: LogEvent) -> str:
    """The message alone; empty without a format."""
    return eventAsText(event, includeTraceback=False, includeTimestamp=False, includeSystem=False)


def formatEventAsClassicLogText(event: LogEvent, formatTime: Callable[[float | None], str] | None = None) -> str | None:
    """A line of a log file, `time [system] message`, the following lines of it indented. None without a message."""
    text = eventAsText(event, formatTime=formatTime)
    return text.replace("\n", "\n\t") + "\n" if text else None


def formatTime(when: float | None, timeFormat: str | None = timeFormatRFC3339, default: str = "-") -> str:
    """A timestamp in local time; `default` without one, or without a format."""
    if timeFormat is None or when is None:
        return default
    return datetime.fromtimestamp(when).astimezone().strftime(timeFormat)


def eventAsText(
    event: LogEvent,
    includeTraceback: bool = True,
    includeTimestamp: bool = True,
    includeSystem: bool = True,
    formatTime: Callable[[float | None], str] | None = None,
) -> str:
    """`time [system] message`, then the traceback. Empty if there is neither a message nor a traceback.

    The system is `log_system`, else `namespace#level`.
    """
    text = _message(event)
    if includeTraceback and "log_failure" in event:
        text = f"{text}\n{_traceback(event['log_failure'])}"
    if not text:
        return text
    if includeSystem:
        text = f"[{_system(event)}] {text}"
    if includeTimestamp:
        text = f"{(formatTime or _default_time)(event.get('log_time'))} {text}"
    return text


_default_time = formatTime


def _message(event: LogEvent) -> str:
    try:
        if "log_flattened" in event:
            return flatFormat(event)
        text = event.get("log_format")
        if text is None:
            return ""
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        elif not isinstance(text, str):
            raise TypeError(f"Log format must be str, not {text!r}")
        return formatWithCall(text, event)
    except BaseException as error:
        return formatUnformattableEvent(event, error)


def formatUnformattableEvent(event: LogEvent, error: BaseException) -> str:
    """What can be said of an event whose format fails."""
    try:
        return f"Unable to format event {event!r}: {error}"
    except BaseException:
        parts = ", ".join(f"{safe_repr(key)} = {safe_repr(value)}" for key, value in event.items())
        return (
            f"MESSAGE LOST: unformattable object logged: {safe_repr(error)}\n"
            f"Recoverable data: {parts}\n"
            f"Exception during formatting:\n{Failure()}"
        )


def _traceback(failure: Any) -> str:
    try:
        return str(failure.getTraceback())
    except BaseException as error:
        return f"(UNABLE TO OBTAIN TRACEBACK FROM EVENT):{error}"


def _system(event: LogEvent) -> str:
    system = event.get("log_system")
    if system is not None:
        try:
            return str(system)
        except BaseException:
            return "UNFORMATTABLE"
    level = event.get("log_level")
    return f"{event.get('log_namespace', '-')}#{getattr(level, 'name', '-')}"


class _CallingFormatter(Formatter):
    """Python's formats, where any part of a field's name may end with (), and is then called."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, Any]:
        first, rest = formatter_field_name_split(field_name)
        name, called = _split_call(first)
        value = self.get_value(name, args, kwargs)
        value = value() if called else value
        for is_attribute, part in rest:
            name, called = _split_call(part)
            value = getattr(value, name) if is_attribute else value[name]
            value = value() if called else value
        return value, first


def _split_call(part: Any) -> tuple[Any, bool]:
    called = isinstance(part, str) and part.endswith("()")
    return part[:-2] if called else part, called


_formatter = _CallingFormatter()


def formatWithCall(formatString: str, mapping: Mapping[str, Any]) -> str:
    """`formatString.format_map(mapping)`, where `{name()}` calls what it finds."""
    return str(_formatter.vformat(formatString, (), mapping))
