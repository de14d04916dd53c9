"""How long to wait before a service is started again, and when to stop trying.

Rules: the delay before restart n is drawn from half of to all of min(60, 0.5 x 2^n) seconds. n starts anew after
max(60, the last delay) seconds of health, which is computed when the service fails next. Restarts are used up when
one service has failed 16 times in a row without health, or when there were more than max(10, 3 x services) failures in
60 s.
"""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plait._kernel.deadlines import Deadline
    from plait._kernel.operations import Stop
    from plait._kernel.record import Record

FIRST = 0.5
MOST = 60.0
HEALTHY = 60.0
"""Seconds of health after which a service is as good as new."""
IN_A_ROW = 16
WINDOW = 60.0
LEAST_ALLOWED = 10
ALLOWED_EACH = 3


class Care:
    """What supervision remembers of a record: its failures, and what it waits for."""

    __slots__ = (
        "after",
        "alongside",
        "blocked",
        "delay",
        "due",
        "failures",
        "gave_up",
        "is_parked",
        "lacks",
        "reason",
        "recent",
        "restarts",
        "services",
        "wake",
    )

    def __init__(self) -> None:
        self.failures = 0
        """In a row, without health between them."""
        self.restarts = 0
        """How often it was started again, in all."""
        self.delay = 0.0
        """Seconds before its last restart."""
        self.due = 0.0
        """The loop's time at which it may start again."""
        self.recent: deque[float] = deque()
        """When it failed, in the loop's time; of one that can be parked."""
        self.services: deque[float] = deque()
        """A group: when its services failed."""
        self.reason = ""
        """Why it waits or is parked, for people."""
        self.is_parked = False
        self.lacks: Record | None = None
        """What of its needs was away when it began to end."""
        self.gave_up = False
        """A group: it ends because of one of its services."""
        self.wake: Deadline | None = None
        self.blocked: Stop | None = None
        """What must have stopped before it may start."""
        self.after: Record | None = None
        """Who must have started before it may."""
        self.alongside: Record | None = None
        """Whose delay must be over before it may start."""

    def rested(self, health: float) -> None:
        """It had `health` seconds of health."""
        if health >= max(HEALTHY, self.delay):
            self.failures = 0

    def failed(self, health: float) -> None:
        """It failed, after `health` seconds of health."""
        self.rested(health)
        self.failures += 1

    def next_delay(self) -> float:
        """Seconds to wait before the next restart."""
        self.delay = random.uniform(0.5, 1.0) * min(MOST, FIRST * 2.0 ** min(self.failures, 40))
        return self.delay

    def begin_anew(self) -> None:
        """What was counted is forgotten."""
        self.failures, self.delay = 0, 0.0
        self.recent.clear()
        self.services.clear()


def count(window: deque[float], now: float) -> int:
    """One more failure in the window, at the loop's time `now`; how many there are in it."""
    window.append(now)
    while window[0] <= now - WINDOW:
        window.popleft()
    return len(window)


def allowed(services: int) -> int:
    """How many failures a group of so many services may have in the window."""
    return max(LEAST_ALLOWED, ALLOWED_EACH * services)
