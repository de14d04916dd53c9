"""A loop whose clock jumps when everything waits, and that says so first: that is a quiet moment."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Mapping
from typing import Any


class _Selector(selectors.SelectSelector):
    now = 0.0
    quiet: Callable[[], None] = staticmethod(lambda: None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout == 0:
            return []  # nothing comes from outside
        assert timeout is not None, "everything waits, and nothing is due"
        self.quiet()
        self.now += timeout + 1e-9
        return []


class QuietLoop(asyncio.SelectorEventLoop):
    """See above. `failures` collects what reached the loop's exception handler."""

    def __init__(self) -> None:
        self.clock = _Selector()
        super().__init__(self.clock)
        self.failures: list[Mapping[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    def time(self) -> float:
        return self.clock.now

    def is_busy(self) -> bool:
        """Whether something can run now."""
        return bool(self._ready)  # type: ignore[attr-defined]  # of asyncio's BaseEventLoop
