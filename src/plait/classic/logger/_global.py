"""Where the log goes: to Python's own `logging`, until the program chooses observers.

Rules: what is logged is a record of `logging` from the first event on, so that it is seen wherever the program runs,
and nothing has to be set up. `beginLoggingTo` puts the program's own observers in the place of that; they are told
the last events from before, but for those that hold a Failure, since it would keep all it refers to alive.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from typing import Any

from plait.classic.logger._buffer import LimitedHistoryLogObserver
from plait.classic.logger._file import FileLogObserver
from plait.classic.logger._filter import FilteringLogObserver, LogLevelFilterPredicate, PredicateResult
from plait.classic.logger._format import eventAsText
from plait.classic.logger._interfaces import LogEvent
from plait.classic.logger._io import LoggingFile
from plait.classic.logger._levels import LogLevel
from plait.classic.logger._logger import Logger
from plait.classic.logger._observer import LogPublisher, Observer, globalLogPublisher
from plait.classic.logger._stdlib import LoggingByNamespace
from plait.classic.python._shown import qual

__all__ = ["MORE_THAN_ONCE_WARNING", "LogBeginner", "globalLogBeginner", "globalLogPublisher"]

MORE_THAN_ONCE_WARNING = (
    "where to log was chosen at <{fileThen}:{lineThen}>, and again at <{fileNow}:{lineNow}>; "
    "leave out one of these calls of beginLoggingTo"
)


class LogBeginner:
    """Keeps the last events, and writes critical ones to `errorStream`, until it is told to which observers to log.

    `stdio` is the module whose stdout and stderr become part of the log then, `warningsModule` the one whose warnings
    do. With `until_begun` that observer is told the events, and nothing is written.
    """

    _DEFAULT_BUFFER_SIZE = 200

    def __init__(
        self,
        publisher: LogPublisher,
        errorStream: Any,
        stdio: Any,
        warningsModule: Any,
        initialBufferSize: int | None = None,
        *,
        until_begun: Observer | None = None,
    ) -> None:
        size = self._DEFAULT_BUFFER_SIZE if initialBufferSize is None else initialBufferSize
        self._buffer = LimitedHistoryLogObserver(size)
        keep: Observer = FilteringLogObserver(self._buffer, [_without_failure]) if until_begun else self._buffer
        self._temporary = LogPublisher(keep, until_begun or _critical_to(errorStream))
        self._log = Logger(namespace=__name__, observer=publisher)
        self._publisher = publisher
        self._stdio = stdio
        self._warnings = warningsModule
        self._begun_at: tuple[str, int] | None = None
        publisher.addObserver(self._temporary)
        self._old_showwarning = warningsModule.showwarning

    def beginLoggingTo(
        self,
        observers: Iterable[Observer],
        discardBuffer: bool = False,
        redirectStandardIO: bool = True,
    ) -> None:
        """Log to these, and tell them first what was logged before, unless told to discard it.

        From now on warnings are logged, and so is, unless told otherwise, what is written to stdout and stderr.
        Called again, it adds observers, and warns.
        """
        frame = sys._getframe(1)
        here = frame.f_code.co_filename, frame.f_lineno
        chosen = list(observers)
        for observer in chosen:
            self._publisher.addObserver(observer)
        if self._begun_at is None:
            self._begin(chosen, discardBuffer)
            self._begun_at = here
        else:
            (file_now, line_now), (file_then, line_then) = here, self._begun_at
            self._log.warn(
                MORE_THAN_ONCE_WARNING, fileNow=file_now, lineNow=line_now, fileThen=file_then, lineThen=line_then
            )
        self._warnings.showwarning = self.showwarning
        if redirectStandardIO:
            self._redirect("stdout", LogLevel.info)
            self._redirect("stderr", LogLevel.error)

    def _begin(self, observers: list[Observer], discard: bool) -> None:
        self._publisher.removeObserver(self._temporary)
        if not discard:
            for observer in observers:
                self._buffer.replayTo(observer)
        self._buffer = LimitedHistoryLogObserver(0)

    def _redirect(self, name: str, level: LogLevel) -> None:
        encoding = getattr(getattr(self._stdio, name), "encoding", None)
        setattr(self._stdio, name, LoggingFile(Logger(name, observer=self._publisher), level, encoding))

    def showwarning(
        self,
        message: Any,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        """Takes the place of `warnings.showwarning`: logs, unless the warning is to go to a file."""
        if file is not None:
            self._old_showwarning(message, category, filename, lineno, file, line)
            return
        self._log.warn(
            "{filename}:{lineno}: {category}: {warning}",
            warning=message,
            category=qual(category),
            filename=filename,
            lineno=lineno,
        )


def _critical_to(stream: Any) -> Observer:
    """What writes critical events, their messages and tracebacks alone."""

    def line(event: LogEvent) -> str:
        return eventAsText(event, includeTimestamp=False, includeSystem=False) + "\n"

    return FilteringLogObserver(FileLogObserver(stream, line), [LogLevelFilterPredicate(LogLevel.critical)])


def _without_failure(event: LogEvent) -> PredicateResult:
    return PredicateResult.no if "log_failure" in event or "failure" in event else PredicateResult.maybe


globalLogBeginner = LogBeginner(globalLogPublisher, sys.stderr, sys, warnings, until_begun=LoggingByNamespace())
"""Chooses observers for the whole program. Until then, its log goes to Python's `logging`."""
