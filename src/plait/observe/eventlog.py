"""A sink that makes log lines of an application's events.

Rules: a line has a subject and says one thing: "db running". What is on its way is for debugging; what has
arrived is information; what went wrong is an error, and the traceback stands with the service that failed, once.
While an application starts, where its services listen is said in one line when all are ready.
"""

from __future__ import annotations

import logging
import time
from typing import assert_never

from plait._kernel.application import Application
from plait._kernel.events import (
    Event,
    EventsDropped,
    GaveUp,
    HealthChanged,
    IntentChanged,
    Listening,
    NotPaused,
    NotStarted,
    Parked,
    ReloadEnded,
    RestartScheduled,
    ServiceAdded,
    ServiceRemoved,
    ServiceStuck,
    StateChanged,
)
from plait._kernel.health import Level
from plait._kernel.states import READY, State
from plait._kernel.words import error_text

log = logging.getLogger("plait")

LEVELS = {
    State.NEW: logging.DEBUG,
    State.STARTING: logging.DEBUG,
    State.RUNNING: logging.INFO,
    State.PAUSING: logging.DEBUG,
    State.PAUSED: logging.INFO,
    State.RESUMING: logging.DEBUG,
    State.STOPPING: logging.DEBUG,
    State.STOPPED: logging.INFO,
    State.FAILED: logging.ERROR,
    State.BACKOFF: logging.DEBUG,
}

NAMED = 12
"""How many endpoints the line about readiness names."""


class EventLog:
    """Subscribe it to the application it is made for. `since` is the `time.monotonic()` that readiness counts from."""

    def __init__(self, application: Application, *, since: float | None = None) -> None:
        self._application = application
        self._since = time.monotonic() if since is None else since
        self._told: BaseException | None = None
        self._listening: list[str] = []
        """Where services listen, until it was said."""

    def __call__(self, event: Event) -> None:
        """One line, if its level is on."""
        match event:
            case StateChanged():
                self._state(event)
            case Listening():
                level = logging.INFO
                if self._application.state not in READY:
                    self._listening.append(f"{event.endpoint} ({event.path})")
                    level = logging.DEBUG
                self._say(level, event.path, event.incarnation, f"listening on {event.endpoint}")
            case ServiceStuck():
                text = f"would not stop, and was left behind: {event.what}"
                self._say(logging.ERROR, event.path, event.incarnation, text)
            case RestartScheduled():
                when = f"in {event.delay:.2g} s" if event.delay is not None else "later"
                self._say(logging.WARNING, event.path, event.incarnation, f"starts again {when}: {event.reason}")
            case Parked():
                text = f"parked until an operator starts it: {event.reason}"
                self._say(logging.ERROR, event.path, event.incarnation, text)
            case GaveUp():
                self._say(logging.ERROR, self._name(event.path), 0, f"gives up: {event.reason}")
            case HealthChanged():
                level = logging.INFO if event.new is Level.READY else logging.WARNING
                self._say(level, self._name(event.path), 0, f"{event.new.value}: {event.reason}".rstrip(": "))
            case IntentChanged():
                mode = f", mode {event.pause_mode}" if event.pause_mode else ""
                self._say(logging.INFO, self._name(event.path), 0, f"shall be {event.new.value}{mode}")
            case NotPaused():
                self._say(logging.WARNING, event.path, event.incarnation, f"goes on: {event.reason}")
            case NotStarted():
                self._say(logging.WARNING, event.path, 0, f"not started: {event.reason}")
            case ReloadEnded():
                self._reload(event)
            case ServiceAdded():
                self._say(logging.DEBUG, event.path, 0, f"added, a {event.kind}")
            case ServiceRemoved():
                self._say(logging.INFO, event.path, 0, "removed")
            case EventsDropped():
                log.warning("a reader of events was too slow, and lost %d of them", event.count)
            case _:
                assert_never(event)

    def _name(self, path: str) -> str:
        return self._application.name if path == "/" else path

    def _reload(self, event: ReloadEnded) -> None:
        changes = f" ({'; '.join(event.changes)})" if event.changes else ""
        match event.outcome:
            case "nothing":
                log.info("reload: nothing has changed")
            case "live":
                log.info("reload: taken live%s", changes)
            case "generation":
                log.info("reload: generation %d serves%s", event.generation, changes)
            case "failed":
                log.error("reload failed, everything goes on as before: %s", event.error)
            case _:
                assert_never(event.outcome)

    def _state(self, event: StateChanged) -> None:
        if event.path == "/":
            self._application_state(event)
            return
        said, error = event.new.value, event.error
        if error is not None:
            said += f": {error_text(error)}"
            if error is self._told:  # a group fails of what one of its services failed of
                error = None
            self._told = event.error
        self._say(LEVELS[event.new], event.path, event.incarnation, said, error)

    def _application_state(self, event: StateChanged) -> None:
        """Whoever runs the application says how it ended; here it is only said when it is ready."""
        if event.new is State.RUNNING and event.old is State.STARTING:
            extra = {"service": "/", "incarnation": event.incarnation}
            seconds = time.monotonic() - self._since
            which = f"generation {event.generation} ready" if event.generation > 1 else "ready"
            log.info("%s in %.2f s%s", which, seconds, self._endpoints(), extra=extra)
        else:
            error = event.error if event.error is not self._told else None
            level = logging.ERROR if error is not None else logging.DEBUG
            self._say(level, self._application.name, event.incarnation, event.new.value, error)

    def _endpoints(self) -> str:
        found, self._listening = self._listening, []
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        return f": listening on {', '.join(found[:NAMED])}{more}" if found else ""

    def _say(self, level: int, path: str, incarnation: int, text: str, error: BaseException | None = None) -> None:
        if log.isEnabledFor(level):
            extra = {"service": path, "incarnation": incarnation} if incarnation else {"service": path}
            log.log(level, "%s %s", path, text, extra=extra, exc_info=error)
