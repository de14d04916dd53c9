"""The last events, kept."""

from __future__ import annotations

from collections import deque

from zope.interface import implementer

from plait.classic.logger._interfaces import ILogObserver, LogEvent
from plait.classic.logger._observer import Observer

_DEFAULT_BUFFER_MAXIMUM = 64 * 1024


@implementer(ILogObserver)
class LimitedHistoryLogObserver:
    """Keeps the last `size` events; None keeps all."""

    def __init__(self, size: int | None = _DEFAULT_BUFFER_MAXIMUM) -> None:
        self._buffer: deque[LogEvent] = deque(maxlen=size)

    def __call__(self, event: LogEvent) -> None:
        self._buffer.append(event)

    def replayTo(self, otherObserver: Observer) -> None:
        """Hand all on that is kept, oldest first."""
        for event in self._buffer:
            otherObserver(event)
