"""The state machine, as one table.

Rules: a service is in exactly one state. Only the engine moves it, and only along this table; anything else is
`IllegalTransition`. Every life ends through STOPPING, also a failed one, because what was entered must be
unwound. `Intent` (what the operator wants) and health are separate axes and never states.

    NEW ─→ STARTING ─→ RUNNING ⇄ (PAUSING → PAUSED → RESUMING)
               │           │            │
               └───────→ STOPPING ←─────┘
                       ┌───┴────┐
                    STOPPED   FAILED ⇄ BACKOFF        STOPPED, FAILED, BACKOFF ─→ STARTING
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where a service is in its life."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    RESUMING = "resuming"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    BACKOFF = "backoff"

    next: tuple[State, ...]
    """The states this one may lead to."""

    # Enum's own hash is a Python function; states are hashed on every move of every service.
    __hash__ = object.__hash__


S = State

TRANSITIONS: dict[State, tuple[State, ...]] = {
    S.NEW: (S.STARTING,),
    S.STARTING: (S.RUNNING, S.PAUSED, S.STOPPING),
    S.RUNNING: (S.PAUSING, S.STOPPING),
    S.PAUSING: (S.PAUSED, S.STOPPING),
    S.PAUSED: (S.RESUMING, S.STOPPING),
    S.RESUMING: (S.RUNNING, S.STOPPING),
    S.STOPPING: (S.STOPPED, S.FAILED),
    S.STOPPED: (S.STARTING,),
    S.FAILED: (S.STARTING, S.BACKOFF),
    S.BACKOFF: (S.STARTING, S.STOPPED, S.FAILED),
}

for _state, _next in TRANSITIONS.items():
    _state.next = _next

READY = frozenset({S.RUNNING, S.PAUSING, S.PAUSED, S.RESUMING})
"""Started, and not yet ending: a need in one of these is met."""

LIVE = READY | {S.STARTING, S.STOPPING}
"""An incarnation exists."""

AT_REST = frozenset(S) - LIVE
"""No incarnation exists; a start is legal."""


class Intent(Enum):
    """What the operator wants of a service. It outlives incarnations."""

    UP = "up"
    PAUSED = "paused"
    DOWN = "down"
