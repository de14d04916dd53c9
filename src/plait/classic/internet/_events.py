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

Trigger = tuple[str, Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class SystemEvent:
    """One event: its triggers, and their calling."""

    def __init__(self) -> None:
        self._triggers: dict[str, list[Trigger]] = {phase: [] for phase in PHASES}
        self._called: list[Trigger] = []

    def add(self, phase: str, callable: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trigger:
        """Call this in a phase; what is returned is for `remove`. KeyError for a phase there is none of."""
        if phase not in PHASES:
            raise KeyError("invalid phase")
        trigger = (phase, callable, args, kwargs)
        self._triggers[phase].append(trigger)
        return trigger

    def remove(self, trigger: Trigger) -> None:
        """Forget it. ValueError if it is not there."""
        phase = trigger[0]
        if phase == "before" and trigger in self._called:
            warnings.warn(
                "a system event trigger that was called is removed", category=DeprecationWarning, stacklevel=4
            )
        else:
            self._triggers[phase].remove(trigger)

    def fire(self) -> None:
        """Call them."""
        waited = [result for result in map(_waitable, self._call("before")) if result is not None]
        self._called = []
        if waited:
            defer.DeferredList(waited).addBoth(self._fire_rest)
        else:
            self._fire_rest(None)

    def _fire_rest(self, _: Any) -> None:
        self._call("during")
        self._call("after")

    def _call(self, phase: str) -> list[Any]:
        results = []
        triggers = self._triggers[phase]
        while triggers:
            trigger = triggers.pop(0)
            self._called.append(trigger)
            _, callable, args, kwargs = trigger
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
