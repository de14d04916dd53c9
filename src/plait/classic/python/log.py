# mypy: disable-error-code="misc,no-any-unimported"
"""The log as Twisted first had it: messages and errors as dictionaries, handed to functions.

Rules: it is the same log as `logger`'s. What is logged here reaches the observers of both, and so does what is
logged there; without any observer that was started, it goes to Python's own `logging`.
"""

from __future__ import annotations

import sys
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from io import UnsupportedOperation
from typing import Any, NoReturn, TypeAlias, TypeVar

from zope.interface import Interface

from plait.classic.logger import (
    LegacyLogObserverWrapper,
    LogBeginner,
    LoggingFile,
    STDLibLogObserver,
    globalLogBeginner,
    globalLogPublisher,
)
from plait.classic.logger import (
    LogPublisher as _NewPublisher,
)
from plait.classic.logger._legacy import publishToNewObserver
from plait.classic.python import context, failure
from plait.classic.python._shown import safe_repr, safe_str

_T = TypeVar("_T")
EventDict: TypeAlias = dict[str, Any]
_Observer: TypeAlias = Callable[[EventDict], object]


class ILogContext:
    """What is in every event that is logged below `callWithContext`."""


class ILogObserver(Interface):
    """Is called with every event."""

    def __call__(eventDict: EventDict) -> None:
        """`message` is a tuple of what `msg` was given, `time` in seconds, `system` from the context, `isError` true
        for errors, with `failure` and `why`; `format` is a %-format for the event itself, if there is no message.
        """


context.setDefault(ILogContext, {"system": "-", "isError": 0})


def callWithContext(ctx: EventDict, func: Callable[..., _T], *args: Any, **kw: Any) -> _T:
    """What the call returns; all that is logged in it has what is in `ctx`, and in those around it."""
    return context.call({ILogContext: {**context.get(ILogContext), **ctx}}, func, *args, **kw)


def callWithLogger(logger: Any, func: Callable[..., Any], *args: Any, **kw: Any) -> Any:
    """What the call returns, logged as of `logger.logPrefix()`. What it raises is logged, but KeyboardInterrupt."""
    try:
        prefix = logger.logPrefix()
    except KeyboardInterrupt:
        raise
    except BaseException:
        prefix = "(buggy logPrefix method)"
        err(system=prefix)
    try:
        return callWithContext({"system": prefix}, func, *args, **kw)
    except KeyboardInterrupt:
        raise
    except BaseException:
        err(system=prefix)
        return None


class Logger:
    """Something with a prefix of its own in the log."""

    def logPrefix(self) -> str:
        """What stands in brackets before its messages."""
        return "-"


# -- publishing -------------------------------------------------------------------------------------------------


class LogPublisher:
    """Hands events on to observers. By itself it is apart from the rest of the log."""

    synchronized: tuple[str, ...] = ("msg",)

    def __init__(
        self,
        observerPublisher: _NewPublisher | None = None,
        publishPublisher: _NewPublisher | None = None,
        logBeginner: LogBeginner | None = None,
        warningsModule: Any = warnings,
    ) -> None:
        self._published = publishPublisher or observerPublisher or _NewPublisher()
        self._observed = observerPublisher or self._published
        self._beginner = logBeginner or LogBeginner(self._observed, NullFile(), sys, warningsModule)
        self._wrapped: list[LegacyLogObserverWrapper] = []
        self._warnings = warningsModule
        self._old_showwarning = warningsModule.showwarning
        self.showwarning = self._beginner.showwarning

    @property
    def observers(self) -> list[_Observer]:
        """Those that were added here."""
        return [wrapper.legacyObserver for wrapper in self._wrapped]

    def addObserver(self, other: _Observer) -> None:
        """Call it with every event."""
        wrapper = LegacyLogObserverWrapper(other)
        self._wrapped.append(wrapper)
        self._observed.addObserver(wrapper)

    def removeObserver(self, other: _Observer) -> None:
        """ValueError if it was not added."""
        for wrapper in self._wrapped:
            if wrapper.legacyObserver == other:
                self._wrapped.remove(wrapper)
                self._observed.removeObserver(wrapper)
                return
        raise ValueError(f"{other!r} was not added")

    def msg(self, *message: Any, **kw: Any) -> None:
        """Log these, joined by spaces, or the %-format `format`; with these keys."""
        event = {**context.get(ILogContext), **kw, "message": message, "time": time.time()}
        publishToNewObserver(self._published, event, textFromEventDict)

    def _startLogging(self, other: _Observer, setStdout: bool) -> None:
        wrapper = LegacyLogObserverWrapper(other)
        self._wrapped.append(wrapper)
        self._beginner.beginLoggingTo([wrapper], redirectStandardIO=bool(setStdout))

    def _stopLogging(self) -> None:
        if self._warnings.showwarning == self.showwarning:
            self._warnings.showwarning = self._old_showwarning


class NullFile:
    """Takes everything, holds nothing."""

    softspace = 0

    def read(self) -> None:
        """None."""

    def write(self, bytes: Any) -> None:
        """Drops it."""

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""


theLogPublisher = LogPublisher(globalLogPublisher, globalLogPublisher, globalLogBeginner)
"""The program's."""


def addObserver(other: _Observer) -> None:
    """Call it with everything that is logged."""
    theLogPublisher.addObserver(other)


def removeObserver(other: _Observer) -> None:
    """ValueError if it was not added."""
    theLogPublisher.removeObserver(other)


def msg(*message: Any, **kw: Any) -> None:
    """Log a message: these, joined by spaces, or the %-format `format`; with these keys."""
    theLogPublisher.msg(*message, **kw)


def showwarning(
    message: Any, category: type[Warning], filename: str, lineno: int, file: Any = None, line: str | None = None
) -> None:
    """`warnings.showwarning`, into the log."""
    theLogPublisher.showwarning(message, category, filename, lineno, file=file, line=line)


def err(_stuff: Any = None, _why: str | None = None, **kw: Any) -> None:
    """Log an error: a Failure, an exception, or the exception that is being handled, and why it matters."""
    if _stuff is None:
        _stuff = failure.Failure()
    if isinstance(_stuff, failure.Failure):
        msg(failure=_stuff, why=_why, isError=1, **kw)
    elif isinstance(_stuff, Exception):
        msg(failure=failure.Failure(_stuff), why=_why, isError=1, **kw)
    else:
        msg(repr(_stuff), why=_why, isError=1, **kw)


deferr = err

# -- as text ----------------------------------------------------------------------------------------------------


def textFromEventDict(eventDict: EventDict) -> str | None:
    """The message of an event, or why and the traceback of an error; None if it says nothing."""
    message = eventDict["message"]
    if message:
        return " ".join(map(safe_str, message))
    if eventDict.get("isError") and "failure" in eventDict:
        try:
            told = eventDict["failure"].getTraceback()
        except Exception as error:
            told = f"(unable to obtain traceback): {error}"
        return f"{eventDict.get('why') or 'Unhandled Error'}\n{told}"
    if "format" in eventDict:
        return _safeFormat(eventDict["format"], eventDict)
    return None


def _safeFormat(fmtString: Any, fmtDict: EventDict) -> str:
    """`fmtString % fmtDict`, or what can be said if that fails. It does not raise."""
    try:
        return str(fmtString % fmtDict)
    except KeyboardInterrupt:
        raise
    except BaseException:
        pass
    try:
        return f"Invalid format string or unformattable object in log message: {fmtString!r}, {fmtDict}"
    except BaseException:
        pass
    try:
        return f"UNFORMATTABLE OBJECT WRITTEN TO LOG with fmt {fmtString!r}, MESSAGE LOST"
    except BaseException:
        return "PATHOLOGICAL ERROR IN BOTH FORMAT STRING AND MESSAGE DETAILS, MESSAGE LOST"


# -- observers --------------------------------------------------------------------------------------------------


class _Startable(ABC):
    """An observer of the program's log between `start` and `stop`."""

    @abstractmethod
    def emit(self, eventDict: EventDict) -> None:
        """Is called with each event."""

    def start(self) -> None:
        """Observe."""
        addObserver(self.emit)

    def stop(self) -> None:
        """Observe no more."""
        removeObserver(self.emit)


class FileLogObserver(_Startable):
    """Writes lines to a file: `time [system] message`. `timeFormat` is one of strftime's; None is ISO's."""

    timeFormat: str | None = None

    def __init__(self, f: Any) -> None:
        self.write = f.write
        self.flush = f.flush

    def getTimezoneOffset(self, when: float) -> int:
        """Seconds that local time is behind UTC at that time."""
        offset = datetime.fromtimestamp(when).astimezone().utcoffset() or timedelta()
        return -round(offset.total_seconds())

    def formatTime(self, when: float) -> str:
        """That time as it stands in a line."""
        if self.timeFormat is not None:
            return datetime.fromtimestamp(when).strftime(self.timeFormat)
        zone = timezone(timedelta(seconds=-self.getTimezoneOffset(when)))
        return datetime.fromtimestamp(when, zone).strftime("%Y-%m-%d %H:%M:%S%z")

    def emit(self, eventDict: EventDict) -> None:
        """Write it, if it says anything; further lines of it are indented."""
        text = textFromEventDict(eventDict)
        if text is None:
            return
        parts = {"system": eventDict["system"], "text": text.replace("\n", "\n\t")}
        self.write(f"{self.formatTime(eventDict['time'])} {_safeFormat('[%(system)s] %(text)s' + chr(10), parts)}")
        self.flush()


class PythonLoggingObserver(_Startable):
    """Hands events to a logger of Python's `logging`."""

    def __init__(self, loggerName: str = "twisted") -> None:
        self._observer = STDLibLogObserver(name=loggerName)

    def emit(self, eventDict: EventDict) -> None:
        """Log it, if it says anything."""
        if "log_format" in eventDict:
            publishToNewObserver(self._observer, eventDict, textFromEventDict)


class DefaultObserver(_Startable):
    """Writes errors to stderr."""

    stderr: Any = sys.stderr

    def emit(self, eventDict: EventDict) -> None:
        """Write its traceback, or its message, if it is an error."""
        if eventDict["isError"]:
            if "failure" in eventDict:
                text = f"{eventDict.get('why') or 'Unhandled Error'}\n{eventDict['failure'].getTraceback()}\n"
            else:
                text = " ".join(m if isinstance(m, str) else safe_repr(m) for m in eventDict["message"]) + "\n"
            self.stderr.write(text)
            self.stderr.flush()


defaultObserver = DefaultObserver()


def startLogging(file: Any, *a: Any, **kw: Any) -> FileLogObserver | None:
    """Log to a file, instead of to Python's `logging`; see `startLoggingWithObserver`. None if it is the log itself."""
    if isinstance(file, LoggingFile):
        return None
    observer = FileLogObserver(file)
    startLoggingWithObserver(observer.emit, *a, **kw)
    return observer


def startLoggingWithObserver(observer: _Observer, setStdout: Any = 1) -> None:
    """Log to this observer instead of Python's `logging`; warnings too, and unless told not to stdout and stderr."""
    theLogPublisher._startLogging(observer, setStdout)
    msg("Log opened.")


class StdioOnnaStick:
    """A file whose lines are logged, as errors if told so."""

    closed = 0
    softspace = 0
    mode = "wb"
    name = "<stdio (log)>"

    def __init__(self, isError: int = 0, encoding: str | None = None) -> None:
        self.isError = isError
        self.encoding = encoding or sys.getdefaultencoding()
        self.buf = ""

    def close(self) -> None:
        """It stays open."""

    def flush(self) -> None:
        """Nothing waits but what has no end of line."""

    def fileno(self) -> NoReturn:
        """UnsupportedOperation."""
        raise UnsupportedOperation("fileno")

    def read(self, *_: Any) -> NoReturn:
        """OSError."""
        raise OSError("can't read from the log!")

    readline = readlines = seek = tell = read

    def write(self, data: str | bytes) -> None:
        """Log the lines that are complete."""
        text = data.decode(self.encoding) if isinstance(data, bytes) else data
        *lines, self.buf = (self.buf + text).split("\n")
        for line in lines:
            msg(line, printed=1, isError=self.isError)

    def writelines(self, data: Iterable[str | bytes]) -> None:
        """Log each as a line."""
        for line in data:
            text = line.decode(self.encoding) if isinstance(line, bytes) else line
            msg(text, printed=1, isError=self.isError)


logfile: Any = StdioOnnaStick(0, getattr(sys.stdout, "encoding", None))
logerr: Any = StdioOnnaStick(1, getattr(sys.stderr, "encoding", None))


def discardLogs() -> None:
    """Drop what is written to `logfile`."""
    global logfile
    logfile = NullFile()
