"""Events that keep the values of their fields as text, so that they can be written down and formatted elsewhere.

Rule: `log_flattened` maps a field as it stands in the format, `name!conversion:spec`, to its text, and the same
without conversion to its value; a field that occurs again has its number behind it. So Twisted's own files are read.
"""

from __future__ import annotations

from collections import defaultdict
from string import Formatter
from typing import Any

from plait.classic.logger._interfaces import LogEvent

aFormatter = Formatter()


class KeyFlattener:
    """Names fields so that each occurrence has its own."""

    def __init__(self) -> None:
        self.keys: defaultdict[str, int] = defaultdict(int)

    def flatKey(self, fieldName: str, formatSpec: str | None, conversion: str | None) -> str:
        """The name of the next occurrence of that field."""
        key = f"{fieldName}!{conversion or ''}:{formatSpec or ''}"
        self.keys[key] += 1
        number = self.keys[key]
        return key if number == 1 else f"{key}/{number}"


def flattenEvent(event: LogEvent) -> None:
    """Put all that the event's format needs into the event as `log_flattened`."""
    if event.get("log_format") is None:
        return
    fields = event.get("log_flattened", {})
    keys = KeyFlattener()
    for _, name, spec, conversion in aFormatter.parse(event["log_format"]):
        if name is None:
            continue
        conversion = "r" if conversion == "r" else "s"
        text_key, value_key = keys.flatKey(name, spec, conversion), keys.flatKey(name, spec, "")
        if text_key not in fields:
            value = _field(name, event)
            fields[text_key] = repr(value) if conversion == "r" else str(value)
            fields[value_key] = value
    if fields:
        event["log_flattened"] = fields


def _field(name: str, event: LogEvent) -> Any:
    called = name.endswith("()")
    value = aFormatter.get_field(name[:-2] if called else name, (), event)[0]
    return value() if called else value


def flatFormat(event: LogEvent) -> str:
    """The message of a flattened event."""
    fields, keys = event["log_flattened"], KeyFlattener()
    parts = []
    for literal, name, spec, conversion in aFormatter.parse(event["log_format"]):
        parts.append(literal)
        if name is not None:
            parts.append(str(fields[keys.flatKey(name, spec, conversion or "s")]))
    return "".join(parts)


def extractField(field: str, event: LogEvent) -> Any:
    """The value of a field of the event's format, as it stands there, `key[2].attribute!r`; with a conversion, text.

    KeyError if the format has no such field.
    """
    ((_, name, spec, conversion),) = aFormatter.parse("{" + field + "}")
    assert name is not None
    key = KeyFlattener().flatKey(name, spec, conversion)
    if "log_flattened" not in event:
        event = dict(event)
        flattenEvent(event)
    return event["log_flattened"][key]
