"""What Deferreds log as errors that nobody has handled."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from plait.classic.logger import globalLogPublisher


@contextmanager
def unhandled() -> Iterator[list[dict[str, Any]]]:
    """Yields a list, which holds the events after the body: two for each error."""
    gc.collect()
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)
    try:
        yield events
        gc.collect()
    finally:
        globalLogPublisher.removeObserver(events.append)
