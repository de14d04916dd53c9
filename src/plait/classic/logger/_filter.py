# mypy: disable-error-code="misc,no-any-unimported,empty-body"
"""Observers that see only some events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

from zope.interface import Interface, implementer

from plait.classic.logger._interfaces import ILogObserver, LogEvent
from plait.classic.logger._levels import InvalidLogLevelError, LogLevel
from plait.classic.logger._observer import Observer, bitbucketLogObserver


class PredicateResult(Enum):
    """`yes` and `no` decide; `maybe` leaves it to the next predicate, and is a yes after the last."""

    yes = "yes"
    no = "no"
    maybe = "maybe"

    def __repr__(self) -> str:
        return f"<PredicateResult={self.name}>"


class ILogFilterPredicate(Interface):
    """Decides whether an event is to be seen."""

    def __call__(event: LogEvent) -> PredicateResult:
        """Yes, no or maybe."""


Predicate = Callable[[LogEvent], Any]


@implementer(ILogObserver)
class FilteringLogObserver:
    """Hands an event on to `observer` if the predicates let it pass, else to `negativeObserver`."""

    def __init__(
        self,
        observer: Observer,
        predicates: Iterable[Predicate],
        negativeObserver: Observer = bitbucketLogObserver,
    ) -> None:
        self._observer = observer
        self._predicates = list(predicates)
        self._negative = negativeObserver

    def _passes(self, event: LogEvent) -> bool:
        for predicate in self._predicates:
            result = predicate(event)
            if result is PredicateResult.yes:
                return True
            if result is PredicateResult.no:
                return False
            if result is not PredicateResult.maybe:
                raise TypeError(f"Invalid predicate result: {result!r}")
        return True

    def __call__(self, event: LogEvent) -> None:
        observer = self._observer if self._passes(event) else self._negative
        if "log_trace" in event and observer is not bitbucketLogObserver:
            event["log_trace"].append((self, observer))
        observer(event)


@implementer(ILogFilterPredicate)
class LogLevelFilterPredicate:
    """Drops events below the level of their namespace, and those without level or namespace.

    A namespace without a level of its own has that of the nearest one above it, in the end `defaultLogLevel`.
    """

    def __init__(self, defaultLogLevel: LogLevel = LogLevel.info) -> None:
        self.defaultLogLevel = defaultLogLevel
        self._levels: dict[str, LogLevel] = {}
        self.clearLogLevels()

    def logLevelForNamespace(self, namespace: str | None) -> LogLevel:
        """The level below which its events are dropped."""
        name = namespace or ""
        while name not in self._levels:
            name = name.rpartition(".")[0]
        return self._levels[name]

    def setLogLevelForNamespace(self, namespace: str | None, level: LogLevel) -> None:
        """For it and what is below it. InvalidLogLevelError if it is no level."""
        if not isinstance(level, LogLevel):
            raise InvalidLogLevelError(level)
        self._levels[namespace or ""] = level

    def clearLogLevels(self) -> None:
        """Back to the default for all."""
        self._levels = {"": self.defaultLogLevel}

    def __call__(self, event: LogEvent) -> PredicateResult:
        level, namespace = event.get("log_level"), event.get("log_namespace")
        if level is None or not namespace or level < self.logLevelForNamespace(namespace):
            return PredicateResult.no
        return PredicateResult.maybe
