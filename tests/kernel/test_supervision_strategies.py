"""Who is stopped and started again with a service that failed, and in which order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lives import Boom, Life, Still, Told, advance, serving, settle, states, virtual
from plait import Application, Group, State, events
from plait._kernel.backoff import Care
from plait.errors import ApplicationFailed, DoNotRestart, Escalate, LifecycleError, StartFailed, StartInterrupted

STRATEGIES = ["one_for_one", "rest_for_one", "one_for_all"]


@pytest.fixture(autouse=True)
def _same_dice() -> None:
    random.seed(4)


class Shop:
    """db ← api ← web, and `alone`, in a group; `outside` needs api from elsewhere, `top` needs outside."""

    def __init__(self, strategy: Any, **stops: float) -> None:
        self.diary: list[str] = []
        self.app = Application("shop")
        self.group = self.app.add(Group(strategy=strategy), name="g")
        self.lives: dict[str, Life] = {}
        for name, needs in {"db": [], "api": ["db"], "web": ["api"], "alone": []}.items():
            self.lives[name] = self.group.add(Life(self.diary, stops=stops.get(name, 0.0)), name=name, needs=needs)
        elsewhere = self.app.add(Group(strategy="one_for_all"), name="elsewhere")
        self.lives["outside"] = elsewhere.add(Life(self.diary), name="outside", needs=["/g/api"])
        self.lives["top"] = elsewhere.add(Life(self.diary), name="top", needs=["outside"])

    def __getitem__(self, name: str) -> Life:
        return self.lives[name]

    @property
    def lived(self) -> dict[str, int]:
        """How many lives each has had."""
        return {name: life.incarnation for name, life in self.lives.items()}

    @property
    def states(self) -> dict[str, str]:
        """Of each."""
        return {name: life.state.value for name, life in self.lives.items()}


TAKEN = {
    ("one_for_one", "db"): [],
    ("one_for_one", "api"): [],
    ("one_for_one", "web"): [],
    ("one_for_one", "alone"): [],
    ("rest_for_one", "db"): ["api", "web"],
    ("rest_for_one", "api"): ["web"],
    ("rest_for_one", "web"): [],
    ("rest_for_one", "alone"): [],
    ("one_for_all", "db"): ["api", "web", "alone"],
    ("one_for_all", "api"): ["db", "web", "alone"],
    ("one_for_all", "web"): ["db", "api", "alone"],
    ("one_for_all", "alone"): ["db", "api", "web"],
}


@pytest.mark.parametrize(("strategy", "failed"), TAKEN)
@virtual
async def test_whom_a_strategy_takes_along(strategy: str, failed: str) -> None:
    """Those, and nobody else; what needs them elsewhere keeps running under each strategy, degraded meanwhile."""
    shop = Shop(strategy)
    taken = TAKEN[strategy, failed]
    told = Told(shop.app)
    async with serving(shop.app):
        shop[failed].fail()
        await settle()
        away = {failed, *taken}
        assert shop.states == {name: "backoff" if name in away else "running" for name in shop.lives}
        health = {one.path: one.health for one in shop.app.snapshot().walk()}
        assert str(health["elsewhere/outside"]) == ("degraded: g/api is in backoff" if "api" in away else "ready")
        assert str(health["elsewhere/top"]) == "ready"
        await advance(1)
        assert shop.lived == {name: 2 if name in away else 1 for name in shop.lives}
        assert set(shop.states.values()) == {"running"}
        scheduled = {event.path.split("/")[1]: event for event in told.of(events.RestartScheduled)}
        assert scheduled.keys() == away
        for name in taken:
            assert scheduled[name].delay is None
            assert scheduled[name].failures == 0
            assert scheduled[name].reason == f"stopped because of service 'g/{failed}'"


@virtual
async def test_rest_for_one_stops_dependents_in_reverse_and_starts_them_after_it() -> None:
    """Each when the one before has stopped, or is ready."""
    shop = Shop("rest_for_one", web=3.0, api=2.0)
    async with serving(shop.app):
        shop.diary.clear()
        shop["db"].fail()
        await advance(10)
    assert shop.diary[:12] == [
        "db stops", "db stopped", "web stops", "web stopped", "api stops", "api stopped",
        "db starts", "db runs", "api starts", "api runs", "web starts", "web runs",
    ]  # fmt: skip


@virtual
async def test_one_for_all_stops_in_reverse_and_starts_by_the_needs() -> None:
    """What the failed one needs starts with it and before it, all others after it."""
    shop = Shop("one_for_all", web=3.0, db=2.0, alone=0.5)
    async with serving(shop.app):
        shop.diary.clear()
        shop["api"].fail()
        await advance(10)
    assert shop.diary[:14] == [
        "api stops", "api stopped",
        "web stops", "alone stops", "alone stopped", "web stopped", "db stops", "db stopped",
        "db starts", "db runs", "api starts", "api runs", "web starts", "alone starts",
    ]  # fmt: skip


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@virtual
async def test_nothing_starts_before_all_has_stopped_that_shall_be_restarted(strategy: str) -> None:
    """The failed one's delay is over long before its dependent has stopped."""
    shop = Shop(strategy, web=8.0)
    async with serving(shop.app):
        shop["api"].fail()
        await advance(7.9)
        assert shop.states["web"] == "stopping"
        assert shop.states["api"] == "backoff"
        await advance(0.2)
        assert set(shop.states.values()) == {"running"}
        shop["web"].stops = 0.0


@virtual
async def test_what_the_failed_one_needs_waits_for_its_delay() -> None:
    """Under one_for_all all begin together, not what is needed at once and the rest later."""
    shop = Shop("one_for_all")
    told = Told(shop.app)
    async with serving(shop.app):
        for _ in range(4):
            shop["web"].fail()
            await advance(8.0)
        delay = told.of(events.RestartScheduled, "g/web")[-1].delay
        failed = told.when("g/web", State.FAILED)[-1]
        assert delay is not None
        assert delay > 4
        for name in ("db", "api", "web", "alone"):
            assert told.when(f"g/{name}", State.STARTING)[-1] == pytest.approx(failed + delay)


@virtual
async def test_the_others_wait_while_the_failed_one_cannot_start() -> None:
    """Under one_for_all; its next attempts take nobody along, for nobody is there."""
    shop = Shop("one_for_all")
    async with serving(shop.app):
        shop["alone"].refuses = Boom("no disk")
        shop["alone"].fail()
        await advance(20)
        assert shop["alone"].incarnation > 3
        assert {shop.states[name] for name in ("db", "api", "web")} == {"backoff"}
        assert {shop.lived[name] for name in ("db", "api", "web")} == {1}
        shop["alone"].refuses = None
        await advance(30)
        assert set(shop.states.values()) == {"running"}
        assert {shop.lived[name] for name in ("db", "api", "web")} == {2}


@virtual
async def test_what_is_taken_along_and_cannot_start_is_counted_by_itself() -> None:
    """It fails in its own right then, with its own delay."""
    shop = Shop("rest_for_one")
    told = Told(shop.app)
    async with serving(shop.app):
        shop["web"].refuses = Boom("no disk")
        shop["api"].fail()
        await advance(1)
        assert shop.states["api"] == "running"
        assert told.of(events.RestartScheduled, "g/web")[-1].failures == 1
        shop["web"].refuses = None
        await advance(10)
        assert shop.states["web"] == "running"
        assert shop.lived["api"] == 2


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@virtual
async def test_never_is_stopped_by_a_siblings_strategy_and_not_started_again(strategy: Any) -> None:
    """Nor is one that had finished, or that stays failed, or that is down."""
    app = Application("shop", strategy=strategy)
    db = app.add(Life(), name="db")
    never = app.add(Life(), name="never", needs=["db"], restart="never")
    finished = app.add(Life(), name="finished", needs=["db"])
    failed = app.add(Life(), name="failed", needs=["db"], restart="never")
    down = app.add(Life(), name="down", needs=["db"])
    other = app.add(Life(), name="other", needs=["db"])
    async with serving(app):
        finished.finish()
        failed.fail()
        await down.stop()
        await settle()
        db.fail()
        await advance(100)
        assert states(app) == {
            "db": "running", "never": "stopped", "finished": "stopped", "failed": "failed", "down": "stopped",
            "other": "running",
        }  # fmt: skip
        assert [life.incarnation for life in (never, finished, failed, down, other)] == [1, 1, 1, 1, 2]


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@virtual
async def test_what_waits_already_goes_on_waiting_for_its_own(strategy: str) -> None:
    """A sibling in BACKOFF keeps its delay, which is not counted anew; a dependent starts after what it needs."""
    shop = Shop(strategy)
    told = Told(shop.app)
    async with serving(shop.app):
        for _ in range(4):
            shop["web"].fail()
            await advance(8.5)
        shop["web"].fail()
        await settle()
        due = shop.app["g/web"]._record.care.due
        assert due - asyncio.get_running_loop().time() > 8
        if strategy == "rest_for_one":
            shop["db"].fail()
        await advance(5)
        if strategy == "rest_for_one":
            assert shop.states == {
                "db": "running", "api": "running", "web": "backoff", "alone": "running",
                "outside": "running", "top": "running",
            }  # fmt: skip
        await advance(20)
        assert told.when("g/web", State.STARTING)[-1] == pytest.approx(due)
        assert told.of(events.RestartScheduled, "g/web")[-1].failures == 5
        assert set(shop.states.values()) == {"running"}


@virtual
async def test_a_service_that_always_comes_back_takes_nobody_along_when_its_run_returns() -> None:
    """That is no failure."""
    app = Application("shop", strategy="one_for_all")
    job = app.add(Life(), name="job", restart="always")
    other = app.add(Life(), name="other", needs=["job"])
    async with serving(app):
        job.finish()
        await advance(1)
        assert (job.incarnation, other.incarnation) == (2, 1)


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@virtual
async def test_who_waits_for_a_need_takes_along_as_any_other(strategy: str) -> None:
    """Its failure is not counted, but its dependents have lost it all the same."""
    app = Application("shop")
    far = app.add(Life(), name="far")
    group = app.add(Group(strategy=strategy), name="g")  # type: ignore[arg-type]
    api = group.add(Life(), name="api", needs=["/far"])
    web = group.add(Life(), name="web", needs=["api"])
    async with serving(app):
        far.fail()
        await settle()
        api.fail()
        await settle()
        assert states(app) == {"far": "backoff", "g/api": "backoff", "g/web": "backoff"}
        await advance(1)
        assert (api.incarnation, web.incarnation) == (2, 2)
        assert set(states(app).values()) == {"running"}


@pytest.mark.parametrize("strategy", STRATEGIES)
@virtual
async def test_a_group_is_taken_along_whole(strategy: Any) -> None:
    """A sibling that is a group stops with all in it, and begins anew; one that failed takes its dependents along."""
    app = Application("shop", strategy=strategy)
    back = app.add(Group(), name="back")
    db = back.add(Life(), name="db")
    web = app.add(Group(), name="web")
    page = web.add(Life(), name="page")
    feed = app.add(Life(), name="feed", needs=["/back/db"])
    async with serving(app):
        db.fail(Escalate("up"))
        await advance(1)
        assert set(states(app).values()) == {"running"}
        assert [life.incarnation for life in (db, page, feed)] == {
            "one_for_one": [2, 1, 1], "rest_for_one": [2, 1, 2], "one_for_all": [2, 2, 2],
        }[strategy]  # fmt: skip


@virtual
async def test_one_paused_comes_back_paused_when_it_is_taken_along() -> None:
    """Its intent is the operator's."""
    app = Application("shop", strategy="one_for_all")
    life = app.add(Life(), name="life")
    still = app.add(Still(), name="still")
    async with serving(app):
        await still.pause()
        life.fail()
        await advance(1)
        assert (still.state, still._record.incarnation) == (State.PAUSED, 2)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("command", ["stop", "restart", "pause"])
@virtual
async def test_what_an_operator_does_to_one_service_takes_nobody_along(strategy: str, command: str) -> None:
    """A strategy is about failures; what needs it keeps running, degraded while it is away."""
    shop = Shop(strategy)
    async with serving(shop.app):
        api = shop["api"]
        if command == "pause":
            still = shop.group.add(Still(), name="still", needs=["db"])
            user = shop.group.add(Life(), name="user", needs=["still"])
            await still.start()
            await user.start()
            await still.pause()
            assert str(user.health) == "degraded: g/still is paused"
        else:
            await getattr(api, command)()
            health = str(shop["web"].health)
            assert health == ("degraded: g/api is stopped" if command == "stop" else "ready")
        await advance(10)
        assert {shop.lived[name] for name in ("db", "web", "alone", "outside", "top")} == {1}
        assert {shop.states[name] for name in ("db", "web", "alone", "outside", "top")} == {"running"}


# -- several at once ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("pair", [("db", "web"), ("web", "db"), ("api", "web"), ("web", "api"), ("alone", "api")])
@virtual
async def test_two_that_fail_at_once_are_both_failures(strategy: str, pair: tuple[str, str]) -> None:
    """Each is counted, or waits for what it needs; all come back, each once."""
    shop = Shop(strategy)
    told = Told(shop.app)
    async with serving(shop.app):
        for name in pair:
            shop[name].fail()
        await settle()
        assert {shop.states[name] for name in pair} == {"backoff"}
        for name in pair:
            (event, *more) = told.of(events.RestartScheduled, f"g/{name}")
            assert not more
            assert event.failures == 1 or "waits for" in event.reason
        await advance(2)
        assert set(shop.states.values()) == {"running"}
        lived = {
            name: 2 if name in {*pair, *TAKEN[strategy, pair[0]], *TAKEN[strategy, pair[1]]} else 1
            for name in shop.lives
        }
        assert shop.lived == lived


@virtual
async def test_one_that_is_failing_while_another_takes_it_along_is_treated_as_it_asks() -> None:
    """It ends by itself: its policy, DoNotRestart and the count are its own."""
    app = Application("shop", strategy="one_for_all")
    slow = app.add(Life(stops=5.0), name="slow")
    quick = app.add(Life(), name="quick")
    async with serving(app):
        slow.fail(DoNotRestart("no licence"))
        await settle()
        assert slow.state is State.STOPPING
        quick.fail()
        await advance(4)
        assert quick.state is State.BACKOFF  # what it takes along has not stopped
        await advance(100)
        assert (slow.state, slow.incarnation) == (State.FAILED, 1)
        assert (quick.state, quick.incarnation) == (State.RUNNING, 2)


@virtual
async def test_one_that_returns_while_its_turn_to_stop_has_not_come_has_finished() -> None:
    """It is not started again, as it would not be at any other time."""
    app = Application("shop", strategy="rest_for_one")
    db = app.add(Life(), name="db")
    api = app.add(Life(), name="api", needs=["db"])
    app.add(Life(stops=5.0), name="web", needs=["api"])
    async with serving(app):
        db.fail()
        await advance(1)
        api.finish()
        await advance(20)
        assert states(app) == {"db": "running", "api": "stopped", "web": "running"}
        assert api.incarnation == 1


@pytest.mark.parametrize("strategy", STRATEGIES)
@virtual
async def test_two_that_always_fail_at_once_come_to_an_end(strategy: Any) -> None:
    """Neither is excused by the other, nor by what stops for its own sake: no restart without a delay, for ever."""

    class Short(Life):
        async def run(self) -> None:
            if self.incarnation > 1:
                raise Boom(self.name)
            await super().run()

    app = Application("shop", strategy=strategy)
    app.add(Life(), name="db")
    api = app.add(Short(), name="api", needs=["db"])
    web = app.add(Short(), name="web", needs=["api"])
    async with serving(app) as task:
        api.fail()
        web.fail()
        await advance(10_000)
        assert isinstance(task.exception(), ApplicationFailed)
        assert api.incarnation <= 16
        assert web.incarnation <= 16


@pytest.mark.parametrize("strategy", STRATEGIES)
@virtual
async def test_a_thousand_that_fail_at_once(strategy: Any) -> None:
    """All come back."""
    app = Application("shop", strategy=strategy)
    db = app.add(Life(), name="db")
    lives = [app.add(Life(), name=f"life{number}", needs=["db"]) for number in range(1000)]
    async with serving(app) as task:
        for life in [db, *lives]:
            life.fail()
        await advance(3)
        assert not task.done()
        assert {life.state for life in [db, *lives]} == {State.RUNNING}
        assert {life.incarnation for life in [db, *lives]} == {2}


# -- operators meanwhile -----------------------------------------------------------------------------------------------

PHASES: dict[str, float] = {"dependents stop": 0.1, "backoff": 3.2, "it starts": 5.2, "dependents start": 7.2}
"""Seconds after the failure: web and api take a second and a half each to stop, db and api two seconds to start."""


class Slow(Shop):
    """Where each phase of a restart takes its time; db fails at 0, its delay is over at 5."""

    def __init__(self, strategy: Any) -> None:
        super().__init__(strategy, web=1.5, api=1.5)

    async def fail(self, phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """db, and on to a phase."""
        monkeypatch.setattr(Care, "next_delay", lambda care: 5.0)
        self["db"].starts = self["api"].starts = 2.0
        self["db"].fail()
        await advance(PHASES[phase])
        db, web = {
            "dependents stop": ("backoff", "stopping"),
            "backoff": ("backoff", "backoff"),
            "it starts": ("starting", "backoff"),
            "dependents start": ("running", "backoff"),
        }[phase]
        assert (self.states["db"], self.states["web"]) == (db, web)


Command = Callable[[Life], Awaitable[Any]]


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@pytest.mark.parametrize("phase", PHASES)
@virtual
async def test_the_failed_one_is_stopped_by_an_operator(
    strategy: str, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays down, what needs it waits for it; it comes back with all, when it is started."""
    shop = Slow(strategy)
    async with serving(shop.app):
        await shop.fail(phase, monkeypatch)
        await shop["db"].stop()
        await advance(100)
        assert shop.states["db"] == "stopped"
        if phase == "dependents start":
            assert shop.states["api"] == "running"
        else:
            assert (shop.states["api"], shop.states["web"]) == ("backoff", "backoff")
        assert (shop.states["alone"], shop.states["outside"]) == ("running", "running")
        await shop["db"].start()
        await advance(10)
        assert set(shop.states.values()) == {"running"}


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("command", ["start", "restart"])
@virtual
async def test_the_failed_one_is_started_by_an_operator(
    strategy: str, phase: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, without its delay; its dependents follow, and all are there in the end."""
    shop = Slow(strategy)
    async with serving(shop.app):
        await shop.fail(phase, monkeypatch)
        await getattr(shop["db"], command)()
        assert shop.states["db"] == "running"
        assert asyncio.get_running_loop().time() < PHASES[phase] + 2.1
        await advance(20)
        assert set(shop.states.values()) == {"running"}
        assert shop.lived["db"] == (3 if command == "restart" and phase in ("it starts", "dependents start") else 2)


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@pytest.mark.parametrize("phase", PHASES)
@virtual
async def test_the_failed_one_is_removed(strategy: str, phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its dependents; the others go on, and nothing comes back that is gone."""
    shop = Slow(strategy)
    async with serving(shop.app):
        await shop.fail(phase, monkeypatch)
        with pytest.raises(LifecycleError, match="is needed by"):
            await shop.group.remove("db")
        await shop.group.remove("db", dependents=True)
        await advance(100)
        assert states(shop.app) == {"g/alone": "running"}


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", ["api", "web"])
@virtual
async def test_a_dependent_is_stopped_by_an_operator(
    strategy: str, phase: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays down, and the others come back without it."""
    shop = Slow(strategy)
    async with serving(shop.app):
        await shop.fail(phase, monkeypatch)
        await shop[name].stop()
        await advance(100)
        up = {"api": ["db"], "web": ["db", "api"]}[name]
        assert shop.states[name] == "stopped"
        assert {shop.states[one] for one in up} == {"running"}
        assert shop["web"].incarnation == 1
        await shop[name].start()
        await advance(10)
        assert set(shop.states.values()) == {"running"}


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("command", ["start", "restart"])
@virtual
async def test_a_dependent_is_started_by_an_operator(
    strategy: str, phase: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused while its need is away, and it comes back all the same; else it waits for its need."""
    shop = Slow(strategy)
    async with serving(shop.app):
        await shop.fail(phase, monkeypatch)
        if phase in ("dependents stop", "backoff"):
            with pytest.raises(LifecycleError, match="needs service 'g/"):
                await getattr(shop["web"], command)()
        else:
            await getattr(shop["api"], command)()
            assert shop.states["api"] == "running"
        await advance(30)
        assert set(shop.states.values()) == {"running"}


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("command", ["stop", "restart"])
@virtual
async def test_the_group_is_commanded_meanwhile(
    strategy: str, phase: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All in it follows; nothing of the restart is left over."""
    shop = Slow(strategy)
    async with serving(shop.app):
        await shop.fail(phase, monkeypatch)
        await getattr(shop.group, command)()
        await advance(100)
        inside = {shop.states[name] for name in ("db", "api", "web", "alone")}
        assert inside == ({"stopped"} if command == "stop" else {"running"})
        assert not shop.app._root_engine.supervision.waiting  # type: ignore[attr-defined]


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@pytest.mark.parametrize("phase", PHASES)
@virtual
async def test_the_application_stops_meanwhile(strategy: str, phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves no deadline behind."""
    shop = Slow(strategy)
    async with serving(shop.app) as task:
        await shop.fail(phase, monkeypatch)
        await shop.app.stop()
        assert not set(shop.states.values()) - {"stopped", "failed"}
        await task
        engine = shop.app._root_engine
        assert len(engine.deadlines) == 0
        assert not engine.operations


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
@pytest.mark.parametrize("phase", PHASES)
@virtual
async def test_a_service_is_added_meanwhile(strategy: str, phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays new until it is started, which it may be at once."""
    shop = Slow(strategy)
    async with serving(shop.app):
        await shop.fail(phase, monkeypatch)
        late = shop.group.add(Life(), name="late")
        later = shop.group.add(Life(), name="later")
        await late.start()
        await advance(30)
        assert (late.state, later.state) == (State.RUNNING, State.NEW)
        assert set(shop.states.values()) == {"running"}
        assert late.incarnation == 1


@virtual
async def test_an_operators_start_that_a_strategy_interrupts_says_so() -> None:
    """And the service comes back after the one that failed."""
    app = Application("shop", strategy="one_for_all")
    life = app.add(Life(), name="life")
    async with serving(app):
        late = app.add(Life(starts=5.0), name="late")
        starting = asyncio.create_task(late.start())
        await settle()
        life.fail()
        with pytest.raises(StartInterrupted):
            await starting
        await advance(10)
        assert set(states(app).values()) == {"running"}


@virtual
async def test_an_operators_start_that_fails_is_left_to_the_operator() -> None:
    """It raises, and the service stays failed; nobody else tries again."""
    app = Application("shop")
    life = app.add(Life(), name="life")
    app.add(Still(), name="other")
    async with serving(app):
        await life.stop()
        life.refuses = Boom("no disk")
        with pytest.raises(StartFailed, match="no disk"):
            await life.start()
        await advance(1000)
        assert (life.state, life.incarnation) == (State.FAILED, 2)


@virtual
async def test_an_operator_who_joins_a_restart_hears_of_its_failure() -> None:
    """While supervision goes on trying."""
    app = Application("shop")
    life = app.add(Life(), name="life")
    async with serving(app):
        life.starts, life.refuses = 3.0, Boom("no disk")
        life.fail()
        await advance(2)
        with pytest.raises(StartFailed, match="no disk"):
            await life.start()
        assert life.state is State.BACKOFF
        life.refuses = None
        await advance(10)
        assert life.state is State.RUNNING


@virtual
async def test_a_command_that_is_refused_changes_nothing() -> None:
    """A dependent in BACKOFF keeps its place, its counts and its intent."""
    app = Application("shop")
    db = app.add(Life(), name="db")
    web = app.add(Life(), name="web", needs=["db"])
    down = app.add(Life(), name="down", needs=["db"])
    async with serving(app):
        for _ in range(3):
            web.fail()
            await advance(5)
        await down.stop()
        db.fail()
        await settle()
        web.fail()
        await settle()
        for life in (web, down):
            with pytest.raises(LifecycleError, match="needs service 'db'"):
                await life.start()
        assert down.intent.value == "down"
        assert app.snapshot().services[1].failures == 3
        await advance(10)
        assert states(app) == {"db": "running", "web": "running", "down": "stopped"}


@virtual
async def test_a_restart_of_one_whose_need_is_away_is_refused_before_it_stops() -> None:
    """It would not come back before that is there; it keeps running."""
    app = Application("shop")
    db = app.add(Life(), name="db")
    web = app.add(Life(), name="web", needs=["db"])
    async with serving(app):
        db.fail()
        await settle()
        with pytest.raises(LifecycleError, match="needs service 'db', which is in backoff; start that first"):
            await web.restart()
        assert (web.state, web.incarnation) == (State.RUNNING, 1)


@virtual
async def test_a_need_that_goes_while_a_restart_stops_is_waited_for() -> None:
    """The operator is told, and the service starts when it is back."""
    app = Application("shop")
    db = app.add(Life(), name="db")
    web = app.add(Life(stops=2.0), name="web", needs=["db"])
    async with serving(app):
        restarting = asyncio.create_task(web.restart())
        await advance(1.9)
        db.fail()
        with pytest.raises(LifecycleError, match="needs service 'db'"):
            await restarting
        assert web.state is State.BACKOFF
        await advance(2)
        assert set(states(app).values()) == {"running"}


@virtual
async def test_a_start_whose_need_fails_while_it_starts_says_so() -> None:
    """And does not hang; the service starts when its need is there."""
    app = Application("shop")
    db = app.add(Life(), name="db")
    web = app.add(Life(), name="web", needs=["db"])
    async with serving(app):
        await web.stop()
        db.starts, db.refuses = 5.0, Boom("no disk")
        db.fail()
        await advance(2)
        assert db.state is State.STARTING
        with pytest.raises(LifecycleError, match="it will start when that is there"):
            await web.start()
        db.starts, db.refuses = 0.0, None
        await advance(10)
        assert states(app) == {"db": "running", "web": "running"}


@virtual
async def test_a_stop_that_comes_after_a_start_that_waits_goes_before_it() -> None:
    """The last command counts."""
    app = Application("shop")
    life = app.add(Life(stops=5.0), name="life")
    app.add(Still(), name="other")
    async with serving(app):
        stopping = asyncio.create_task(life.stop())
        await settle()
        starting = asyncio.create_task(life.start())
        await settle()
        again = asyncio.create_task(life.stop())
        await asyncio.wait([stopping, starting, again])
        assert isinstance(starting.exception(), StartInterrupted)
        assert life.state is State.STOPPED


@virtual
async def test_commands_on_one_in_backoff() -> None:
    """Stop: it stays down. Start and restart: at once. Pause: it comes back paused. Remove: gone."""
    app = Application("shop")
    app.add(Still(), name="other")
    lives = {name: app.add(Life(), name=name) for name in ("stop", "start", "restart", "remove")}
    still = app.add(Still(), name="pause")
    async with serving(app):
        for life in lives.values():
            life.fail()
        still.fail()
        await settle()
        assert {life.state for life in [*lives.values(), still]} == {State.BACKOFF}
        await lives["stop"].stop()
        await lives["start"].start()
        await lives["restart"].restart()
        await still.pause()
        await app.remove("remove")
        assert (lives["start"].state, lives["restart"].state) == (State.RUNNING, State.RUNNING)
        assert asyncio.get_running_loop().time() == 0.0
        await advance(100)
        assert states(app) == {
            "other": "running", "stop": "stopped", "start": "running", "restart": "running", "pause": "paused",
        }  # fmt: skip
        assert lives["stop"].incarnation == 1


@virtual
async def test_what_is_put_under_another_strategy_would_not_pass_these_tests() -> None:
    """Each strategy's restarts differ from those of the others, for each service of the shop but for one pair."""
    outcomes: dict[str, list[frozenset[str]]] = {
        strategy: [frozenset(TAKEN[strategy, failed]) for failed in ("db", "api", "web", "alone")]
        for strategy in STRATEGIES
    }
    assert len({tuple(outcome) for outcome in outcomes.values()}) == 3
    with pytest.raises(ValueError, match="strategy is 'all_for_one'"):
        Group(strategy="all_for_one")  # type: ignore[arg-type]


@virtual
async def test_an_application_fails_of_a_strategy_too() -> None:
    """The limits hold under each of them."""
    app = Application("shop", strategy="one_for_all")
    life = app.add(Life(), name="life")
    app.add(Life(), name="other")
    async with serving(app) as task:
        life.refuses = Boom("no disk")
        life.fail()
        await advance(10_000)
        with pytest.raises(ApplicationFailed, match="service 'life': Boom: no disk"):
            await task
