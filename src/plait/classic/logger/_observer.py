"""Observers of observers: the publisher."""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import Any

from zope.interface import directlyProvides, implementer

from plait.classic.logger._interfaces import ILogObserver, LogEvent
from plait.classic.logger._levels import LogLevel
from plait.classic.python.failure import Failure

Observer = Callable[[LogEvent], object]


@implementer(ILogObserver)
class LogPublisher:
    """Hands each event on to its observers, in the order in which they were added.

    One that raises gets no say in that: its error is an event for all the others. An event with a list `log_trace`
    finds there which publisher has called which observer.
    """

    def __init__(self, *observers: Observer) -> None:
        self._observers = list(observers)

    def addObserver(self, observer: Observer) -> None:
        """TypeError if it cannot be called."""
        if not callable(observer):
            raise TypeError(f"Observer is not callable: {observer!r}")
        self._observers.append(observer)

    def removeObserver(self, observer: Observer) -> None:
        """Nothing happens if it was not added."""
        if observer in self._observers:
            self._observers.remove(observer)

    def __call__(self, event: LogEvent) -> None:
        trace = event.get("log_trace")
        broken = []
        for observer in tuple(self._observers):
            if trace is not None:
                trace.append((self, observer))
            try:
                observer(event)
            except Exception:
                broken.append((observer, Failure()))
        for observer, failure in broken:
            others = LogPublisher(*(one for one in self._observers if one is not observer))
            others(_event_of_broken(observer, failure))


def _event_of_broken(observer: Observer, failure: Failure) -> dict[str, Any]:
    return {
        "log_level": LogLevel.critical,
        "log_namespace": __name__,
        "log_source": None,
        "log_time": time(),
        "log_format": "observer {observer} failed, and was left out for one event: {log_failure}",
        "log_failure": failure,
        "observer": observer,
    }


def bitbucketLogObserver(event: LogEvent) -> None:
    """Does nothing."""


directlyProvides(bitbucketLogObserver, ILogObserver)


globalLogPublisher = LogPublisher()
"""What every Logger logs to unless told otherwise."""
