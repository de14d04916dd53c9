"""Where logs go, and in what form: stderr, a file, syslog or systemd's journal; for people or as JSON lines.

Rules: a record is one write, unbuffered, so that lines of several writers never mix and none waits in a buffer
when the process dies. A reader that has gone away costs its lines and harms nobody. A file is opened for
appending, and `reopen` changes over to a new one of its name between two lines. Where stderr is the journal's, `auto`
means its own protocol, which keeps the fields apart. What Python itself would print
(warnings, an exception in a thread or in a destructor) is logged as well, so that JSON stays JSON.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from plait._kernel.words import error_text
from plait.errors import UsageError
from plait.observe.formats import ConsoleFormatter, JsonFormatter, TextFormatter
from plait.observe.journal import JournalHandler, stderr_is_journal
from plait.observe.syslog import FACILITIES, SyslogHandler

LEVELS = ("debug", "info", "warning", "error", "critical")
FORMATS = ("auto", "console", "json", "journal")

STDERR = 2
STALLED_TIMEOUT = 1.0
"""How long a line waits for a reader of a descriptor that somebody made non-blocking, before it is dropped."""

log = logging.getLogger("plait")


@dataclass(frozen=True, slots=True)
class Syslog:
    """That logs go to syslog: under which facility, and what its lines begin with."""

    facility: str = "daemon"
    tag: str = "plait"

    def __post_init__(self) -> None:
        if self.facility not in FACILITIES:
            raise UsageError(f"syslog facility {self.facility!r} is none of {', '.join(FACILITIES)}")


@dataclass(frozen=True, slots=True)
class Logs:
    """What is logged, how and where. Without `file` and `syslog` that is stderr.

    `auto` is for people on a terminal and in syslog, the journal's own form where stderr is the journal's, else JSON.
    """

    level: str = "info"
    format: Literal["auto", "console", "json", "journal"] | str = "auto"
    file: str | None = None
    syslog: Syslog | None = None

    @property
    def is_elsewhere(self) -> bool:
        """Whether people who look at stderr see nothing of it."""
        return self.file is not None or self.syslog is not None

    def __post_init__(self) -> None:
        if self.file is not None and self.syslog is not None:
            raise UsageError("logs go to a file or to syslog, and not to both; leave one out")
        if self.is_elsewhere and self.format == "journal":
            raise UsageError("the journal takes no other file, and no syslog beside it; choose another log format")
        if self.level not in LEVELS:
            raise UsageError(f"log level {self.level!r} is none of {', '.join(LEVELS)}")
        if self.format not in FORMATS:
            raise UsageError(f"log format {self.format!r} is none of {', '.join(FORMATS)}")


class LineHandler(logging.Handler):
    """Writes each record to a descriptor with one write."""

    def __init__(self, fd: int, path: str | None = None) -> None:
        super().__init__()
        self._fd = fd
        self._path = path
        self._failing = False

    @classmethod
    def of(cls, file: str | None) -> LineHandler:
        """For a file, or for stderr if there is none. UsageError if the file cannot be opened."""
        if file is None:
            return cls(STDERR)
        path = os.path.abspath(file)
        try:
            return cls(_open(path), path)
        except OSError as error:
            raise UsageError(f"log file {file!r} cannot be opened: {error.strerror}") from error

    def emit(self, record: logging.LogRecord) -> None:
        """One line, or a few that belong together."""
        try:
            _write(self._fd, (self.format(record) + "\n").encode("utf-8", "backslashreplace"))
            self._failing = False
        except OSError as error:
            self._cannot_write(error)
        except Exception:  # noqa: BLE001  # a log line must never end what it tells about
            self.handleError(record)

    def _cannot_write(self, error: OSError) -> None:
        """A full disk, say: said once on stderr, until lines can be written again."""
        if self._path is not None and not self._failing:
            self._failing = True
            sys.stderr.write(f"plait: log file {self._path!r} cannot be written: {error.strerror}\n")

    @property
    def file_descriptor(self) -> int | None:
        """The file's, None for stderr."""
        return self._fd if self._path is not None else None

    def reopen(self) -> None:
        """Change to a new file of the same name, between two lines. OSError says why not; the old one stays then."""
        if self._path is not None:
            new = _open(self._path)
            with self.lock or threading.RLock():
                old, self._fd = self._fd, new
            os.close(old)

    def close(self) -> None:
        """Close the file; stderr stays open."""
        if self._path is not None and self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
        super().close()


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _write(fd: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            if not poll.poll(STALLED_TIMEOUT * 1000):
                return
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.EBADF, errno.EIO):
                return  # nobody reads any more; there is nobody to tell either
            raise


class LogSetup:
    """Logging as it was asked for, until `close` puts back what was there before."""

    def __init__(self, logs: Logs, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        self._logs = logs
        self._streams_follow = False
        self._handler = _handler(logs, self._environ)
        root = logging.getLogger()
        self._level = root.level
        self._hooks: tuple[Any, Any] = (threading.excepthook, sys.unraisablehook)
        root.addHandler(self._handler)
        root.setLevel(logs.level.upper())
        logging.captureWarnings(True)
        threading.excepthook = _thread_failed
        sys.unraisablehook = _unraisable

    def change(self, logs: Logs) -> None:
        """Log as it is asked for now. If that cannot be, it is said, and where logs went they go on."""
        try:
            self._change_over(logs)
        except UsageError as error:
            log.error("logs go where they went: %s", error)
        logging.getLogger().setLevel(logs.level.upper())

    def _change_over(self, logs: Logs) -> None:
        if logs == replace(self._logs, level=logs.level):
            return
        root = logging.getLogger()
        old, new = self._handler, _handler(logs, self._environ)
        root.addHandler(new)
        root.removeHandler(old)
        self._logs, self._handler = logs, new
        old.close()
        self._move_streams()

    def take_streams(self) -> None:
        """From now on stdout and stderr are the log file, or nothing where logs go elsewhere; also those of C code."""
        self._streams_follow = True
        self._move_streams()

    def _move_streams(self) -> None:
        if not self._streams_follow:
            return
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        file = self._handler.file_descriptor if isinstance(self._handler, LineHandler) else None
        fd = os.open(os.devnull, os.O_RDWR) if file is None else file
        for standard in (1, STDERR):
            os.dup2(fd, standard)
        if file is None:
            os.close(fd)

    def reopen(self) -> None:
        """Change to a new log file of the same name, and say so."""
        if self._logs.file is None or not isinstance(self._handler, LineHandler):
            log.info("logs go to %s; there is no log file to reopen", "syslog" if self._logs.syslog else "stderr")
            return
        try:
            self._handler.reopen()
        except OSError as error:
            log.error("log file %r cannot be reopened, the old one stays: %s", self._logs.file, error.strerror or error)
        else:
            self._move_streams()
            log.info("log file reopened")

    def close(self) -> None:
        """Put back what was there before."""
        root = logging.getLogger()
        logging.captureWarnings(False)
        threading.excepthook, sys.unraisablehook = self._hooks
        root.removeHandler(self._handler)
        root.setLevel(self._level)
        self._handler.close()


def _handler(logs: Logs, environ: Mapping[str, str]) -> logging.Handler:
    """Where logs go. UsageError if they cannot."""
    handler: logging.Handler
    if logs.syslog is not None:
        handler = SyslogHandler(logs.syslog.facility, logs.syslog.tag)
        handler.setFormatter(JsonFormatter() if logs.format == "json" else TextFormatter())
    elif logs.format == "journal" or (logs.format == "auto" and logs.file is None and stderr_is_journal(environ)):
        handler = JournalHandler()
        handler.setFormatter(TextFormatter())
    else:
        handler = LineHandler.of(logs.file)
        handler.setFormatter(_formatter(logs, environ))
    return handler


def _formatter(logs: Logs, environ: Mapping[str, str]) -> logging.Formatter:
    terminal = logs.file is None and os.isatty(STDERR)
    if logs.format == "json" or (logs.format == "auto" and not terminal):
        return JsonFormatter()
    plain = environ.get("NO_COLOR") or environ.get("TERM") == "dumb"
    return ConsoleFormatter(colour=terminal and not plain)


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or issubclass(args.exc_type, SystemExit):
        return
    name = args.thread.name if args.thread is not None else "unknown"
    log.error("thread %r failed: %s", name, error_text(args.exc_value), exc_info=args.exc_value)


def _unraisable(unraisable: Any) -> None:
    message = unraisable.err_msg or "an exception was ignored in"
    log.error("%s %r", message, unraisable.object, exc_info=unraisable.exc_value)


def loop_failed(loop: Any, context: dict[str, Any]) -> None:
    """The exception handler of an event loop: what nobody else took is logged."""
    error = context.get("exception")
    task = context.get("task") or context.get("future") or context.get("handle")
    about = f" in {task!r}" if task is not None else ""
    said = f": {error_text(error)}" if error is not None else ""
    log.error("%s%s%s", context.get("message") or "an exception nobody caught", about, said, exc_info=error)
