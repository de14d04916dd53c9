"""How long a service waits before it is started again, what is counted, and when trying ends."""

from __future__ import annotations

import random

import pytest

from lives import Boom, Life, Told, advance, serving, settle, states, virtual
from plait import Application, Group, State, events
from plait._kernel.backoff import Care, allowed, count
from plait.errors import ApplicationFailed


@pytest.fixture(autouse=True)
def _same_dice() -> None:
    random.seed(4)


async def fail_again(life: Life, told: Told) -> float:
    """It fails, and runs again; the delay that was announced, in seconds."""
    path = life.path
    announced = len(told.of(events.RestartScheduled, path))
    life.fail()
    await settle()
    restart = told.of(events.RestartScheduled, path)[announced]
    assert restart.delay is not None
    await advance(restart.delay)
    assert life.state is State.RUNNING
    return restart.delay


# -- the delay ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failures", range(1, 16))
def test_a_delay_is_from_half_to_all_of_a_power_of_two_up_to_a_minute(failures: int) -> None:
    """Drawn evenly: both ends and the middle are reached, and nothing outside."""
    care = Care()
    care.failures = failures
    most = min(60.0, 0.5 * 2**failures)
    drawn = [care.next_delay() / most for _ in range(2_000)]
    assert 0.5 <= min(drawn) < 0.51
    assert 0.99 < max(drawn) <= 1.0
    assert 0.74 < sum(drawn) / len(drawn) < 0.76


@virtual
async def test_a_service_starts_again_when_the_delay_is_over_and_not_before() -> None:
    """And waits in BACKOFF, which snapshot and event tell with the seconds that are left."""
    app = Application("shop")
    life = app.add(Life(), name="db")
    told = Told(app)
    async with serving(app):
        life.fail()
        await settle()
        (restart,) = told.of(events.RestartScheduled, "db")
        delay = restart.delay
        assert delay is not None
        assert 0.5 <= delay <= 1.0
        assert (restart.failures, restart.incarnation, restart.reason) == (1, 1, "Boom: db")
        await advance(delay / 2)
        (snapshot,) = app.snapshot().services
        assert snapshot.state is State.BACKOFF
        assert (snapshot.failures, snapshot.restarts, snapshot.error) == (1, 0, "Boom: db")
        assert snapshot.restart_in == pytest.approx(delay / 2)
        await advance(delay / 2)
        assert told.when("db", State.STARTING) == pytest.approx([0.0, delay])
        (snapshot,) = app.snapshot().services
        assert (snapshot.state, snapshot.incarnation, snapshot.restarts) == (State.RUNNING, 2, 1)
        assert (snapshot.restart_in, snapshot.error) == (None, None)
    assert told.moves("db")[2:] == ["stopping", "failed", "backoff", "starting", "running", "stopping", "stopped"]


@virtual
async def test_the_delays_of_failures_in_a_row_grow_twofold_up_to_a_minute() -> None:
    """1, 2, 4 ... 60 s, each drawn from its upper half."""
    app = Application("shop")
    life = app.add(Life(), name="db")
    told = Told(app)
    async with serving(app):
        delays = [await fail_again(life, told) for _ in range(12)]
    most = [min(60.0, 0.5 * 2**n) for n in range(1, 13)]
    assert all(half <= delay <= full for half, delay, full in zip((m / 2 for m in most), delays, most, strict=True))
    assert most[-1] == 60.0


@virtual
async def test_services_that_fail_at_once_do_not_come_back_at_once() -> None:
    """The draws are their own, so nobody meets a herd."""
    app = Application("shop")
    lives = [app.add(Life(), name=f"life{number}") for number in range(20)]
    told = Told(app)
    async with serving(app):
        for life in lives:
            life.fail()
        await advance(1.0)
        moments = {told.when(life.path, State.STARTING)[1] for life in lives}
        assert len(moments) == 20
        assert min(moments) < 0.6
        assert max(moments) > 0.9


# -- health ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("health", "delay", "failures"), [(59.9, 0.0, 6), (60.0, 0.0, 1), (61.0, 62.0, 6), (62.0, 62.0, 1)]
)
def test_health_of_a_minute_or_of_the_last_delay_makes_a_service_as_good_as_new(
    health: float, delay: float, failures: int
) -> None:
    """Whichever is longer; it is computed when the service fails next."""
    care = Care()
    care.failures, care.delay = 5, delay
    care.failed(health)
    assert care.failures == failures


@virtual
async def test_a_service_that_was_healthy_for_a_minute_begins_with_the_shortest_delay() -> None:
    """59 s are not enough."""
    app = Application("shop")
    life = app.add(Life(), name="db")
    told = Told(app)
    async with serving(app):
        for _ in range(4):
            await fail_again(life, told)
        await advance(59.0)
        assert await fail_again(life, told) > 8.0
        await advance(60.0)
        assert await fail_again(life, told) <= 1.0
        assert [event.failures for event in told.of(events.RestartScheduled)] == [1, 2, 3, 4, 5, 1]


@virtual
async def test_time_in_the_start_is_no_health() -> None:
    """A start of two minutes that fails is a failure in a row, also after a life of hours."""
    app = Application("shop")
    life = app.add(Life(), name="db", start_timeout=1000)
    told = Told(app)
    async with serving(app):
        await advance(10_000)
        life.starts, life.refuses = 120.0, Boom("no disk")
        life.fail()
        await advance(1.0)
        await advance(120.0 + 2.0)
        await advance(120.0)
        assert [event.failures for event in told.of(events.RestartScheduled)] == [1, 2, 3]
        life.starts, life.refuses = 0.0, None


@virtual
async def test_time_in_which_it_stops_is_no_health() -> None:
    """Health ends where the failure begins."""
    app = Application("shop")
    life = app.add(Life(stops=30.0), name="db", stop_timeout=60)
    told = Told(app)
    async with serving(app):
        await advance(50)
        life.fail()
        await advance(31)
        await advance(50)
        life.fail()
        await advance(31)
        assert [event.failures for event in told.of(events.RestartScheduled)] == [1, 2]
        life.stops = 0.0


@virtual
async def test_time_in_which_a_check_failed_is_no_health() -> None:
    """It runs, but what good is that."""

    class Checked(Life):
        is_well = True

        async def check(self) -> None:
            if not self.is_well:
                raise Boom("ill")

    app = Application("shop")
    life = app.add(Checked(), name="db", check_period=5)
    told = Told(app)
    async with serving(app):
        await fail_again(life, told)
        life.is_well = False
        await advance(100)
        await fail_again(life, told)
        await advance(100)
        life.is_well = True
        await advance(50)
        await fail_again(life, told)
        await advance(70)
        await fail_again(life, told)
        assert [event.failures for event in told.of(events.RestartScheduled)] == [1, 2, 3, 1]


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("services", "failures"), [(0, 10), (1, 10), (3, 10), (4, 12), (100, 300)])
def test_how_many_failures_a_group_may_have(services: int, failures: int) -> None:
    """Ten, or three for each of its services, whichever is more."""
    assert allowed(services) == failures


def test_the_window_is_sixty_seconds() -> None:
    """What is as old as that is out."""
    care = Care()
    assert [count(care.services, now) for now in (0.0, 1.0, 59.9, 60.0, 61.0, 200.0)] == [1, 2, 3, 3, 3, 1]


@virtual
async def test_the_sixteenth_failure_in_a_row_ends_the_application() -> None:
    """The fifteenth does not; the cause leaves, and the event says why."""
    app = Application("shop")
    life = app.add(Life(), name="db")
    told = Told(app)
    async with serving(app) as task:
        for _ in range(15):
            await fail_again(life, told)
        assert app.state is State.RUNNING
        life.fail()
        await settle()
        assert task.done()
        with pytest.raises(ApplicationFailed, match="application 'shop' failed: service 'db': Boom: db"):
            await task
    (gave_up,) = told.of(events.GaveUp)
    assert (gave_up.path, gave_up.culprit) == ("/", "db")
    assert gave_up.reason == "service 'db' failed 16 times in a row: Boom: db"
    assert states(app) == {"db": "failed"}


@virtual
async def test_a_start_that_fails_counts_as_any_failure() -> None:
    """Fifteen restarts whose start fails are the end."""
    app = Application("shop")
    life = app.add(Life(), name="db")
    told = Told(app)
    async with serving(app) as task:
        life.refuses = Boom("no disk")
        life.fail()
        await advance(10_000)
        assert task.done()
        assert life.incarnation == 16
    assert len(told.of(events.RestartScheduled)) == 15


@pytest.mark.parametrize(("services", "most"), [(11, 33), (4, 12), (3, 10), (1, 10)])
@virtual
async def test_more_failures_in_a_minute_than_a_group_may_have_end_it(services: int, most: int) -> None:
    """As many as it may have do not; `services` stand in the group, and fail in turn."""
    app = Application("shop")
    lives = [app.add(Life(), name=f"life{number}") for number in range(services)]
    told = Told(app)
    async with serving(app) as task:
        for number in range(most):
            life = lives[number % services]
            if life.state is not State.RUNNING:
                await life.start()  # an operator: the service's own count begins anew, the group's does not
                await settle()
            life.fail()
            await settle()
        assert app.state is State.RUNNING
        await lives[0].start()
        await settle()
        lives[0].fail()
        await settle()
        assert task.done()
    assert told.of(events.GaveUp)[0].reason.startswith(f"{most + 1} failures in its group in 60 s, the last of")


@virtual
async def test_failures_a_minute_ago_do_not_count_any_more() -> None:
    """Ten, and after a minute ten more."""
    app = Application("shop")
    life = app.add(Life(), name="db")
    async with serving(app) as task:
        for _ in range(2):
            for _ in range(10):
                await life.start()
                await settle()
                life.fail()
                await settle()
            await advance(60.0)
        assert not task.done()


# -- parkable ----------------------------------------------------------------------------------------------------------


@virtual
async def test_a_parkable_service_is_parked_after_sixteen_failures_in_a_row() -> None:
    """FAILED, with the application up; it stays so until an operator starts it, and its counts begin anew then."""
    app = Application("shop")
    life = app.add(Life(), name="extra", on_exhausted="park")
    told = Told(app)
    async with serving(app) as task:
        for _ in range(15):
            await fail_again(life, told)
        life.fail()
        await advance(10_000)
        assert life.state is State.FAILED
        assert told.of(events.Parked, "extra")[0].reason == "service 'extra' failed 16 times in a row: Boom: extra"
        assert not told.of(events.GaveUp)
        (snapshot,) = app.snapshot().services
        assert (snapshot.is_parked, snapshot.failures, snapshot.restart_in) == (True, 16, None)
        await life.start()
        (snapshot,) = app.snapshot().services
        assert (snapshot.is_parked, snapshot.failures) == (False, 0)
        await settle()
        assert await fail_again(life, told) <= 1.0
        assert not task.done()


@virtual
async def test_a_parkable_service_has_a_window_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten failures in a minute, however many services its group has; the eleventh parks it."""
    monkeypatch.setattr(Care, "next_delay", lambda self: 0.5)
    app = Application("shop")
    life = app.add(Life(), name="extra", on_exhausted="park")
    for number in range(20):
        app.add(Life(), name=f"life{number}")
    told = Told(app)
    async with serving(app) as task:
        for _ in range(10):
            await fail_again(life, told)
        assert not told.of(events.Parked)
        life.fail()
        await settle()
        (parked,) = told.of(events.Parked)
        assert parked.reason == "11 failures in 60 s, the last of service 'extra': Boom: extra"
        assert not task.done()


@virtual
async def test_failures_of_a_parkable_service_do_not_count_in_its_group() -> None:
    """Ten of it, and ten of its sibling, are no more than ten."""
    app = Application("shop")
    extra = app.add(Life(), name="extra", on_exhausted="park")
    life = app.add(Life(), name="db")
    async with serving(app) as task:
        for service in (extra, life):
            for _ in range(10):
                await service.start()
                await settle()
                service.fail()
                await settle()
        assert not task.done()
        assert app.state is State.RUNNING


@virtual
async def test_a_parkable_group_counts_its_services_failures_and_its_own_apart() -> None:
    """The failures of its services end it; only its own failures park it."""
    app = Application("shop")
    group = app.add(Group(), name="group", on_exhausted="park")
    life = group.add(Life(), name="db")
    told = Told(app)
    async with serving(app):
        for _ in range(11):
            await life.start()
            await settle()
            life.fail()
            await settle()
        assert group.state is State.BACKOFF
        assert not told.of(events.Parked)
        (restart,) = told.of(events.RestartScheduled, "group")
        assert restart.failures == 1
        await advance(1.0)
        assert group.state is State.RUNNING
        life.fail()
        await advance(1.0)
        assert group.state is State.RUNNING  # its services' count has begun anew with it
        assert told.of(events.RestartScheduled, "group/db")[-1].failures == 1
