"""Between the events of `logger` and those of `python.log`, in both directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from plait.classic.logger._format import formatEvent
from plait.classic.logger._interfaces import ILogObserver, LogEvent
from plait.classic.logger._levels import LogLevel
from plait.classic.logger._observer import Observer
from plait.classic.logger._stdlib import StringifiableFromEvent, fromStdlibLogLevelMapping


@implementer(ILogObserver)
class LegacyLogObserverWrapper:
    """Tells an observer of `python.log` of events: hands it a copy with the keys that it expects."""

    def __init__(self, legacyObserver: Callable[[dict[str, Any]], object]) -> None:
        self.legacyObserver = legacyObserver

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.legacyObserver})"

    def __call__(self, event: LogEvent) -> None:
        legacy = {"message": (), "time": event.get("log_time"), "system": event.get("log_system", "-"), **event}
        if legacy.get("log_format") is not None and "format" not in legacy:
            legacy["format"] = "%(log_legacy)s"
            legacy["log_legacy"] = StringifiableFromEvent(dict(event))
            if not isinstance(legacy["message"], tuple):  # a field of the format, no message of `log.msg`
                legacy["message"] = ()
        if "log_failure" in legacy:
            legacy.setdefault("failure", legacy["log_failure"])
            legacy.setdefault("isError", 1)
            legacy.setdefault("why", formatEvent(event))
        elif "isError" not in legacy:
            legacy["isError"] = 1 if legacy.get("log_level") in (LogLevel.error, LogLevel.critical) else 0
        self.legacyObserver(legacy)


def publishToNewObserver(
    observer: Observer,
    eventDict: dict[str, Any],
    textFromEventDict: Callable[[dict[str, Any]], str | None],
) -> None:
    """Tell an observer of an event of `python.log`, which gets the keys that it expects."""
    eventDict.setdefault("log_time", eventDict["time"])
    if "log_format" not in eventDict:
        text = textFromEventDict(eventDict)
        if text is not None:
            eventDict["log_text"] = text
            eventDict["log_format"] = "{log_text}"
    if "log_level" not in eventDict:
        level = _level_of(eventDict)
        if level is not None:
            eventDict["log_level"] = level
    eventDict.setdefault("log_namespace", "log_legacy")
    if "system" in eventDict:
        eventDict.setdefault("log_system", eventDict["system"])
    observer(eventDict)


def _level_of(event: dict[str, Any]) -> LogLevel | None:
    """By a level of Python's `logging`, if it has one; else by whether it is an error."""
    if "logLevel" in event:
        return fromStdlibLogLevelMapping.get(event["logLevel"])
    return LogLevel.critical if event.get("isError") else LogLevel.info
