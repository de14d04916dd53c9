"""How well a service does: what a check may say, and what a snapshot shows.

Rules: health is no state, and no failure: nothing is restarted because of it. `ready` takes work; `degraded` does so,
with something missing; `unready` cannot. A load balancer turns away from `unready` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """How fit for work, from best to worst."""

    READY = "ready"
    DEGRADED = "degraded"
    UNREADY = "unready"


@dataclass(frozen=True, slots=True)
class Health:
    """A level, and for people the reason, empty if it is ready."""

    level: Level
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.level.value}: {self.reason}" if self.reason else self.level.value


READY = Health(Level.READY)


def degraded(reason: str) -> Health:
    """What `check` returns of a service that works, with something missing."""
    return Health(Level.DEGRADED, reason)


def unready(reason: str) -> Health:
    """What a failed check means."""
    return Health(Level.UNREADY, reason)
