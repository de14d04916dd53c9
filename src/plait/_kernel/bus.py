"""Events to sinks, in order, whatever the sinks do.

Rules: a sink that raises is logged and kept; one that causes an event (by stopping a service, say) does not
disturb the order in which the others see things: that event waits its turn. Nothing is built or queued while
there is no sink.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from plait._kernel.events import Event, Sink

log = logging.getLogger("plait.kernel")


class Bus:
    """The sinks of one tree."""

    __slots__ = ("_emitting", "_queue", "sinks")

    def __init__(self) -> None:
        self.sinks: tuple[Sink, ...] = ()
        self._queue: deque[tuple[Event, tuple[Sink, ...]]] = deque()
        self._emitting = False

    def subscribe(self, sink: Sink, replay: list[Event]) -> Callable[[], None]:
        """Add a sink, which first sees `replay`; the result unsubscribes it."""
        self.sinks += (sink,)
        for event in replay:
            self._queue.append((event, (sink,)))
        self._flush()

        return lambda: self.unsubscribe(sink)

    def unsubscribe(self, sink: Sink) -> None:
        """It sees no more; legal at any time."""
        self.sinks = tuple(other for other in self.sinks if other is not sink)

    def emit(self, event: Event) -> None:
        """Every sink sees it, after all that was emitted before."""
        if self.sinks:
            self._queue.append((event, self.sinks))
            self._flush()

    def _flush(self) -> None:
        if self._emitting:
            return
        self._emitting = True
        try:
            while self._queue:
                event, sinks = self._queue.popleft()
                for sink in sinks:
                    self._call(sink, event)
        finally:
            self._emitting = False

    @staticmethod
    def _call(sink: Sink, event: Event) -> None:
        try:
            sink(event)
        except Exception:
            log.exception("sink %r failed on %r; it stays subscribed", sink, event)
