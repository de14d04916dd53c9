"""An event loop whose clock jumps to the next timer when everything waits: hours pass in milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any


class _Selector(selectors.SelectSelector):
    """Never waits: it advances the clock by as long as it was asked to wait."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("everything waits, and nothing is due: a deadlock")
        if not ready and timeout is not None and timeout > 0:
            self.now += timeout + 1e-9
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """See above. `failures` collects what reached the loop's exception handler."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)
        self.failures: list[Mapping[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    def time(self) -> float:
        return self._clock.now
