"""Who runs the loop for whom: Plait's kernel for the reactor, or the reactor for an application.

Rules:
- Where the kernel runs (`plait run`, a classic service in any application of Plait's), the reactor is a guest of that
  application: it is up from the first classic service on, `reactor.stop()` stops the application, and its shutdown is
  fired as that stops. `reactor.run()` in a file that is being loaded as a target is noted, and returns at once.
- Where `reactor.run()` runs, it serves the applications that have seen `setService` and that nobody else has started:
  each as a tree of the kernel's, from the reactor's startup to its shutdown, which waits for it. One that fails stops
  the reactor, and `run` raises what it failed of.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from plait._kernel.application import Application
from plait._kernel.events import Event, StateChanged
from plait._kernel.states import AT_REST, STOPPING
from plait.classic._run import failed
from plait.classic._waiting import task_of
from plait.classic.internet._default import default_reactor
from plait.classic.internet.defer import Deferred, fail, maybeDeferred, succeed
from plait.errors import LifecycleError, PlaitError, UsageError
from plait.plugins import lookup

log = logging.getLogger("plait.classic")


# -- the reactor as the guest of an application -----------------------------------------------------------------------


class _Guest:
    """What the reactor asks of the applications that it is the guest of."""

    def __init__(self) -> None:
        self.applications: dict[Any, None] = {}
        self.heard: dict[Any, Callable[[], None]] = {}
        """What ends hearing of an application; it is heard of until it is at rest."""
        self.leaving: dict[Any, Deferred[None]] = {}
        """Those that stop, each with what fires when it has."""
        self._stops: set[asyncio.Task[Any]] = set()

    def stop(self) -> None:
        """Stop every application."""
        for application in self.applications:
            task = asyncio.get_running_loop().create_task(_stop(application), name="reactor.stop")
            self._stops.add(task)
            task.add_done_callback(self._stops.discard)


_guest = _Guest()


async def _stop(application: Application) -> None:
    with contextlib.suppress(ExceptionGroup):  # its events have told of it
        await application.stop()


async def attach(application: Any) -> None:
    """The application starts a classic service: the reactor is its guest from now on, unless it runs by itself."""
    reactor = default_reactor()
    if application in _guest.applications or application in _roots or (reactor.running and not _guest.applications):
        return
    is_first = not _guest.applications
    _guest.applications[application] = None
    _guest.heard[application] = application.subscribe(partial(_heard, application))
    if is_first:
        reactor._host = _guest
        await reactor._serve_hosted()


def release(application: Any, after: Deferred[None] | None = None) -> asyncio.Future[None] | None:
    """The application stops; if it was the last, the reactor's shutdown is fired, and done when that is over.

    Its "before" is not over until `after` has fired, so that what services use is there until they have stopped.
    """
    if application not in _guest.applications:
        return None
    del _guest.applications[application]
    if _guest.applications:
        return None
    reactor = default_reactor()
    if after is not None:
        reactor.addSystemEventTrigger("before", "shutdown", lambda: after)
    reactor.addSystemEventTrigger("after", "shutdown", _leave)
    shutdown: asyncio.Future[None] = reactor._stop_hosted()
    return shutdown


def _leave() -> None:
    if not _guest.applications:
        default_reactor()._host = None


def _heard(application: Any, event: Event) -> None:
    """Of an application that does not see to the shutdown itself: it begins when that stops, and waits for its end."""
    if not isinstance(event, StateChanged) or event.path != "/":
        return
    if event.new is STOPPING and not application._may_be_empty:
        stopped = _guest.leaving[application] = Deferred()
        release(application, stopped)
    elif event.new in AT_REST:
        _guest.heard.pop(application)()
        release(application)
        if application._may_be_empty:
            application.tell_stopped()
        elif application in _guest.leaving:
            _guest.leaving.pop(application).callback(None)


# -- applications as guests of the reactor ----------------------------------------------------------------------------

_serving: dict[Any, asyncio.Task[None]] = {}
"""The applications that `reactor.run()` serves."""

_roots: set[Application] = set()
"""What stands for them in the kernel."""


def takes(application: Any) -> None:
    """The application starts with the reactor, unless somebody else has started it by then."""
    if lookup.loading is not None:
        lookup.loading.applications.append(application)
    reactor = default_reactor()
    reactor.addSystemEventTrigger("before", "shutdown", _finish, application)
    if reactor.running:
        _begin(application)
    else:
        reactor.addSystemEventTrigger("after", "startup", _begin, application)


def _begin(application: Any) -> None:
    if application in _serving or application._is_started:
        return
    try:
        root = application.__plait_application__()
    except UsageError as error:
        _fail(error)
        return
    task = asyncio.get_running_loop().create_task(_serve(root), name=f"application {root.name}")
    _serving[application] = task
    task.add_done_callback(lambda _: _serving.pop(application, None))


async def _serve(root: Application) -> None:
    from plait.observe.eventlog import EventLog

    unsubscribe = root.subscribe(EventLog(root))
    _roots.add(root)
    try:
        await root.serve()
    except (PlaitError, ExceptionGroup) as error:
        _fail(error)
    finally:
        _roots.discard(root)
        unsubscribe()


def _fail(error: Exception) -> None:
    log.critical("%s", error)
    failed.append(error)
    reactor = default_reactor()
    if reactor.running:
        with contextlib.suppress(Exception):  # it stops already
            reactor.stop()


def _finish(application: Any) -> Any:
    """Stop what `run` serves of it; fires when it has stopped."""
    task = _serving.get(application)
    if task is None:
        return None
    root = application.__plait_application__()
    return task_of(_stopped(root, task))


async def _stopped(root: Application, task: asyncio.Task[None]) -> None:
    await _stop(root)
    await asyncio.wait([task])


# -- what an application is told --------------------------------------------------------------------------------------


def start(application: Any) -> Deferred[Any]:
    """Start it: now, where the reactor runs, else when it does; fires when it is ready."""
    reactor = default_reactor()
    if application._is_started:
        return _command(application, "start")
    if not reactor.running:
        ready: Deferred[Any] = Deferred()
        takes(application)
        reactor.addSystemEventTrigger(
            "after", "startup", lambda: maybeDeferred(_ready, application).chainDeferred(ready)
        )
        return ready
    reactor.addSystemEventTrigger("before", "shutdown", _finish, application)
    _begin(application)
    return _ready(application)


def _ready(application: Any) -> Deferred[Any]:
    return task_of(application.__plait_application__().wait_ready())


def stop(application: Any) -> Deferred[Any]:
    """Stop it, or join its stop; fires when its services have stopped."""
    root = application._root
    if root is None or root.state in AT_REST:
        return succeed(None)
    if application in _serving:
        return _finish(application) or succeed(None)
    stopped: Deferred[Any] = root.services_stopped()
    if root.state is not STOPPING:
        task_of(_stop(root))
    return stopped


def command(application: Any, verb: str) -> Deferred[Any]:
    """Pause or resume it; fires when that is done."""
    if not application._is_started:
        return fail(LifecycleError(f"application {application.name!r} does not run, so it cannot {verb}"))
    return _command(application, verb)


def _command(application: Any, verb: str) -> Deferred[Any]:
    return task_of(getattr(application._root, verb)())
