"""The log as records of Python's own `logging`."""

from __future__ import annotations

import logging
import sys
from types import FrameType
from typing import Any

from zope.interface import implementer

from plait.classic.logger._format import formatEvent
from plait.classic.logger._interfaces import ILogObserver, LogEvent
from plait.classic.logger._levels import LogLevel
from plait.classic.python.failure import Failure

toStdlibLogLevelMapping = {
    LogLevel.debug: logging.DEBUG,
    LogLevel.info: logging.INFO,
    LogLevel.warn: logging.WARNING,
    LogLevel.error: logging.ERROR,
    LogLevel.critical: logging.CRITICAL,
}
fromStdlibLogLevelMapping: dict[int | str, LogLevel] = {
    **{level: ours for ours, level in toStdlibLogLevelMapping.items()},
    **{logging.getLevelName(level): ours for ours, level in toStdlibLogLevelMapping.items()},
}


class StringifiableFromEvent:
    """An event that becomes its message when it is printed."""

    def __init__(self, event: LogEvent) -> None:
        self.event = event

    def __str__(self) -> str:
        return formatEvent(self.event)


@implementer(ILogObserver)
class STDLibLogObserver:
    """Hands each event to the logger `name`, with its message, level and traceback.

    `stackDepth` says how many frames above the observer the one is that has logged.
    """

    defaultStackDepth = 4

    def __init__(self, name: str = "twisted", stackDepth: int = defaultStackDepth) -> None:
        self.logger = logging.getLogger(name)
        self.stackDepth = stackDepth

    def __call__(self, event: LogEvent) -> None:
        self._log(self.logger, event)

    def _log(self, logger: logging.Logger, event: LogEvent) -> None:
        level = toStdlibLogLevelMapping.get(event.get("log_level", LogLevel.info), logging.INFO)
        if not logger.isEnabledFor(level):
            return
        file, line, function = self._caller()
        message = StringifiableFromEvent(dict(event))
        failure = event.get("log_failure")
        error: Any = None
        if isinstance(failure, Failure):
            error = (failure.type, failure.value, failure.getTracebackObject())
        logger.handle(logger.makeRecord(logger.name, level, file, line, message, (), error, function))

    def _caller(self) -> tuple[str, int, str]:
        """File, line and function of who has logged."""
        frame: FrameType | None = sys._getframe(2)
        for _ in range(self.stackDepth - STDLibLogObserver.defaultStackDepth + 1):
            frame = frame.f_back if frame is not None else None
        if frame is None:
            return "(unknown file)", 0, "(unknown function)"
        return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name


@implementer(ILogObserver)
class LoggingByNamespace(STDLibLogObserver):
    """Hands each event to the logger of its namespace; those of `log.msg` and `log.err`, to `classic`."""

    def __init__(self) -> None:
        super().__init__("classic")

    def __call__(self, event: LogEvent) -> None:
        namespace = event.get("log_namespace", "log_legacy")
        if namespace != "log_legacy":
            self._log(logging.getLogger(namespace), event)
            return
        if "failure" in event:
            event = {
                **event,
                "log_format": "{log_text}",
                "log_text": event.get("why") or "Unhandled Error",
                "log_failure": event["failure"],
            }
        system = event.get("log_system", "-")
        if system != "-":
            event = {**event, "log_format": "[{log_system}] {log_text}"}
        self._log(self.logger, event)
