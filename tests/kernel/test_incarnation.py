"""One incarnation: one task, whatever ends it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from diary import FATAL, Diary, Runner, Writer
from plait import Application, Service, State
from plait.errors import ApplicationFailed, LifecycleError, ServiceCancelled, ServiceError, StartFailed


async def test_all_hooks_but_drain_run_in_one_task() -> None:
    """on_start, run, on_stop and what leaves at the end."""
    tasks: dict[str, asyncio.Task[object] | None] = {}

    @asynccontextmanager
    async def thing() -> AsyncIterator[None]:
        yield  # no try: a requested stop is a clean end, and not an exception
        tasks["exit"] = asyncio.current_task()

    class Whole(Service):
        async def on_start(self) -> None:
            tasks["on_start"] = asyncio.current_task()
            await self.enter(thing())

        async def run(self) -> None:
            tasks["run"] = asyncio.current_task()
            await asyncio.Event().wait()

        async def on_drain(self) -> None:
            tasks["on_drain"] = asyncio.current_task()

        async def on_stop(self) -> None:
            tasks["on_stop"] = asyncio.current_task()

    app = Application("shop")
    app.add(Whole())
    async with app:
        await asyncio.sleep(0)
    drain = tasks.pop("on_drain")
    assert len(tasks) == 4
    assert len(set(tasks.values())) == 1
    assert drain not in tasks.values()


async def test_a_service_without_hooks_has_no_task() -> None:
    """A thousand of them make none."""
    app = Application("shop")
    for number in range(1000):
        app.add(Service(), name=f"s{number}")
    before = len(asyncio.all_tasks())
    async with app:
        assert len(asyncio.all_tasks()) == before


async def test_a_task_group_and_a_timeout_may_be_entered(diary: Diary) -> None:
    """They raise if they are left in another task than entered; a stop cancels the group's tasks."""

    class Grouped(Service):
        async def on_start(self) -> None:
            await self.enter(asyncio.timeout(60))
            group = await self.enter(asyncio.TaskGroup())
            group.create_task(self.child())

        async def child(self) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                diary.append("child ended")

    app = Application("shop")
    app.add(Grouped(), name="grouped")
    async with app:
        await asyncio.sleep(0)
    assert diary == ["child ended"]


@pytest.mark.parametrize("how", ["stopped", "failed", "returned"])
async def test_what_was_entered_sees_what_ended_the_incarnation(how: str) -> None:
    """The failure, if there was one; a requested stop and a run that returned are both clean."""
    seen: list[type[BaseException] | None] = []

    class Watching:
        def __enter__(self) -> None: ...

        def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
            seen.append(kind)

    class Ending(Service):
        async def run(self) -> None:
            await self.enter(Watching())
            if how == "failed":
                raise KeyError("gone")
            if how == "stopped":
                await asyncio.Event().wait()

    app = Application("shop")
    ending = app.add(Ending(), **FATAL)
    serving = asyncio.create_task(app.serve())
    while ending.state not in (State.RUNNING, State.STOPPED, State.FAILED):
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    if how == "stopped":
        await app.stop()
    await asyncio.wait([serving])
    assert seen == [KeyError if how == "failed" else None]
    assert (serving.exception() is not None) == (how == "failed")


async def test_enter_is_refused_outside_the_services_own_task() -> None:
    """Where it could not be left in the same task."""

    class Wrong(Service):
        async def on_start(self) -> None: ...

        async def on_drain(self) -> None:
            await self.enter(asyncio.timeout(1))

    app = Application("shop")
    wrong = app.add(Wrong(), name="wrong")
    with pytest.raises(ApplicationFailed, match=r"called enter\(\) outside its own task"):
        await enter_from_the_body(app, wrong)


async def enter_from_the_body(app: Application, wrong: Service) -> None:
    """Where it is refused at once."""
    async with app:
        with pytest.raises(LifecycleError, match="call it in on_start or run"):
            await wrong.enter(asyncio.timeout(1))


async def test_a_failure_of_a_significant_service_stops_the_application(diary: Diary) -> None:
    """on_stop of the failed one as well, on_drain of it not; all leaves as one group, and the culprit is named."""
    app = Application("shop")
    app.add(Writer(diary), name="db")
    app.add(Runner(diary, run=ValueError("bad")), name="web", needs=["db"], **FATAL)
    with pytest.raises(ApplicationFailed, match="application 'shop' failed: service 'web': ValueError: bad") as caught:
        await app.serve()
    assert caught.value.exceptions[0].__notes__ == ["this ended service 'web', incarnation 1"]
    assert diary == ["db on_start", "web on_start", "web run", "web ran", "web on_stop", "db on_stop"]
    assert app.state is State.FAILED


async def test_a_failure_cancels_the_body_and_leaves_as_the_group() -> None:
    """As a TaskGroup does; the body's own cancellation is not left over."""

    class Failing(Service):
        async def run(self) -> None:
            await asyncio.sleep(0.01)
            raise ValueError("bad")

    app = Application("shop")
    app.add(Failing(), **FATAL)
    with pytest.raises(ApplicationFailed) as caught:
        async with app:
            await asyncio.sleep(60)
    assert [type(error) for error in caught.value.exceptions] == [ValueError]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_what_the_body_raises_leaves_as_it_is() -> None:
    """The application has stopped by then."""
    app = Application("shop")
    service = app.add(Service())
    with pytest.raises(KeyError, match="mine"):
        async with app:
            raise KeyError("mine")
    assert service.state is State.STOPPED


async def test_cancelling_serve_stops_in_order_and_then_raises(diary: Diary) -> None:
    """However often it is cancelled meanwhile."""
    app = Application("shop")
    app.add(Writer(diary, on_stop=0.02), name="db")
    app.add(Writer(diary, on_stop=0.02), name="web", needs=["db"])
    serving = asyncio.create_task(app.serve())
    await app.wait_ready()
    for _ in range(3):
        serving.cancel()
        await asyncio.sleep(0.005)
    await asyncio.wait([serving])
    assert serving.cancelled()
    assert diary[-2:] == ["web on_stop", "db on_stop"]
    assert app.state is State.STOPPED


# -- tasks it owns -----------------------------------------------------------------------------------------------------


class Spawning(Service):
    """Spawns what the test gives it."""

    def __init__(self, diary: Diary, error: BaseException | None = None) -> None:
        self.diary = diary
        self.error = error

    async def on_start(self) -> None:
        self.spawn(self.work())

    async def work(self) -> None:
        try:
            if self.error is not None:
                raise self.error
            await asyncio.sleep(60)
        finally:
            self.diary.append("work ended")

    async def on_stop(self) -> None:
        self.diary.append("on_stop")


async def test_spawned_tasks_end_before_on_stop(diary: Diary) -> None:
    """Cancelled, and awaited."""
    app = Application("shop")
    app.add(Spawning(diary))
    async with app:
        await asyncio.sleep(0)
    assert diary == ["work ended", "on_stop"]


async def test_spawned_tasks_end_when_run_returns(diary: Diary) -> None:
    """And the incarnation is a clean one."""

    class Short(Spawning):
        async def run(self) -> None:
            await asyncio.sleep(0)

    app = Application("shop")
    short = app.add(Short(diary))
    await app.serve()
    assert diary == ["work ended", "on_stop"]
    assert short.state is State.STOPPED


@pytest.mark.parametrize("error", [ValueError("task"), SystemExit(3), KeyboardInterrupt()])
async def test_a_spawned_task_that_raises_fails_the_incarnation(diary: Diary, error: BaseException) -> None:
    """SystemExit and KeyboardInterrupt too: they end no loop, and no process."""
    app = Application("shop")
    app.add(Spawning(diary, error), name="owner", **FATAL)
    with pytest.raises((ApplicationFailed, StartFailed)) as caught:
        await app.serve()
    first = caught.value.exceptions[0]
    assert first is error or (isinstance(first, ServiceError) and first.__cause__ is error)
    assert diary == ["work ended", "on_stop"]


async def test_a_service_without_hooks_owns_its_tasks_as_well(diary: Diary) -> None:
    """It is given a life when it first needs one."""
    app = Application("shop")
    plain = app.add(Service(), name="plain")
    async with app:
        task = plain.spawn(asyncio.sleep(60), name="late")
        assert task.get_name() == "plain late"
    assert task.cancelled()


async def test_spawn_is_refused_while_nothing_runs() -> None:
    """And the coroutine is closed, so that Python has nothing to warn of."""
    app = Application("shop")
    service = app.add(Service(), name="plain")
    with pytest.raises(LifecycleError, match="service 'plain' is not started"):
        service.spawn(asyncio.sleep(60))
    async with app:
        pass
    with pytest.raises(LifecycleError, match="service 'plain' is stopped"):
        service.spawn(asyncio.sleep(60))


# -- odd ends ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("hook", ["on_start", "run", "on_stop"])
async def test_an_exit_in_a_service_is_its_failure(hook: str, error: BaseException) -> None:
    """It ends neither the loop nor the process by itself."""

    async def leave(self: Service) -> None:
        raise error

    leaving = type("Leaving", (Service,), {hook: leave})
    app = Application("shop")
    app.add(leaving(), name="leaving", **FATAL)
    with pytest.raises((StartFailed, ApplicationFailed)) as caught:
        await run_a_little(app)
    assert caught.value.exceptions[0].__cause__ is error


async def run_a_little(app: Application) -> None:
    """Up, and down again."""
    async with app:
        await asyncio.sleep(0.001)


class Quiet(Service):
    """Knows its task."""

    task: asyncio.Task[object] | None = None

    async def on_start(self) -> None:
        self.task = asyncio.current_task()


async def cancel_behind_its_back(app: Application, quiet: Quiet) -> None:
    """What no one should do."""
    async with app:
        assert quiet.task is not None
        quiet.task.cancel()
        await asyncio.sleep(60)


async def test_a_cancellation_nobody_asked_for_is_a_failure() -> None:
    """A healthy-looking zombie is what it would be otherwise."""
    app = Application("shop")
    quiet = app.add(Quiet(), name="quiet", **FATAL)
    with pytest.raises(ApplicationFailed) as caught:
        await cancel_behind_its_back(app, quiet)
    assert isinstance(caught.value.exceptions[0], ServiceCancelled)


async def test_a_service_does_not_see_the_context_of_the_one_it_needs() -> None:
    """Each begins with the application's context, though it is another's readiness that starts it."""
    mine: contextvars.ContextVar[str] = contextvars.ContextVar("mine", default="")
    seen: list[str] = []

    class First(Service):
        async def on_start(self) -> None:
            mine.set(mine.get() + " first")

    class Second(Service):
        async def on_start(self) -> None:
            seen.append(mine.get())

    mine.set("application")
    app = Application("shop")
    app.add(First(), name="first")
    app.add(Second(), needs=["first"])
    async with app:
        assert seen == ["application"]


# -- the end by itself -------------------------------------------------------------------------------------------------


async def test_the_application_ends_when_every_service_has_finished(diary: Diary) -> None:
    """A finished service is STOPPED and its need stays met (a migration)."""
    app = Application("jobs")
    app.add(Runner(diary, run=0.0), name="migrate")
    app.add(Runner(diary, run=0.01), name="load", needs=["migrate"])
    await asyncio.wait_for(app.serve(), 5)
    assert "load run" in diary
    assert app["load"].state is State.STOPPED


async def test_a_service_without_run_keeps_the_application_alive(diary: Diary) -> None:
    """A server does; so it is stopped by somebody."""
    app = Application("mixed")
    app.add(Runner(diary, run=0.0), name="job")
    app.add(Service(), name="server")
    serving = asyncio.create_task(app.serve())
    await app.wait_ready()
    while app["job"].state is not State.STOPPED:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert not serving.done()
    await app.stop()
    await serving


async def test_a_service_down_by_intent_keeps_the_application_alive(diary: Diary) -> None:
    """The operator may want it back."""
    app = Application("jobs")
    app.add(Runner(diary), name="a")
    app.add(Runner(diary, run=0.01), name="b")
    serving = asyncio.create_task(app.serve())
    await app.wait_ready()
    await app["a"].stop()
    while app["b"].state is not State.STOPPED:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert not serving.done()
    await app.stop()
    await serving
