"""What happened, as frozen values.

Rules: events are emitted by the engine alone, in the order in which things happened, to sinks. The union
`Event` is sealed: a sink that handles every member ends with `assert_never`, so a new kind of event fails its
type check until it is handled. `time` is seconds since the epoch; `path` is the service's, "/" for the
application; `generation` counts the trees that reloads made, from 1; `incarnation` counts from 1, and 0 means that
the service never started.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from plait._kernel.health import Level
from plait._kernel.states import Intent, State

__all__ = [
    "Event",
    "EventsDropped",
    "GaveUp",
    "HealthChanged",
    "IntentChanged",
    "Listening",
    "NotPaused",
    "NotStarted",
    "Parked",
    "ReloadEnded",
    "RestartScheduled",
    "ServiceAdded",
    "ServiceRemoved",
    "ServiceStuck",
    "Sink",
    "StateChanged",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAdded:
    """A service was registered in a group; `kind` is its class, as module:name."""

    time: float
    path: str
    generation: int = 1
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRemoved:
    """A service was unloaded: it has stopped, and its group forgot it."""

    time: float
    path: str
    generation: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged:
    """A service moved from `old` to `new`; `error` says why, where something went wrong."""

    time: float
    path: str
    generation: int = 1
    incarnation: int
    old: State
    new: State
    error: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentChanged:
    """An operator wants something else of a service; `pause_mode` is how it shall be paused, if that was said."""

    time: float
    path: str
    generation: int = 1
    old: Intent
    new: Intent
    pause_mode: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotStarted:
    """A service stays as it is, since something it needs is not up; `reason` says what."""

    time: float
    path: str
    generation: int = 1
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotPaused:
    """A service goes on running though it, or its group, shall be paused; `reason` says why it cannot pause."""

    time: float
    path: str
    generation: int = 1
    incarnation: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartScheduled:
    """A service will be started again.

    `failures` is how often it failed in a row. `delay` is seconds, or None if it waits for what `reason` says.
    """

    time: float
    path: str
    generation: int = 1
    incarnation: int
    failures: int
    delay: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """A service has used up its restarts, and stays down until an operator starts it; `reason` says which limit."""

    time: float
    path: str
    generation: int = 1
    incarnation: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GaveUp:
    """A group ends because of one of its services, `culprit`, a path; `reason` says why it does."""

    time: float
    path: str
    generation: int = 1
    culprit: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthChanged:
    """The health of a service that runs is another; `reason` is for people, and empty if it is ready.

    Whatever gets RUNNING is ready until this says otherwise.
    """

    time: float
    path: str
    generation: int = 1
    old: Level
    new: Level
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A service accepts work at `endpoint`, a URL with the real port."""

    time: float
    path: str
    generation: int = 1
    incarnation: int
    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStuck:
    """A service would not stop. `what` names the task and the line it is at; it was left behind."""

    time: float
    path: str
    generation: int = 1
    incarnation: int
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadEnded:
    """A reload has come to its end.

    `outcome`: "nothing" was different; "live", the services took their options while they ran; "generation", this
    tree took over from the one before; "failed", and everything is as it was. `changes` says what was different.
    """

    time: float
    path: str
    generation: int = 1
    outcome: Literal["nothing", "live", "generation", "failed"]
    changes: tuple[str, ...]
    error: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsDropped:
    """A reader of `Application.events()` was too slow, and lost the `count` oldest events."""

    time: float
    count: int


Event = (
    ServiceAdded
    | ServiceRemoved
    | StateChanged
    | IntentChanged
    | NotStarted
    | NotPaused
    | RestartScheduled
    | Parked
    | GaveUp
    | HealthChanged
    | Listening
    | ServiceStuck
    | ReloadEnded
    | EventsDropped
)

Sink = Callable[[Event], None]
"""Called with each event, on the loop, in order. What it raises is logged and harms nobody."""
