"""System events: what is done at the reactor's start, and at its end.

Rules: an event has three phases. The triggers of "before" are called first, and the Deferreds, futures and coroutines
they return are waited for, all at once; then come those of "during", then those of "after", whatever they return. A
trigger is called once, in the order of their registration; one that raises is logged, and the next is called.
"""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import Callable
from typing import Any

from plait.classic.internet import defer
from plait.classic.python import log

PHASES = ("before", "during", "after")

Trigger = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
Handle = tuple[str, Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class SystemEvent:
    """One event: its triggers, by phase, and their calling."""

    def __init__(self) -> None:
        self.before: list[Trigger] = []
        self.during: list[Trigger] = []
        self.after: list[Trigger] = []
        self.finishedBefore: list[Trigger] = []
        """Those of "before" that have been called, while the others are."""

    def addTrigger(self, phase: str, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> Handle:
        """Call this in a phase; what is returned is for `removeTrigger`. KeyError for a phase there is none of."""
        self._of(phase).append((callable, args, kwargs))
        return phase, callable, args, kwargs

    def removeTrigger(self, handle: Handle) -> None:
        """Forget it. ValueError if it is not there, but only a warning where it was called a moment ago."""
        if not isinstance(handle, tuple) or len(handle) != 4:
            raise ValueError(f"{handle!r} is no trigger of this event")
        phase, wanted = handle[0], handle[1:]
        if phase == "before" and wanted not in self.before and wanted in self.finishedBefore:
            warnings.warn(
                "Removing already-fired system event triggers will raise an exception in a future version of Twisted.",
                category=DeprecationWarning,
                stacklevel=2,
            )
        else:
            self._of(phase).remove(wanted)

    def _of(self, phase: str) -> list[Trigger]:
        if phase not in PHASES:
            raise KeyError("invalid phase")
        triggers: list[Trigger] = getattr(self, phase)
        return triggers

    def fireEvent(self) -> None:
        """Call them."""
        waited = [result for result in map(_waitable, self._call(self.before)) if result is not None]
        if waited:
            defer.DeferredList(waited).addBoth(self._fire_rest)
        else:
            self._fire_rest(None)

    def _fire_rest(self, _: Any) -> None:
        self.finishedBefore = []
        self._call(self.during)
        self._call(self.after)

    def _call(self, triggers: list[Trigger]) -> list[Any]:
        results = []
        while triggers:
            trigger = triggers.pop(0)
            if triggers is self.before:
                self.finishedBefore.append(trigger)
            callable, args, kwargs = trigger
            try:
                results.append(callable(*args, **kwargs))
            except BaseException:
                log.err()
        return results


def _waitable(result: Any) -> defer.Deferred[Any] | None:
    if inspect.iscoroutine(result) or isinstance(result, asyncio.Future):
        result = defer.Deferred.fromFuture(asyncio.ensure_future(result))
    if isinstance(result, defer.Deferred):
        errback: Any = log.err
        return result.addErrback(errback)
    return None
