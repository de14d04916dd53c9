"""Full garbage collections, held back while very many services start or stop at once.

Why: a full pass looks at every object there is, and while 100,000 services come into being it runs again and again
and finds nothing, for all of them are new and alive: 12 of 21 microseconds a service. The young generations go on,
and the threshold is put back as soon as the operation is over, or at the next one's end if several overlap.
"""

from __future__ import annotations

import gc

LARGE = 1_000
"""From how many services on an operation is worth it."""

_NEVER = 1_000_000


class _Held:
    operations = 0
    threshold = 0


def hold(services: int) -> bool:
    """Hold full passes back for an operation on so many services; whether it was done, and is owed a `release`."""
    if services < LARGE or not gc.isenabled():
        return False
    young, middle, old = gc.get_threshold()
    if not _Held.operations:
        _Held.threshold = old
    _Held.operations += 1
    gc.set_threshold(young, middle, _NEVER)
    return True


def release() -> None:
    """The operation is over."""
    _Held.operations -= 1
    if not _Held.operations:
        young, middle, _ = gc.get_threshold()
        gc.set_threshold(young, middle, _Held.threshold)
