"""The state machine, as one table.

Rules: a service is in exactly one state. Only the engine moves it, and only along this table; anything else is
`IllegalTransition`. Every life ends through STOPPING, also a failed one, because what was entered must be
unwound. `Intent` (what the operator wants) and health are separate axes and never states.

    NEW ─→ STARTING ─→ RUNNING ⇄ (PAUSING → PAUSED → RESUMING)
               │           │            │
               └───────→ STOPPING ←─────┘
                       ┌───┴────┐
                    STOPPED   FAILED ─→ BACKOFF       STOPPED, FAILED, BACKOFF ─→ STARTING
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

    words: str
    """What a service in it is, for people."""

    # Enum's own hash is a Python function; states are hashed on every move of every service.
    __hash__ = object.__hash__


# On Python 3.11 each access to a member through its Enum is a Python call; the kernel moves services by these.
NEW, STARTING, RUNNING = State.NEW, State.STARTING, State.RUNNING
PAUSING, PAUSED, RESUMING = State.PAUSING, State.PAUSED, State.RESUMING
STOPPING, STOPPED, FAILED, BACKOFF = State.STOPPING, State.STOPPED, State.FAILED, State.BACKOFF

TRANSITIONS: dict[State, tuple[State, ...]] = {
    NEW: (STARTING,),
    STARTING: (RUNNING, PAUSED, STOPPING),
    RUNNING: (PAUSING, STOPPING),
    PAUSING: (PAUSED, STOPPING),
    PAUSED: (RESUMING, STOPPING),
    RESUMING: (RUNNING, STOPPING),
    STOPPING: (STOPPED, FAILED),
    STOPPED: (STARTING, BACKOFF),
    FAILED: (STARTING, BACKOFF),
    BACKOFF: (STARTING, STOPPED),
}

for _state, _next in TRANSITIONS.items():
    _state.next = _next
    _state.words = {NEW: "not started", BACKOFF: "in backoff"}.get(_state, _state.value)

READY = frozenset({RUNNING, PAUSING, PAUSED, RESUMING})
"""Started, and not yet ending: a need in one of these is met."""

LIVE = READY | {STARTING, STOPPING}
"""An incarnation exists."""

AT_REST = frozenset(State) - LIVE
"""No incarnation exists; a start is legal."""


class Intent(Enum):
    """What the operator wants of a service. It outlives incarnations."""

    UP = "up"
    PAUSED = "paused"
    DOWN = "down"


UP, HELD, DOWN = Intent.UP, Intent.PAUSED, Intent.DOWN
