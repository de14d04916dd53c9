"""Services, collections of them, and applications, with Twisted's names and ways.

Rules:
- Called directly, startService and stopService do at once what they do: `running` is set when they return, and a
  MultiService starts its children. In an application of Plait's the kernel calls them, waits for what they return, and
  starts and stops the children itself (see `_adapter`).
- No subclass has to call a base: what a service has, it has from its class.
- The handbook's additions: `setService`, `start`, `stop`, `pause` and `resume` of an application, `addStateListener`,
  optional `pauseService` and `resumeService`, `Options.addOpt`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Generic, TypeVar

from zope.interface import implementer

from plait._kernel.states import LIVE, State
from plait.classic import _adapter, _host
from plait.classic._waiting import begun, deferred
from plait.classic.application._interfaces import IProcess, IService, IServiceCollection, IServiceMaker
from plait.classic.application._options import Options
from plait.classic.internet.defer import Deferred, DeferredList, maybeDeferred
from plait.classic.persisted import sob
from plait.classic.python import components

__all__ = [
    "Application",
    "IProcess",
    "IService",
    "IServiceCollection",
    "IServiceMaker",
    "MultiService",
    "Options",
    "Process",
    "Service",
    "ServiceMaker",
    "loadApplication",
]

T = TypeVar("T")
Listener = Callable[[Any, State, State], object]


class _Own(Generic[T]):
    """An attribute that each instance has of its own from its first use on, made by `make`."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> T:
        if instance is None:
            return self._make()
        made: T = instance.__dict__.setdefault(self._name, self._make())
        return made


@implementer(IService)
class Service:
    """A base for services; `running` is whether it runs, `parent` the collection it is in."""

    running: Any = 0
    name: Any = None
    parent: Any = None

    _plait: Any = None
    """The service of Plait's that stands for it, once there is one."""
    _listeners = _Own[list[Listener]](list)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _VOLATILE}

    def setName(self, name: str) -> None:
        """Name it. RuntimeError if it has a parent already."""
        if self.parent is not None:
            raise RuntimeError("cannot change name when parent exists")
        self.name = name

    def setServiceParent(self, parent: Any) -> None:
        """Put it into a collection, or into what can be adapted to one. RuntimeError if the name is taken there."""
        if self.parent is not None:
            self.disownServiceParent()
        collection: Any = IServiceCollection(parent, parent)
        self.parent = collection
        collection.addService(self)

    def disownServiceParent(self) -> Any:
        """Take it out of its collection; a Deferred if that has to wait for its stop."""
        stopped = self.parent.removeService(self)
        self.parent = None
        return stopped

    def privilegedStartService(self) -> Any:
        """Called before startService; override it to take what needs rights."""

    def startService(self) -> Any:
        """Start: override it. It may return a Deferred, or be `async`."""
        self._set_running(1)

    def stopService(self) -> Any:
        """Stop: override it. It may return a Deferred, or be `async`."""
        self._set_running(0)

    def _set_running(self, running: int) -> None:
        before, self.running = self.running, running
        if bool(before) != bool(running) and self._kernel is None:
            old, new = (State.STOPPED, State.RUNNING) if running else (State.RUNNING, State.STOPPED)
            for listener in tuple(self._listeners):
                listener(self, old, new)

    @property
    def _kernel(self) -> Any:
        """Plait's service that stands for it, while the kernel runs that."""
        return self._plait if _adapter.is_kept_by_kernel(self) else None

    def _announce(self, port: Any) -> None:
        """Tell the kernel where it listens."""
        if self._kernel is not None and (endpoint := _adapter.endpoint_of(port)):
            self._kernel._announce(endpoint)

    def addStateListener(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(service, old, new)` with each change of its state; what is returned ends that.

        States are those of `plait.State`; of a collection one hears of the services in it as well. Started and stopped
        directly, without an application, a service is only STOPPED or RUNNING.
        """
        self._listeners.append(listener)
        if self._kernel is not None:
            _adapter.listen(self._plait)

        def remove() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return remove

    def __plait_service__(self) -> Any:
        return _adapter.adapter_of(self)


_VOLATILE = ("running", "_plait", "_listeners")
"""What is not kept where a service is copied or stored."""


@implementer(IServiceCollection)
class MultiService(Service):
    """A service that holds services: they start with it, in the order in which they were added, and stop in reverse."""

    services: Any = _Own[list[Any]](list)
    namedServices: Any = _Own[dict[str, Any]](dict)

    _leaves_children_to_kernel = True

    def __init__(self) -> None:
        pass  # what it has, it has from its class, so nobody has to call this

    def privilegedStartService(self) -> Any:
        """Call that of its services."""
        super().privilegedStartService()
        if self._kernel is None:
            for service in self:
                begun(service.privilegedStartService())

    def startService(self) -> Any:
        """Start its services."""
        super().startService()
        if self._kernel is None:
            for service in self:
                begun(service.startService())

    def stopService(self) -> Any:
        """Stop its services, the last one first; a Deferred that fires when all have stopped."""
        super().stopService()
        if self._kernel is not None:
            return _adapter.children_stopped(self._plait)
        return DeferredList([_stopped(service) for service in reversed(list(self))])

    def getServiceNamed(self, name: str) -> Any:
        """The service of this name. KeyError if there is none."""
        return self.namedServices[name]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.services)

    def addService(self, service: Any) -> None:
        """Hold a service, and start it if this runs. RuntimeError if its name is taken."""
        if service.name is not None:
            if service.name in self.namedServices:
                raise RuntimeError(f"cannot have two services with same name '{service.name}'")
            self.namedServices[service.name] = service
        self.services.append(service)
        if self._plait is not None:
            _adapter.adopt(self._plait, service)
        if self.running and self._kernel is None:
            begun(service.privilegedStartService())
            begun(service.startService())

    def removeService(self, service: Any) -> Any:
        """Hold it no longer, and stop it if this runs; a Deferred then."""
        if service.name:
            del self.namedServices[service.name]
        self.services.remove(service)
        stopping = None
        if self._plait is not None and service._plait is not None:
            stopping = _adapter.give_up(self._plait, service)
        if stopping is None and self.running:
            stopping = _stopped(service)
        return stopping


def _stopped(service: Any) -> Deferred[Any]:
    """Stop it; fires when it has stopped, or with what its stop raised."""
    return maybeDeferred(lambda: deferred(service.stopService()))


@implementer(IProcess)
class Process:
    """How the process of an application shall be."""

    processName: Any = None

    def __init__(self, uid: int | None = None, gid: int | None = None) -> None:
        self.uid = uid
        self.gid = gid

    def __repr__(self) -> str:
        return f"<Process uid={self.uid} gid={self.gid}>"


class Application(components.Componentized):
    """An application: it can be adapted to IService, IServiceCollection, IProcess and sob.IPersistable.

    `uid` and `gid` are whose rights it shall have: it does not start where they differ from the process's own.
    """

    def __init__(
        self, name: str, uid: int | None = None, gid: int | None = None, *, version: str | None = None
    ) -> None:
        super().__init__()
        self.version = version
        for component in (MultiService(), Process(uid, gid), sob.Persistent(self, name)):
            self.addComponent(component, ignoreClass=1)
        self._collection.setName(name)

    @property
    def _collection(self) -> Any:
        return self.getComponent(IServiceCollection)

    @property
    def name(self) -> str:
        """Its name."""
        name: str = self._collection.name
        return name

    def __repr__(self) -> str:
        return f"<Application {self.name!r}>"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_is_taken"}

    # -- the handbook's additions -------------------------------------------------------------------------------------

    def setService(self, service: Any) -> None:
        """Hold a service, and be served: from the reactor's start to its shutdown, if nobody else starts this."""
        service.setServiceParent(self)
        if not self.__dict__.get("_is_taken"):
            self._is_taken = True
            _host.takes(self)

    def start(self) -> Deferred[Any]:
        """Start it: now if the reactor runs, else when it does; fires when all its services are ready."""
        return _host.start(self)

    def stop(self) -> Deferred[Any]:
        """Stop it, or join its stop; fires when all its services have stopped. Nothing if it does not run."""
        if self._root is None and self._collection.running:
            return maybeDeferred(self._collection.stopService)
        return _host.stop(self)

    def pause(self) -> Deferred[Any]:
        """Pause what can pause of it; fires with the paths of those services that cannot, and go on."""
        return _host.command(self, "pause")

    def resume(self) -> Deferred[Any]:
        """Take work again; fires when it does."""
        return _host.command(self, "resume")

    def addStateListener(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(service, old, new)` with each state of this and of all services in it; see Service's."""
        remove: Callable[[], None] = self._collection.addStateListener(listener)
        return remove

    # -- in Plait -----------------------------------------------------------------------------------------------------

    @property
    def _root(self) -> Any:
        """The application of Plait's that stands for it, once there is one; None before."""
        present = self._collection._plait
        return present if isinstance(present, _adapter.ApplicationAdapter) else None

    @property
    def _is_started(self) -> bool:
        """Whether somebody has started it, or holds it in a tree that will be."""
        present = self._collection._plait
        if present is not None and (present.state in LIVE or present._record.parent is not None):
            return True
        return present is None and bool(self._collection.running)

    def __plait_service__(self) -> Any:
        return _adapter.adapter_of(self._collection)

    def __plait_application__(self) -> Any:
        return _adapter.root_of(self, self._collection, self.getComponent(IProcess))


@implementer(IServiceMaker)
class ServiceMaker:
    """A plugin that names a module with `Options` and `makeService`, imported when one of them is asked for."""

    def __init__(self, name: str, module: str, description: str, tapname: str) -> None:
        self.name = name
        self.module = module
        self.description = description
        self.tapname = tapname

    @property
    def options(self) -> Any:
        """The module's Options."""
        return import_module(self.module).Options

    @property
    def makeService(self) -> Any:
        """The module's makeService."""
        return import_module(self.module).makeService


def loadApplication(filename: str, kind: str, passphrase: Any = None) -> Any:
    """The application in a file: "python" for a .tac, whose variable `application` it is, "pickle" or "source"."""
    if passphrase is not None:
        raise TypeError("passphrase must be None: files are not encrypted")
    application = sob.loadValueFromFile(filename, "application") if kind == "python" else sob.load(filename, kind)
    persistable: Any = sob.IPersistable(application, None)
    if persistable is not None and kind != "python":
        persistable.setStyle(kind)
    return application
