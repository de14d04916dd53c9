"""When an application ends by itself, and how."""

from __future__ import annotations

import asyncio
import random

import pytest

from lives import Boom, Life, Still, Told, advance, serving, settle, states, virtual
from plait import Application, Group, Service, State
from plait.errors import ApplicationFailed


@pytest.fixture(autouse=True)
def _same_dice() -> None:
    random.seed(4)


@virtual
async def test_it_ends_when_every_run_has_returned() -> None:
    """Cleanly, and not before the last."""
    app = Application("jobs")
    first, last = app.add(Life(), name="first"), app.add(Life(), name="last")
    async with serving(app) as task:
        first.finish()
        await advance(100)
        assert not task.done()
        last.finish()
        await settle()
        assert task.done()
        await task


@virtual
async def test_it_ends_as_failed_if_one_stays_failed() -> None:
    """With the first that did as the cause, and all of them in the group."""
    app = Application("jobs")
    lives = [app.add(Life(), name=name, restart="never") for name in ("one", "two", "three")]
    async with serving(app) as task:
        lives[1].fail()
        await advance(1)
        lives[2].finish()
        lives[0].fail()
        await settle()
        with pytest.raises(ApplicationFailed, match="application 'jobs' failed: service 'two': Boom: two") as caught:
            await task
    assert [str(error) for error in caught.value.exceptions] == ["two", "one"]
    assert app.state is State.FAILED


@virtual
async def test_a_service_without_run_keeps_it_alive_while_it_is_there() -> None:
    """Also while it is restarted; not once it has failed for good, nor once it is removed."""
    app = Application("jobs")
    job = app.add(Life(), name="job")
    server = app.add(Still(), name="server", restart="never")
    async with serving(app) as task:
        job.finish()
        await advance(100)
        assert not task.done()
        server.fail()
        await settle()
        with pytest.raises(ApplicationFailed, match="service 'server': Boom"):
            await task

    app = Application("jobs")
    job = app.add(Life(), name="job")
    app.add(Still(), name="server")
    async with serving(app) as task:
        job.finish()
        await settle()
        await app.remove("server")
        await settle()
        assert task.done()
        await task


@virtual
async def test_one_that_will_be_started_again_keeps_it_alive() -> None:
    """In BACKOFF after a failure, or after a return under always."""
    app = Application("jobs")
    life = app.add(Life(), name="life")
    job = app.add(Life(), name="job", restart="always")
    async with serving(app) as task:
        life.fail()
        job.finish()
        await settle()
        assert states(app) == {"life": "backoff", "job": "backoff"}
        await advance(1)
        assert states(app) == {"life": "running", "job": "running"}
        assert not task.done()


@pytest.mark.parametrize(
    "what", ["down", "paused", "paused when it had finished", "parked", "group down", "group paused"]
)
@virtual
async def test_what_an_operator_may_bring_back_keeps_it_alive(what: str) -> None:
    """Down or paused by intent, or parked: until he has."""
    app = Application("jobs")
    job = app.add(Life(), name="job")
    group = app.add(Group(), name="group")
    other = group.add(Asking(), name="other", on_exhausted="park")
    async with serving(app) as task:
        job.finish()
        await settle()
        if what == "down":
            await other.stop()
        elif what == "group down":
            await group.stop()
        elif what == "parked":
            other.refuses = Boom("no disk")
            other.fail()
        else:
            target = group if what == "group paused" else other
            if what != "paused when it had finished":
                await target.pause()
            other.finish()
            if what == "paused when it had finished":
                await target.pause()
        await advance(10_000)
        assert not task.done()
        if what == "parked":
            assert app.snapshot().services[1].services[0].is_parked
            other.refuses = None
        await (group if what == "group down" else other).start()
        if "paused" in what:
            await (group if what == "group paused" else other).resume()
        await settle()
        if other.state is State.RUNNING:
            other.finish()
        await settle()
        assert task.done()
        await task


class Asking(Life):
    """A Life that can be paused."""

    async def on_pause(self) -> None: ...

    async def on_resume(self) -> None: ...


@virtual
async def test_one_that_is_new_keeps_it_alive() -> None:
    """Somebody added it to start it."""
    app = Application("jobs")
    job = app.add(Life(), name="job")
    async with serving(app) as task:
        late = app.add(Life(), name="late")
        job.finish()
        await advance(100)
        assert not task.done()
        await late.start()
        await settle()
        late.finish()
        await settle()
        assert task.done()


@virtual
async def test_a_start_under_way_keeps_it_alive_and_its_end_is_looked_at() -> None:
    """A job that ends while an operator's start is under way; that start then fails."""
    app = Application("jobs")
    job = app.add(Life(), name="job")
    async with serving(app) as task:
        late = app.add(Life(starts=5.0), name="late")
        late.refuses = Boom("no disk")
        starting = asyncio.create_task(late.start())
        await advance(1)
        job.finish()
        await advance(1)
        assert not task.done()
        await asyncio.wait([starting])
        assert starting.exception() is not None
        await settle()
        with pytest.raises(ApplicationFailed, match="service 'late': Boom: no disk"):
            await task


@virtual
async def test_one_that_waits_for_what_has_failed_for_good_does_not_keep_it_alive() -> None:
    """Nobody will bring that back; so do those that wait for the waiting, in groups as well."""
    app = Application("jobs")
    db = app.add(Life(), name="db", restart="never")
    web = app.add(Life(), name="web", needs=["db"])
    inner = app.add(Group(), name="group").add(Life(), name="inner", needs=["/web"])
    async with serving(app) as task:
        db.fail()
        await settle()
        web.fail()
        await settle()
        assert not task.done()
        inner.fail()
        await settle()
        with pytest.raises(ApplicationFailed, match="service 'db': Boom: db"):
            await task


@virtual
async def test_one_that_waits_for_what_will_come_back_keeps_it_alive() -> None:
    """Down by intent, parked, or in BACKOFF."""
    app = Application("jobs")
    db = app.add(Life(), name="db", on_exhausted="park")
    web = app.add(Life(), name="web", needs=["db"])
    async with serving(app) as task:
        db.refuses = Boom("no disk")
        db.fail()
        await settle()
        web.fail()
        await advance(10_000)
        assert states(app) == {"db": "failed", "web": "backoff"}
        assert not task.done()


@virtual
async def test_a_group_that_failed_for_good_has_ended_with_all_in_it() -> None:
    """Its services were stopped, and will not come back."""
    app = Application("jobs")
    group = app.add(Group(), name="group", restart="never")
    life = group.add(Life(), name="life", restart="never", significant=True)
    group.add(Still(), name="still")
    other = app.add(Life(), name="other")
    async with serving(app) as task:
        life.fail()
        await advance(100)
        assert group.state is State.FAILED
        assert not task.done()
        other.finish()
        await settle()
        with pytest.raises(ApplicationFailed, match="service 'group/life': Boom: life") as caught:
            await task
    assert [str(error) for error in caught.value.exceptions] == ["life"]


@virtual
async def test_never_that_a_strategy_stopped_does_not_keep_it_alive() -> None:
    """It will not be started again."""
    app = Application("jobs", strategy="one_for_all")
    life = app.add(Life(), name="life")
    never = app.add(Life(), name="never", restart="never")
    async with serving(app) as task:
        life.fail()
        await advance(1)
        assert never.state is State.STOPPED
        life.finish()
        await settle()
        assert task.done()
        await task


@virtual
async def test_around_a_body_it_ends_with_the_body() -> None:
    """However many of its services have ended."""
    app = Application("jobs")
    job = app.add(Life(), name="job")
    async with app:
        await settle()
        job.finish()
        await advance(100)
        assert app.state is State.RUNNING


@virtual
async def test_readiness_is_not_held_back_for_shutdown_when_nothing_is_left() -> None:
    """shutdown_delay is for those who still accept."""
    app = Application("jobs", shutdown_delay=30)
    job = app.add(Life(), name="job")
    told = Told(app)
    async with serving(app) as task:
        job.finish()
        await settle()
        assert task.done()
    assert told.when("/", State.STOPPED) == [0.0]


@virtual
async def test_a_failed_stop_of_the_rest_is_in_the_group_after_the_cause() -> None:
    """Root cause first."""

    class Bad(Service):
        async def on_stop(self) -> None:
            raise Boom("bad end")

    app = Application("jobs")
    app.add(Bad(), name="bad")
    job = app.add(Life(), name="job", restart="never", significant=True)
    async with serving(app) as task:
        job.fail()
        await settle()
        with pytest.raises(ApplicationFailed) as caught:
            await task
    assert [str(error) for error in caught.value.exceptions] == ["job", "bad end"]
