"""Pausing and resuming one service, from every state, and when it goes wrong."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from lives import Boom, Life, Pausable, Told, Worker, advance, serving, settle, states, virtual
from plait import Application, Group, Intent, Service, State, events
from plait.errors import CannotPause, LifecycleError, PauseFailed, PauseTimeout, StartFailed


@pytest.fixture(autouse=True)
def _same_dice() -> None:
    random.seed(4)


# -- who can -----------------------------------------------------------------------------------------------------------


@virtual
async def test_a_service_with_both_hooks() -> None:
    """They are called beside run, which goes on; the states and intents are told in order."""
    diary: list[str] = []
    app = Application("shop")
    life = app.add(Pausable(diary), name="life")
    told = Told(app)
    async with serving(app):
        assert await life.pause() == ()
        assert (life.state, life.intent) == (State.PAUSED, Intent.PAUSED)
        await advance(100)
        await life.resume()
        assert (life.state, life.intent) == (State.RUNNING, Intent.UP)
        assert life.incarnation == 1
        assert diary == ["life starts", "life runs", "life pauses", "life resumes"]
    assert told.moves("life") == [
        "starting", "running", "pausing", "paused", "resuming", "running", "stopping", "stopped",
    ]  # fmt: skip
    assert [(event.old, event.new) for event in told.of(events.IntentChanged)] == [
        (Intent.UP, Intent.PAUSED),
        (Intent.PAUSED, Intent.UP),
    ]


@virtual
async def test_a_run_that_asks_unpaused() -> None:
    """It finishes what it has in hand, and takes no more until it is resumed."""
    app = Application("shop")
    worker = app.add(Worker(), name="worker")
    async with serving(app):
        await advance(3.5)
        await worker.pause()
        assert worker.state is State.PAUSED
        await advance(100)
        assert worker.done == 4
        await worker.resume()
        await advance(3)
        assert worker.done == 7


@virtual
async def test_unpaused_may_be_asked_in_a_spawned_task_as_well() -> None:
    """It is the incarnation that can pause then."""

    class Spawning(Service):
        done = 0

        async def on_start(self) -> None:
            self.spawn(self.work())

        async def work(self) -> None:
            while True:
                await self.unpaused()
                await asyncio.sleep(1.0)
                self.done += 1

    app = Application("shop")
    spawning = app.add(Spawning(), name="spawning")
    async with serving(app):
        await spawning.pause()
        await advance(10)
        assert spawning.done == 1
        await spawning.resume()
        await advance(2.5)
        assert spawning.done == 3


@pytest.mark.parametrize("hooks", [(), ("on_pause",), ("on_resume",)])
@virtual
async def test_a_service_that_cannot_pause_says_so(hooks: tuple[str, ...]) -> None:
    """One hook alone is not enough; nothing is changed, and the cure is told."""

    async def hook(self: Service) -> None:
        raise AssertionError("never called")

    kind = type("Half", (Life,), dict.fromkeys(hooks, hook))
    app = Application("shop")
    life = app.add(kind(), name="life")
    told = Told(app)
    async with serving(app):
        with pytest.raises(CannotPause, match=r"give it on_pause and on_resume, or await self.unpaused\(\) in its run"):
            await life.pause()
        assert (life.state, life.intent) == (State.RUNNING, Intent.UP)
        assert not told.of(events.IntentChanged)


@virtual
async def test_a_service_that_can_never_pause_is_refused_also_while_it_is_at_rest() -> None:
    """It has neither hooks nor a run that could ask; one with a run may turn out to be able."""
    app = Application("shop")
    plain = app.add(Service(), name="plain")
    worker = app.add(Worker(), name="worker")
    other = app.add(Life(), name="other")
    with pytest.raises(CannotPause):
        await plain.pause()
    assert plain.intent is Intent.UP
    await worker.pause()
    await other.pause()
    told = Told(app)
    async with serving(app):
        assert states(app) == {"plain": "running", "worker": "paused", "other": "running"}
        assert [event.path for event in told.of(events.NotPaused)] == ["other"]
        await advance(10)
        assert worker.done == 0


@virtual
async def test_whether_it_can_is_a_matter_of_the_incarnation() -> None:
    """One whose run has not asked in this life cannot."""

    class Sometimes(Life):
        async def run(self) -> None:
            if self.incarnation == 1:
                await self.unpaused()
            await super().run()

    app = Application("shop")
    life = app.add(Sometimes(), name="life")
    async with serving(app):
        await life.pause()
        await life.resume()
        life.fail()
        await advance(1)
        with pytest.raises(CannotPause):
            await life.pause()


# -- modes -------------------------------------------------------------------------------------------------------------


@virtual
async def test_the_mode_is_stored_with_the_intent() -> None:
    """It is in the snapshot and the event, and the next incarnation starts paused in it; a resume forgets it."""
    diary: list[str] = []
    app = Application("shop")
    life = app.add(Pausable(diary), name="life")
    told = Told(app)
    async with serving(app):
        await life.pause(mode="refuse")
        assert app.snapshot().services[0].pause_mode == "refuse"
        assert told.of(events.IntentChanged)[-1].pause_mode == "refuse"
        await life.restart()
        assert diary[-3:] == ["life starts", "life pauses refuse", "life runs"]
        assert life.state is State.PAUSED
        await life.resume()
        assert app.snapshot().services[0].pause_mode is None
        await life.pause()
        assert diary[-1] == "life pauses"


@virtual
async def test_a_mode_that_the_class_does_not_know() -> None:
    """Is named, with those it knows; nothing is changed."""
    app = Application("shop")
    life = app.add(Pausable(), name="life")
    worker = app.add(Worker(), name="worker")
    async with serving(app):
        with pytest.raises(ValueError, match="cannot pause in mode 'hode'; it knows hold, refuse"):
            await life.pause(mode="hode")
        with pytest.raises(ValueError, match="it knows no modes; leave it out"):
            await worker.pause(mode="hold")
        assert (life.intent, worker.intent) == (Intent.UP, Intent.UP)


@virtual
async def test_one_that_is_paused_is_not_paused_otherwise() -> None:
    """It must be resumed first; the same again is nothing."""
    diary: list[str] = []
    app = Application("shop")
    life = app.add(Pausable(diary), name="life")
    async with serving(app):
        await life.pause(mode="hold")
        await life.pause(mode="hold")
        await life.pause()
        with pytest.raises(LifecycleError, match="is paused already, otherwise than 'refuse'; resume it first"):
            await life.pause(mode="refuse")
        assert diary.count("life pauses hold") == 1
        assert app.snapshot().services[0].pause_mode == "hold"


# -- from every state --------------------------------------------------------------------------------------------------


@virtual
async def test_pausing_before_the_start() -> None:
    """STARTING leads to PAUSED: on_pause is called in the service's own task before it is ready."""
    diary: list[str] = []
    tasks: list[str] = []

    class Telling(Pausable):
        async def on_pause(self) -> None:
            assert self._starts_paused
            tasks.append(asyncio.current_task().get_name())  # type: ignore[union-attr]
            await super().on_pause()

    app = Application("shop")
    life = app.add(Telling(diary), name="life")
    web = app.add(Life(diary), name="web", needs=["life"])
    await life.pause(mode="refuse")
    told = Told(app)
    async with serving(app):
        assert diary == ["life starts", "life pauses refuse", "life runs", "web starts", "web runs"]
        assert tasks == ["life"]
        assert told.moves("life") == ["starting", "paused"]
        assert web.state is State.RUNNING  # a need that is paused is met
        await life.resume()
        assert life.state is State.RUNNING


@virtual
async def test_pausing_while_it_starts() -> None:
    """It goes to PAUSED without having been RUNNING; the caller waits for that."""
    app = Application("shop")
    life = app.add(Pausable(starts=5.0), name="life")
    told = Told(app)
    serving_ = asyncio.create_task(app.serve())
    await advance(1)
    pausing = asyncio.create_task(life.pause())
    await advance(3)
    assert not pausing.done()
    assert await pausing == ()
    assert told.moves("life") == ["starting", "paused"]
    await app.stop()
    await serving_


@virtual
async def test_pausing_a_worker_while_it_starts() -> None:
    """It is paused in the moment in which its run first asks."""

    class Slow(Worker):
        async def on_start(self) -> None:
            await asyncio.sleep(5.0)

    app = Application("shop")
    worker = app.add(Slow(), name="worker")
    serving_ = asyncio.create_task(app.serve())
    await advance(1)
    await worker.pause()
    assert worker.state is State.PAUSED
    await advance(10)
    assert worker.done == 0
    await app.stop()
    await serving_


@virtual
async def test_pausing_while_it_starts_one_that_cannot() -> None:
    """That is known when it is ready: the caller is told, and the intent is up again."""
    app = Application("shop")
    life = app.add(Life(starts=5.0), name="life")
    serving_ = asyncio.create_task(app.serve())
    await advance(1)
    with pytest.raises(CannotPause):
        await life.pause()
    assert (life.state, life.intent) == (State.RUNNING, Intent.UP)
    await app.stop()
    await serving_


@virtual
async def test_pausing_one_that_waits_in_backoff_or_is_failing() -> None:
    """The call returns when it is at rest, and it comes back paused."""
    app = Application("shop")
    waiting = app.add(Pausable(), name="waiting")
    failing = app.add(Pausable(stops=5.0), name="failing")
    told = Told(app)
    async with serving(app):
        waiting.fail()
        failing.fail()
        await settle()
        await waiting.pause()
        assert waiting.state is State.BACKOFF
        await failing.pause()
        assert failing.state is State.BACKOFF
        assert asyncio.get_running_loop().time() == 5.0
        await advance(3)
        assert states(app) == {"waiting": "paused", "failing": "paused"}
        assert told.moves("waiting")[-2:] == ["starting", "paused"]


@virtual
async def test_pausing_one_that_is_down_is_refused() -> None:
    """Also while it stops."""
    app = Application("shop")
    life = app.add(Pausable(stops=5.0), name="life")
    app.add(Life(), name="other")
    async with serving(app):
        stopping = asyncio.create_task(life.stop())
        await settle()
        with pytest.raises(LifecycleError, match="is down, so there is nothing to pause; start it first"):
            await life.pause()
        await stopping
        with pytest.raises(LifecycleError, match="is down"):
            await life.pause()
        assert life.intent is Intent.DOWN


@virtual
async def test_pausing_one_that_is_restarted_brings_it_back_paused() -> None:
    """Whenever it was said."""
    app = Application("shop")
    life = app.add(Pausable(starts=2.0, stops=2.0), name="life")
    async with serving(app):
        await advance(2)
        restarting = asyncio.create_task(life.restart())
        await advance(1)
        await life.pause()
        await restarting
        assert (life.state, life.incarnation) == (State.PAUSED, 2)


@virtual
async def test_a_restart_of_a_paused_one_brings_it_back_paused() -> None:
    """By an operator, by its own failure, again and again."""
    app = Application("shop")
    life = app.add(Pausable(), name="life")
    worker = app.add(Worker(), name="worker")
    async with serving(app):
        await life.pause()
        await worker.pause()
        await life.restart()
        await worker.restart()
        assert states(app) == {"life": "paused", "worker": "paused"}
        life.fail()
        worker.spawn(_raise(Boom("worker")))
        await settle()
        assert states(app) == {"life": "backoff", "worker": "backoff"}
        await advance(1)
        assert states(app) == {"life": "paused", "worker": "paused"}
        assert (life.incarnation, life.intent) == (3, Intent.PAUSED)
        await advance(10)
        assert worker.done == 0


async def _raise(error: Exception) -> None:
    raise error


@virtual
async def test_a_start_of_a_paused_one_leaves_it_paused() -> None:
    """It has started; to take work it is resumed. What was stopped comes up unpaused."""
    app = Application("shop")
    life = app.add(Pausable(), name="life")
    app.add(Life(), name="other")
    async with serving(app):
        await life.pause()
        await life.start()
        assert (life.state, life.intent) == (State.PAUSED, Intent.PAUSED)
        await life.stop()
        assert life.intent is Intent.DOWN
        await life.start()
        assert (life.state, life.intent) == (State.RUNNING, Intent.UP)


@virtual
async def test_resuming_what_is_at_rest_forgets_the_intent() -> None:
    """It comes up unpaused."""
    app = Application("shop")
    life = app.add(Pausable(), name="life")
    async with serving(app):
        await life.pause()
        life.fail()
        await settle()
        await life.resume()
        assert (life.state, life.intent) == (State.BACKOFF, Intent.UP)
        await advance(1)
        assert life.state is State.RUNNING


@virtual
async def test_resuming_while_it_starts_paused() -> None:
    """It is resumed as soon as it has been paused."""
    app = Application("shop")
    life = app.add(Pausable(starts=5.0), name="life")
    await life.pause()
    serving_ = asyncio.create_task(app.serve())
    await advance(1)
    await life.resume()
    assert life.state is State.RUNNING
    await app.stop()
    await serving_


@virtual
async def test_resuming_what_runs_is_nothing() -> None:
    """No hook is called."""
    diary: list[str] = []
    app = Application("shop")
    life = app.add(Pausable(diary), name="life")
    async with serving(app):
        await life.resume()
        assert diary == ["life starts", "life runs"]


# -- stopping it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.PAUSING, State.PAUSED, State.RESUMING])
@virtual
async def test_stopping_it_from_each_of_these_states_is_quiet(state: State) -> None:
    """The hook under way is cancelled, on_stop is called, and whoever waited for the pause is not told of a failure."""
    diary: list[str] = []
    app = Application("shop")
    life = app.add(Pausable(diary), name="life")
    worker = app.add(Worker(), name="worker")
    async with serving(app):
        await worker.pause()
        life.pauses = 5.0 if state is State.PAUSING else 0.0
        life.resumes = 5.0
        calls = [asyncio.create_task(life.pause())]
        await settle()
        if state is State.RESUMING:
            calls.append(asyncio.create_task(life.resume()))
            await settle()
        assert life.state is state
        await life.stop()
        await worker.stop()
        assert asyncio.get_running_loop().time() == 0.0
        assert states(app) == {"life": "stopped", "worker": "stopped"}
        assert diary[-2:] == ["life stops", "life stopped"]
        await asyncio.gather(*calls)
        assert life.intent is Intent.DOWN


@virtual
async def test_a_run_that_waits_to_be_resumed_is_given_no_time_to_return() -> None:
    """It does not see that a stop was requested; one that works does."""

    class Heeding(Worker):
        async def run(self) -> None:
            while not self.stopping:
                await self.unpaused()
                await asyncio.sleep(1.0)
                self.done += 1

    app = Application("shop")
    paused, busy = app.add(Heeding(), name="paused"), app.add(Heeding(), name="busy")
    async with serving(app):
        await paused.pause()
        await advance(2.5)
        await asyncio.gather(paused.stop(), busy.stop())
        assert (paused.done, busy.done) == (1, 3)
        assert asyncio.get_running_loop().time() == 3.0


# -- when it goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["pauses", "resumes"])
@pytest.mark.parametrize("how", ["raises", "takes too long", "exits", "is cancelled"])
@virtual
async def test_a_hook_that_fails_fails_the_incarnation(hook: str, how: str) -> None:
    """Who asked is told; the service is restarted as after any failure, and comes back as it is wanted."""
    app = Application("shop")
    life = app.add(Pausable(), name="life", pause_timeout=3)
    told = Told(app)
    async with serving(app):
        if hook == "resumes":
            await life.pause()
        setattr(life, hook, Boom("hook") if how == "raises" else 100.0)
        if how == "exits":
            setattr(life, hook, _Exit())
        asked = asyncio.create_task(life.pause() if hook == "pauses" else life.resume())
        await settle()
        if how == "is cancelled":
            (task,) = [task for task in asyncio.all_tasks() if task.get_name().startswith("life on_")]
            task.cancel()
        await asyncio.wait([asked])
        error = asked.exception()
        assert isinstance(error, PauseFailed)
        (cause,) = error.exceptions
        if how == "takes too long":
            assert isinstance(cause, PauseTimeout)
            assert "on_pause of service 'life' was not done after 3 s" in str(cause) or "on_resume" in str(cause)
            assert asyncio.get_running_loop().time() == 3.0
        setattr(life, hook, 0.0)
        assert told.of(events.RestartScheduled)[-1].failures == 1
        await advance(2)
        assert life.incarnation == 2
        assert life.state is (State.PAUSED if hook == "pauses" else State.RUNNING)


class _Exit(float):
    """Raises SystemExit when it is slept."""

    def __le__(self, other: object) -> bool:
        raise SystemExit(3)


@virtual
async def test_a_hook_that_fails_while_it_starts_fails_the_start() -> None:
    """Under start_timeout then, as all of a start."""
    app = Application("shop")
    life = app.add(Pausable(), name="life")
    life.pauses = Boom("hook")
    await life.pause()
    with pytest.raises(StartFailed, match="service 'life': Boom: hook"):
        await app.serve()
    app = Application("shop")
    life = app.add(Pausable(), name="life", start_timeout=2, pause_timeout=100)
    life.pauses = 50.0
    await life.pause()
    with pytest.raises(StartFailed, match="was not ready after 2 s"):
        await app.serve()


@virtual
async def test_a_hook_that_ignores_its_cancellation_is_left_behind_and_named() -> None:
    """The incarnation ends within its deadlines all the same."""

    class Stubborn(Pausable):
        async def on_pause(self) -> None:
            end = asyncio.get_running_loop().time() + 30
            while asyncio.get_running_loop().time() < end:
                try:
                    await asyncio.sleep(30)
                except asyncio.CancelledError:
                    continue

    app = Application("shop")
    life = app.add(Stubborn(), name="life", pause_timeout=1, stop_timeout=2)
    told = Told(app)
    async with serving(app):
        with pytest.raises(PauseFailed):
            await life.pause()
        assert asyncio.get_running_loop().time() < 4
        assert "life on_pause" in told.of(events.ServiceStuck)[0].what
        await life.stop()
        await advance(100)


# -- several at once ---------------------------------------------------------------------------------------------------


@virtual
async def test_who_asks_for_the_same_joins() -> None:
    """The hook is called once."""
    diary: list[str] = []
    app = Application("shop")
    life = app.add(Pausable(diary), name="life")
    async with serving(app):
        life.pauses = 2.0
        await asyncio.gather(life.pause(), life.pause(), life.pause())
        assert diary.count("life pauses") == 1
        await asyncio.gather(life.resume(), life.resume())
        assert diary.count("life resumes") == 1


@pytest.mark.parametrize("commands", ["pr", "rp", "prp", "pprr", "prprp", "prpr"])
@virtual
async def test_of_several_the_last_counts(commands: str) -> None:
    """Whatever is under way when they come; each caller returns."""
    app = Application("shop")
    life = app.add(Pausable(), name="life")
    worker = app.add(Worker(), name="worker")
    async with serving(app):
        life.pauses = life.resumes = 2.0
        calls: list[asyncio.Task[object]] = []
        for service in (life, worker):
            for command in commands:
                verb: Callable[[], object] = service.pause if command == "p" else service.resume
                calls.append(asyncio.create_task(verb()))  # type: ignore[arg-type]
        await asyncio.gather(*calls)
        wanted = "paused" if commands[-1] == "p" else "running"
        assert states(app) == {"life": wanted, "worker": wanted}


@virtual
async def test_a_group_is_not_needed_to_pause() -> None:
    """What a service needs, and what needs it, keep running; those that need it are degraded."""
    app = Application("shop")
    db = app.add(Pausable(), name="db")
    api = app.add(Pausable(), name="api", needs=["db"])
    web = app.add(Pausable(), name="web", needs=["api"])
    group = app.add(Group(), name="group")
    group.add(Pausable(), name="inner", needs=["/api"])
    async with serving(app):
        await api.pause()
        assert states(app) == {"db": "running", "api": "paused", "web": "running", "group/inner": "running"}
        assert str(web.health) == "degraded: api is paused"
        assert str(app["group/inner"].health) == "degraded: api is paused"
        assert str(db.health) == "ready"
        assert str(api.health) == "unready: paused"
        assert str(group.health) == "degraded: inner: api is paused"
        assert str(app.health).startswith("degraded: api: paused; web: api is paused; group: ")
        await api.resume()
        assert {str(service.health) for service in (app, db, api, web, group)} == {"ready"}
