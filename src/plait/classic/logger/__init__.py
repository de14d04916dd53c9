"""Structured logging with Twisted's names: Logger, levels, observers, filters, formats.

    from plait.classic.logger import Logger

    class Shop:
        log = Logger()

        def sell(self, what):
            self.log.info("sold {what.name} for {what.price()}", what=what)

An event is a dictionary. It goes from a Logger to the global publisher, and from there to every observer; without
any chosen by `globalLogBeginner.beginLoggingTo`, to Python's own `logging`.
"""

from __future__ import annotations

from plait.classic.logger._buffer import LimitedHistoryLogObserver
from plait.classic.logger._capture import capturedLogs
from plait.classic.logger._file import FileLogObserver, textFileLogObserver
from plait.classic.logger._filter import (
    FilteringLogObserver,
    ILogFilterPredicate,
    LogLevelFilterPredicate,
    PredicateResult,
)
from plait.classic.logger._flatten import extractField
from plait.classic.logger._format import (
    eventAsText,
    formatEvent,
    formatEventAsClassicLogText,
    formatTime,
    timeFormatRFC3339,
)
from plait.classic.logger._global import LogBeginner, globalLogBeginner
from plait.classic.logger._interfaces import ILogObserver, LogEvent
from plait.classic.logger._io import LoggingFile
from plait.classic.logger._json import eventAsJSON, eventFromJSON, eventsFromJSONLogFile, jsonFileLogObserver
from plait.classic.logger._legacy import LegacyLogObserverWrapper
from plait.classic.logger._levels import InvalidLogLevelError, LogLevel
from plait.classic.logger._logger import Logger, Operation, _loggerFor
from plait.classic.logger._observer import LogPublisher, globalLogPublisher
from plait.classic.logger._stdlib import STDLibLogObserver

__all__ = [
    "FileLogObserver",
    "FilteringLogObserver",
    "ILogFilterPredicate",
    "ILogObserver",
    "InvalidLogLevelError",
    "LegacyLogObserverWrapper",
    "LimitedHistoryLogObserver",
    "LogBeginner",
    "LogEvent",
    "LogLevel",
    "LogLevelFilterPredicate",
    "LogPublisher",
    "Logger",
    "LoggingFile",
    "Operation",
    "PredicateResult",
    "STDLibLogObserver",
    "_loggerFor",
    "capturedLogs",
    "eventAsJSON",
    "eventAsText",
    "eventFromJSON",
    "eventsFromJSONLogFile",
    "extractField",
    "formatEvent",
    "formatEventAsClassicLogText",
    "formatTime",
    "globalLogBeginner",
    "globalLogPublisher",
    "jsonFileLogObserver",
    "textFileLogObserver",
    "timeFormatRFC3339",
]
