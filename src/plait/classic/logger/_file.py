"""The log as a file."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from plait.classic.logger._format import formatEventAsClassicLogText, formatTime, timeFormatRFC3339
from plait.classic.logger._interfaces import ILogObserver, LogEvent


@implementer(ILogObserver)
class FileLogObserver:
    """Writes what `formatEvent` makes of an event, if it makes anything, and flushes. Binary files get UTF-8."""

    def __init__(self, outFile: Any, formatEvent: Callable[[LogEvent], str | None]) -> None:
        self._outFile = outFile
        self._encoding = "utf-8" if _is_binary(outFile) else None
        self.formatEvent = formatEvent

    def __call__(self, event: LogEvent) -> None:
        text = self.formatEvent(event)
        if text:
            self._outFile.write(text if self._encoding is None else text.encode(self._encoding))
            self._outFile.flush()


def _is_binary(file: Any) -> bool:
    if isinstance(file, io.TextIOBase) or getattr(file, "encoding", None):
        return False
    return isinstance(file, (io.RawIOBase, io.BufferedIOBase)) or "b" in str(getattr(file, "mode", ""))


def textFileLogObserver(outFile: Any, timeFormat: str | None = timeFormatRFC3339) -> FileLogObserver:
    """An observer that writes lines: `time [namespace#level] message`, and tracebacks. Without format: no times."""

    def line(event: LogEvent) -> str | None:
        return formatEventAsClassicLogText(event, formatTime=lambda when: formatTime(when, timeFormat))

    return FileLogObserver(outFile, line)
