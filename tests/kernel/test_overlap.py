"""Commands that overlap: each of these once left an application that never came to rest."""

from __future__ import annotations

import asyncio

import pytest

from diary import Diary, Runner, Writer
from plait import Application, Group, Service, State
from plait.errors import ApplicationFailed, LifecycleError, StartFailed, StartInterrupted


async def until(diary: Diary, entry: str) -> None:
    """Something has been written down."""
    while entry not in diary:
        await asyncio.sleep(0)


async def test_a_service_added_while_the_application_starts_is_started_on_its_own(diary: Diary) -> None:
    """The start under way does not know it, and would never make it ready."""
    app = Application("shop")
    app.add(Writer(diary, on_start=0.02), name="slow")
    starting = asyncio.create_task(app.start())
    await until(diary, "slow on_start")
    late = app.add(Writer(diary), name="late")
    await asyncio.wait_for(late.start(), 5)
    assert late.state is State.RUNNING
    await starting
    await app.stop()


async def test_restarting_a_group_while_its_application_starts(diary: Diary) -> None:
    """What had begun of it stops; what had not does not begin in a group that is stopping."""
    app = Application("shop")
    group = app.add(Group(), name="group")
    group.add(Writer(diary), name="first")
    group.add(Writer(diary, on_start=0.02), name="second", needs=["first"])
    starting = asyncio.create_task(app.start())
    await until(diary, "second on_start")
    await asyncio.wait_for(group.restart(), 5)
    await asyncio.wait_for(starting, 5)
    assert {service.state for service in group} == {State.RUNNING}
    assert diary.count("first on_start") == 2
    await app.stop()


async def test_a_service_does_not_start_before_its_group_has_opened(diary: Diary) -> None:
    """Though it was asked to by itself."""

    class Slow(Group):
        async def on_start(self) -> None:
            diary.append("group on_start")
            await asyncio.sleep(0.02)
            diary.append("group open")

    app = Application("shop")
    inner = app.add(Slow(), name="group").add(Writer(diary), name="inner")
    starting = asyncio.create_task(app.start())
    await until(diary, "group on_start")
    await asyncio.wait_for(inner.restart(), 5)
    assert diary == ["group on_start", "group open", "inner on_start"]
    await starting
    await app.stop()


async def test_a_service_that_waits_for_its_need_may_be_stopped_and_removed(diary: Diary) -> None:
    """Who waited for its start is told."""
    app = Application("shop")
    app.add(Writer(diary, on_start=60), name="slow")
    waiting = app.add(Writer(diary), name="waiting")
    starting = asyncio.create_task(app.start())
    await until(diary, "slow on_start")
    late = app.add(Writer(diary), name="late", needs=["slow"])
    late_start = asyncio.create_task(late.start())
    await asyncio.sleep(0)
    await asyncio.wait_for(app.remove("late"), 5)
    with pytest.raises(StartInterrupted):
        await late_start
    assert waiting.state is State.RUNNING
    await app.stop()
    await asyncio.wait([starting])
    assert isinstance(starting.exception(), StartInterrupted)


async def test_what_is_being_removed_does_not_start_again(diary: Diary) -> None:
    """Neither meanwhile nor by a restart that overlaps."""
    app = Application("shop")
    service = app.add(Writer(diary, on_stop=0.02), name="service")
    app.add(Service(), name="other")
    async with app:
        restarting = asyncio.create_task(service.restart())
        await until(diary, "service on_stop")
        removing = asyncio.create_task(app.remove("service"))
        await asyncio.sleep(0)
        with pytest.raises(LifecycleError, match="is being removed"):
            await service.start()
        await asyncio.wait_for(removing, 5)
        await asyncio.wait([restarting])
        assert isinstance(restarting.exception(), LifecycleError)
        assert service.state is State.STOPPED


async def test_cancelling_a_caller_of_remove_ends_only_its_wait(diary: Diary) -> None:
    """The service is removed, and its dependents as well."""
    app = Application("shop")
    app.add(Writer(diary), name="db")
    app.add(Writer(diary, on_stop=0.02), name="web", needs=["db"])
    app.add(Service(), name="other")
    async with app:
        removing = asyncio.create_task(app.remove("db", dependents=True))
        await until(diary, "web on_stop")
        removing.cancel()
        await asyncio.wait([removing])
        while "db" in app:
            await asyncio.sleep(0.001)
        assert [service.name for service in app] == ["other"]
    assert diary[-2:] == ["web on_stop", "db on_stop"]


async def test_no_service_starts_in_an_application_that_waits_to_shut_down(diary: Diary) -> None:
    """During shutdown_delay everything runs on, but nothing new begins."""
    app = Application("shop", shutdown_delay=0.05)
    group = app.add(Group(), name="group")
    inner = group.add(Runner(diary), name="inner")
    async with app:
        stopping = asyncio.create_task(app.stop())
        await asyncio.sleep(0)
        restarting = asyncio.create_task(inner.restart())
        await asyncio.wait([restarting])
        assert isinstance(restarting.exception(), LifecycleError)
        await stopping
    assert inner.state is State.STOPPED


async def test_a_group_whose_drain_is_cut_stops_its_services_once(
    diary: Diary, caplog: pytest.LogCaptureFixture
) -> None:
    """The drain that was cut comes back later, and must not open the gate a second time."""

    class Stubborn(Group):
        async def on_drain(self) -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(0.02)

    app = Application("shop")
    app.add(Stubborn(), name="group", drain_timeout=0.01).add(Writer(diary, on_stop=0.05), name="inner")
    async with app:
        pass
    assert diary == ["inner on_start", "inner on_stop"]
    assert "still draining" in caplog.text


async def test_a_task_that_was_spawned_and_cancelled_at_once_is_not_warned_of() -> None:
    """Its coroutine never began; Python would say that it was never awaited."""

    class Spawning(Service):
        async def run(self) -> None:
            self.spawn(asyncio.sleep(60))

    app = Application("shop")
    app.add(Spawning())
    await app.serve()


async def test_an_application_that_is_restarted_is_served_on(diary: Diary) -> None:
    """Its end in between is not the end for whoever serves it; that comes with the stop."""
    app = Application("shop")
    app.add(Writer(diary, on_stop=0.01), name="a")
    serving = asyncio.create_task(app.serve())
    await app.wait_ready()
    await app.restart()
    assert diary == ["a on_start", "a on_stop", "a on_start"]
    assert (app.state, serving.done()) == (State.RUNNING, False)
    await app.stop()
    await asyncio.wait_for(serving, 5)


async def test_a_stop_goes_before_a_restart_of_the_application(diary: Diary) -> None:
    """Told to stop while it stops in order to start again, it does not."""
    app = Application("shop")
    app.add(Writer(diary, on_stop=0.01), name="a")
    serving = asyncio.create_task(app.serve())
    await app.wait_ready()
    restarting = asyncio.create_task(app.restart())
    await until(diary, "a on_stop")
    await app.stop()
    with pytest.raises(StartInterrupted):
        await restarting
    await asyncio.wait_for(serving, 5)
    assert diary == ["a on_start", "a on_stop"]


async def test_a_restart_of_the_application_that_fails_is_the_failure_of_who_serves_it(diary: Diary) -> None:
    """He hears what the start failed of."""

    class Once(Writer):
        async def on_start(self) -> None:
            await super().on_start()
            if len(diary) > 1:
                raise OSError("not again")

    app = Application("shop")
    app.add(Once(diary), name="a")
    serving = asyncio.create_task(app.serve())
    await app.wait_ready()
    with pytest.raises(StartFailed, match="not again"):
        await app.restart()
    with pytest.raises(ApplicationFailed, match="not again"):
        await asyncio.wait_for(serving, 5)


async def test_who_gives_up_waiting_leaves_nothing_behind(diary: Diary) -> None:
    """However often somebody asks whether it has stopped, and goes away again."""
    app = Application("shop")
    app.add(Writer(diary), name="a")
    async with app:
        for _ in range(10):
            waiting = asyncio.create_task(app.wait_stopped())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        (future,) = app._root_engine._watchers.values()
        assert not future._callbacks  # type: ignore[attr-defined]  # of asyncio's own


async def test_a_resume_during_a_pause_is_done_though_its_caller_goes() -> None:
    """It can only begin when the pause is over, which the caller does not live to see."""

    class Slow(Service):
        async def on_pause(self) -> None:
            await asyncio.sleep(0.02)

        async def on_resume(self) -> None: ...

    app = Application("shop")
    slow = app.add(Slow(), name="slow")
    async with app:
        pausing = asyncio.create_task(slow.pause())
        await asyncio.sleep(0)
        resuming = asyncio.create_task(slow.resume())
        await asyncio.sleep(0)
        resuming.cancel()
        await pausing
        while app.state is not State.RUNNING or slow.state is not State.RUNNING:
            await asyncio.sleep(0)


def test_an_application_that_has_stopped_can_be_changed_on_another_loop() -> None:
    """Its old loop is closed; nothing is asked of it."""
    app = Application("shop")
    app.add(Service(), name="one")
    job = app.add(Job(), name="job")
    asyncio.run(serve_and_stop(app))
    asyncio.run(app.remove("one"))
    asyncio.run(job.resume())
    asyncio.run(serve_and_stop(app))
    assert [service.name for service in app] == ["job"]


class Job(Service):
    """Runs for ever, and can pause."""

    async def run(self) -> None:
        await self.unpaused()
        await asyncio.Event().wait()


async def serve_and_stop(app: Application) -> None:
    """Until it is ready."""
    serving = asyncio.create_task(app.serve())
    await app.wait_ready()
    await app.stop()
    await serving
