"""A classic service as a service of Plait's kernel.

Rules:
- An adapter stands for one classic object in the tree, and calls it: privilegedStartService and startService to start,
  stopService to stop, pauseService and resumeService if it has both. It waits for what they return, and has no state.
- A MultiService is a group. While the kernel runs it, its children are the kernel's to start and to stop. Its own
  stopService is called before they stop, as Twisted's is, and what it returns is waited for after they have.
- An application is the root; what the reactor's shutdown calls is called as it stops. Without services it is served
  until it is told to stop.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from typing import Any

from plait._kernel.application import Application
from plait._kernel.events import Event, StateChanged
from plait._kernel.graph import find
from plait._kernel.group import Group
from plait._kernel.service import Service, snake_case
from plait._kernel.states import AT_REST, LIVE, STOPPING, Intent
from plait.classic import _host
from plait.classic._waiting import settled
from plait.classic.internet.defer import Deferred, succeed
from plait.errors import PlaitError, UsageError


class Adapter(Service):
    """Stands for a classic service."""

    _removal: asyncio.Future[Any] | None

    def __init__(self, classic: Any) -> None:
        _stand_for(self, classic, classic)

    def fail(self, error: BaseException) -> None:
        """What it does has failed, and so has its incarnation."""
        self._engine().life(self._record).fail(error)

    async def on_start(self) -> None:
        """See the module."""
        await _start(self)

    async def on_stop(self) -> None:
        """See the module."""
        await settled(_classic(self).stopService())


class PausableAdapter(Adapter):
    """Stands for a classic service with pauseService and resumeService."""

    async def on_pause(self) -> None:
        """See the module."""
        await settled(_classic(self).pauseService())

    async def on_resume(self) -> None:
        """See the module."""
        await settled(_classic(self).resumeService())


class GroupAdapter(Group):
    """Stands for a MultiService."""

    def __init__(self, classic: Any) -> None:
        super().__init__()
        _stand_for(self, classic, classic)
        _adopt_all(self)

    async def on_start(self) -> None:
        """See the module."""
        await _start(self)

    async def on_drain(self) -> None:
        """See the module."""
        _begin_stop(self)

    async def on_stop(self) -> None:
        """See the module."""
        await _end_stop(self)


class PausableGroupAdapter(GroupAdapter):
    """Stands for a MultiService with pauseService and resumeService."""

    async def on_pause(self) -> None:
        """See the module."""
        await settled(_classic(self).pauseService())

    async def on_resume(self) -> None:
        """See the module."""
        await settled(_classic(self).resumeService())


class ApplicationAdapter(Application):
    """Stands for a classic application, and is the root of its tree."""

    _may_be_empty = True

    def __init__(self, classic: Any, collection: Any) -> None:
        super().__init__(named(collection, "application"), classic.version)
        _stand_for(self, collection, classic)
        self._waiters: list[Deferred[None]] = []
        self._shutdown: asyncio.Future[None] | None = None
        _adopt_all(self)

    async def on_start(self) -> None:
        """See the module."""
        self._shutdown = None
        await _start(self)

    async def on_drain(self) -> None:
        """The reactor's shutdown begins, and with it that of the services."""
        _begin_stop(self)
        self._shutdown = _host.release(self, after=self.services_stopped())

    async def on_stop(self) -> None:
        """The services have stopped, so what waits for that at the reactor's shutdown goes on, to its end."""
        try:
            await _end_stop(self)
        finally:
            self.tell_stopped()
            shutdown = self._shutdown or _host.release(self)
            if shutdown is not None:
                await asyncio.shield(shutdown)

    def services_stopped(self) -> Deferred[None]:
        """Fires when its services have stopped; at once if they are at rest."""
        if self._record.state in AT_REST:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        return waiter

    def tell_stopped(self) -> None:
        """Whoever waits for the services to stop goes on."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)


AnyGroup = GroupAdapter | ApplicationAdapter


# -- making them ------------------------------------------------------------------------------------------------------


def adapter_of(classic: Any) -> Service:
    """The adapter that stands for a classic service, the same one each time."""
    present: Service | None = getattr(classic, "_plait", None)
    if present is None:
        is_group = getattr(classic, "_leaves_children_to_kernel", False)
        pauses = callable(getattr(classic, "pauseService", None)) and callable(getattr(classic, "resumeService", None))
        present = _KINDS[is_group, pauses](classic)
    return present


_KINDS: dict[tuple[bool, bool], Callable[[Any], Service]] = {
    (False, False): Adapter,
    (False, True): PausableAdapter,
    (True, False): GroupAdapter,
    (True, True): PausableGroupAdapter,
}


def root_of(application: Any, collection: Any, process: Any) -> ApplicationAdapter:
    """The root that stands for a classic application. UsageError if it wants to run as somebody else."""
    for what, wanted, own in (("uid", process.uid, os.getuid()), ("gid", process.gid, os.getgid())):
        if wanted is not None and wanted != own:
            raise UsageError(
                f"application {collection.name!r} wants to run with {what} {wanted}, and this process has {own}; "
                f"start it with that {what}, or leave it out"
            )
    present = collection._plait
    if isinstance(present, ApplicationAdapter):
        return present
    return ApplicationAdapter(application, collection)


def _stand_for(adapter: Any, classic: Any, whole: Any) -> None:
    adapter._classic = classic
    adapter._stands_for = whole
    adapter._stopping = None
    adapter._children_stopped = None
    adapter._unsubscribe = None
    adapter._removal = adapter._after = None
    record = adapter._record
    if not isinstance(adapter, Application):
        record.name = named(classic, snake_case(type(classic).__name__))
    kept = getattr(classic, "__dict__", {})
    record.arguments = (), {name: value for name, value in kept.items() if name not in _PLACE}
    classic._plait = adapter


_PLACE = ("parent", "running", "services", "namedServices", "_listeners", "_plait")
"""What of a classic service is no setting of it, which a reload would compare."""


def named(classic: Any, otherwise: str) -> str:
    """A classic service's name as one of Plait's."""
    name = re.sub(r"[^A-Za-z0-9_.@:+-]+", "-", str(classic.name or ""))
    return re.sub(r"^[^A-Za-z0-9_]+", "", name).rstrip("-") or otherwise


def _classic(adapter: Any) -> Any:
    return adapter._classic


# -- a group and its services -----------------------------------------------------------------------------------------


def _adopt_all(group: AnyGroup) -> None:
    for service in _classic(group):
        adopt(group, service)


def adopt(group: AnyGroup, classic: Any) -> Service:
    """Add the adapter of a classic service under a name that is free; it starts if the group runs.

    In an application it has placement "one": classic services may not expect to be there twice.
    """
    adapter = adapter_of(classic)
    if isinstance(adapter, Adapter) and adapter._record.parent is not None and adapter._removal is not None:
        adapter = _successor(adapter)
    base = named(classic, snake_case(type(classic).__name__))
    name, number = base, 1
    while name in group._children:
        number += 1
        name = f"{base}-{number}"
    adapter._record.intent = Intent.UP  # it may have been removed from another
    group.add(adapter, name=name, **({"placement": "one"} if isinstance(group, Application) else {}))
    if group.state in LIVE - {STOPPING}:
        group.spawn(_start_added(adapter), name=f"start of {name}")
    return adapter


def _successor(leaving: Any) -> Adapter:
    """An adapter for a service that is moved: it starts when the one before, which is being removed, has stopped."""
    adapter: Any = type(leaving)(_classic(leaving))
    adapter._after = leaving._removal
    moved: Adapter = adapter
    return moved


async def _start_added(adapter: Service) -> None:
    """One that was added to a group that runs; if it fails, it is it that has failed, and an event has told of it."""
    try:
        await adapter.start()
    except (PlaitError, ExceptionGroup) as error:
        adapter.log.error("%s", error)


def give_up(group: AnyGroup, classic: Any) -> Any:
    """Remove the adapter of a classic service from its group; a Deferred that fires when it has stopped, or None."""
    adapter, record = classic._plait, classic._plait._record
    if group.state in LIVE:
        adapter._removal = asyncio.get_running_loop().create_task(group.remove(record.name, dependents=True))
        return Deferred.fromFuture(adapter._removal)
    group._children.pop(record.name, None)
    record.parent = None
    return None


# -- starting and stopping --------------------------------------------------------------------------------------------


async def _start(adapter: Any) -> None:
    await _host.attach(adapter._engine().root.service)
    listen(adapter)
    adapter._stopping = adapter._children_stopped = None
    if adapter._after is not None:
        await asyncio.wait([adapter._after])
        adapter._after = None
    classic = _classic(adapter)
    await settled(classic.privilegedStartService())
    try:
        begun = classic.startService()
    except BaseException:
        await settled(getattr(classic, "_give_back", _nothing)())
        raise
    try:
        await settled(begun)
    except BaseException:
        await _undo(adapter)
        raise


def _nothing() -> None:
    pass


async def _undo(adapter: Any) -> None:
    """It has begun to start and failed of it: it is told to stop, as nobody else would."""
    children_stopped(adapter).callback(None)
    try:
        await settled(_classic(adapter).stopService())
    except Exception as error:
        adapter.log.warning("stopService, called because the start failed, raised %r", error)


def children_stopped(adapter: Any) -> Deferred[None]:
    """Fires when the kernel has stopped the services of this group, which are about to be."""
    if adapter._children_stopped is None:
        adapter._children_stopped = Deferred()
    stopped: Deferred[None] = adapter._children_stopped
    return stopped


def _begin_stop(group: Any) -> None:
    """Call stopService, while its services run; what it returns, or raises, is for `_end_stop`."""
    classic = _classic(group)
    children_stopped(group)
    try:
        group._stopping = asyncio.ensure_future(settled(classic.stopService()))
    except Exception as error:
        group._stopping = asyncio.get_running_loop().create_future()
        group._stopping.set_exception(error)


async def _end_stop(group: Any) -> None:
    if group._stopping is None:  # it failed: nobody had it drain
        _begin_stop(group)
    stopped, group._children_stopped = children_stopped(group), None
    stopping, group._stopping = group._stopping, None
    if not stopped.called:
        stopped.callback(None)
    await stopping


def is_kept_by_kernel(classic: Any) -> bool:
    """Whether a MultiService runs in the kernel, which starts and stops its services."""
    adapter = getattr(classic, "_plait", None)
    return adapter is not None and adapter.state in LIVE


def endpoint_of(port: Any) -> str:
    """Where a classic port listens, as Plait writes it; empty if it does not say."""
    address = port.getHost()
    host, number, path = (getattr(address, name, None) for name in ("host", "port", "name"))
    if number is not None:
        scheme = str(getattr(address, "type", "TCP")).lower()
        return f"{scheme}://[{host}]:{number}" if ":" in str(host) else f"{scheme}://{host}:{number}"
    return f"unix://{os.path.abspath(os.fsdecode(path))}" if path else ""


# -- telling of states ------------------------------------------------------------------------------------------------


def listen(adapter: Any) -> None:
    """Tell the classic service's listeners of the states of it and of all below it, if it has any."""
    if adapter._unsubscribe is not None or not getattr(_classic(adapter), "_listeners", None):
        return
    root = adapter._engine().root

    def sink(event: Event) -> None:
        if isinstance(event, StateChanged):
            record = root if event.path == "/" else find(root, event.path)
            if record is not None and record.within(adapter._record):
                _tell(adapter, record.service, event)

    adapter._unsubscribe = root.service.subscribe(sink)


def _tell(adapter: Any, service: Any, event: StateChanged) -> None:
    thing = service if service._stands_for is None else service._stands_for
    for listener in tuple(_classic(adapter)._listeners):
        listener(thing, event.old, event.new)
