"""The log of a stretch of code, for tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from plait.classic.logger._interfaces import LogEvent
from plait.classic.logger._observer import globalLogPublisher


@contextmanager
def capturedLogs() -> Iterator[Sequence[LogEvent]]:
    """Yields a list that holds what is logged in the body."""
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    try:
        yield events
    finally:
        globalLogPublisher.removeObserver(events.append)
