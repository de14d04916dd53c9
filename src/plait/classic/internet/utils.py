"""Programs whose output or exit code is wanted, and calls whose warnings are not."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from io import BytesIO
from typing import Any

from plait.classic.internet import defer, protocol
from plait.classic.internet._default import default_reactor
from plait.classic.python.failure import Failure

_NOTHING: Mapping[Any, Any] = {}


class _UnexpectedErrorOutput(IOError):
    """A program wrote to its standard error; `processEnded` is a Deferred of its end."""

    def __init__(self, text: bytes, processEnded: defer.Deferred[Any]) -> None:
        super().__init__(f"got stderr: {text!r}")
        self.processEnded = processEnded


class _Output(protocol.ProcessProtocol):
    """Collects standard output; standard error too, or it is an error."""

    def __init__(self, deferred: defer.Deferred[bytes], errortoo: bool | int) -> None:
        self.deferred: defer.Deferred[bytes] | None = deferred
        self.onProcessEnded: defer.Deferred[Any] | None = None
        self._collected = BytesIO()
        self._errortoo = errortoo

    def outReceived(self, data: bytes) -> None:
        """Keep it."""
        self._collected.write(data)

    def errReceived(self, data: bytes) -> None:
        """Keep it, or fail with it and end the program."""
        if self._errortoo:
            self._collected.write(data)
        elif self.deferred is not None:
            self.onProcessEnded = defer.Deferred()
            deferred, self.deferred = self.deferred, None
            deferred.errback(_UnexpectedErrorOutput(data, self.onProcessEnded))
            self.transport.loseConnection()

    def processEnded(self, reason: Failure) -> None:
        """There is no more."""
        if self.deferred is not None:
            self.deferred.callback(self._collected.getvalue())
        elif self.onProcessEnded is not None:
            self.onProcessEnded.errback(reason)


class _Value(protocol.ProcessProtocol):
    """Waits for the exit code."""

    def __init__(self, deferred: defer.Deferred[int]) -> None:
        self.deferred = deferred

    def processEnded(self, reason: Failure) -> None:
        """It has ended."""
        self.deferred.callback(reason.value.exitCode)


class _Everything(protocol.ProcessProtocol):
    """Collects standard output and standard error, and waits for the exit code."""

    def __init__(self, deferred: defer.Deferred[tuple[bytes, bytes, int]], stdinBytes: bytes | None = None) -> None:
        self.deferred = deferred
        self.outBuf = BytesIO()
        self.errBuf = BytesIO()
        self.stdinBytes = stdinBytes

    def connectionMade(self) -> None:
        """Give it its input."""
        if self.stdinBytes is not None:
            self.transport.writeToChild(0, self.stdinBytes)
            self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """Keep it."""
        self.outBuf.write(data)

    def errReceived(self, data: bytes) -> None:
        """Keep it."""
        self.errBuf.write(data)

    def processEnded(self, reason: Failure) -> None:
        """It has ended."""
        out, err = self.outBuf.getvalue(), self.errBuf.getvalue()
        how = reason.value
        if how.signal is not None:
            self.deferred.errback((out, err, how.signal))  # type: ignore[arg-type]
        else:
            self.deferred.callback((out, err, how.exitCode))


def _spawn(
    make: Callable[[Any], Any], executable: Any, args: Iterable[Any], env: Any, path: Any, reactor: Any
) -> defer.Deferred[Any]:
    if reactor is None:
        reactor = default_reactor()
    deferred: defer.Deferred[Any] = defer.Deferred()
    reactor.spawnProcess(make(deferred), executable, (executable, *tuple(args)), env, path)
    return deferred


def getProcessOutput(
    executable: Any,
    args: Iterable[Any] = (),
    env: Any = _NOTHING,
    path: Any = None,
    reactor: Any = None,
    errortoo: bool | int = 0,
) -> defer.Deferred[bytes]:
    """A Deferred of what a program writes to its standard output, and with `errortoo` to its standard error.

    Without it, a program that writes there is ended, and the Deferred fails with an IOError that has `processEnded`.
    """
    return _spawn(lambda deferred: _Output(deferred, errortoo), executable, args, env, path, reactor)


def getProcessValue(
    executable: Any, args: Iterable[Any] = (), env: Any = _NOTHING, path: Any = None, reactor: Any = None
) -> defer.Deferred[int]:
    """A Deferred of a program's exit code."""
    return _spawn(_Value, executable, args, env, path, reactor)


def getProcessOutputAndValue(
    executable: Any,
    args: Iterable[Any] = (),
    env: Any = _NOTHING,
    path: Any = None,
    reactor: Any = None,
    stdinBytes: bytes | None = None,
) -> defer.Deferred[tuple[bytes, bytes, int]]:
    """A Deferred of what a program writes to its standard output and error, and its exit code.

    It fails with a triple of these two and a signal's number, if a signal ended it.
    """
    return _spawn(lambda deferred: _Everything(deferred, stdinBytes), executable, args, env, path, reactor)


# -- warnings ---------------------------------------------------------------------------------------------------


def runWithWarningsSuppressed(suppressedWarnings: Iterable[Any], f: Callable[..., Any], *a: Any, **kw: Any) -> Any:
    """What `f` returns, called with these warnings filtered out: pairs of arguments and keywords of
    `warnings.filterwarnings`. A Deferred it returns keeps them out until it fires."""
    before = list(warnings.filters)
    for args, kwargs in suppressedWarnings:
        warnings.filterwarnings(*args, **kwargs)
    added = [entry for entry in warnings.filters if entry not in before]
    try:
        result = f(*a, **kw)
    except BaseException:
        _remove(added)
        raise
    if isinstance(result, defer.Deferred):
        return result.addBoth(_removed, added)
    _remove(added)
    return result


def _remove(added: list[Any]) -> None:
    """These alone: others may have come and gone meanwhile, in any order."""
    for entry in added:
        if entry in warnings.filters:
            warnings.filters.remove(entry)  # type: ignore[attr-defined]


def _removed(result: Any, added: list[Any]) -> Any:
    _remove(added)
    return result


def suppressWarnings(f: Callable[..., Any], *suppressedWarnings: Any) -> Callable[..., Any]:
    """`f`, whenever it is called with these warnings filtered out."""

    @wraps(f)
    def quiet(*a: Any, **kw: Any) -> Any:
        return runWithWarningsSuppressed(suppressedWarnings, f, *a, **kw)

    return quiet


__all__ = [
    "getProcessOutput",
    "getProcessOutputAndValue",
    "getProcessValue",
    "runWithWarningsSuppressed",
    "suppressWarnings",
]
