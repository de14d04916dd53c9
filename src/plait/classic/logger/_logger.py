"""Logger: what a program logs with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from time import time
from types import TracebackType
from typing import Any, Protocol

from plait.classic.logger._interfaces import LogEvent
from plait.classic.logger._levels import InvalidLogLevelError, LogLevel
from plait.classic.logger._observer import Observer, globalLogPublisher
from plait.classic.python.failure import Failure


class Operation(Protocol):
    """What became of the body of `failuresHandled`; both are False while it runs."""

    @property
    def succeeded(self) -> bool:
        """It ended."""

    @property
    def failed(self) -> bool:
        """It raised, which was logged."""


class _Outcome:
    succeeded = False
    failed = False


class _FailureHandler:
    """Logs what its body raises, and suppresses it. May be used many times."""

    def __init__(self, logger: Logger, level: LogLevel, message: str) -> None:
        self._logger = logger
        self._level = level
        self._message = message

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> bool:
        if error is None:
            return False
        self._logger.failure(self._message, Failure(error, kind, tb), self._level)
        return True


class Logger:
    """Logs to `observer`, the global publisher unless told otherwise, as `namespace`: by default the caller's module.

    As a class's attribute it logs as that class, with the class or its instance as `log_source`.
    """

    def __init__(
        self, namespace: str | None = None, source: object | None = None, observer: Observer | None = None
    ) -> None:
        if namespace is None:
            namespace = sys._getframe(1).f_globals.get("__name__", "<unknown>")
        self.namespace: str = namespace
        self.source = source
        self.observer: Observer = globalLogPublisher if observer is None else observer

    def __get__(self, instance: object, owner: type | None = None) -> Logger:
        assert owner is not None
        source = owner if instance is None else instance
        return type(self)(f"{owner.__module__}.{owner.__name__}", source, self.observer)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.namespace!r}>"

    def emit(self, level: Any, format: str | None = None, **kwargs: object) -> None:
        """Log an event of that level, with that format and these fields."""
        if not isinstance(level, LogLevel):
            self.failure(
                "log level {invalidLevel!r} is none: {logger}.emit()",
                Failure(InvalidLogLevelError(level)),
                invalidLevel=level,
                logger=self,
            )
            return
        event: LogEvent = {
            **kwargs,
            "log_logger": self,
            "log_level": level,
            "log_namespace": self.namespace,
            "log_source": self.source,
            "log_format": format,
            "log_time": time(),
        }
        if "log_trace" in event:
            event["log_trace"].append((self, self.observer))
        self.observer(event)

    def failure(
        self,
        format: str,
        failure: Failure | None = None,
        level: LogLevel = LogLevel.critical,
        **kwargs: object,
    ) -> None:
        """Log a Failure: this one, or one of the exception that is being handled."""
        self.emit(level, format, log_failure=Failure() if failure is None else failure, **kwargs)

    @contextmanager
    def failuresHandled(
        self, format: str, level: LogLevel = LogLevel.critical, **kwargs: object
    ) -> Iterator[Operation]:
        """Log what the body raises, and suppress it. Yields what says afterwards whether it succeeded or failed."""
        outcome = _Outcome()
        try:
            yield outcome
        except BaseException:
            outcome.failed = True
            self.failure(format, None, level, **kwargs)
        else:
            outcome.succeeded = True

    def failureHandler(self, staticMessage: str, level: LogLevel = LogLevel.critical) -> AbstractContextManager[None]:
        """`failuresHandled` with a message without fields, to be made once and used often."""
        return _FailureHandler(self, level, staticMessage)

    def debug(self, format: str | None = None, **kwargs: object) -> None:
        """Log an event of level debug."""
        self.emit(LogLevel.debug, format, **kwargs)

    def info(self, format: str | None = None, **kwargs: object) -> None:
        """Log an event of level info."""
        self.emit(LogLevel.info, format, **kwargs)

    def warn(self, format: str | None = None, **kwargs: object) -> None:
        """Log an event of level warn."""
        self.emit(LogLevel.warn, format, **kwargs)

    def error(self, format: str | None = None, **kwargs: object) -> None:
        """Log an event of level error."""
        self.emit(LogLevel.error, format, **kwargs)

    def critical(self, format: str | None = None, **kwargs: object) -> None:
        """Log an event of level critical."""
        self.emit(LogLevel.critical, format, **kwargs)


def _loggerFor(obj: object) -> Logger:
    """The Logger an object has as its class's attribute, or would have."""
    return Logger().__get__(obj, type(obj))
