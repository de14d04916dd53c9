"""Failures while an application starts: all or nothing, but for what can be parked."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from lives import Boom, Life, Still, Told, advance, serving, settle, states, virtual
from plait import Application, Group, State, events
from plait.errors import LifecycleError, StartFailed


@pytest.fixture(autouse=True)
def _same_dice() -> None:
    random.seed(4)


@pytest.mark.parametrize("restart", ["always", "on_failure", "never"])
@virtual
async def test_a_first_start_that_fails_is_rolled_back_whatever_restart_says(restart: str) -> None:
    """What had started stops in reverse, nothing is tried again, and the cause leaves."""
    diary: list[str] = []
    app = Application("shop")
    app.add(Life(diary), name="db", restart=restart)
    app.add(Life(diary), name="cache", needs=["db"], restart=restart)
    app.add(Life(diary), name="web", needs=["cache"], restart=restart).refuses = Boom("no port")
    told = Told(app)
    with pytest.raises(StartFailed, match="service 'web': Boom: no port; stopped again: 'db', 'cache'"):
        await app.serve()
    assert diary[-4:] == ["cache stops", "cache stopped", "db stops", "db stopped"]
    assert states(app) == {"db": "stopped", "cache": "stopped", "web": "failed"}
    assert not told.of(events.RestartScheduled)
    assert app.state is State.FAILED


@virtual
async def test_one_that_fails_when_it_was_ready_already_fails_the_start_as_well() -> None:
    """The application has not started before all of it has."""
    app = Application("shop")
    db = app.add(Life(), name="db")
    app.add(Life(starts=5.0), name="slow")
    serving_ = asyncio.create_task(app.serve())
    await advance(1)
    db.fail()
    with pytest.raises(StartFailed, match="service 'db': Boom: db"):
        await serving_
    assert states(app) == {"db": "failed", "slow": "stopped"}


@virtual
async def test_a_parkable_service_holds_up_nothing_and_goes_to_backoff() -> None:
    """Nor do its dependents, which start when it is there; all others are up at once."""
    app = Application("shop")
    app.add(Life(), name="db")
    extra = app.add(Life(), name="extra", needs=["db"], on_exhausted="park")
    app.add(Life(), name="feed", needs=["extra"])
    app.add(Life(), name="page", needs=["feed"])
    extra.refuses = Boom("no licence")
    told = Told(app)
    async with serving(app):
        assert app.state is State.RUNNING
        assert states(app) == {"db": "running", "extra": "backoff", "feed": "new", "page": "new"}
        assert [(event.path, event.reason) for event in told.of(events.NotStarted)] == [
            ("feed", "it needs service 'extra', which is in backoff"),
            ("page", "it needs service 'feed', which is not started"),
        ]
        assert str(app.health) == (
            "degraded: extra: waits to be started again after Boom; feed: not started; page: not started"
        )
        await advance(20)
        assert extra.incarnation > 3
        extra.refuses = None
        await advance(30)
        assert set(states(app).values()) == {"running"}


@virtual
async def test_who_waits_for_the_start_of_one_that_is_left_out_is_told_why() -> None:
    """Of the one that failed its error, of what needs it that this is away; both come up all the same."""
    app = Application("shop")
    extra = app.add(Life(starts=1.0), name="extra", on_exhausted="park")
    feed = app.add(Life(), name="feed", needs=["extra"])
    app.add(Life(starts=3.0), name="slow")
    extra.refuses = Boom("no licence")
    starting = [asyncio.create_task(one.start()) for one in (app, extra, feed)]
    await asyncio.wait(starting)
    assert starting[0].exception() is None
    assert isinstance(starting[1].exception(), StartFailed)
    assert isinstance(starting[2].exception(), LifecycleError)
    assert "feed' needs service 'extra', which is" in str(starting[2].exception())
    extra.starts, extra.refuses = 0.0, None
    await advance(10)
    assert set(states(app).values()) == {"running"}
    await app.stop()


@virtual
async def test_a_parkable_service_that_never_comes_up_is_parked() -> None:
    """After sixteen starts; the application and its health go on without it."""
    app = Application("shop")
    extra = app.add(Life(), name="extra", on_exhausted="park")
    feed = app.add(Life(), name="feed", needs=["extra"])
    app.add(Still(), name="other")
    extra.refuses = Boom("no licence")
    told = Told(app)
    async with serving(app):
        await advance(10_000)
        assert (extra.state, extra.incarnation, feed.state) == (State.FAILED, 16, State.NEW)
        assert len(told.of(events.Parked)) == 1
        assert str(app.health) == "degraded: extra: parked after Boom; feed: not started"
        extra.refuses = None
        await extra.start()
        await settle()
        assert set(states(app).values()) == {"running"}


@virtual
async def test_a_parkable_service_that_fails_after_it_was_ready_is_restarted_while_others_start() -> None:
    """Its group is not taken for ready because of it."""
    app = Application("shop")
    extra = app.add(Life(), name="extra", on_exhausted="park")
    app.add(Life(starts=5.0), name="slow")
    app.add(Life(starts=8.0), name="slower")
    starting = asyncio.create_task(app.start())
    await advance(1)
    extra.fail()
    await settle()
    assert extra.state is State.BACKOFF
    assert app.state is State.STARTING
    await advance(1)
    assert extra.state is State.RUNNING
    assert app.state is State.STARTING
    await advance(5)
    assert app.state is State.STARTING
    await starting
    assert set(states(app).values()) == {"running"}
    await app.stop()


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@virtual
async def test_a_parkable_service_that_does_not_start_takes_nobody_along(strategy: Any) -> None:
    """Nobody relied on it yet."""
    app = Application("shop", strategy=strategy)
    extra = app.add(Life(), name="extra", on_exhausted="park")
    other = app.add(Life(starts=2.0), name="other")
    extra.refuses = Boom("no licence")
    starting = asyncio.create_task(app.start())
    await advance(3)
    assert starting.done()
    assert (other.state, other.incarnation) == (State.RUNNING, 1)
    await starting
    await app.stop()


@virtual
async def test_a_parkable_group_is_left_out_whole() -> None:
    """One of its services cannot start: the others of it stop again, and it is tried again as a group."""
    diary: list[str] = []
    app = Application("shop")
    extra = app.add(Group(), name="extra", on_exhausted="park")
    extra.add(Life(diary), name="first")
    second = extra.add(Life(diary), name="second", needs=["first"])
    web = app.add(Life(diary), name="web", needs=["extra"])
    second.refuses = Boom("no licence")
    told = Told(app)
    async with serving(app):
        assert app.state is State.RUNNING
        assert (extra.state, web.state) == (State.BACKOFF, State.NEW)
        assert diary == ["first starts", "first runs", "second starts", "first stops", "first stopped"]
        assert told.of(events.RestartScheduled)[0].path == "extra"
        second.refuses = None
        await advance(1)
        assert set(states(app).values()) == {"running"}


@virtual
async def test_a_stop_while_a_parkable_group_is_rolled_back() -> None:
    """Nothing is scheduled any more."""
    app = Application("shop")
    extra = app.add(Group(), name="extra", on_exhausted="park")
    extra.add(Life(stops=5.0), name="first")
    extra.add(Life(), name="second", needs=["first"]).refuses = Boom("no licence")
    app.add(Life(), name="other")
    async with serving(app) as task:
        assert app["extra/first"].state is State.STOPPING
        await app.stop()
        await task
    assert extra.state is State.FAILED
    engine = app._root_engine
    assert len(engine.deadlines) == 0
    assert not engine.operations


@virtual
async def test_two_parkable_services_that_fail_while_the_application_starts() -> None:
    """Each by itself."""
    app = Application("shop")
    lives = [app.add(Life(), name=name, on_exhausted="park") for name in ("one", "two")]
    for life in lives:
        life.refuses = Boom("no licence")
    async with serving(app) as task:
        assert app.state is State.RUNNING
        assert states(app) == {"one": "backoff", "two": "backoff"}
        assert not task.done()
        assert str(app.health).startswith("unready")


@virtual
async def test_a_need_inside_a_group_whose_other_part_is_parkable() -> None:
    """What needs the part that is up starts; what needs the group waits for all of it."""
    app = Application("shop")
    back = app.add(Group(), name="back")
    back.add(Life(), name="db")
    extra = back.add(Life(), name="extra", on_exhausted="park")
    extra.refuses = Boom("no licence")
    app.add(Life(), name="part", needs=["/back/db"])
    app.add(Life(), name="whole", needs=["back"])
    async with serving(app):
        assert states(app) == {"back/db": "running", "back/extra": "backoff", "part": "running", "whole": "new"}
        extra.refuses = None
        await advance(1)
        assert set(states(app).values()) == {"running"}


@virtual
async def test_a_group_whose_own_task_fails_while_it_starts_fails_the_start() -> None:
    """The error is its own."""

    class Hooked(Group):
        async def on_start(self) -> None:
            self.spawn(fail_in(1.0))

    async def fail_in(seconds: float) -> None:
        await asyncio.sleep(seconds)
        raise Boom("own")

    app = Application("shop")
    app.add(Life(), name="db")
    app.add(Hooked(), name="group").add(Life(starts=5.0), name="slow")
    with pytest.raises(StartFailed, match="group 'group': Boom: own"):
        await app.serve()
    assert states(app) == {"db": "stopped", "group/slow": "stopped"}

    app = Application("shop")
    app.add(Life(), name="db")
    group = app.add(Hooked(), name="group", on_exhausted="park")
    group.add(Life(starts=5.0), name="slow")
    async with serving(app):
        await advance(1.1)
        assert (app.state, group.state) == (State.RUNNING, State.BACKOFF)


@virtual
async def test_an_application_whose_own_task_fails_while_it_starts_has_not_started() -> None:
    """As any start that fails."""

    class Hooked(Application):
        async def on_start(self) -> None:
            self.spawn(fail_in(1.0))

    async def fail_in(seconds: float) -> None:
        await asyncio.sleep(seconds)
        raise Boom("own")

    app = Hooked("shop")
    app.add(Life(starts=5.0), name="slow")
    with pytest.raises(StartFailed, match="application 'shop': Boom: own"):
        await app.serve()
    assert states(app) == {"slow": "stopped"}
    assert app.state is State.FAILED


@virtual
async def test_what_is_down_by_intent_is_not_started_and_nobody_waits_for_it() -> None:
    """What needs it stays new, is reported, and starts when an operator brings it up."""
    app = Application("shop")
    db = app.add(Life(), name="db")
    app.add(Life(), name="web", needs=["db"])
    app.add(Life(), name="page", needs=["web"])
    app.add(Life(), name="other")
    await db.stop()
    told = Told(app)
    async with serving(app):
        assert app.state is State.RUNNING
        assert states(app) == {"db": "new", "web": "new", "page": "new", "other": "running"}
        assert [event.reason for event in told.of(events.NotStarted)] == [
            "it needs service 'db', which is down",
            "it needs service 'web', which is not started",
        ]
        await db.start()
        await settle()
        assert set(states(app).values()) == {"running"}


@virtual
async def test_an_application_that_is_started_twice_counts_from_the_beginning() -> None:
    """What an operator starts has no past."""
    app = Application("shop")
    life = app.add(Life(), name="life")
    for _ in range(2):
        async with app:
            await settle()
            told = Told(app)
            life.fail()
            await settle()
            assert told.of(events.RestartScheduled)[-1].failures == 1
            await advance(1)
            assert life.state is State.RUNNING
            told.unsubscribe()
