"""What follows when a service fails or finishes by itself: its policy, what it may ask for, who waits for whom."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from lives import Boom, Life, Still, Told, advance, serving, settle, states, virtual
from plait import Application, Group, Service, State, events
from plait.errors import ApplicationFailed, DoNotRestart, Escalate, ServiceCancelled, ServiceError, StartFailed


@pytest.fixture(autouse=True)
def _same_dice() -> None:
    random.seed(4)


# -- the policy --------------------------------------------------------------------------------------------------------


async def _raise(error: BaseException) -> None:
    raise error


def _cancel(life: Life) -> None:
    (task,) = [task for task in asyncio.all_tasks() if task.get_name() == life.path]
    task.cancel()


ENDS: dict[str, Callable[[Life], object]] = {
    "returns": lambda life: life.finish(),
    "raises": lambda life: life.fail(),
    "raises SystemExit": lambda life: life.fail(SystemExit(3)),
    "raises KeyboardInterrupt": lambda life: life.fail(KeyboardInterrupt()),
    "a spawned task raises": lambda life: life.spawn(_raise(Boom("spawned"))),
    "a spawned task raises SystemExit": lambda life: life.spawn(_raise(SystemExit(3))),
    "is cancelled by somebody": _cancel,
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("restart", ["always", "on_failure", "never"])
@virtual
async def test_who_is_started_again(how: str, restart: str) -> None:
    """always: after every end. on_failure: after a failure, whichever it was. never: never."""
    app = Application("shop")
    life = app.add(Life(), name="life", restart=restart)
    app.add(Still(), name="other")
    told = Told(app)
    async with serving(app) as task:
        ENDS[how](life)
        await settle()
        failed = how != "returns"
        assert told.moves("life")[2:4] == ["stopping", "failed" if failed else "stopped"]
        again = restart == "always" or (restart == "on_failure" and failed)
        assert life.state is (State.BACKOFF if again else State.FAILED if failed else State.STOPPED)
        assert len(told.of(events.RestartScheduled)) == again
        await advance(100_000)
        assert life.incarnation == 1 + again
        assert not task.done()


@virtual
async def test_unrequested_ends_are_told_apart() -> None:
    """A cancellation by somebody is a ServiceCancelled, an exit a ServiceError that holds it."""
    app = Application("shop")
    cancelled = app.add(Life(), name="cancelled", restart="never")
    left = app.add(Life(), name="left", restart="never")
    app.add(Still(), name="other")
    async with serving(app):
        _cancel(cancelled)
        left.fail(SystemExit(3))
        await settle()
        assert isinstance(cancelled._record.error, ServiceCancelled)
        assert isinstance(left._record.error, ServiceError)
        assert isinstance(left._record.error.__cause__, SystemExit)


@virtual
async def test_a_run_that_always_returns_is_no_failure() -> None:
    """Started again each time after a quarter to half of a second, a thousand times, and nothing is counted."""

    class Job(Service):
        async def run(self) -> None:
            await asyncio.sleep(0.001)

    app = Application("shop")
    app.add(Job(), name="job", restart="always")
    app.add(Life(), name="other")
    told = Told(app)
    async with serving(app) as task:
        await advance(500)
        assert not task.done()
        restarts = told.of(events.RestartScheduled)
        assert len(restarts) > 1000
        assert {(event.failures, event.reason) for event in restarts} == {(0, "its run() returned")}
        assert all(0.25 <= event.delay <= 0.5 for event in restarts if event.delay is not None)
        assert not told.of(events.GaveUp)


@virtual
async def test_each_life_is_a_new_incarnation_wholly_unwound_before_the_next() -> None:
    """on_stop and what was entered come before the next on_start, however long they take."""
    diary: list[str] = []

    class Entering(Life):
        async def on_start(self) -> None:
            await self.enter(_Thing(diary))
            await super().on_start()

    app = Application("shop")
    life = app.add(Entering(diary, stops=5.0), name="life")
    async with serving(app):
        life.fail()
        await advance(20)
        assert diary == [
            "enter", "life starts", "life runs", "life stops", "life stopped", "leave Boom",
            "enter", "life starts", "life runs",
        ]  # fmt: skip
        assert life.incarnation == 2


class _Thing:
    def __init__(self, diary: list[str]) -> None:
        self.diary = diary

    def __enter__(self) -> None:
        self.diary.append("enter")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.diary.append(f"leave {kind.__name__ if kind else 'well'}")


@virtual
async def test_what_an_older_incarnation_left_behind_touches_no_newer_one() -> None:
    """Its task, its spawned task and its deadlines end later, and are dropped."""

    class Stubborn(Life):
        async def on_stop(self) -> None:
            if self.incarnation == 1:
                end = asyncio.get_running_loop().time() + 50
                while asyncio.get_running_loop().time() < end:
                    try:
                        await asyncio.sleep(50)
                    except asyncio.CancelledError:
                        continue
                raise Boom("late")

    app = Application("shop")
    life = app.add(Stubborn(), name="life", stop_timeout=1)
    told = Told(app)
    async with serving(app):
        life.fail()
        await advance(4)
        assert (life.state, life.incarnation) == (State.RUNNING, 2)
        assert len(told.of(events.ServiceStuck)) == 1
        await advance(100)
        assert (life.state, life.incarnation) == (State.RUNNING, 2)
        assert told.moves("life")[-3:] == ["backoff", "starting", "running"]


@virtual
async def test_what_failed_before_a_stop_is_no_error_of_that() -> None:
    """Neither of the service, nor of its group, nor of the application; what goes wrong on the way is."""
    app = Application("shop")
    group = app.add(Group(), name="group")
    life = group.add(Life(stops=5.0), name="life")
    group.add(Life(), name="other")
    async with serving(app) as task:
        life.fail(Escalate("up"))
        await settle()
        await group.stop()
        await group.start()
        await settle()
        life.fail(Escalate("up"))
        await settle()
        await app.stop()
        await task
    assert app.state is State.STOPPED


# -- what a service may ask for ----------------------------------------------------------------------------------------


WHERE = ["run", "a group of errors", "on_start", "a spawned task", "on_stop"]


class Asking(Life):
    """Raises `error`, at `where`, in its second life or (in run) in its first."""

    def __init__(self, where: str, error: Exception) -> None:
        super().__init__()
        self.where = where
        self.error = error

    async def on_start(self) -> None:
        await super().on_start()
        if self.where == "on_start" and self.incarnation == 2:
            raise self.error

    async def on_stop(self) -> None:
        if self.where == "on_stop":
            raise self.error

    def go(self) -> None:
        """What leads to it."""
        if self.where == "run":
            self.fail(self.error)
        elif self.where == "a group of errors":
            self.fail(ExceptionGroup("outer", [OSError("one"), ExceptionGroup("inner", [self.error])]))
        elif self.where == "a spawned task":
            self.spawn(_raise(self.error))
        else:
            self.fail()


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("restart", ["always", "on_failure"])
@virtual
async def test_who_raises_do_not_restart_stays_failed(where: str, restart: str) -> None:
    """Whatever its policy says, and wherever it was raised."""
    app = Application("shop")
    life = app.add(Asking(where, DoNotRestart("no licence")), name="life", restart=restart)
    other = app.add(Life(), name="other")
    told = Told(app)
    async with serving(app) as task:
        life.go()
        await advance(10_000)
        assert life.state is State.FAILED
        assert life.incarnation == (2 if where == "on_start" else 1)
        assert other.incarnation == 1
        assert not task.done()
        assert not told.of(events.GaveUp)
        assert not told.of(events.Parked)
        (snapshot, _) = app.snapshot().services
        assert not snapshot.is_parked
        life.where = "nowhere"
        await life.start()
        assert life.state is State.RUNNING


@pytest.mark.parametrize(
    ("where", "policy"),
    [
        *((where, policy) for where in WHERE for policy in ({}, {"restart": "always"}, {"on_exhausted": "park"})),
        *((where, {"restart": "never"}) for where in WHERE if where != "on_start"),
    ],
)
@virtual
async def test_who_raises_escalate_ends_its_group(where: str, policy: dict[str, str]) -> None:
    """At the first failure, whatever its policy says; the group's own group restarts that, and is not ended."""
    app = Application("shop")
    group = app.add(Group(), name="group")
    life = group.add(Asking(where, Escalate("disk is gone")), name="life", **policy)
    other = group.add(Life(), name="other")
    told = Told(app)
    async with serving(app) as task:
        life.go()
        await advance(1.0 if where == "on_start" else 0.1)
        assert group.state is State.BACKOFF
        (gave_up,) = told.of(events.GaveUp)
        assert (gave_up.path, gave_up.culprit) == ("group", "group/life")
        assert "service 'group/life' asked for it" in gave_up.reason
        assert told.of(events.RestartScheduled)[-1].path == "group"
        life.where = "nowhere"
        await advance(5.0)
        assert states(app) == {"group/life": "running", "group/other": "running"}
        assert other.incarnation == 2
        assert not task.done()


@virtual
async def test_escalate_in_the_application_itself_ends_it() -> None:
    """There is no group above it."""
    app = Application("shop")
    life = app.add(Life(), name="life", restart="always", on_exhausted="park")
    async with serving(app) as task:
        life.fail(Escalate("disk is gone"))
        await settle()
        with pytest.raises(ApplicationFailed, match="service 'life': Escalate: disk is gone"):
            await task


@virtual
async def test_what_a_service_asks_for_concerns_its_own_group_alone() -> None:
    """Escalate ends one group, and that one is started again; DoNotRestart does not travel either."""
    app = Application("shop")
    outer = app.add(Group(), name="outer")
    inner = outer.add(Group(), name="inner")
    asking = inner.add(Life(), name="asking")
    job = inner.add(Life(), name="job", significant=True)
    async with serving(app):
        asking.fail(Escalate("up"))
        await settle()
        assert (inner.state, outer.state) == (State.BACKOFF, State.RUNNING)
        await advance(1.0)
        job.fail(DoNotRestart("no use"))
        await settle()
        assert (inner.state, outer.state) == (State.BACKOFF, State.RUNNING)


@pytest.mark.parametrize("error", [DoNotRestart("no"), Escalate("up")])
@virtual
async def test_asking_in_the_first_start_fails_the_start(error: Exception) -> None:
    """As any failure there does."""
    app = Application("shop")
    app.add(Life(), name="first")
    app.add(Life(), name="life", needs=["first"]).refuses = error
    with pytest.raises(StartFailed) as caught:
        await app.serve()
    assert caught.value.exceptions == (error,)
    assert states(app) == {"first": "stopped", "life": "failed"}


@virtual
async def test_a_parkable_service_that_asks_for_it_ends_the_first_start() -> None:
    """Escalate is for its group, which is starting: so that fails, whatever could be parked."""
    app = Application("shop")
    app.add(Life(), name="first")
    app.add(Life(), name="life", on_exhausted="park").refuses = Escalate("up")
    with pytest.raises(StartFailed, match="service 'life': Escalate: up"):
        await app.serve()
    assert states(app) == {"first": "stopped", "life": "failed"}


# -- significant -------------------------------------------------------------------------------------------------------


@virtual
async def test_a_significant_service_that_returns_ends_its_group_cleanly() -> None:
    """A job beside a database: the application has done what it was for."""
    app = Application("shop")
    app.add(Still(), name="db")
    job = app.add(Life(), name="job", needs=["db"], significant=True)
    told = Told(app)
    async with serving(app) as task:
        job.finish()
        await settle()
        assert task.done()
        assert task.exception() is None
    assert states(app) == {"db": "stopped", "job": "stopped"}
    assert not told.of(events.GaveUp)


@virtual
async def test_a_significant_service_in_a_group_ends_that_alone() -> None:
    """The group has then finished: what needs it keeps running, and it is not started again."""
    app = Application("shop")
    group = app.add(Group(), name="group")
    db = group.add(Still(), name="db")
    job = group.add(Life(), name="job", significant=True)
    web = app.add(Life(), name="web", needs=["group"])
    async with serving(app) as task:
        job.finish()
        await advance(1000)
        assert states(app) == {"group/db": "stopped", "group/job": "stopped", "web": "running"}
        assert (group.state, db.state) == (State.STOPPED, State.STOPPED)
        web.fail()
        await advance(1)
        assert (web.state, web.incarnation) == (State.RUNNING, 2)  # its need stays met
        assert str(group.health) == "ready: finished"
        assert not task.done()


@pytest.mark.parametrize(("policy", "outcome"), [({}, "stopped"), ({"restart": "always"}, "running")])
@virtual
async def test_a_group_that_finished_is_treated_as_its_own_policy_says(policy: dict[str, str], outcome: str) -> None:
    """As a run that returned."""
    app = Application("shop")
    group = app.add(Group(), name="group", **policy)
    job = group.add(Life(), name="job", significant=True)
    app.add(Still(), name="other")
    async with serving(app):
        job.finish()
        await advance(1)
        assert group.state.value == outcome


@virtual
async def test_significance_travels_group_by_group() -> None:
    """A significant group whose significant job returned ends its own group."""
    app = Application("shop")
    app.add(Still(), name="db")
    job = app.add(Group(), name="group", significant=True).add(Life(), name="job", significant=True)
    async with serving(app) as task:
        job.finish()
        await settle()
        assert task.done()
        assert task.exception() is None


@pytest.mark.parametrize("how", ["never", "DoNotRestart"])
@virtual
async def test_a_significant_service_that_stays_failed_fails_its_group(how: str) -> None:
    """Where it is not started again, that is its end."""
    app = Application("shop")
    app.add(Still(), name="db")
    job = app.add(Life(), name="job", significant=True, restart="never" if how == "never" else "on_failure")
    told = Told(app)
    async with serving(app) as task:
        job.fail(DoNotRestart("no") if how == "DoNotRestart" else None)
        await settle()
        with pytest.raises(ApplicationFailed, match="service 'job'"):
            await task
    (gave_up,) = told.of(events.GaveUp)
    assert gave_up.reason.startswith("service 'job' is significant, and failed: ")
    assert states(app) == {"db": "stopped", "job": "failed"}


@virtual
async def test_a_significant_service_that_is_started_again_has_not_ended() -> None:
    """Under on_failure its failure is one as any other."""
    app = Application("shop")
    job = app.add(Life(), name="job", significant=True)
    async with serving(app) as task:
        job.fail()
        await advance(1)
        assert (job.state, job.incarnation) == (State.RUNNING, 2)
        assert not task.done()


@virtual
async def test_a_significant_service_that_an_operator_stops_ends_nothing() -> None:
    """It has not ended by itself; nor if it fails while it stops."""
    app = Application("shop")
    job = app.add(Life(), name="job", significant=True)
    app.add(Still(), name="db")
    async with serving(app) as task:
        await job.stop()
        await advance(100)
        assert not task.done()
        assert app.state is State.RUNNING


def test_a_service_that_always_comes_back_cannot_be_significant() -> None:
    """Its end would never come."""
    with pytest.raises(ValueError, match="always comes back never ends"):
        Application("shop").add(Life(), significant=True, restart="always")


# -- what is away ------------------------------------------------------------------------------------------------------


@virtual
async def test_what_fails_while_a_need_is_away_waits_for_it_and_is_not_counted() -> None:
    """As often as it must be; it starts in the moment its need is back."""
    app = Application("shop")
    db = app.add(Life(), name="db")
    web = app.add(Life(), name="web", needs=["db"])
    told = Told(app)
    async with serving(app) as task:
        for number in range(15):
            db.fail()
            await settle()
            web.fail()
            await settle()
            delay = told.of(events.RestartScheduled, "db")[number].delay
            assert delay is not None
            assert states(app) == {"db": "backoff", "web": "backoff"}
            restart = told.of(events.RestartScheduled, "web")[number]
            assert (restart.delay, restart.failures) == (None, 0)
            assert restart.reason == "Boom: web; waits for service 'db', which is in backoff"
            await advance(delay)
            assert states(app) == {"db": "running", "web": "running"}
            assert told.when("web", State.STARTING)[-1] == told.when("db", State.RUNNING)[-1]
        assert web.incarnation == 16
        assert [one.failures for one in app.snapshot().services] == [15, 0]
        assert not task.done()


@virtual
async def test_a_need_that_is_not_ready_yet_is_waited_for_as_long_as_its_start_takes() -> None:
    """Not for its delay alone."""
    app = Application("shop")
    db = app.add(Life(), name="db")
    web = app.add(Life(), name="web", needs=["db"])
    async with serving(app):
        db.starts = 20.0
        db.fail()
        await settle()
        web.fail()
        await advance(15)
        assert states(app) == {"db": "starting", "web": "backoff"}
        await advance(6)
        assert states(app) == {"db": "running", "web": "running"}


@virtual
async def test_a_restart_that_fails_while_its_need_is_away_is_not_counted() -> None:
    """It was there when the start began, and had gone when it failed."""
    app = Application("shop")
    db = app.add(Life(), name="db")
    web = app.add(Life(), name="web", needs=["db"])
    told = Told(app)
    async with serving(app):
        web.starts, web.refuses = 5.0, Boom("no connection")
        db.starts = 20.0
        web.fail()
        await advance(2)
        assert web.state is State.STARTING
        db.fail()
        await advance(8)
        assert states(app) == {"db": "starting", "web": "backoff"}
        assert [event.failures for event in told.of(events.RestartScheduled, "web")] == [1, 1]
        web.starts, web.refuses = 0.0, None
        await advance(20)
        assert states(app) == {"db": "running", "web": "running"}


@virtual
async def test_one_that_was_counted_waits_for_its_need_as_well() -> None:
    """It failed first, its need a moment later; its own delay is over long before."""
    app = Application("shop")
    db = app.add(Life(), name="db")
    web = app.add(Life(), name="web", needs=["db"])
    async with serving(app):
        for _ in range(6):
            db.fail()
            await advance(31)
        web.fail()
        await settle()
        db.fail()
        await advance(10)
        assert states(app) == {"db": "backoff", "web": "backoff"}
        await advance(60)
        assert states(app) == {"db": "running", "web": "running"}


@pytest.mark.parametrize("away", ["stopped by an operator", "failed for good", "parked", "paused and failed"])
@virtual
async def test_whatever_keeps_a_need_away(away: str) -> None:
    """It is waited for until somebody brings it back."""
    app = Application("shop")
    policy = {"failed for good": {"restart": "never"}, "parked": {"on_exhausted": "park"}}.get(away, {})
    db = app.add(Life(), name="db", **policy)
    web = app.add(Life(), name="web", needs=["db"])
    app.add(Still(), name="other")
    async with serving(app):
        if away == "stopped by an operator":
            await db.stop()
        else:
            db.refuses = Boom("no disk")
            db.fail()
            await advance(2000 if away == "parked" else 0.1)
        web.fail()
        await advance(3)
        assert web.state is State.BACKOFF
        db.refuses = None
        await db.start()
        await settle()
        assert states(app) == {"db": "running", "web": "running", "other": "running"}


@virtual
async def test_a_need_that_is_a_group_is_away_with_any_of_its_services() -> None:
    """And the reason names that one."""
    app = Application("shop")
    back = app.add(Group(), name="back")
    db = back.add(Life(), name="db")
    back.add(Life(), name="cache")
    web = app.add(Life(), name="web", needs=["back"])
    told = Told(app)
    async with serving(app):
        db.fail()
        await settle()
        web.fail()
        await settle()
        assert told.of(events.RestartScheduled, "web")[0].reason.endswith(
            "waits for service 'back/db', which is in backoff"
        )
        await advance(1)
        assert web.state is State.RUNNING


# -- groups ------------------------------------------------------------------------------------------------------------


async def fail_until_its_group_gives_up(life: Life, group: Group) -> None:
    """Eleven failures in a minute, or however many are left."""
    while group.state is State.RUNNING:
        if life.state is not State.RUNNING:
            await life.start()
            await settle()
        life.fail()
        await settle()


@virtual
async def test_a_group_that_gives_up_stops_the_rest_and_is_started_again_as_a_whole() -> None:
    """Its services stop in order, it fails of what the culprit failed of, and its own group restarts it."""
    diary: list[str] = []
    app = Application("shop")
    group = app.add(Group(), name="group")
    db = group.add(Life(diary), name="db")
    life = group.add(Life(diary), name="life", needs=["db"])
    web = group.add(Life(diary), name="web", needs=["life"])
    outside = app.add(Life(), name="outside")
    told = Told(app)
    async with serving(app):
        await fail_until_its_group_gives_up(life, group)
        assert diary[-4:] == ["web stops", "web stopped", "db stops", "db stopped"]
        assert group.state is State.BACKOFF
        assert str(group._record.error) == "life"
        assert told.moves("group")[2:] == ["stopping", "failed", "backoff"]
        await advance(1)
        assert states(app) == {
            "group/db": "running", "group/life": "running", "group/web": "running", "outside": "running",
        }  # fmt: skip
        assert (db.incarnation, web.incarnation, outside.incarnation) == (2, 2, 1)


@virtual
async def test_a_group_that_starts_again_begins_anew() -> None:
    """What finished or stayed failed in it starts with it; what is down or parked does not; nothing is counted yet."""
    app = Application("shop")
    group = app.add(Group(), name="group")
    culprit = group.add(Life(), name="culprit")
    done = group.add(Life(), name="done")
    never = group.add(Life(), name="never", restart="never")
    down = group.add(Life(), name="down")
    parked = group.add(Life(), name="parked", on_exhausted="park")
    flaky = group.add(Life(), name="flaky")
    told = Told(app)
    async with serving(app):
        await down.stop()
        parked.refuses = Boom("parked")
        parked.fail()
        await advance(2000)
        parked.refuses = None
        done.finish()
        never.fail()
        flaky.fail()
        await settle()
        culprit.fail(Escalate("up"))
        await advance(1)
        assert states(app) == {
            "group/culprit": "running", "group/done": "running", "group/never": "running", "group/down": "stopped",
            "group/parked": "failed", "group/flaky": "running",
        }  # fmt: skip
        flaky.fail()
        await settle()
        assert told.of(events.RestartScheduled, "group/flaky")[-1].failures == 1
        await advance(1)
        for _ in range(7):  # one has been counted since it began anew
            await flaky.start()
            await settle()
            flaky.fail()
            await settle()
        assert group.state is State.RUNNING


@virtual
async def test_escalation_goes_through_nested_groups_up_to_the_end() -> None:
    """One that never comes up takes its group along, that its own after sixteen, until the application has failed."""
    app = Application("shop")
    outer = app.add(Group(), name="outer")
    inner = outer.add(Group(), name="inner")
    life = inner.add(Life(), name="life")
    other = app.add(Life(), name="other")
    told = Told(app)
    async with serving(app) as task:
        life.refuses = Boom("no disk")
        life.fail()
        await advance(1_000_000)
        assert task.done()
        with pytest.raises(ApplicationFailed, match="application 'shop' failed: service 'outer/inner/life': Boom: no"):
            await task
    gave_up = [(event.path, event.culprit) for event in told.of(events.GaveUp)]
    assert gave_up == [("outer/inner", "outer/inner/life"), ("outer", "outer/inner"), ("/", "outer")]
    assert [event.failures for event in told.of(events.RestartScheduled, "outer/inner")] == [*range(1, 16)]
    assert other.state is State.STOPPED


@virtual
async def test_a_group_has_been_in_health_while_all_in_it_was_up() -> None:
    """Its failures are in a row while what ends it keeps failing; a minute in which all was up begins a new row."""
    app = Application("shop")
    group = app.add(Group(), name="group")
    life = group.add(Life(), name="life")
    group.add(Life(), name="other")
    told = Told(app)
    async with serving(app):
        for _ in range(3):
            await fail_until_its_group_gives_up(life, group)
            await advance(60)
            while group.state is not State.RUNNING:
                await advance(1)
            life.fail()  # no minute of health
            await advance(3)
        await advance(61)
        life.fail()
        await advance(1)
        await fail_until_its_group_gives_up(life, group)
        assert [event.failures for event in told.of(events.RestartScheduled, "group")] == [1, 2, 3, 1]


@virtual
async def test_a_group_with_one_that_is_away_is_in_no_health() -> None:
    """However long the one that fails next was up."""
    app = Application("shop")
    group = app.add(Group(), name="group")
    life = group.add(Life(), name="life")
    flaky = group.add(Life(), name="flaky")
    told = Told(app)
    async with serving(app):
        life.fail(Escalate("up"))
        await advance(1)
        flaky.refuses = Boom("no disk")
        flaky.fail()
        await advance(150)
        assert (life.state, flaky.state) == (State.RUNNING, State.BACKOFF)
        life.fail(Escalate("up"))
        await advance(3)
        flaky.refuses = None
        await advance(70)
        assert (life.state, flaky.state) == (State.RUNNING, State.RUNNING)
        await advance(61)
        life.fail(Escalate("up"))
        await advance(1)
        assert [event.failures for event in told.of(events.RestartScheduled, "group")][:2] == [1, 2]
        assert [event.failures for event in told.of(events.RestartScheduled, "group")][-1] == 1


@virtual
async def test_a_group_whose_own_task_fails_is_started_again_with_all_in_it() -> None:
    """Its services stop first; it fails of its own, which is counted to it."""
    diary: list[str] = []

    class Hooked(Group):
        async def on_start(self) -> None:
            diary.append("group starts")

        async def on_stop(self) -> None:
            diary.append("group stops")

    app = Application("shop")
    group = app.add(Hooked(), name="group")
    group.add(Life(diary), name="life")
    told = Told(app)
    async with serving(app):
        group.spawn(_raise(Boom("own")))
        group.spawn(_raise(Boom("too")))
        await settle()
        assert group.state is State.BACKOFF
        assert diary == ["group starts", "life starts", "life runs", "life stops", "life stopped", "group stops"]
        (restart,) = told.of(events.RestartScheduled)
        assert (restart.path, restart.failures) == ("group", 1)
        await advance(1)
        assert diary[6:] == ["group starts", "life starts", "life runs"]


@virtual
async def test_an_application_whose_own_task_fails_ends() -> None:
    """As failed, once its services have stopped; a body around it is cancelled at once."""

    class Hooked(Application):
        async def on_start(self) -> None: ...

    app = Hooked("shop")
    app.add(Life(stops=5.0), name="life")
    moments: list[float] = []

    async def run_around_a_body() -> None:
        async with app:
            app.spawn(_raise(Boom("own")))
            try:
                await asyncio.sleep(100)
            finally:
                moments.append(asyncio.get_running_loop().time())

    with pytest.raises(ApplicationFailed, match="application 'shop' failed: application 'shop': Boom: own") as caught:
        await run_around_a_body()
    assert moments == [0.0]
    assert asyncio.get_running_loop().time() == 5.0
    assert [str(error) for error in caught.value.exceptions] == ["own"]
