"""Classic services in a tree of Plait's: what the kernel does with them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from plait import Application, Group, Service, State
from plait.classic.application import internet, service
from plait.classic.internet import defer, protocol, reactor, task
from plait.errors import ApplicationFailed, CannotPause, InvalidTree, StartFailed
from plait.plugins import load as load_target


class Told(service.Service):
    """Writes down what it is told, and makes no upcall anywhere."""

    def __init__(self, diary: list[str], name: str) -> None:
        self.diary = diary
        self.called = name

    def privilegedStartService(self) -> Any:
        self.diary.append(f"{self.called} privileged")

    def startService(self) -> Any:
        self.diary.append(f"{self.called} starts")

    def stopService(self) -> Any:
        self.diary.append(f"{self.called} stops")


class Holds(service.MultiService):
    """A collection that makes no upcall in __init__."""

    def __init__(self, diary: list[str]) -> None:
        self.diary = diary

    def startService(self) -> Any:
        self.diary.append("group starts")
        return service.MultiService.startService(self)

    def stopService(self) -> Any:
        self.diary.append("group stops")
        stopped = service.MultiService.stopService(self)
        return stopped.addCallback(lambda _: self.diary.append("group stopped"))


async def test_a_classic_service_stands_in_a_tree() -> None:
    """It is started and stopped once, needs and is needed, and the snapshot has it under its own class."""
    diary: list[str] = []

    class Native(Service):
        async def on_start(self) -> None:
            diary.append("native starts")

    app = Application("shop")
    one = Told(diary, "one")
    assert app.add(one, name="one") is one
    app.add(Native(), name="native", needs=[one])
    async with app:
        snapshot = app.snapshot()
        assert next((each.path, each.kind, each.state) for each in snapshot.services) == (
            "one",
            f"{__name__}:Told",
            State.RUNNING,
        )
    assert diary == ["one privileged", "one starts", "native starts", "one stops"]


async def test_base_services_set_running() -> None:
    """`running` says what the kernel has made of it."""
    app, one = Application("shop"), service.Service()
    app.add(one)
    async with app:
        assert one.running
    assert not one.running


async def test_a_collection_is_a_group() -> None:
    """Its services are the kernel's to start and stop, each once; its own stop begins before theirs, and ends after."""
    diary: list[str] = []
    group = Holds(diary)
    for name in ("one", "two"):
        Told(diary, name).setServiceParent(group)
    app = Application("shop")
    app.add(group, name="group")
    async with app:
        assert [each.path for each in app.snapshot().walk()] == ["/", "group", "group/told", "group/told-2"]
        assert isinstance(app["group"], Group)
    assert diary[:5] == ["group starts", "one privileged", "one starts", "two privileged", "two starts"]
    assert diary[5] == "group stops"
    assert diary[6:8] == ["two stops", "one stops"]
    assert diary[8:] == ["group stopped"]


async def test_what_starting_and_stopping_return_is_waited_for() -> None:
    """A Deferred, a coroutine that awaits Deferreds, and one that awaits what asyncio has: all are waited for."""
    diary: list[str] = []

    class Slow(service.Service):
        def startService(self) -> Any:
            return task.deferLater(reactor, 0.01, diary.append, "deferred")

        async def stopService(self) -> None:
            await asyncio.sleep(0.01)
            diary.append("stopped")

    class Both(service.Service):
        async def startService(self) -> None:
            await task.deferLater(reactor, 0.01, diary.append, "awaited")
            await asyncio.sleep(0)
            diary.append(await defer.succeed("at once"))

    app = Application("shop")
    slow = Slow()
    app.add(slow, name="slow")
    app.add(Both(), needs=[slow])
    async with app:
        assert diary == ["deferred", "awaited", "at once"]
    assert diary[3:] == ["stopped"]


@pytest.mark.parametrize("how", ["raises", "returns a Deferred that fails", "is a coroutine that raises"])
async def test_a_start_that_fails_leaves_nothing_started(how: str) -> None:
    """Twisted leaves the siblings running; here they are stopped again, and the error names the cause."""
    diary: list[str] = []

    class Broken(service.Service):
        def startService(self) -> Any:
            if how == "raises":
                raise OSError("no")
            return defer.fail(OSError("no")) if "Deferred" in how else self.later()

        async def later(self) -> None:
            await task.deferLater(reactor, 0, lambda: None)
            raise OSError("no")

    collection = service.MultiService()
    Told(diary, "one").setServiceParent(collection)
    Broken().setServiceParent(collection)
    app = Application("shop")
    app.add(collection, restart="never")
    with pytest.raises(StartFailed) as raised:
        async with app:
            pass
    assert isinstance(raised.value.exceptions[0], OSError)
    assert diary[-2:] == ["one starts", "one stops"]


@pytest.mark.parametrize("is_coroutine", [False, True])
async def test_a_start_that_is_given_up_cancels_the_deferred_and_stops_the_service(is_coroutine: bool) -> None:
    """Past its deadline: the Deferred is cancelled, and stopService is called, as nobody else would."""
    cancelled: list[object] = []
    diary: list[str] = []

    class Never(Told):
        def startService(self) -> Any:
            waiting: defer.Deferred[None] = defer.Deferred(cancelled.append)
            return self.later(waiting) if is_coroutine else waiting

        async def later(self, waiting: defer.Deferred[None]) -> None:
            await waiting

    app = Application("shop")
    app.add(Never(diary, "never"), start_timeout=0.05)
    with pytest.raises(StartFailed):
        async with app:
            pass
    assert len(cancelled) == 1
    assert diary == ["never privileged", "never stops"]


async def test_what_a_stop_raises_is_told() -> None:
    """Twisted loses it; here the others stop all the same, and the error is the service's."""

    class Bad(service.Service):
        def stopService(self) -> Any:
            return defer.fail(OSError("still open"))

    diary: list[str] = []
    collection = service.MultiService()
    Told(diary, "one").setServiceParent(collection)
    Bad().setServiceParent(collection)
    app = Application("shop")
    app.add(collection, name="all")
    with pytest.raises(ApplicationFailed, match="service 'all/bad': OSError: still open"):
        async with app:
            pass
    assert diary[-1] == "one stops"


async def test_pause_and_resume() -> None:
    """A service with pauseService and resumeService can pause; one without cannot, and says so when asked alone."""
    diary: list[str] = []

    class Pauses(Told):
        def pauseService(self) -> Any:
            return task.deferLater(reactor, 0, diary.append, "pauses")

        async def resumeService(self) -> None:
            diary.append("resumes")

    app = Application("shop")
    app.add(Pauses(diary, "one"), name="one")
    app.add(service.Service(), name="two")
    async with app:
        assert await app.pause() == ("two",)
        assert app["one"].state is State.PAUSED
        await app.resume()
        with pytest.raises(CannotPause):
            await app["two"].pause()
    assert diary[2:] == ["pauses", "resumes", "one stops"]


async def test_a_timer_that_fails_is_started_anew() -> None:
    """Twisted's stops silently; here its service has failed, and supervision starts it again."""
    calls: list[int] = []
    third = asyncio.Event()

    def call() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise ZeroDivisionError
        if len(calls) == 4:
            third.set()

    app = Application("shop")
    app.add(internet.TimerService(0.01, call), name="timer")
    async with app:
        await asyncio.wait_for(third.wait(), 10)
        assert app.snapshot().services[0].incarnation == 2


async def test_adding_to_a_collection_that_runs() -> None:
    """What is added is started by the kernel; what is disowned is stopped, which the Deferred tells."""
    diary: list[str] = []
    collection = service.MultiService()
    app = Application("shop")
    app.add(collection, name="all")
    app.add(service.Service())
    async with app:
        one = Told(diary, "one")
        one.setName("one")
        one.setServiceParent(collection)
        while "one starts" not in diary:
            await asyncio.sleep(0)
        await app["all/one"].start()
        stopped = one.disownServiceParent()
        await stopped.asFuture(asyncio.get_running_loop())
        assert diary == ["one privileged", "one starts", "one stops"]
        assert "all/one" not in app
        one.setServiceParent(collection)
        await app["all/one"].start()
    assert diary[3:] == ["one privileged", "one starts", "one stops"]


async def test_services_that_a_collection_adds_as_it_starts() -> None:
    """The usual way to write one: its startService makes the services it holds."""
    diary: list[str] = []

    class Makes(service.MultiService):
        def startService(self) -> Any:
            Told(diary, "before").setServiceParent(self)
            service.MultiService.startService(self)
            Told(diary, "after").setServiceParent(self)

    app = Application("shop")
    app.add(Makes(), name="makes")
    async with app:
        while diary.count("before starts") + diary.count("after starts") < 2:
            await asyncio.sleep(0)
    assert sorted(one for one in diary if "starts" in one) == ["after starts", "before starts"]
    assert sorted(one for one in diary if "stops" in one) == ["after stops", "before stops"]


async def test_listeners_hear_of_states() -> None:
    """Of the service and of those in it, until they are removed; each with the service, the old and the new state."""
    heard: list[tuple[Any, State, State]] = []
    collection, one = service.MultiService(), service.Service()
    one.setServiceParent(collection)
    remove = collection.addStateListener(lambda *what: heard.append(what))
    app = Application("shop")
    app.add(collection)
    async with app:
        pass
    assert [what[1:] for what in heard if what[0] is one] == [
        (State.NEW, State.STARTING),
        (State.STARTING, State.RUNNING),
        (State.RUNNING, State.STOPPING),
        (State.STOPPING, State.STOPPED),
    ]
    assert (collection, State.STARTING, State.RUNNING) in heard
    remove()
    count = len(heard)
    async with app:
        pass
    assert len(heard) == count


async def test_the_reactor_is_a_guest() -> None:
    """Its startup and shutdown are fired with the application's, `stop` stops that, and no loop."""
    diary: list[str] = []
    reactor.callWhenRunning(diary.append, "running")
    reactor.addSystemEventTrigger("before", "shutdown", diary.append, "before")
    reactor.addSystemEventTrigger("after", "shutdown", diary.append, "after")
    app = Application("shop")
    app.add(service.Service())
    reactor.callLater(0.01, reactor.stop)
    await app.serve()
    assert diary == ["running", "before", "after"]
    assert not reactor.running


async def test_a_server_tells_where_it_listens_and_pauses() -> None:
    """Its endpoint is in the snapshot; paused it listens no more, resumed it does so where it did."""
    factory = protocol.Factory.forProtocol(protocol.Protocol)
    app = Application("shop")
    app.add(internet.TCPServer(0, factory, interface="127.0.0.1"), name="server")
    async with app:
        (endpoint,) = app.snapshot().services[0].endpoints
        port = int(endpoint.rpartition(":")[2])
        assert endpoint == f"tcp://127.0.0.1:{port}"
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        await app.pause()
        assert app.snapshot().services[0].endpoints == ()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await app.resume()
        assert app.snapshot().services[0].endpoints == (endpoint,)
        _, again = await asyncio.open_connection("127.0.0.1", port)
        for one in (writer, again):
            one.close()
            await one.wait_closed()


async def test_a_server_that_cannot_listen_does_not_start() -> None:
    """An address that is taken is the start's failure."""
    factory = protocol.Factory.forProtocol(protocol.Protocol)
    app = Application("shop")
    taken = internet.TCPServer(0, factory, interface="127.0.0.1")
    app.add(taken, name="first")
    async with app:
        port = int(app.snapshot().services[0].endpoints[0].rpartition(":")[2])
        app.add(internet.TCPServer(port, factory, interface="127.0.0.1"), name="second")
        with pytest.raises(StartFailed):
            await app["second"].start()


def test_one_that_is_in_a_tree_is_added_once() -> None:
    """As any of Plait's services."""
    app, one = Application("shop"), service.Service()
    app.add(one)
    with pytest.raises(InvalidTree):
        app.add(one, name="again")


async def test_a_file_composes_classic_services(tmp_path: Any) -> None:
    """`use` names a class: its constructor is given what stands there, another classic service among it."""
    (tmp_path / "classic_parts.py").write_text(
        "from plait.classic.application import service\n"
        "class Store(service.Service):\n"
        "    def __init__(self, size: int = 1):\n"
        "        self.size = size\n"
        "class Front(service.Service):\n"
        "    def __init__(self, store: Store):\n"
        "        self.store = store\n"
        "def make_app():\n"
        "    application = service.Application('inner')\n"
        "    Store(3).setServiceParent(application)\n"
        "    return application\n"
    )
    (tmp_path / "app.toml").write_text(
        "[services.store]\nuse = 'classic_parts:Store'\noptions = { size = 7 }\n"
        "[services.front]\nuse = 'classic_parts:Front'\noptions = { store = 'store' }\n"
        "[services.inner]\nuse = 'classic_parts:make_app'\n"
    )
    target = load_target("app.toml", tmp_path)
    from plait.options.sources import Inputs

    app = target.build(target.resolve(Inputs()).options)
    front: Any = app["front"]
    assert front._stands_for.store.size == 7
    async with app:
        assert front._stands_for.running
        assert [one.path for one in app.snapshot().walk()] == ["/", "store", "front", "inner", "inner/store"]
