"""Several Deferreds at once: all of them, the first that has a result, the first that fails.

Rule: cancelling what waits for several cancels each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from plait.classic.internet._debugging import logger
from plait.classic.internet._deferred import Deferred
from plait.classic.python.failure import Failure

_T = TypeVar("_T")

SUCCESS = True
FAILURE = False


class FirstError(Exception):
    """The first of several Deferreds that failed: `index` says which it was, `subFailure` what it came to."""

    def __init__(self, failure: Failure, index: int) -> None:
        super().__init__(failure, index)
        self.subFailure = failure
        self.index = index

    def __repr__(self) -> str:
        return f"FirstError[#{self.index}, {self.subFailure.value!r}]"

    def __str__(self) -> str:
        return f"FirstError[#{self.index}, {self.subFailure}]"

    def _values(self) -> tuple[int, Failure]:
        return self.index, self.subFailure

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, FirstError) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())


class FailureGroup(Exception):
    """All of several Deferreds failed: `failures`, in their order."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        super().__init__()
        self.failures = failures


class DeferredList(Deferred[Any]):
    """What several Deferreds come to: a list of (success, result) in their order, once all have fired.

    With `fireOnOneCallback`, (result, index) of the first that succeeds. With `fireOnOneErrback`, FirstError if one
    fails. Each Deferred keeps its result for the callbacks that are added to it later; with `consumeErrors` a failure
    becomes None there, and is not logged as unhandled.
    """

    fireOnOneCallback = False
    fireOnOneErrback = False

    def __init__(
        self,
        deferredList: Iterable[Deferred[Any]],
        fireOnOneCallback: bool = False,
        fireOnOneErrback: bool = False,
        consumeErrors: bool = False,
    ) -> None:
        super().__init__()
        self._deferredList = list(deferredList)
        self.resultList: list[Any] = [None] * len(self._deferredList)
        self.fireOnOneCallback = fireOnOneCallback
        self.fireOnOneErrback = fireOnOneErrback
        self.consumeErrors = consumeErrors
        self.finishedCount = 0
        if not self._deferredList and not fireOnOneCallback:
            self.callback(self.resultList)
        for index, deferred in enumerate(self._deferredList):
            deferred.addCallbacks(self._one, self._one, (index, SUCCESS), None, (index, FAILURE))

    def _one(self, result: Any, index: int, succeeded: bool) -> Any:
        self.resultList[index] = (succeeded, result)
        self.finishedCount += 1
        if not self.called:
            if succeeded and self.fireOnOneCallback:
                self.callback((result, index))
            elif not succeeded and self.fireOnOneErrback:
                self.errback(Failure(FirstError(result, index)))
            elif self.finishedCount == len(self.resultList):
                self.callback(self.resultList)
        return None if not succeeded and self.consumeErrors else result

    def cancel(self) -> None:
        """Cancel every Deferred in the list, unless this has fired."""
        if self.called:
            return
        for deferred in self._deferredList:
            try:
                deferred.cancel()
            except BaseException:
                logger().failure("the canceller of a Deferred in a list failed")


def gatherResults(deferredList: Iterable[Deferred[_T]], consumeErrors: bool = False) -> Deferred[list[_T]]:
    """The results of several Deferreds, in their order, once all have one; FirstError as soon as one fails."""
    gathered = DeferredList(deferredList, fireOnOneErrback=True, consumeErrors=consumeErrors)
    return gathered.addCallback(_results)


def _results(pairs: list[tuple[bool, _T]]) -> list[_T]:
    return [result for _, result in pairs]


def race(ds: Sequence[Deferred[_T]]) -> Deferred[tuple[int, _T]]:
    """Index and result of the first Deferred to succeed; the others are cancelled. FailureGroup if all fail.

    What the others still come to is dropped.
    """
    runners = list(ds)
    failures: list[Failure | None] = [None] * len(runners)
    missing = len(runners)
    won = False

    def cancel(_: object = None) -> None:
        for runner in runners:
            runner.cancel()

    def win(result: _T, index: int) -> None:
        nonlocal won
        if won:
            return
        won = True
        for number, runner in enumerate(runners):
            if number != index:
                runner.cancel()
        final.callback((index, result))

    def lose(failure: Failure, index: int) -> None:
        nonlocal missing
        failures[index] = failure
        missing -= 1
        if not missing and not won:
            final.errback(Failure(FailureGroup([lost for lost in failures if lost is not None])))

    final: Deferred[tuple[int, _T]] = Deferred(cancel)
    for index, runner in enumerate(runners):
        runner.addCallbacks(win, lose, (index,), None, (index,))
    return final
