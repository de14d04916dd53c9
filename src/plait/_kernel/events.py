"""What happened, as frozen values.

Rules: events are emitted by the engine alone, in the order in which things happened, to sinks. The union
`Event` is sealed: a sink that handles every member ends with `assert_never`, so a new kind of event fails its
type check until it is handled. `time` is seconds since the epoch; `path` is the service's, "/" for the
application; `incarnation` counts from 1, and 0 means that the service never started.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from plait._kernel.states import State

__all__ = [
    "Event",
    "EventsDropped",
    "Listening",
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
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRemoved:
    """A service was unloaded: it has stopped, and its group forgot it."""

    time: float
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged:
    """A service moved from `old` to `new`; `error` says why, where something went wrong."""

    time: float
    path: str
    incarnation: int
    old: State
    new: State
    error: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A service accepts work at `endpoint`, a URL with the real port."""

    time: float
    path: str
    incarnation: int
    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStuck:
    """A service would not stop. `what` names the task and the line it is at; it was left behind."""

    time: float
    path: str
    incarnation: int
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsDropped:
    """A reader of `Application.events()` was too slow, and lost the `count` oldest events."""

    time: float
    count: int


Event = ServiceAdded | ServiceRemoved | StateChanged | Listening | ServiceStuck | EventsDropped

Sink = Callable[[Event], None]
"""Called with each event, on the loop, in order. What it raises is logged and harms nobody."""
