"""A recorder: it keeps the events of an application, answers questions about them, and waits for more.

Rules: it is a sink, so `app.subscribe(recorder)` is all it takes; the present state comes first. Questions name a kind
of event and what its fields must be: a value, a class of which they must be instances, or a function that says so. A
field that the kind has not is an error, for a question that nothing can answer would pass for "it did not happen".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import fields
from difflib import get_close_matches
from enum import Enum
from typing import Any, TypeVar, cast

from plait._kernel.events import Event, EventsDropped, StateChanged
from plait._kernel.states import State
from plait.errors import NotSeen

E = TypeVar("E", bound=Event)

TIMEOUT = 10.0
SHOWN = 40


class Recorder:
    """Keeps events, oldest first, in `events`; iterating it gives them too. For the loop of the application alone."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._waiting: list[tuple[Callable[[Event], bool], asyncio.Future[Event]]] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        for matches, future in self._waiting:
            if not future.done() and matches(event):
                future.set_result(event)

    def __iter__(self) -> Iterator[Event]:
        return iter(tuple(self.events))

    def __len__(self) -> int:
        return len(self.events)

    def of(self, kind: type[E], /, **expected: Any) -> list[E]:
        """The events of a kind whose fields are as expected, in order."""
        matches = _matcher(kind, expected)
        return [cast(E, event) for event in self.events if matches(event)]

    def paths(self, kind: type[Event], /, **expected: Any) -> list[str]:
        """Whose these events were, in order: `paths(StateChanged, new=State.RUNNING)` is the order of a start."""
        return [event.path for event in self.of(kind, **expected) if not isinstance(event, EventsDropped)]

    def states(self, path: str) -> list[State]:
        """The states that a service came to, in order."""
        return [event.new for event in self.of(StateChanged, path=path)]

    @property
    def last(self) -> Event | None:
        """The newest event, for the `after` of a `wait`."""
        return self.events[-1] if self.events else None

    async def wait(
        self, kind: type[E], /, *, after: Event | None = None, timeout: float = TIMEOUT, **expected: Any
    ) -> E:
        """The first event of a kind whose fields are as expected, past or to come; with `after`, later than that one.

        NotSeen, with what did happen, if it is not there within `timeout` seconds of the loop's clock. TypeError for a
        field that the kind has not, ValueError if `after` was not recorded.
        """
        matches = _matcher(kind, expected)
        past = next(filter(matches, self.events[self._place(after) :]), None)
        return cast(E, past if past is not None else await self._next(matches, timeout, _question(kind, expected)))

    def _place(self, after: Event | None) -> int:
        if after is None:
            return 0
        places = [place for place, event in enumerate(self.events) if event is after]
        if not places:
            raise ValueError(f"after is {after!r}, which this recorder has not recorded")
        return places[0] + 1

    async def _next(self, matches: Callable[[Event], bool], timeout: float, question: str) -> Event:
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        waiting = (matches, future)
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise NotSeen(f"{question} did not happen within {timeout:g} s; what did:\n{self}") from None
        finally:
            self._waiting.remove(waiting)

    def __str__(self) -> str:
        """The events for people, a line each, with seconds since the first; of very many, the newest."""
        if not self.events:
            return "  nothing"
        begin, events = self.events[0].time, self.events[-SHOWN:]
        more = [f"  {len(self.events) - SHOWN} earlier ones"] if len(self.events) > SHOWN else []
        return "\n".join(more + [f"  {event.time - begin:9.3f}  {_line(event)}" for event in events])


def _matcher(kind: type[Any], expected: dict[str, Any]) -> Callable[[Event], bool]:
    names = [field.name for field in fields(kind)]
    for name in expected:
        if name not in names:
            near = get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names)}"
            raise TypeError(f"{kind.__name__} has no field {name!r}; {hint}")
    return lambda event: isinstance(event, kind) and all(_is(getattr(event, k), v) for k, v in expected.items())


def _is(value: Any, expected: Any) -> bool:
    if isinstance(expected, type):
        return isinstance(value, expected)
    if callable(expected):
        return bool(expected(value))
    return bool(value == expected)


def _question(kind: type[Any], expected: dict[str, Any]) -> str:
    return f"{kind.__name__}({', '.join(f'{name}={_text(value)}' for name, value in expected.items())})"


def _line(event: Event) -> str:
    if isinstance(event, StateChanged):
        error = f"  {event.error!r}" if event.error is not None else ""
        return f"{event.path}: {event.old.value} -> {event.new.value}, incarnation {event.incarnation}{error}"
    names = [field.name for field in fields(event) if field.name not in ("time", "path", "generation")]
    words = [type(event).__name__, *(f"{name}={_text(getattr(event, name))}" for name in names)]
    return " ".join(words) if isinstance(event, EventsDropped) else f"{event.path}: {' '.join(words)}"


def _text(value: Any) -> str:
    if isinstance(value, type):
        return value.__qualname__
    return str(value) if isinstance(value, Enum) else repr(value)
