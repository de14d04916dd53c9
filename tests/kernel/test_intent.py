"""What the operator wants: an axis of its own, that outlives incarnations."""

from __future__ import annotations

import random

import pytest

from lives import Boom, Life, Pausable, Told, advance, serving, settle, states, virtual
from plait import Application, Group, Intent, State, events
from plait.errors import LifecycleError, StartFailed


@pytest.fixture(autouse=True)
def _same_dice() -> None:
    random.seed(4)


def wishes(app: Application) -> dict[str, str]:
    """The intent of each, by path, as the snapshot has it."""
    return {one.path: one.intent.value for one in app.snapshot().walk()}


@virtual
async def test_each_command_changes_the_intent_of_its_target_alone() -> None:
    """Not of what is in it, or needs it; the event tells from what to what, and only where it is another."""
    app = Application("shop")
    group = app.add(Group(), name="group")
    life = group.add(Pausable(), name="life")
    app.add(Pausable(), name="web", needs=["group"])
    told = Told(app)
    async with serving(app):
        assert set(wishes(app).values()) == {"up"}
        await group.pause()
        assert wishes(app) == {"/": "up", "group": "paused", "group/life": "up", "web": "up"}
        await group.pause()
        await life.stop()
        await life.stop()
        assert wishes(app) == {"/": "up", "group": "paused", "group/life": "down", "web": "up"}
        await life.start()
        await group.resume()
        await group.stop()
        await group.start()
        await group.restart()
        assert set(wishes(app).values()) == {"up"}
    changes = [(event.path, event.old.value, event.new.value) for event in told.of(events.IntentChanged)]
    assert changes == [
        ("group", "up", "paused"), ("group/life", "up", "down"), ("group/life", "down", "up"),
        ("group", "paused", "up"), ("group", "up", "down"), ("group", "down", "up"),
    ]  # fmt: skip


@virtual
async def test_nothing_that_happens_by_itself_changes_it() -> None:
    """Failures, restarts, strategies, the end of a run, parking, a group that gives up."""
    app = Application("shop")
    group = app.add(Group(strategy="one_for_all"), name="group")
    life = group.add(Life(), name="life")
    group.add(Pausable(), name="held")
    job = group.add(Life(), name="job")
    parked = app.add(Life(), name="parked", on_exhausted="park")
    told = Told(app)
    async with serving(app):
        await group["held"].pause()
        before = wishes(app)
        job.finish()
        parked.refuses = Boom("no disk")
        parked.fail()
        life.fail()
        await advance(10_000)
        group.spawn(_raise(Boom("own")))
        await advance(10)
        assert wishes(app) == before
        assert group["held"].state is State.PAUSED
        assert parked.state is State.FAILED
    assert len(told.of(events.IntentChanged)) == 1


async def _raise(error: Exception) -> None:
    raise error


@virtual
async def test_it_outlives_the_application_running() -> None:
    """What was stopped or paused is so the next time."""
    app = Application("shop")
    app.add(Pausable(), name="down")
    app.add(Pausable(), name="held")
    app.add(Life(), name="up")
    async with app:
        await app["down"].stop()
        await app["held"].pause(mode="refuse")
    for _ in range(2):
        async with app:
            assert states(app) == {"down": "stopped", "held": "paused", "up": "running"}
            assert app.snapshot().services[1].pause_mode == "refuse"


@virtual
async def test_what_is_wanted_down_is_not_restarted_by_anybody() -> None:
    """Not by its group's restart, its application's, a strategy, or a need that is back."""
    app = Application("shop")
    group = app.add(Group(strategy="one_for_all"), name="group")
    down = group.add(Life(), name="down")
    life = group.add(Life(), name="life")
    async with serving(app):
        await down.stop()
        life.fail()
        await advance(2)
        await group.restart()
        await group.stop()
        await group.start()
        await settle()
        assert states(app) == {"group/down": "stopped", "group/life": "running"}
        assert down.incarnation == 1


@virtual
async def test_a_stop_while_it_fails_keeps_it_down() -> None:
    """It is not taken for a failure to be restarted."""
    app = Application("shop")
    life = app.add(Life(stops=5.0), name="life")
    app.add(Life(), name="other")
    told = Told(app)
    async with serving(app):
        life.fail()
        await advance(1)
        assert life.state is State.STOPPING
        await life.stop()
        await advance(100)
        assert (life.state, life.incarnation) == (State.FAILED, 1)
        assert not told.of(events.RestartScheduled)


@virtual
async def test_a_start_that_is_refused_or_fails() -> None:
    """Refused: the intent is as it was. Failed: the operator wants it up."""
    app = Application("shop")
    db = app.add(Life(), name="db")
    web = app.add(Life(), name="web", needs=["db"])
    app.add(Life(), name="other")
    async with serving(app):
        await web.stop()
        await db.stop()
        with pytest.raises(LifecycleError):
            await web.start()
        assert web.intent is Intent.DOWN
        db.refuses = Boom("no disk")
        with pytest.raises(StartFailed):
            await db.start()
        assert db.intent is Intent.UP


@virtual
async def test_a_removal_is_no_wish() -> None:
    """No event says that it shall be down; it is gone."""
    app = Application("shop")
    app.add(Life(), name="life")
    app.add(Life(), name="other")
    told = Told(app)
    async with serving(app):
        await app.remove("life")
    assert not told.of(events.IntentChanged)
    assert [event.path for event in told.of(events.ServiceRemoved)] == ["life"]
