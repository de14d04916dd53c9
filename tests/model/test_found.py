"""What the model found: each was a defect once, and has its own small case here."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from plait import Application, Group, Service, State, events
from plait.errors import ApplicationFailed, LifecycleError, StartFailed, StartInterrupted, StopFailed


class Worker(Service):
    """Runs until it is stopped."""

    async def run(self) -> None:
        await asyncio.Event().wait()


class Unclean(Worker):
    """Does not stop as it should."""

    async def on_stop(self) -> None:
        raise OSError("on purpose")


async def test_a_stop_commanded_after_a_restart_comes_after_it() -> None:
    """In the same turn of the loop: it stays down."""
    async with Application("model") as app:
        worker = app.add(Worker())
        app.add(Worker(), name="other")
        await worker.start()
        outcomes = await asyncio.gather(worker.restart(), worker.stop(), return_exceptions=True)
        assert isinstance(outcomes[0], StartInterrupted)
        assert worker.state is State.STOPPED


async def test_a_stop_commanded_after_the_restart_of_an_application_at_rest_comes_after_it() -> None:
    """It stays at rest."""
    app = Application("model")
    app.add(Worker())
    serving = asyncio.create_task(app.serve())
    await app.wait_ready()
    await app.stop()
    await serving
    outcomes = await asyncio.gather(app.restart(), app.stop(), return_exceptions=True)
    assert isinstance(outcomes[0], StartInterrupted)
    assert app.state is State.STOPPED


async def test_a_restart_commanded_after_a_stop_does_not_join_the_one_before_it() -> None:
    """Which the stop has ended."""
    async with Application("model") as app:
        worker = app.add(Worker())
        await worker.start()
        calls = [asyncio.create_task(call) for call in (worker.restart(), worker.stop(), worker.restart())]
        await asyncio.gather(*calls, return_exceptions=True)
        assert calls[2].exception() is None
        assert worker.state is State.RUNNING


async def test_a_restart_does_not_join_one_that_is_over_and_has_not_been_heard_of() -> None:
    """In the very turn in which that got ready it is stopped with its group: the second finds that out."""
    async with Application("model") as app:
        group = app.add(Group(), name="group")
        worker = group.add(Worker())
        await group.start()
        turn: list[asyncio.Task[None]] = []

        def on_event(event: events.Event) -> None:
            if isinstance(event, events.StateChanged) and event.new is State.RUNNING and event.incarnation == 2:
                turn.extend(asyncio.create_task(call) for call in (group.stop(), worker.restart()))

        app.subscribe(on_event)
        await worker.restart()
        outcomes = await asyncio.gather(*turn, return_exceptions=True)
        assert isinstance(outcomes[1], LifecycleError)


async def test_an_application_that_stops_uncleanly_is_restarted_all_the_same() -> None:
    """As one service is: what went wrong is in its event."""
    app = Application("model")
    worker = app.add(Unclean())
    serving = asyncio.create_task(app.serve())
    await app.wait_ready()
    await app.restart()
    assert worker.state is State.RUNNING
    assert app.snapshot().services[0].incarnation == 2
    await asyncio.gather(app.stop(), serving, return_exceptions=True)


async def test_two_who_remove_one_service_remove_it_once() -> None:
    """Both return; one event says so."""
    async with Application("model") as app:
        app.add(Worker(), name="other")
        await app.add(Worker()).start()
        removed: list[str] = []
        app.subscribe(lambda event: removed.append(event.path) if isinstance(event, events.ServiceRemoved) else None)
        await asyncio.gather(app.remove("worker"), app.remove("worker"))
        assert removed == ["worker"]


async def test_what_is_removed_with_its_group_is_not_removed_again_with_what_it_needs() -> None:
    """Two removals that overlap; each service is said to be gone once."""
    async with Application("model") as app:
        app.add(Worker(), name="other")
        need, group = app.add(Worker(), name="need"), app.add(Group(), name="group")
        group.add(Worker(), needs=["/need"])
        await need.start()
        await group.start()
        removed: list[str] = []
        app.subscribe(lambda event: removed.append(event.path) if isinstance(event, events.ServiceRemoved) else None)
        await asyncio.gather(app.remove("group"), app.remove("need", dependents=True))
        assert sorted(removed) == ["group", "group/worker", "need"]


async def test_who_starts_what_needs_two_that_are_about_to_start_waits_until_it_is_ready() -> None:
    """One of them is starting, one waits for its turn; both come, and so does what needs them."""
    app = Application("model")
    slow = app.add(Slow())
    app.add(Worker(), name="next", needs=["slow"])
    serving = asyncio.create_task(app.serve())
    await slow.begun.wait()
    both = app.add(Worker(), name="both", needs=["slow", "next"])
    starting = asyncio.create_task(both.start())
    await asyncio.sleep(0)
    slow.told.set()
    await starting
    assert both.state is State.RUNNING
    await app.stop()
    await serving


class Job(Service):
    """Is done when it is told."""

    def __init__(self) -> None:
        self.told = asyncio.Event()

    async def run(self) -> None:
        await self.told.wait()


async def test_what_finished_while_all_was_paused_ends_the_application_when_it_is_resumed() -> None:
    """An intent keeps an application alive; when it is gone nothing does."""
    app = Application("model")
    job = app.add(Job())
    serving = asyncio.create_task(app.serve())
    await app.wait_ready()
    await app.pause()
    job.told.set()
    await asyncio.sleep(0.01)
    assert not serving.done()
    await app.resume()
    async with asyncio.timeout(5):
        await serving


async def test_what_was_paused_when_it_had_finished_ends_the_application_when_it_is_resumed() -> None:
    """The same of one service, which stays at rest all the time."""
    app = Application("model")
    first, second = app.add(Job(), name="first"), app.add(Job(), name="second")
    serving = asyncio.create_task(app.serve())
    await app.wait_ready()
    first.told.set()
    await asyncio.sleep(0.01)
    await first.pause()
    second.told.set()
    await asyncio.sleep(0.01)
    assert not serving.done()
    await first.resume()
    async with asyncio.timeout(5):
        await serving


class Slow(Worker):
    """Is ready when it is told."""

    def __init__(self) -> None:
        self.told, self.begun = asyncio.Event(), asyncio.Event()

    async def on_start(self) -> None:
        self.begun.set()
        await self.told.wait()


async def test_what_was_ready_and_is_gone_again_holds_up_the_start_of_what_needs_it() -> None:
    """Two needs: the first is stopped while the second still starts."""
    app = Application("model")
    first, second = app.add(Worker(), name="first"), app.add(Slow(), name="second")
    both = app.add(Worker(), name="both", needs=["first", "second"])
    serving = asyncio.create_task(app.serve())
    while first.state is not State.RUNNING:
        await asyncio.sleep(0)
    await first.stop()
    second.told.set()
    await app.wait_ready()
    assert both.state is State.NEW
    await first.start()
    while both.state is not State.RUNNING:
        await asyncio.sleep(0)
    await app.stop()
    await serving


async def test_a_stop_of_the_application_goes_before_a_start_that_waits_for_an_earlier_one() -> None:
    """The last command counts."""
    app = Application("model")
    worker = app.add(Worker())
    serving = asyncio.create_task(app.serve())
    await app.wait_ready()
    calls = [asyncio.create_task(call) for call in (app.stop(), app.start(), app.stop())]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(outcomes[1], StartInterrupted)
    assert worker.state is State.STOPPED
    await serving


async def test_who_waits_for_the_start_of_what_is_stopped_with_all_it_needs_hears_that() -> None:
    """And not that it will start when that is there."""
    app = Application("model")
    app.add(Worker(), name="need")
    slow = app.add(Slow(), needs=["need"])
    serving = asyncio.create_task(app.serve())
    await slow.begun.wait()
    calls = [asyncio.create_task(call) for call in (slow.start(), app.stop())]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(outcomes[0], StartInterrupted)
    await serving


class Stuck(Slow):
    """Neither gets ready nor stops cleanly."""

    async def on_start(self) -> None:
        try:
            await super().on_start()
        finally:
            raise OSError("on purpose")


async def test_what_an_operator_stops_while_it_starts_fails_no_start_however_it_stops() -> None:
    """It is down; the application starts without it."""
    app = Application("model")
    stuck, slow = app.add(Stuck(), name="stuck"), app.add(Slow(), name="slow")
    serving = asyncio.create_task(app.serve())
    await slow.begun.wait()
    with pytest.raises(StopFailed):
        await stuck.stop()
    slow.told.set()
    await app.wait_ready()
    assert stuck.state is State.FAILED
    await app.stop()
    await serving


async def test_who_joins_a_start_leaves_alone_what_that_has_left_waiting() -> None:
    """It starts as soon as what it needs is up."""
    async with Application("model") as app:
        need, group = app.add(Worker(), name="need"), app.add(Group(), name="group")
        slow = group.add(Slow())
        waiting = group.add(Worker(), name="waiting", needs=["/need"])
        starts = [asyncio.create_task(group.start()) for _ in range(2)]
        await slow.begun.wait()
        slow.told.set()
        await asyncio.gather(*starts)
        assert waiting.state is State.NEW
        await need.start()
        async with asyncio.timeout(5):
            while waiting.state is not State.RUNNING:
                await asyncio.sleep(0)


class Lingering(Worker):
    """Stops at once in its first life, and when it is told in the others."""

    def __init__(self) -> None:
        self.starts, self.told = 0, asyncio.Event()

    async def on_start(self) -> None:
        self.starts += 1

    async def on_stop(self) -> None:
        if self.starts > 1:
            await self.told.wait()


class FailsOnce(Lingering):
    """At its second start."""

    async def on_start(self) -> None:
        await super().on_start()
        if self.starts == 2:
            raise OSError("on purpose")


async def test_a_restart_that_failed_does_not_stop_what_another_has_started_since() -> None:
    """Who waited for its roll-back to start the application has done so by then."""
    app = Application("model")
    lingering = app.add(Lingering())
    app.add(FailsOnce(), needs=["lingering"]).told.set()
    serving = asyncio.create_task(app.serve())
    await app.wait_ready()
    restarting = asyncio.create_task(app.restart())
    while app.state is not State.STOPPING or lingering.starts < 2:
        await asyncio.sleep(0)
    starting = asyncio.create_task(app.start())
    await asyncio.sleep(0)
    lingering.told.set()
    await starting
    with pytest.raises(StartFailed):
        await restarting
    assert app.state is State.RUNNING
    await app.stop()
    await serving


async def test_what_is_just_stopping_holds_up_the_start_of_what_needs_it() -> None:
    """As if it had stopped."""
    app = Application("model")
    first, second = app.add(Lingering(), name="first"), app.add(Slow(), name="second")
    first.starts = 1
    both = app.add(Worker(), name="both", needs=["first", "second"])
    serving = asyncio.create_task(app.serve())
    await second.begun.wait()
    stopping = asyncio.create_task(first.stop())
    while first.state is not State.STOPPING:
        await asyncio.sleep(0)
    second.told.set()
    await app.wait_ready()
    assert both.state is State.NEW
    first.told.set()
    await stopping
    await app.stop()
    await serving


async def test_a_start_that_is_taken_back_when_all_else_has_ended_ends_the_application() -> None:
    """There is nothing left that could go on."""
    app = Application("model")
    job = app.add(Job())
    serving = asyncio.create_task(app.serve())
    await app.wait_ready()
    other = app.add(Worker(), restart="never")
    starting = asyncio.create_task(other.start())
    while other.state is not State.RUNNING:
        await asyncio.sleep(0)
    starting.cancel()
    job.told.set()
    async with asyncio.timeout(5):
        await serving


class Deaf(Worker):
    """Does not hear in its first start that it shall stop, until it is told; counts how often on_stop is called."""

    def __init__(self) -> None:
        self.starts = self.stops = 0
        self.told = asyncio.Event()

    async def on_start(self) -> None:
        self.starts += 1
        while self.starts == 1 and not self.told.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.told.wait()

    async def on_stop(self) -> None:
        self.stops += 1


async def test_a_life_left_behind_does_not_stop_what_a_later_one_had() -> None:
    """Also when that one is over by the time it gets on."""
    async with Application("model") as app:
        deaf = app.add(Deaf(), start_timeout=0.01, stop_timeout=0.01)
        with pytest.raises(StartFailed):
            await deaf.start()
        await deaf.start()
        await deaf.stop()
        assert deaf.stops == 1
        deaf.told.set()
        await asyncio.sleep(0.01)
        assert deaf.stops == 1


async def test_health_is_said_anew_of_what_was_paused_for_a_moment() -> None:
    """So who hears events knows it, whether or not he forgets it when a service does not run."""
    async with Application("model") as app:
        await app.add(Worker()).start()
        app.add(Worker(), name="other")  # so the application is degraded
        said: list[str] = []
        app.subscribe(lambda event: said.append(event.new.value) if isinstance(event, events.HealthChanged) else None)
        await asyncio.sleep(0.01)
        await asyncio.gather(app.pause(), app.resume())
        await asyncio.sleep(0.01)
        assert said == ["degraded", "degraded"]


class Crasher(Worker):
    """Fails when it is told."""

    def __init__(self) -> None:
        self.told = asyncio.Event()

    async def run(self) -> None:
        self.told.clear()
        await self.told.wait()
        raise OSError("on purpose")


async def test_what_fails_while_a_strategy_still_stops_others_has_failed_by_itself() -> None:
    """It had been stopped with them, and an operator has started it since: it is counted, and has its own delay."""
    async with Application("model", strategy="one_for_all") as app:
        first, second, slow = app.add(Crasher(), name="first"), app.add(Crasher(), name="second"), app.add(Lingering())
        slow.starts = 1  # so it lingers
        await app.start()
        await asyncio.sleep(0)
        first.told.set()
        while second.state is not State.STOPPED:
            await asyncio.sleep(0)
        await second.start()
        await asyncio.sleep(0)
        second.told.set()
        while second.state is not State.BACKOFF:
            await asyncio.sleep(0)
        slow.told.set()
        while slow.state is State.STOPPING:
            await asyncio.sleep(0)
        failed = app.snapshot().services[1]
        assert failed.failures == 1
        assert failed.restart_in is not None


async def test_what_waited_to_be_started_waits_on_when_a_start_of_all_fails() -> None:
    """An operator's start has taken it over from supervision, which has it back."""
    async with Application("model") as app:
        need = app.add(SlowToStartAgain(), name="need", restart="never")
        failing = app.add(FailsToStartAgain(), name="failing", restart="never")
        waiting = app.add(Crasher(), name="waiting", needs=["need"])
        await app.start()
        await asyncio.sleep(0)
        for service in (need, failing, waiting):
            service.told.set()
            while service.state not in (State.FAILED, State.BACKOFF):
                await asyncio.sleep(0)
        with pytest.raises(StartFailed):
            await app.start()
        assert waiting.state is State.BACKOFF
        need.go.set()
        await need.start()
        async with asyncio.timeout(5):
            while waiting.state is not State.RUNNING:
                await asyncio.sleep(0)


class SlowToDrain(Worker):
    """Fails when it is told, and takes its time to drain."""

    is_draining = False

    def __init__(self) -> None:
        self.told = asyncio.Event()

    async def run(self) -> None:
        self.task = asyncio.current_task()
        await self.told.wait()
        raise OSError("on purpose")

    async def on_drain(self) -> None:
        self.is_draining = True
        await asyncio.sleep(1)
        self.is_draining = False


async def test_who_cancels_what_has_failed_while_it_drains_does_not_cut_its_drain_short() -> None:
    """It ends when its on_drain has; nothing of it is left running."""
    async with Application("model") as app:
        service = app.add(SlowToDrain())
        await app.start()
        stop = asyncio.ensure_future(service.stop())
        while not service.is_draining:
            await asyncio.sleep(0)
        service.told.set()
        for _ in range(3):
            await asyncio.sleep(0)
        service.task.cancel()
        with pytest.raises(StopFailed):
            await stop
        assert not service.is_draining


async def test_the_restart_of_an_application_that_never_ran_starts_it() -> None:
    """As a restart of one that has stopped does."""
    app = Application("model")
    app.add(Worker())
    await app.restart()
    assert app.state is State.RUNNING
    await app.stop()


async def test_a_start_of_all_leaves_alone_what_is_in_a_group_that_is_stopping() -> None:
    """It starts with its group, when that does."""
    async with Application("model") as app:
        group = app.add(Group(), name="group", restart="never")
        ended, slow = group.add(Crasher(), name="ended", restart="never"), group.add(Lingering(), name="slow")
        slow.starts = 1
        await app.start()
        await asyncio.sleep(0)
        ended.told.set()
        while ended.state is not State.FAILED:
            await asyncio.sleep(0)
        restart = asyncio.ensure_future(group.restart())
        while slow.state is not State.STOPPING:
            await asyncio.sleep(0)
        await asyncio.gather(app.start())
        assert ended.state is State.FAILED
        slow.told.set()
        await restart
        assert ended.state is State.RUNNING


async def test_what_had_finished_and_starts_once_more_is_waited_for_by_what_needs_the_group_that_it_is_in() -> None:
    """Of a start of both."""
    async with Application("model") as app:
        group = app.add(Group(), name="group")
        need, needing = group.add(Finishing(), name="need"), app.add(Finishing(), name="needing", needs=["group"])
        await app.start()
        while needing.state is not State.STOPPED or need.state is not State.STOPPED:
            await asyncio.sleep(0)
        need.slow = True
        start = asyncio.ensure_future(app.start())
        while need.state is not State.STARTING:
            await asyncio.sleep(0)
        assert needing.state is State.STOPPED
        need.go.set()
        await start
        assert needing.state is not State.STOPPED or needing.runs == 2


class Finishing(Service):
    """Does its work, and is done; `slow` to start until `go` is set."""

    slow, runs = False, 0

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def on_start(self) -> None:
        if self.slow:
            await self.go.wait()

    async def run(self) -> None:
        self.runs += 1


class Stone(Worker):
    """Takes `seconds` to stop, whoever cancels it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def on_stop(self) -> None:
        await asyncio.sleep(self.seconds)


@pytest.mark.virtual_clock
async def test_what_an_operator_is_stopping_already_has_no_more_time_than_the_application() -> None:
    """Its own deadline, which runs, is cut as well."""
    app = Application("model", shutdown_timeout=3)
    stone = app.add(Stone(100), stop_timeout=60)
    await app.start()
    first = asyncio.ensure_future(stone.stop())
    while stone.state is not State.STOPPING:
        await asyncio.sleep(0)
    began = asyncio.get_running_loop().time()
    with pytest.raises(StopFailed):
        await app.stop()
    assert asyncio.get_running_loop().time() - began < 3.1
    with pytest.raises(StopFailed):
        await first


@pytest.mark.virtual_clock
async def test_after_a_stop_that_was_short_of_time_deadlines_are_those_of_the_policies_again() -> None:
    """When the application has started once more."""
    app = Application("model", shutdown_timeout=3)
    stone = app.add(Stone(5), stop_timeout=60)
    await app.start()
    with pytest.raises(StopFailed):
        await app.stop()
    await app.start()
    await stone.stop()
    await app.stop()


@pytest.mark.virtual_clock
async def test_an_application_that_was_only_started_keeps_its_time_before_the_first_stop() -> None:
    """As one that is served does."""
    app = Application("model", shutdown_delay=2)
    app.add(Worker())
    await app.start()
    began = asyncio.get_running_loop().time()
    await app.stop()
    assert asyncio.get_running_loop().time() - began >= 2


async def test_a_stop_of_all_while_a_start_of_all_is_rolled_back_stops_all() -> None:
    """The roll-back stops only what that start has begun."""
    app = Application("model")
    worker, failing = app.add(Worker()), app.add(FailsToStartAgain(), name="failing", restart="never")
    slow = app.add(SlowToStopAgain(), name="slow", restart="never")
    await app.start()
    await asyncio.sleep(0)
    for service in (failing, slow):
        service.told.set()
        while service.state is not State.FAILED:
            await asyncio.sleep(0)
    start = asyncio.ensure_future(app.start())
    while slow.state is not State.STOPPING:
        await asyncio.sleep(0)
    stop = asyncio.ensure_future(app.stop())
    await asyncio.sleep(0)
    slow.go.set()
    await stop
    with pytest.raises(StartFailed):
        await start
    assert (app.state, worker.state) == (State.STOPPED, State.STOPPED)


class FailsToStartAgain(Crasher):
    """At its second start."""

    lives = 0

    async def on_start(self) -> None:
        self.lives += 1
        await asyncio.sleep(0)
        if self.lives == 2:
            raise OSError("on purpose")


class SlowToStartAgain(Crasher):
    """In its second life and later, until `go`."""

    lives = 0

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def on_start(self) -> None:
        self.lives += 1
        if self.lives > 1:
            await self.go.wait()


class SlowToStopAgain(Crasher):
    """In its second life, until `go`."""

    lives = 0

    async def on_start(self) -> None:
        self.lives, self.go = self.lives + 1, asyncio.Event()

    async def on_stop(self) -> None:
        if self.lives == 2:
            await self.go.wait()


async def test_what_is_to_start_again_and_needs_what_is_lost_for_good_lets_the_application_end() -> None:
    """Nobody waits for that."""
    app = Application("model")
    need = app.add(Crasher(), name="need", restart="never")
    needing = app.add(Worker(), name="needing", needs=["need"])
    serving = asyncio.ensure_future(app.serve())
    await app.wait_ready()
    await needing.stop()
    need.told.set()
    while need.state is not State.FAILED:
        await asyncio.sleep(0)
    with pytest.raises(LifecycleError):
        await needing.restart()
    async with asyncio.timeout(5):
        with pytest.raises(ApplicationFailed):
            await serving


async def test_a_service_of_an_application_that_never_ran_cannot_be_restarted() -> None:
    """The error says what to do."""
    app = Application("model")
    worker = app.add(Worker())
    with pytest.raises(LifecycleError, match="start that"):
        await worker.restart()


class FailsSlowly(Group):
    """Its first start fails, when it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told, self.lives = asyncio.Event(), 0

    async def on_start(self) -> None:
        self.lives += 1
        if self.lives == 1:
            await self.told.wait()
            raise OSError("on purpose")


@pytest.mark.virtual_clock
async def test_a_start_that_waits_for_its_group_ends_when_that_does_not_start() -> None:
    """The service starts with its group, when that does."""
    app = Application("model")
    app.add(Worker())
    group = app.add(FailsSlowly(), name="group", on_exhausted="park")
    serving = asyncio.ensure_future(app.serve())
    while group.state is not State.STARTING:
        await asyncio.sleep(0)
    service = group.add(Worker())
    start = asyncio.ensure_future(service.start())
    await asyncio.sleep(0)
    group.told.set()
    while group.state is not State.BACKOFF:
        await asyncio.sleep(0)
    async with asyncio.timeout(0.2):  # the group itself takes longer
        with pytest.raises(StartInterrupted):
            await start
    await group.start()
    assert service.state is State.RUNNING
    await app.stop()
    await serving


class DrainsForever(Service):
    """Has nothing but an on_drain, which does not hear."""

    async def on_drain(self) -> None:
        end = asyncio.get_running_loop().time() + 100
        while (left := end - asyncio.get_running_loop().time()) > 0:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(left)


@pytest.mark.virtual_clock
@pytest.mark.may_leak
async def test_a_service_that_only_drains_has_its_share_of_the_applications_time() -> None:
    """What it drains may not hear, and is awaited once more before it is left behind."""
    app = Application("model", shutdown_timeout=3)
    app.add(DrainsForever())
    await app.start()
    began = asyncio.get_running_loop().time()
    with contextlib.suppress(StopFailed):
        await app.stop()
    assert asyncio.get_running_loop().time() - began < 3.1
    await asyncio.sleep(200)
