"""Health: checks called on time, what they mean for groups and dependents, and who is told."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lives import Boom, Life, Pausable, Still, Told, advance, serving, settle, virtual
from plait import Application, Group, Service, State, events
from plait._kernel.health import Health, Level, degraded
from plait.errors import PlaitError, StartFailed


@pytest.fixture(autouse=True)
def _same_dice() -> None:
    random.seed(4)


class Checked(Pausable):
    """Its check notes when it is called, takes `takes` seconds, and says `says`, or raises it."""

    def __init__(self, *, takes: float = 0.0, says: Any = None) -> None:
        super().__init__()
        self.takes = takes
        self.says = says
        self.called: list[float] = []
        self.under_way = 0

    async def check(self) -> Health | None:
        self.called.append(asyncio.get_running_loop().time())
        self.under_way += 1
        assert self.under_way == 1
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.under_way -= 1
        if isinstance(self.says, BaseException):
            raise self.says
        return self.says  # type: ignore[no-any-return]


# -- checks ------------------------------------------------------------------------------------------------------------


@virtual
async def test_a_check_is_called_when_the_service_is_ready_and_a_period_after_it_ended() -> None:
    """Ten seconds, where nothing else is said."""
    app = Application("shop")
    checked = app.add(Checked(takes=2.0), name="checked")
    other = app.add(Checked(), name="other", check_period=3)
    async with serving(app):
        await advance(30)
        assert checked.called == [0.0, 12.0, 24.0]
        assert other.called == [3.0 * n for n in range(11)]


@virtual
async def test_a_check_that_takes_longer_than_its_period_is_not_called_twice_at_a_time() -> None:
    """The period begins at its end."""
    app = Application("shop")
    checked = app.add(Checked(takes=4.0), name="checked", check_period=1)
    async with serving(app):
        await advance(20.5)
        assert checked.called == [0.0, 5.0, 10.0, 15.0, 20.0]


@pytest.mark.parametrize(
    ("says", "health"),
    [
        (None, "ready"),
        (degraded("replica lags"), "degraded: replica lags"),
        (Health(Level.UNREADY, "no disk"), "unready: no disk"),
        (Boom("no disk"), "unready: Boom: no disk"),
        (Boom(), "unready: Boom"),
        (SystemExit(3), "unready: ServiceError: a service raised SystemExit"),
        (asyncio.CancelledError(), "unready: ServiceCancelled: "),
        (True, "unready: check() returned True; it returns nothing, or degraded('why')"),
    ],
    ids=str,
)
@virtual
async def test_what_a_check_says(says: Any, health: str) -> None:
    """It is the service's health, and nothing else follows: no restart, no failure."""
    app = Application("shop")
    checked = app.add(Checked(says=says), name="checked")
    async with serving(app) as task:
        await settle()
        assert str(checked.health).startswith(health)
        assert app.snapshot().services[0].health == checked.health
        await advance(100)
        assert (checked.state, checked.incarnation) == (State.RUNNING, 1)
        assert len(checked.called) == 11
        assert not task.done()
        checked.says = None
        await advance(10)
        assert str(checked.health) == "ready"


@virtual
async def test_a_check_that_takes_too_long_makes_it_unready() -> None:
    """In the moment its timeout has passed; it is cancelled then, and called again after a period."""
    app = Application("shop")
    checked = app.add(Checked(takes=100.0), name="checked", check_timeout=2)
    told = Told(app)
    async with serving(app):
        await advance(1.9)
        assert str(checked.health) == "ready"
        await advance(0.1)
        assert str(checked.health).startswith(
            "unready: CheckTimeout: check of service 'checked' was not done after 2 s"
        )
        assert "test_health.py" in checked.health.reason
        checked.takes = 0.0
        await advance(10)
        assert checked.called == [0.0, 12.0]
        assert str(checked.health) == "ready"
        assert [event.new for event in told.of(events.HealthChanged, "checked")] == [Level.UNREADY, Level.READY]
        assert checked.state is State.RUNNING


@virtual
async def test_a_check_that_ignores_its_cancellation_is_not_called_again_before_it_is_done() -> None:
    """There is never a second one; it goes on when the first is over."""

    class Stubborn(Checked):
        async def check(self) -> None:
            self.called.append(asyncio.get_running_loop().time())
            while asyncio.get_running_loop().time() < 55:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    await asyncio.sleep(52)

    app = Application("shop")
    checked = app.add(Stubborn(), name="checked", check_timeout=5, check_period=10)
    async with serving(app):
        await advance(60)
        assert checked.called == [0.0]
        assert str(checked.health).startswith("unready: CheckTimeout")
        await advance(10)
        assert checked.called == [0.0, 65.0]
        assert str(checked.health) == "ready"


@virtual
async def test_a_check_left_over_from_an_older_life_says_nothing_of_the_new_one() -> None:
    """It is dropped, and named as left behind."""

    class Lasting(Checked):
        async def check(self) -> Health | None:
            if self.incarnation > 1:
                return None
            while asyncio.get_running_loop().time() < 30:
                try:
                    await asyncio.sleep(30)
                except asyncio.CancelledError:
                    continue
            return degraded("of old")

    app = Application("shop")
    checked = app.add(Lasting(), name="checked", stop_timeout=1, check_timeout=60)
    told = Told(app)
    async with serving(app):
        checked.fail()
        await advance(5)
        assert (checked.state, checked.incarnation) == (State.RUNNING, 2)
        assert "checked check" in told.of(events.ServiceStuck)[0].what
        await advance(26)  # it has ended by now, and no check of the new one since
        assert str(checked.health) == "ready"
        assert not told.of(events.HealthChanged, "checked")
        await advance(20)


@virtual
async def test_a_service_is_checked_only_while_it_runs() -> None:
    """Not paused, not in backoff, not down; at once when it runs again."""
    app = Application("shop")
    checked = app.add(Checked(), name="checked", check_period=1)
    app.add(Life(), name="other")
    async with serving(app):
        await advance(2.5)
        await checked.pause()
        await advance(10)
        assert checked.called == [0.0, 1.0, 2.0]
        await checked.resume()
        await settle()
        assert checked.called[3:] == [12.5]
        await checked.stop()
        await advance(10)
        assert len(checked.called) == 4
        await checked.start()
        await advance(0.5)
        assert checked.called[4:] == [22.5]
        checked.fail()
        await settle()
        due = checked._record.care.due
        await advance(due - asyncio.get_running_loop().time())
        assert checked.called[5:] == [due]


@virtual
async def test_a_check_under_way_is_cancelled_with_its_incarnation() -> None:
    """And is no reason for anything."""
    app = Application("shop")
    checked = app.add(Checked(takes=3.0), name="checked")
    app.add(Life(), name="other")
    async with serving(app):
        await settle()
        assert checked.under_way == 1
        await checked.stop()
        assert checked.under_way == 0
        assert asyncio.get_running_loop().time() == 0.0


@virtual
async def test_a_check_under_way_while_it_is_paused_goes_on_and_counts() -> None:
    """It is not called twice when it is resumed meanwhile."""
    app = Application("shop")
    checked = app.add(Checked(takes=3.0, says=degraded("slow")), name="checked")
    async with serving(app):
        await settle()
        await checked.pause()
        await checked.resume()
        await advance(4)
        assert checked.called == [0.0]
        assert str(checked.health) == "degraded: slow"


@virtual
async def test_one_that_starts_paused_is_not_checked() -> None:
    """Before it is resumed."""
    app = Application("shop")
    checked = app.add(Checked(), name="checked")
    await checked.pause()
    async with serving(app):
        await advance(100)
        assert checked.called == []
        await checked.resume()
        await settle()
        assert checked.called == [100.0]


@virtual
async def test_a_tree_without_checks_wakes_never() -> None:
    """No timer of the loop is left when all is ready, supervised as it is; one check is one timer."""
    app = Application("shop", strategy="one_for_all")
    for number in range(100):
        app.add(Group(), name=f"group{number}").add(Still(), name="still")
    app.add(Life(), name="life")
    Told(app)
    async with serving(app):
        loop = asyncio.get_running_loop()
        assert [handle for handle in loop._scheduled if not handle.cancelled()] == []  # type: ignore[attr-defined]
        checked = app.add(Checked(), name="checked")
        await checked.start()
        await settle()
        assert len([handle for handle in loop._scheduled if not handle.cancelled()]) == 1  # type: ignore[attr-defined]


@virtual
async def test_a_group_may_have_a_check() -> None:
    """It is the group's own, beside what its services make of it."""

    class Whole(Group):
        says: Health | None = None

        async def check(self) -> Health | None:
            return self.says

    app = Application("shop")
    group = app.add(Whole(), name="group", check_period=1)
    inner = group.add(Checked(), name="inner", check_period=1)
    async with serving(app):
        await settle()
        assert str(group.health) == "ready"
        group.says = degraded("low on space")
        await advance(1)
        assert str(group.health) == "degraded: low on space"
        inner.says = Boom("ill")
        await advance(1)
        assert str(group.health) == "unready: inner: Boom: ill"
        inner.says, group.says = None, Health(Level.UNREADY, "no space")
        await advance(1)
        assert str(group.health) == "unready: no space"
        assert str(app.health) == "unready: group: no space"


# -- groups ------------------------------------------------------------------------------------------------------------


async def _nothing(life: Checked) -> None: ...


async def _finish(life: Checked) -> None:
    life.finish()


async def _fail(life: Checked) -> None:
    life.fail()


async def _fail_for_good(life: Checked) -> None:
    life._record.policy = life._record.policy.override({"restart": "never"})
    life.fail()


async def _park(life: Checked) -> None:
    life._record.policy = life._record.policy.override({"on_exhausted": "park"})
    life.refuses = Boom("no disk")
    life.fail()
    await advance(10_000)


async def _ill(life: Checked) -> None:
    life.says = Boom("ill")
    await advance(10)


async def _lagging(life: Checked) -> None:
    life.says = degraded("lags")
    await advance(10)


async def _start_again(life: Checked) -> None:
    life.starts = 20.0
    life.fail()
    await advance(2)


async def _stop(life: Checked) -> None:
    await life.stop()


async def _pause(life: Checked) -> None:
    await life.pause()


Act = Callable[[Checked], Awaitable[None]]
ALONE: dict[str, tuple[Act, str]] = {
    "runs": (_nothing, "ready"),
    "finished": (_finish, "ready"),
    "paused": (_pause, "degraded: life: paused"),
    "down": (_stop, "degraded: life: down"),
    "in backoff": (_fail, "degraded: life: waits to be started again after Boom"),
    "starts again": (_start_again, "degraded: life: starting"),
    "parked": (_park, "degraded: life: parked after Boom"),
    "failed for good": (_fail_for_good, "degraded: life: failed after Boom"),
    "degraded by its check": (_lagging, "degraded: life: lags"),
    "unready by its check": (_ill, "unready: life: Boom: ill"),
}


@pytest.mark.parametrize("what", ALONE)
@virtual
async def test_what_one_service_means_for_its_group(what: str) -> None:
    """Where another is well; and for the application above it, the same."""
    act, health = ALONE[what]
    app = Application("shop")
    group = app.add(Group(), name="group")
    life = group.add(Checked(), name="life")
    group.add(Still(), name="other")
    async with serving(app):
        await settle()
        await act(life)
        await settle()
        assert str(group.health) == health
        level, _, reason = health.partition(": ")
        assert str(app.health) == (f"{level}: group: {reason}" if reason else level)


@pytest.mark.parametrize("what", [what for what in ALONE if what not in ("runs", "finished", "degraded by its check")])
@virtual
async def test_a_group_all_of_whose_services_are_away_is_unready(what: str) -> None:
    """For whatever reason; what has finished does not count. For the group above, it is one of several."""
    act, health = ALONE[what]
    app = Application("shop")
    group = app.add(Group(), name="group")
    life = group.add(Checked(), name="life")
    done = group.add(Life(), name="done")
    app.add(Still(), name="other")
    async with serving(app):
        await settle()
        done.finish()
        await act(life)
        await settle()
        assert str(group.health) == "unready: " + health.partition(": ")[2]
        above = "unready" if what == "unready by its check" else "degraded"
        assert app.health.level.value == above


@virtual
async def test_a_service_in_its_first_start_makes_its_group_unready() -> None:
    """It has not come up yet; one that was added and is not started makes it degraded."""
    app = Application("shop")
    app.add(Still(), name="other")
    async with serving(app):
        late = app.add(Life(starts=5.0), name="late")
        assert str(app.health) == "degraded: late: not started"
        starting = asyncio.create_task(late.start())
        await settle()
        assert str(app.health) == "unready: late: starting"
        await starting
        assert str(app.health) == "ready"


@virtual
async def test_a_group_that_does_not_run_is_unready() -> None:
    """Whatever its services do."""
    app = Application("shop")
    group = app.add(Group(), name="group")
    group.add(Life(stops=5.0), name="life")
    app.add(Still(), name="other")
    assert str(app.health) == "unready: not started"
    serving_ = asyncio.create_task(app.serve())
    await asyncio.sleep(0)
    assert str(app.health) == "unready: starting"
    await settle()
    assert str(app.health) == "ready"
    await group.pause()
    assert (str(group.health), str(app.health)) == ("unready: paused", "degraded: group: paused")
    stopping = asyncio.create_task(group.stop())
    await settle()
    assert (str(group.health), str(app.health)) == ("unready: stopping", "degraded: group: stopping")
    await stopping
    assert (str(group.health), str(app.health)) == ("unready: down", "degraded: group: down")
    await app.stop()
    await serving_
    assert str(app.health) == "unready: stopped"


@virtual
async def test_a_restart_under_always_is_backoff_too() -> None:
    """It has finished for a moment only."""
    app = Application("shop")
    job = app.add(Life(), name="job", restart="always")
    app.add(Still(), name="other")
    async with serving(app):
        job.finish()
        await settle()
        assert str(app.health) == "degraded: job: waits to be started again"


@virtual
async def test_all_finished_is_ready() -> None:
    """There is nothing that could not take work."""
    app = Application("shop")
    group = app.add(Group(), name="group")
    job = group.add(Life(), name="job")
    app.add(Still(), name="other")
    async with serving(app):
        job.finish()
        await settle()
        assert str(job.health) == "ready: finished"
        assert (str(group.health), str(app.health)) == ("ready", "ready")


@virtual
async def test_what_runs_without_what_it_needs_is_degraded() -> None:
    """By way of groups as well; what it needs and has finished is not missed; its own word goes before."""
    app = Application("shop")
    back = app.add(Group(), name="back")
    db = back.add(Life(), name="db")
    migrate = app.add(Life(), name="migrate")
    web = app.add(Checked(), name="web", needs=["back", "migrate"])
    page = app.add(Life(), name="page", needs=["web"])
    async with serving(app):
        await settle()
        migrate.finish()
        await settle()
        assert str(web.health) == "ready"
        db.fail()
        await settle()
        assert str(web.health) == "degraded: back/db is in backoff"
        assert str(page.health) == "ready"  # what it needs runs
        web.says = degraded("own")
        await advance(10)
        await back.pause()
        assert str(web.health) == "degraded: own"


@virtual
async def test_a_reason_names_three_and_says_how_many_more() -> None:
    """So that it can be read."""
    app = Application("shop")
    lives = [app.add(Life(), name=f"life{number}") for number in range(5)]
    app.add(Still(), name="still")
    async with serving(app):
        for life in lives:
            life.fail()
        await settle()
        backoff = "waits to be started again after Boom"
        assert str(app.health) == f"degraded: life0: {backoff}; life1: {backoff}; life2: {backoff}; and 2 more"


# -- who is told -------------------------------------------------------------------------------------------------------


@virtual
async def test_a_change_is_told_once_with_its_reason() -> None:
    """For each whose health it changes, from the service up; not again while the level is the same."""
    app = Application("shop")
    group = app.add(Group(), name="group")
    checked = group.add(Checked(), name="checked", check_period=1)
    told = Told(app)
    async with serving(app):
        await settle()
        assert told.of(events.HealthChanged) == []
        for says in (degraded("slow"), degraded("slower"), Boom("ill"), Boom("very ill"), None, None):
            checked.says = says
            await advance(1)
        changes = [(e.path, e.old.value, e.new.value, e.reason) for e in told.of(events.HealthChanged)]
        assert changes == [
            ("group/checked", "ready", "degraded", "slow"),
            ("group", "ready", "degraded", "checked: slow"),
            ("/", "ready", "degraded", "group: checked: slow"),
            ("group/checked", "degraded", "unready", "Boom: ill"),
            ("group", "degraded", "unready", "checked: Boom: ill"),
            ("/", "degraded", "unready", "group: checked: Boom: ill"),
            ("group/checked", "unready", "ready", ""),
            ("group", "unready", "ready", ""),
            ("/", "unready", "ready", ""),
        ]


@virtual
async def test_a_paused_application_tells_of_its_services_still() -> None:
    """Of itself its state says enough."""
    app = Application("shop")
    app.add(Checked(), name="checked", check_period=1)
    unable = app.add(_CheckedUnable(), name="unable", check_period=1)
    told = Told(app)
    async with serving(app):
        await app.pause()
        unable.says = Boom("ill")
        await advance(1)
        assert [event.path for event in told.of(events.HealthChanged)] == ["unable"]


class _CheckedUnable(Life):
    says: Exception | None = None

    async def check(self) -> None:
        if self.says is not None:
            raise self.says


def follow(levels: dict[str, Level], event: events.Event) -> None:
    """What a sink makes of the events it sees: the level of each that runs."""
    if isinstance(event, events.HealthChanged):
        assert levels.get(event.path, Level.READY) is event.old
        levels[event.path] = event.new
    elif isinstance(event, events.StateChanged) and event.new is not State.RUNNING:
        levels.pop(event.path, None)


@pytest.mark.parametrize("seed", range(40))
@virtual
async def test_who_follows_the_events_knows_what_the_snapshot_says(seed: int) -> None:
    """At every rest of a random tree under random events, also for one who comes late."""
    dice = random.Random(seed)
    app = Application("shop", strategy=dice.choice(["one_for_one", "one_for_all", "rest_for_one"]))
    groups: list[Group] = [app]
    for number in range(dice.randint(1, 3)):
        groups.append(dice.choice(groups).add(Group(), name=f"group{number}"))
    lives: list[Checked] = []

    def add() -> None:
        needs = [f"/{one.path}" for one in dice.sample(lives, min(len(lives), dice.randint(0, 2)))]
        life = Checked()
        life.stops = dice.choice([0.0, 0.0, 2.0])
        dice.choice(groups).add(life, name=f"life{len(lives)}", needs=needs, check_period=3)
        lives.append(life)

    for _ in range(8):
        add()
    followers: list[dict[str, Level]] = []

    def subscribe() -> None:
        levels: dict[str, Level] = {}
        followers.append(levels)
        app.subscribe(lambda event: follow(levels, event))

    subscribe()
    async with app:
        await settle()
        for _ in range(60):
            life = dice.choice(lives)
            what = dice.choice(["fail", "ill", "well", "pause", "resume", "stop", "start", "wait", "add", "subscribe"])
            if what == "fail" and life.state is State.RUNNING and life.fate is not None and not life.fate.done():
                life.fail()
            elif what in ("ill", "well"):
                life.says = {"ill": dice.choice([Boom("ill"), degraded("lags")]), "well": None}[what]
            elif what == "add":
                add()
            elif what == "subscribe":
                subscribe()
            elif what in ("pause", "resume", "stop", "start"):
                with contextlib.suppress(PlaitError, ExceptionGroup):
                    await getattr(dice.choice([life, *groups[1:]]), what)()
            await advance(dice.choice([0.0, 0.5, 3.0, 30.0]))
            if app.state is not State.RUNNING:
                break
            for levels in followers:
                for one in app.snapshot().walk():
                    if one.state is State.RUNNING:
                        assert levels.get(one.path, Level.READY) is one.health.level, (seed, one.path)


# -- a slow start ------------------------------------------------------------------------------------------------------


class Loading(Service):
    """Loads `parts` of ten seconds each, and asks for more time with each."""

    def __init__(self, parts: int, asks: float | None) -> None:
        self.parts = parts
        self.asks = asks

    async def load(self) -> None:
        for _ in range(self.parts):
            if self.asks is not None:
                self.extend_start(self.asks)
            await asyncio.sleep(10.0)


class LoadingInStart(Loading):
    async def on_start(self) -> None:
        await self.load()


class LoadingInRun(Loading):
    readiness = "manual"

    async def run(self) -> None:
        await self.load()
        self.ready()
        await asyncio.Event().wait()


@pytest.mark.parametrize("kind", [LoadingInStart, LoadingInRun])
@virtual
async def test_a_slow_start_is_kept_alive_while_it_makes_progress(kind: type[Loading]) -> None:
    """A hundred seconds under a start_timeout of fifteen."""
    app = Application("shop")
    service = app.add(kind(10, 15.0), name="service", start_timeout=15)
    starting = asyncio.create_task(app.start())
    await advance(99)
    assert service.state is State.STARTING
    await starting
    assert asyncio.get_running_loop().time() == 100.0
    service.extend_start(5.0)  # no effect, and no harm, once it is ready
    await advance(100)
    assert service.state is State.RUNNING
    await app.stop()


@pytest.mark.parametrize("kind", [LoadingInStart, LoadingInRun])
@pytest.mark.parametrize(("asks", "ends"), [(None, 15.0), (3.0, 15.0), (20.0, 20.0)])
@virtual
async def test_a_slow_start_that_makes_none_is_ended(kind: type[Loading], asks: float | None, ends: float) -> None:
    """So many seconds after it last asked; to ask for less than there is left changes nothing."""
    app = Application("shop")
    service = kind(1, asks)
    app.add(service, name="service", start_timeout=15)
    service.parts = 1
    service.load = _hang_after(service)  # type: ignore[method-assign]
    with pytest.raises(StartFailed, match="was not ready after"):
        await app.start()
    assert asyncio.get_running_loop().time() == ends


def _hang_after(service: Loading) -> Callable[[], Awaitable[None]]:
    async def load() -> None:
        if service.asks is not None:
            service.extend_start(service.asks)
        await asyncio.sleep(1000)

    return load
