"""Classic services called directly, as Twisted's code does: at once, with a loop or without one."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from zope.interface.verify import verifyObject

from plait import State
from plait.classic.application import internet, service
from plait.classic.internet import defer, task
from plait.classic.persisted import sob
from plait.classic.python import components
from plait.errors import UsageError


class Bare(service.Service):
    """Makes no upcall in its constructor."""

    def __init__(self, size: int = 0) -> None:
        self.size = size


class BareMany(service.MultiService):
    """Makes no upcall in its constructor."""

    def __init__(self) -> None:
        self.size = 1


def test_starting_and_stopping_is_done_on_return() -> None:
    """`running` is set, those of the children too, in the order of Twisted."""
    diary: list[str] = []

    class Told(service.Service):
        def startService(self) -> None:
            super().startService()
            diary.append(f"{self.name} starts")

        def stopService(self) -> None:
            super().stopService()
            diary.append(f"{self.name} stops")

    group = BareMany()
    for name in ("one", "two"):
        one = Told()
        one.setName(name)
        one.setServiceParent(group)
    group.privilegedStartService()
    group.startService()
    assert group.running
    assert all(one.running for one in group)
    stopped: list[Any] = []
    group.stopService().addCallback(stopped.append)
    assert len(stopped) == 1
    assert not any(one.running for one in [group, *group])
    assert diary == ["one starts", "two starts", "two stops", "one stops"]


def test_a_collection_knows_its_services() -> None:
    """By name and in order; a name is taken once, and is fixed once there is a parent."""
    group, other = BareMany(), BareMany()
    one, two = Bare(), Bare()
    one.setName("one")
    one.setServiceParent(group)
    two.setServiceParent(group)
    assert [*group] == [one, two]
    assert group.getServiceNamed("one") is one
    with pytest.raises(KeyError):
        group.getServiceNamed("two")
    with pytest.raises(RuntimeError):
        one.setName("other")
    again = Bare()
    again.setName("one")
    with pytest.raises(RuntimeError, match="same name 'one'"):
        again.setServiceParent(group)
    one.setServiceParent(other)
    assert ([*group], one.parent) == ([two], other)
    assert [*BareMany()] == []


def test_adding_to_one_that_runs_starts_and_removing_stops() -> None:
    """At once; without a Deferred where nothing ran."""
    group, one = service.MultiService(), Bare()
    one.setServiceParent(group)
    assert one.disownServiceParent() is None
    group.startService()
    one.setServiceParent(group)
    assert one.running
    assert isinstance(one.disownServiceParent(), defer.Deferred)
    assert not one.running


async def test_coroutines_of_children_run() -> None:
    """`async def` is as good as a Deferred, also where nobody but the collection calls it."""
    diary: list[str] = []

    class Later(service.Service):
        async def startService(self) -> None:
            await asyncio.sleep(0)
            diary.append("started")

        async def stopService(self) -> None:
            await asyncio.sleep(0)
            diary.append("stopped")

    group = service.MultiService()
    Later().setServiceParent(group)
    group.startService()
    await group.stopService().asFuture(asyncio.get_running_loop())
    assert diary == ["started", "stopped"]


def test_coroutines_of_children_run_without_a_loop() -> None:
    """As far as they go without one."""
    diary: list[str] = []

    class Now(service.Service):
        async def startService(self) -> None:
            diary.append(await defer.succeed("started"))

    group = service.MultiService()
    Now().setServiceParent(group)
    group.startService()
    assert diary == ["started"]


def test_copies_do_not_run() -> None:
    """What runs is not kept in a copy or a pickle, what was set is."""
    one = Bare(3)
    one.startService()
    one.addStateListener(print)
    for again in (copy.copy(one), pickle.loads(pickle.dumps(one))):
        assert (again.running, again.size, again._listeners) == (0, 3, [])


def test_listeners_without_an_application() -> None:
    """They hear of start and stop once each, and no more once they are removed."""
    heard: list[Any] = []
    one = Bare()
    remove = one.addStateListener(lambda *what: heard.append(what))
    one.startService()
    one.startService()
    one.stopService()
    assert heard == [(one, State.STOPPED, State.RUNNING), (one, State.RUNNING, State.STOPPED)]
    remove()
    remove()
    one.startService()
    assert len(heard) == 2


def test_an_application_is_adapted() -> None:
    """To everything it is made of; what is set on it stays."""
    application = service.Application("shop", 5, 6, version="1.2")
    for interface in (service.IService, service.IServiceCollection, service.IProcess, sob.IPersistable):
        assert verifyObject(interface, interface(application))
    assert (service.IProcess(application).uid, service.IProcess(application).gid) == (5, 6)
    assert (application.name, application.version) == ("shop", "1.2")
    application.foo = 1
    one = Bare()
    one.setServiceParent(application)
    assert one.parent is service.IServiceCollection(application)
    service.IService(application).startService()
    assert one.running
    application.stop()
    assert not one.running


def test_rights_that_cannot_be_had() -> None:
    """An application that wants another uid is refused as soon as it is to be served, not before."""
    application = service.Application("shop", os.getuid() + 1)
    with pytest.raises(UsageError, match="uid"):
        application.__plait_application__()
    own = service.Application("shop", os.getuid(), os.getgid())
    assert own.__plait_application__().name == "shop"


def test_applications_are_stored_and_loaded(tmp_path: Path) -> None:
    """In the styles that sob has, and as a program."""
    application = service.Application("shop")
    Bare(4).setServiceParent(application)
    for style in ("pickle", "source"):
        sob.IPersistable(application).setStyle(style)
        sob.IPersistable(application).save(filename=str(tmp_path / style))
        again = service.loadApplication(str(tmp_path / style), style)
        assert [one.size for one in service.IServiceCollection(again)] == [4]
        assert sob.IPersistable(again).style == style
    program = tmp_path / "shop.tac"
    program.write_text("from plait.classic.application import service\napplication = service.Application('tac')\n")
    assert service.IService(service.loadApplication(str(program), "python")).name == "tac"


def test_a_service_maker_imports_late() -> None:
    """Its module is imported when something of it is asked for."""
    maker = service.ServiceMaker("Echo", "no.such.module", "Echoes.", "echo")
    assert verifyObject(service.IServiceMaker, service.ServiceMaker("A", __name__, "b", "c"))
    with pytest.raises(ModuleNotFoundError):
        maker.makeService({})


Options = makeService = Bare
"""What ServiceMaker looks for here."""


def test_a_timer_that_was_not_started_stops() -> None:
    """Twisted's raises AttributeError."""
    stopped: list[Any] = []
    internet.TimerService(1, print).stopService().addCallback(stopped.append)
    assert stopped == [None]


def test_a_client_that_is_paused_gives_its_attempt_up() -> None:
    """Nobody counts that as a failure; resumed it makes another, and stopped while it is paused it makes none."""
    attempts: list[defer.Deferred[Any]] = []

    class Endpoint:
        def connect(self, factory: Any) -> Any:
            attempts.append(defer.Deferred())
            return attempts[-1]

    client = internet.ClientService(Endpoint(), internet.TCPServerFactory(), clock=task.Clock())
    client.startService()
    waiting = client.whenConnected(failAfterFailures=1)
    client.pauseService()
    assert attempts[0].called
    assert (len(attempts), waiting.called) == (1, False)
    client.resumeService()
    assert len(attempts) == 2
    client.pauseService()
    stopped: list[Any] = []
    waiting.addErrback(lambda failure: stopped.append(failure.type))
    client.stopService().addCallback(stopped.append)
    assert stopped == [defer.CancelledError, None]
    client.resumeService()
    assert len(attempts) == 2


def test_a_server_stands_for_its_factory() -> None:
    """As the handbook has it: given to the reactor as a factory it builds protocols, and binds nothing itself."""

    class Factory(internet.TCPServerFactory):
        def buildProtocol(self, addr: Any) -> Any:
            return addr

    factory = Factory()
    for server in (internet.TCPServer(0, factory), internet.TCPServer(0, factory=factory)):
        server.doStart()
        assert factory.numPorts == 1
        assert server.buildProtocol("here") == "here"
        server.doStop()
        assert (factory.numPorts, server._port) == (0, None)


def test_adapters_of_other_code_are_known() -> None:
    """What registers an adapter to IService can be a parent's child, as in Twisted."""

    class Plain:
        pass

    components.registerAdapter(lambda plain: Bare(9), Plain, service.IService)
    assert service.IService(Plain()).size == 9
