"""Stopping a tree: in reverse, in parallel where nothing orders it, within its deadlines, whatever goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from diary import Diary, Runner, Writer, spread
from plait import Application, Group, Service, State
from plait.errors import ApplicationFailed, StopFailed, StopTimeout


async def test_a_service_stops_after_its_dependents(diary: Diary) -> None:
    """In reverse of the start, across groups as well."""
    app = Application("shop")
    back = app.add(Group(), name="back")
    back.add(Writer(diary, on_stop=0.01), name="db")
    app.add(Writer(diary, on_stop=0.01), name="api", needs=["back"])
    app.add(Writer(diary, on_stop=0.01), name="web", needs=["api"])
    async with app:
        diary.clear()
    assert diary == ["web on_stop", "api on_stop", "db on_stop"]


async def test_a_service_stops_after_its_dependents_also_by_way_of_one_that_is_down(diary: Diary) -> None:
    """The chain has a gap; what stands on both sides of it keeps its order."""
    app = Application("shop")
    app.add(Writer(diary, on_stop=0.01), name="web", needs=["api"])
    app.add(Writer(diary), name="api", needs=["db"])
    app.add(Writer(diary, on_stop=0.01), name="db")  # of those that nothing orders the last one begins
    async with app:
        await app["api"].stop()
        diary.clear()
    assert diary == ["web on_stop", "db on_stop"]


async def test_branches_stop_in_parallel() -> None:
    """Each of three waits in on_stop until all three are there."""
    there = asyncio.Barrier(3)

    class Part(Service):
        async def on_stop(self) -> None:
            await there.wait()

    app = Application("shop")
    for name in "abc":
        app.add(Part(), name=name, stop_timeout=5)
    async with app:
        pass


async def test_the_order_within_one_service(diary: Diary) -> None:
    """Drain, then run is cancelled, then on_stop, then what was entered is unwound in reverse."""

    class Thing:
        def __init__(self, name: str) -> None:
            self.name = name

        async def __aenter__(self) -> None:
            diary.append(f"enter {self.name}")

        async def __aexit__(self, *_: object) -> None:
            diary.append(f"leave {self.name}")

    class Full(Runner):
        async def on_start(self) -> None:
            await self.enter(Thing("one"))
            await self.enter(Thing("two"))

    app = Application("shop")
    app.add(Full(diary), name="full")
    async with app:
        await asyncio.sleep(0)
    assert diary == [
        "enter one", "enter two", "full run", "full on_drain", "full ran", "full on_stop", "leave two", "leave one",
    ]  # fmt: skip


async def test_a_run_that_watches_stopping_is_given_time_to_return(diary: Diary) -> None:
    """It finishes its work in hand instead of being cancelled."""

    class Worker(Service):
        async def run(self) -> None:
            await self.stopping
            await asyncio.sleep(0.02)
            diary.append("finished in hand")

    app = Application("shop")
    app.add(Worker())
    async with app:
        await asyncio.sleep(0)
    assert diary == ["finished in hand"]


async def test_a_run_that_watches_stopping_and_does_not_return_is_cancelled(
    diary: Diary, caplog: pytest.LogCaptureFixture
) -> None:
    """After drain_timeout, which is said."""

    class Worker(Service):
        async def run(self) -> None:
            await self.stopping
            try:
                await asyncio.sleep(60)
            finally:
                diary.append("cut")

    app = Application("shop")
    app.add(Worker(), name="worker", drain_timeout=0.05)
    async with app:
        await asyncio.sleep(0)
    assert diary == ["cut"]
    assert "service 'worker' was still draining after 0.05 s" in caplog.text


async def test_a_drain_that_hangs_is_cut_short(diary: Diary, caplog: pytest.LogCaptureFixture) -> None:
    """The stop goes on, cleanly."""
    app = Application("shop")
    app.add(Runner(diary, on_drain=60), name="slow", drain_timeout=0.05)
    async with app:
        await asyncio.sleep(0)
    assert diary[-2:] == ["slow ran", "slow on_stop"]
    assert "still draining after 0.05 s" in caplog.text


async def test_an_error_in_one_stop_does_not_keep_the_others_running(diary: Diary) -> None:
    """All stop; the errors leave together, and the service that raised is FAILED."""
    app = Application("shop")
    app.add(Writer(diary), name="db")
    app.add(Writer(diary, on_stop=RuntimeError("one")), name="a", needs=["db"])
    app.add(Runner(diary, on_drain=RuntimeError("two")), name="b", needs=["db"])
    with pytest.raises(ApplicationFailed) as caught:
        async with app:
            await asyncio.sleep(0)
    assert set(spread(caught.value)) == {"one", "two"}
    assert diary[-1] == "db on_stop"
    assert (app["a"].state, app["b"].state, app["db"].state) == (State.FAILED, State.FAILED, State.STOPPED)


async def test_unwinding_goes_on_after_on_stop_has_failed(diary: Diary) -> None:
    """And after an exit that failed; the first error is the first of the group."""

    class Leaky(Writer):
        async def on_start(self) -> None:
            await self.enter(Last())
            await self.enter(Failing())

    class Failing:
        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None:
            raise OSError("exit")

    class Last:
        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None:
            diary.append("left")

    app = Application("shop")
    leaky = app.add(Leaky(diary, on_stop=RuntimeError("stop")), name="leaky")
    async with app:
        with pytest.raises(StopFailed) as caught:
            await leaky.stop()
    (group,) = caught.value.exceptions
    assert isinstance(group, ExceptionGroup)
    assert spread(group) == ["stop", "exit"]
    assert diary[-1] == "left"


class Stubborn(Service):
    """Ignores its cancellation until it is let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.cancelled = 0

    async def run(self) -> None:
        while not self.let_go.is_set():
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                self.cancelled += 1


async def test_what_ignores_its_cancellation_is_cancelled_again_then_left_behind(diary: Diary) -> None:
    """The application ends within its deadline all the same, and says who it was and where it hangs."""
    app = Application("shop")
    stubborn = app.add(Stubborn(), name="stubborn", stop_timeout=0.1, needs=["db"])
    app.add(Writer(diary), name="db")
    began = time.monotonic()
    with pytest.raises(ApplicationFailed) as caught:
        async with app:
            await asyncio.sleep(0)
    assert time.monotonic() - began < 5
    assert isinstance(caught.value.exceptions[0], StopTimeout)
    assert stubborn.cancelled == 3  # at first, at the deadline, and once more in the grace after it
    assert stubborn.state is State.FAILED
    assert "service 'stubborn': its task at" in app.left_behind[0]
    assert "test_stop.py" in app.left_behind[0]
    assert diary[-1] == "db on_stop"
    stubborn.let_go.set()
    await asyncio.sleep(0)


async def test_a_spawned_task_that_ignores_its_cancellation_is_named() -> None:
    """And on_stop is called all the same."""
    stopped = asyncio.Event()

    class Owner(Service):
        async def on_start(self) -> None:
            self.spawn(Stubborn.run(stubborn), name="mule")

        async def on_stop(self) -> None:
            stopped.set()

    stubborn = Stubborn()
    app = Application("shop")
    app.add(Owner(), name="owner", stop_timeout=0.05)
    with pytest.raises(ApplicationFailed):
        async with app:
            await asyncio.sleep(0)
    assert "task 'owner mule' at" in app.left_behind[0]
    assert stopped.is_set()
    stubborn.let_go.set()


async def test_on_stop_that_hangs_is_cut_at_its_deadline_and_unwinding_follows(diary: Diary) -> None:
    """StopTimeout names the line."""

    class Slow(Service):
        async def on_start(self) -> None:
            await self.enter(Left())

        async def on_stop(self) -> None:
            await asyncio.sleep(60)

    class Left:
        async def __aenter__(self) -> None: ...

        async def __aexit__(self, *_: object) -> None:
            diary.append("left")

    app = Application("shop")
    app.add(Slow(), name="slow", stop_timeout=0.05)
    with pytest.raises(ApplicationFailed, match=r"service 'slow' did not stop within 0.05 s, it is at .*on_stop"):
        async with app:
            pass
    assert diary == ["left"]
    assert app.left_behind == ()


async def test_two_stops_are_one(diary: Diary) -> None:
    """Both callers return when it is done."""
    app = Application("shop")
    service = app.add(Writer(diary, on_stop=0.01), name="a")
    async with app:
        await asyncio.gather(service.stop(), service.stop())
        assert service.state is State.STOPPED
    assert diary == ["a on_start", "a on_stop"]


async def test_cancelling_a_caller_of_stop_ends_only_its_wait(diary: Diary) -> None:
    """The stop goes on."""
    app = Application("shop")
    service = app.add(Writer(diary, on_stop=0.02), name="a")
    async with app:
        caller = asyncio.create_task(service.stop())
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait([caller])
        assert caller.cancelled()
        await service.stop()
        assert service.state is State.STOPPED


async def test_stopping_one_service_leaves_its_dependents_running(diary: Diary) -> None:
    """It alone stops; started again it is a new incarnation."""
    app = Application("shop")
    db = app.add(Writer(diary), name="db")
    web = app.add(Writer(diary), name="web", needs=["db"])
    async with app:
        await db.stop()
        assert (db.state, web.state) == (State.STOPPED, State.RUNNING)
        await db.start()
        assert app.snapshot().services[0].incarnation == 2
        await asyncio.gather(db.restart(), db.restart())
        assert app.snapshot().services[0].incarnation == 3
        assert web.state is State.RUNNING


async def test_a_service_may_stop_its_application() -> None:
    """From its own run, which is cancelled in turn."""

    class Last(Service):
        async def run(self) -> None:
            await self.application.stop()

    app = Application("shop")
    last = app.add(Last())
    await app.serve()
    assert last.state is State.STOPPED


async def test_a_service_may_ask_for_the_stop_and_go_on_to_clean_up(diary: Diary) -> None:
    """A cancellation that it asks for and never awaits does not hit its on_stop."""

    class Last(Writer):
        async def run(self) -> None:
            stopping = asyncio.ensure_future(self.application.stop())
            await asyncio.sleep(0)
            del stopping

        async def on_stop(self) -> None:
            await asyncio.sleep(0.01)
            diary.append("cleaned up")

    app = Application("shop")
    app.add(Last(diary))
    await app.serve()
    assert diary[-1] == "cleaned up"


# -- the time an application has ---------------------------------------------------------------------------------------


async def test_shutdown_delay_keeps_services_running_while_the_application_is_stopping() -> None:
    """So that load balancers can turn away before a connection is refused."""
    app = Application("shop", shutdown_delay=0.05)
    service = app.add(Service(), name="web")
    async with app:
        began = asyncio.get_running_loop().time()
        stopping = asyncio.create_task(app.stop())
        await asyncio.sleep(0)
        assert (app.state, service.state) == (State.STOPPING, State.RUNNING)
        await stopping
        assert asyncio.get_running_loop().time() - began >= 0.049


async def test_deadlines_of_a_chain_are_cut_to_fit_and_each_service_has_its_share() -> None:
    """Three that hang, one after the other, 10 s each: all are ended within the application's half second."""

    class Hangs(Service):
        async def on_stop(self) -> None:
            asked.append(self.name)
            await asyncio.sleep(60)

    asked: list[str] = []
    app = Application("shop", shutdown_timeout=0.5)
    app.add(Hangs(), name="a")
    app.add(Hangs(), name="b", needs=["a"])
    app.add(Hangs(), name="c", needs=["b"])
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(ApplicationFailed) as caught:
        async with app:
            began = loop.time()
    assert asked == ["c", "b", "a"]
    assert len(caught.value.exceptions) == 3
    assert loop.time() - began < 0.75


async def test_a_blocked_thread_is_waited_for_before_on_stop(diary: Diary) -> None:
    """So that on_stop never closes what a thread still uses."""

    class Threaded(Service):
        async def run(self) -> None:
            await self.run_in_thread(self.work)

        def work(self) -> None:
            began.set()
            time.sleep(0.05)
            diary.append("thread done")

        async def on_stop(self) -> None:
            diary.append("on_stop")

    import threading

    began = threading.Event()
    app = Application("shop")
    app.add(Threaded())
    async with app:
        while not began.is_set():
            await asyncio.sleep(0.001)
    assert diary == ["thread done", "on_stop"]


@pytest.mark.virtual_clock
async def test_the_rollback_of_an_applications_start_has_the_applications_time() -> None:
    """Not its services' own: a start that was given up while one of them ignores its cancellation ends in time."""
    loop = asyncio.get_running_loop()

    class Stone(Service):
        async def on_start(self) -> None:
            while loop.time() < 100:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(50)

    app = Application("shop", shutdown_timeout=3)
    app.add(Stone())
    serving = asyncio.create_task(app.serve())
    await asyncio.sleep(1)
    began = loop.time()
    serving.cancel()
    await asyncio.wait([serving])
    assert loop.time() - began <= 3.001
    assert "service 'stone'" in app.left_behind[0]
    await asyncio.sleep(200)
