"""Services that command themselves, each other and the application, from every hook, and sinks that do.

Some of it cannot come true: who awaits his own stop in on_stop waits for himself. Claims: that ends with a deadline of
his own, and everything else comes to rest and is as it was asked to be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from plait import Application, Service, State, events
from plait._kernel.states import AT_REST
from plait.errors import PlaitError
from plait.testing import VirtualLoop

Act = Callable[[Application], Awaitable[Any]]


class Acting(Service):
    """Does something in one of its hooks, the first time."""

    def __init__(self, hook: str = "", act: Act | None = None) -> None:
        self.hook = hook
        self.act = act

    async def at(self, hook: str) -> None:
        if hook == self.hook and self.act is not None:
            act, self.act = self.act, None
            app = self.application
            assert isinstance(app, Application)
            await act(app)

    async def on_start(self) -> None:
        await self.at("on_start")

    async def run(self) -> None:
        await self.at("run")
        await asyncio.Event().wait()

    async def on_drain(self) -> None:
        await self.at("on_drain")

    async def on_stop(self) -> None:
        await self.at("on_stop")

    async def on_pause(self) -> None:
        await self.at("on_pause")

    async def on_resume(self) -> None:
        await self.at("on_resume")

    async def check(self) -> None:
        await self.at("check")


HOOKS = ("on_start", "run", "on_drain", "on_stop", "on_pause", "on_resume", "check")


def tell(verb: str, path: str) -> Act:
    """An operator's verb."""

    async def act(app: Application) -> None:
        await getattr(app if path == "/" else app[path], verb)()

    return act


async def add_one(app: Application) -> None:
    """And start it."""
    await app.add(Acting(), name="late").start()


async def remove_other(app: Application) -> None:
    """For good."""
    await app.remove("other")


ACTS: dict[str, Act] = {
    f"{verb} {path}": tell(verb, path)
    for verb in ("start", "stop", "restart", "pause", "resume")
    for path in ("acting", "other", "/")
} | {"add": add_one, "remove": remove_other}


def on_virtual_clock(scene: Callable[[], Awaitable[None]]) -> None:
    """Run it there, to the end of everything."""
    loop = VirtualLoop()
    try:
        loop.run_until_complete(scene())
        assert not loop.failures, loop.failures
        assert not [task.get_name() for task in asyncio.all_tasks(loop)]
        assert not [timer for timer in loop._scheduled if not timer.cancelled()]
    finally:
        loop.close()


async def finds_peace(call: Awaitable[Any]) -> None:
    """It returns, or raises what a caller may be told, in bounded time."""
    try:
        await asyncio.wait_for(call, 60)
    except TimeoutError:
        raise AssertionError("it waits for ever") from None
    except (PlaitError, ExceptionGroup):
        pass


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_commands(hook: str, act: str) -> None:
    """The application starts or says why not, pauses, resumes, and stops; nothing is left."""

    async def scene() -> None:
        app = Application("shop", shutdown_timeout=10)
        acting = app.add(Acting(hook, ACTS[act]), name="acting", restart="never", start_timeout=5, stop_timeout=2)
        app.add(Acting(), name="other", needs=["acting"] if act.endswith("acting") else [])
        await finds_peace(app.start())
        await finds_peace(acting.pause())
        await finds_peace(acting.resume())
        await asyncio.sleep(60)
        await finds_peace(app.stop())
        assert {told.state for told in app.snapshot().walk()} <= AT_REST
        engine = app._root_engine
        assert (engine.alive, engine.operations, len(engine.deadlines)) == (0, [], 0)
        for told in app:
            if isinstance(told, Acting):
                told.act = None
        await app.start()
        await app.stop()

    on_virtual_clock(scene)


@pytest.mark.parametrize("act", [name for name in ACTS if name != "add"])
@pytest.mark.parametrize("new", list(State)[1:])
def test_a_sink_that_commands(new: State, act: str) -> None:
    """In the middle of a move, and in the right order for the other sinks; the first time a service gets there."""

    async def scene() -> None:
        app = Application("shop", shutdown_timeout=10)
        acting = app.add(Acting(), name="acting", restart="never", start_timeout=5, stop_timeout=2)
        app.add(Acting(), name="other")
        calls: list[asyncio.Future[Any]] = []
        seen: list[events.StateChanged] = []

        def meddle(event: events.Event) -> None:
            if isinstance(event, events.StateChanged) and event.new is new and event.path != "/" and not calls:
                calls.append(asyncio.ensure_future(ACTS[act](app)))

        app.subscribe(meddle)
        app.subscribe(lambda event: seen.append(event) if isinstance(event, events.StateChanged) else None)
        await finds_peace(app.start())
        await finds_peace(acting.pause())
        await finds_peace(acting.resume())
        await asyncio.sleep(60)
        await finds_peace(app.stop())
        for call in calls:
            await finds_peace(call)
        await finds_peace(app.stop())
        assert {told.state for told in app.snapshot().walk()} <= AT_REST
        last: dict[str, State] = {}
        for event in seen:
            assert last.get(event.path, State.NEW) is event.old
            last[event.path] = event.new

    on_virtual_clock(scene)


async def test_a_sink_that_stops_the_application_at_once_and_raises(caplog: pytest.LogCaptureFixture) -> None:
    """Both are survived: it has stopped, and the log says which sink failed on what."""
    app = Application("shop")
    app.add(Acting(), name="acting")
    stops: list[asyncio.Future[None]] = []

    def sink(event: events.Event) -> None:
        if isinstance(event, events.StateChanged) and event.new is State.RUNNING:
            stops.append(asyncio.ensure_future(app.stop()))
            raise ValueError("a sink's own")

    app.subscribe(sink)
    await app.start()
    await asyncio.gather(*stops)
    assert app.state is State.STOPPED
    assert "failed on StateChanged" in caplog.text
    assert "a sink's own" in caplog.text


@pytest.mark.parametrize("verb", ["stop", "restart", "pause"])
async def test_a_command_from_a_thread_is_given_to_the_loop(verb: str) -> None:
    """As asyncio would have it: run_coroutine_threadsafe, also from run_in_thread of the service itself."""

    class Threaded(Acting):
        async def run(self) -> None:
            if self.act is not None:
                self.act = None
                await self.run_in_thread(self.command)
            await asyncio.Event().wait()

        def command(self) -> None:
            coro = getattr(self, verb)()
            asyncio.run_coroutine_threadsafe(coro, loop)

    loop = asyncio.get_running_loop()
    app = Application("shop")
    threaded = app.add(Threaded("run", remove_other), name="threaded")
    async with app:
        expected = {"stop": State.STOPPED, "restart": State.RUNNING, "pause": State.PAUSED}[verb]
        while threaded.state is not expected or threaded._record.incarnation != 1 + (verb == "restart"):
            await asyncio.sleep(0.001)
