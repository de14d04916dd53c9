"""A file whose lines are logged: what takes the place of sys.stdout and sys.stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from plait.classic.logger._levels import LogLevel
from plait.classic.python._shown import deprecated

if TYPE_CHECKING:
    from plait.classic.logger._logger import Logger


class LoggingFile:
    """Logs each line that is written as an event with the line in `log_io`. Bytes are decoded with `encoding`."""

    def __init__(self, logger: Logger, level: LogLevel = LogLevel.info, encoding: str | None = None) -> None:
        self.level = level
        self.log = logger
        self._encoding = encoding or sys.getdefaultencoding()
        self._buffer = ""
        self._closed = False

    @property
    def softspace(self) -> int:
        """Zero."""
        deprecated("logger._io.LoggingFile.softspace", "21.2.0")
        return 0

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def encoding(self) -> str:
        """How bytes are decoded."""
        return self._encoding

    @property
    def mode(self) -> str:
        """For writing."""
        return "w"

    @property
    def newlines(self) -> None:
        """Not known."""
        return None

    @property
    def name(self) -> str:
        """Whose lines they are."""
        return f"<{type(self).__name__} {self.log.namespace}#{self.level.name}>"

    def close(self) -> None:
        """Take no more; what has no end of line is dropped."""
        self._closed = True

    def flush(self) -> None:
        """Nothing waits but what has no end of line."""

    def isatty(self) -> bool:
        """No."""
        return False

    def write(self, message: str | bytes) -> None:
        """Log the lines that are complete. ValueError after `close`."""
        if self._closed:
            raise ValueError("I/O operation on closed file")
        if isinstance(message, bytes):
            message = message.decode(self._encoding)
        *lines, self._buffer = (self._buffer + message).split("\n")
        for line in lines:
            self.log.emit(self.level, "{log_io}", log_io=line)

    def writelines(self, lines: Iterable[str | bytes]) -> None:
        """`write` each; no ends of line are added."""
        for line in lines:
            self.write(line)

    def _unsupported(self, *args: Any) -> NoReturn:
        """OSError."""
        raise OSError("unsupported operation")

    fileno = read = next = readline = readlines = xreadlines = seek = tell = truncate = _unsupported
