"""Events as JSON lines, and back.

Rules: what JSON cannot hold becomes `{"unpersistable": true}`, but the text that the event's format needs of it is
kept. A level and a Failure are marked by Twisted's own identifiers, so that either side reads the other's files. A
record that cannot be read is logged, and left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from json import dumps, loads
from typing import Any
from uuid import UUID

from plait.classic.logger._file import FileLogObserver
from plait.classic.logger._flatten import flattenEvent
from plait.classic.logger._interfaces import LogEvent
from plait.classic.logger._levels import LogLevel
from plait.classic.logger._logger import Logger
from plait.classic.python.failure import Failure

log = Logger(__name__)

_LEVEL = UUID("02E59486-F24D-46AD-8224-3ACDF2A5732A")
_FAILURE = UUID("E76887E2-20ED-49BF-A8F8-BA25CC586F2D")
_MARK = "__class_uuid__"


def eventAsJSON(event: LogEvent) -> str:
    """The event as one line of JSON."""
    flat = dict(event)
    flattenEvent(flat)
    return dumps(flat, default=_saved, skipkeys=True)


def _saved(thing: object) -> Any:
    """Something that JSON has no form for."""
    if isinstance(thing, bytes):
        return thing.decode("charmap")
    if isinstance(thing, LogLevel):
        return {"name": thing.name, _MARK: str(_LEVEL)}
    if isinstance(thing, Failure):
        return {**thing.__getstate__(), "type": _name_of(thing.type), _MARK: str(_FAILURE)}
    return {"unpersistable": True}


def _name_of(kind: Any) -> dict[str, Any]:
    return {"__module__": getattr(kind, "__module__", None), "__name__": getattr(kind, "__name__", str(kind))}


def eventFromJSON(eventText: str) -> LogEvent:
    """The event of a line of JSON."""
    event: LogEvent = loads(eventText, object_hook=_loaded)
    return event


def _loaded(parts: dict[str, Any]) -> Any:
    mark = parts.get(_MARK)
    kind = UUID(mark) if isinstance(mark, str) else None
    if kind == _LEVEL:
        return LogLevel.__members__.get(parts["name"])
    if kind == _FAILURE:
        state = {key: value for key, value in parts.items() if key != _MARK}
        failure = Failure.__new__(Failure)
        failure.__setstate__({**state, "type": type(state["type"]["__name__"], (), state["type"])})
        return failure
    return parts


def jsonFileLogObserver(outFile: Any, recordSeparator: str = "\x1e") -> FileLogObserver:
    """An observer that writes a record for each event: the separator, one line of JSON."""
    return FileLogObserver(outFile, lambda event: f"{recordSeparator}{eventAsJSON(event)}\n")


def eventsFromJSONLogFile(
    inFile: Any, recordSeparator: str | None = None, bufferSize: int = 4096
) -> Iterable[LogEvent]:
    """The events of such a file, text or UTF-8. Without a separator, the file's first character tells which it is."""
    first = _as_bytes(inFile.read(1)) if recordSeparator is None else b""
    if recordSeparator is None:
        recordSeparator = "\x1e" if first == b"\x1e" else ""
        first = b"" if recordSeparator else first
    return _events(inFile, first, recordSeparator.encode("utf-8"), bufferSize)


def _events(inFile: Any, buffer: bytes, separator: bytes, bufferSize: int) -> Iterator[LogEvent]:
    end = separator or b"\n"
    while True:
        chunk = _as_bytes(inFile.read(bufferSize))
        *records, buffer = (buffer + chunk).split(end)
        if not chunk and buffer:
            records.append(buffer)
        for record in records:
            event = _read(record, separated=bool(separator))
            if event is not None:
                yield event
        if not chunk:
            return


def _read(record: bytes, *, separated: bool) -> LogEvent | None:
    """The event of one record, or None for one that is empty or that cannot be read, which is logged."""
    if not record.strip():
        return None
    if separated and not record.endswith(b"\n"):
        log.error("Unable to read truncated JSON record: {record!r}", record=record)
        return None
    try:
        return eventFromJSON(record.decode("utf-8"))
    except UnicodeDecodeError:
        log.error("Unable to decode UTF-8 for JSON record: {record!r}", record=record)
    except ValueError:
        log.error("Unable to read JSON record: {record!r}", record=record)
    return None


def _as_bytes(data: str | bytes) -> bytes:
    return data.encode("utf-8") if isinstance(data, str) else data
