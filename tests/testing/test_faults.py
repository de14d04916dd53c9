"""Faults: each kind, on each hook, at the calls that were asked for, and put back afterwards."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from plait import Application, Group, Service, State, service
from plait._kernel.events import RestartScheduled, StateChanged
from plait._kernel.hooks import HOOKS
from plait.errors import (
    ApplicationFailed,
    InjectedFault,
    LifecycleError,
    NotSeen,
    PauseFailed,
    ServiceCancelled,
    StartFailed,
    StartTimeout,
)
from plait.testing import Faults, Recorder, advance, running, settle

pytestmark = [pytest.mark.virtual_clock, pytest.mark.usefixtures("no_leaks")]


class Bare(Service):
    """Has no hook at all."""


class Full(Service):
    """Has them all, and writes them down."""

    def __init__(self) -> None:
        self.diary: list[str] = []

    async def on_start(self) -> None:
        self.diary.append("on_start")

    async def run(self) -> None:
        self.diary.append("run")
        await asyncio.Event().wait()

    async def on_drain(self) -> None:
        self.diary.append("on_drain")

    async def on_stop(self) -> None:
        self.diary.append("on_stop")

    async def on_pause(self) -> None:
        self.diary.append("on_pause")

    async def on_resume(self) -> None:
        self.diary.append("on_resume")

    async def on_reload(self) -> None:
        self.diary.append("on_reload")

    async def check(self) -> None:
        self.diary.append("check")


def app_of(*services: Service, **policy: Any) -> Application:
    """An application of these, named a, b, c."""
    app = Application("app")
    for name, one in zip("abc", services, strict=False):
        app.add(one, name=name, **policy)
    return app


def now() -> float:
    return asyncio.get_running_loop().time()


async def live(app: Application) -> None:
    """A whole life: start, pause, resume, a minute, stop; what fails on the way does not matter."""
    try:
        async with app:
            await settle()
            for call in (app["a"].pause, app["a"].resume):
                try:
                    await call()
                except (PauseFailed, LifecycleError):
                    pass
            await advance(60)
    except (StartFailed, ApplicationFailed):
        pass


def stopped(app: Application) -> bool:
    return all(one.state in (State.STOPPED, State.FAILED, State.NEW) for one in app.snapshot().walk())


# -- every hook ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Bare, Full])
@pytest.mark.parametrize("hook", [hook for hook in HOOKS if hook != "on_reload"])
@pytest.mark.parametrize("kind", ["fail", "cancel", "hang", "slow", "ignore_cancellation"])
async def test_every_kind_strikes_on_every_hook(kind: str, hook: str, make: type[Service]) -> None:
    """Whether the class has the hook or not, it is called, and the fault strikes; the application still ends."""
    app = app_of(make())
    arguments = [7.0] if kind in ("slow", "ignore_cancellation") else []
    with Faults(app) as faults:
        fault = getattr(faults, kind)("a", hook, *arguments)
        await live(app)
        assert fault.strikes >= 1
        assert fault.calls == fault.strikes
    await settle()
    assert stopped(app)


async def test_a_reload_is_struck_too() -> None:
    """A service that cannot reload live becomes one that can, and fails of it."""
    app = app_of(Bare())
    with Faults(app) as faults:
        faults.fail("a", "on_reload", ZeroDivisionError)
        assert app["a"]._record.shape.reload
        with pytest.raises(ZeroDivisionError):
            await app["a"].on_reload()
    assert not app["a"]._record.shape.reload


@pytest.mark.parametrize("hook", HOOKS)
async def test_a_class_is_as_it_was(hook: str) -> None:
    """Its dictionary, the records' shapes, and what a service does."""

    class Inherits(Full):
        pass

    services = [Bare(), Full(), Inherits()]
    app = app_of(*services)
    before = [dict(vars(type(one))) for one in services], [one._record.shape for one in services]
    with Faults(app) as faults:
        for path in "abc":
            faults.fail(path, hook)
            faults.slow(path, hook, 1)
        assert [dict(vars(type(one))) for one in services] != before[0]
    assert ([dict(vars(type(one))) for one in services], [one._record.shape for one in services]) == before
    async with app:
        await settle()
    assert services[1].diary == services[2].diary == ["on_start", "run", "check", "on_drain", "on_stop"]  # type: ignore[attr-defined]


async def test_only_the_one_service_is_struck() -> None:
    """Not another of the same class, nor one of a subclass; nor do those get hooks that their class has not."""

    class Inherits(Full):
        pass

    app = app_of(Full(), Full(), Inherits())
    app.add(Bare(), name="d")
    app.add(Bare(), name="e")
    with Faults(app) as faults:
        fault = faults.slow("a", "on_start", 5)
        other = faults.fail("d", "on_start", at=9)
        async with app:
            assert now() == 5
            assert (fault.calls, other.calls) == (1, 1)
            assert not app["e"]._record.shape.start
    assert [app[name].diary[0] for name in "abc"] == ["on_start"] * 3  # type: ignore[attr-defined]


async def test_a_hook_that_a_class_has_not_does_nothing_until_it_is_struck() -> None:
    """With a fault at its second call the first `run` waits, as a service without one does."""
    app = app_of(Bare())
    with Faults(app) as faults:
        for hook in HOOKS:
            faults.fail("a", hook, at=2)
        async with app:
            await advance(3)
            assert app["a"].state is State.RUNNING
    assert app["a"].state is State.STOPPED


async def test_other_kinds_of_services() -> None:
    """One with slots, one made of a generator, a group, the application itself, one deep in the tree."""

    class Slots(Service):
        __slots__ = ()

        async def on_start(self) -> None: ...

    @service
    async def generated() -> AsyncIterator[int]:
        yield 7

    class Shop(Application): ...

    app = Shop()
    group = app.add(Group(), name="group")
    group.add(Slots(), name="slots")
    made = group.add(generated(), name="made")
    with Faults(app) as faults:
        put = [faults.slow(path, "on_start", 1) for path in ("/", "group", "group/slots", "/group/made")]
        async with app:
            assert now() == 3  # the two in the group start together
            assert made.value == 7
    assert [fault.strikes for fault in put] == [1, 1, 1, 1]


# -- every kind ------------------------------------------------------------------------------------------------------


async def test_fail_raises_what_it_is_given() -> None:
    """An exception, a class, a function that makes one, or an InjectedFault that says where."""
    error = ValueError("given")
    for given, expected in ((error, "given"), (KeyError, ""), (lambda: OSError("made"), "made")):
        with Faults(app := app_of(Full())) as faults:
            faults.fail("a", "on_start", given)
            with pytest.raises(StartFailed) as caught:
                await app.serve()
        assert expected in str(caught.value.exceptions[0])
        assert not isinstance(caught.value.exceptions[0], InjectedFault)
    with Faults(app := app_of(Full())) as faults:
        faults.fail("a", "on_start")
        with pytest.raises(StartFailed, match="InjectedFault: the test makes on_start of 'a' fail"):
            await app.serve()


async def test_hang_is_cut_off_by_the_deadline() -> None:
    """It can be cancelled, so the start fails at start_timeout and nothing is left behind."""
    app = app_of(Full(), start_timeout=12)
    with Faults(app) as faults:
        faults.hang("a", "on_start")
        with pytest.raises(StartFailed) as caught:
            await app.serve()
    assert isinstance(caught.value.exceptions[0], StartTimeout)
    assert now() == 12
    assert app.left_behind == ()
    assert app["a"].diary == []  # type: ignore[attr-defined]


async def test_who_hangs_goes_on_when_the_fault_is_lifted() -> None:
    """With the hook itself."""
    app = app_of(Full())
    with Faults(app) as faults:
        fault = faults.hang("a", "on_start")
        serving = asyncio.create_task(app.serve())
        await fault.struck()
        await advance(3)
        fault.lift()
        await app.wait_ready()
        assert now() == 3
    await app.stop()
    await serving
    assert app["a"].diary[0] == "on_start"  # type: ignore[attr-defined]


async def test_slow_does_its_work_later() -> None:
    """In the loop's time."""
    app = app_of(Full())
    with Faults(app) as faults:
        faults.slow("a", "on_start", 5)
        async with app:
            assert now() == 5
            assert app["a"].diary[0] == "on_start"  # type: ignore[attr-defined]


async def test_block_blocks_the_loop() -> None:
    """In the machine's time: the loop's stands still."""
    app = app_of(Full())
    with Faults(app) as faults:
        faults.block("a", "on_start", 0.1)
        begin = time.monotonic()
        async with app:
            assert time.monotonic() - begin >= 0.1
            assert now() == 0


async def test_cancel_is_a_cancellation_that_nobody_asked_for() -> None:
    """Which is the service's failure."""
    app = app_of(Full())
    with Faults(app) as faults:
        faults.cancel("a", "on_start")
        with pytest.raises(StartFailed) as caught:
            await app.serve()
    assert isinstance(caught.value.exceptions[0], ServiceCancelled)


class Works(Service):
    """Works, a unit a second; notes when it is told to end."""

    def __init__(self) -> None:
        self.units = 0
        self.told = -1.0

    async def run(self) -> None:
        try:
            while True:
                await asyncio.sleep(1)
                self.units += 1
        finally:
            self.told = now()


async def test_a_cancellation_is_ignored_for_a_time() -> None:
    """The work goes on meanwhile; `seconds` after the first cancellation it arrives."""
    app = app_of(Works())
    with Faults(app) as faults:
        faults.ignore_cancellation("a", "run", 4.5)
        async with app:
            await advance(10)
    assert now() == 14.5
    works = app["a"]
    assert isinstance(works, Works)
    assert (works.units, works.told) == (14, 14.5)
    assert app.left_behind == ()


async def test_a_cancellation_is_ignored_for_ever() -> None:
    """What will not stop is left behind by name; it ends when the fault is restored, and then nothing is left."""
    app = app_of(Works(), stop_timeout=10)
    with Faults(app) as faults:
        faults.ignore_cancellation("a", "run")
        with pytest.raises(ApplicationFailed):
            async with app:
                await advance(10)
        assert len(app.left_behind) == 1
        assert "service 'a'" in app.left_behind[0]
        assert now() == 21
        assert app["a"].told == -1.0  # type: ignore[attr-defined]
    await settle()
    assert app["a"].told == 21  # type: ignore[attr-defined]


async def test_crash_fails_a_running_service_now(recorder: Recorder) -> None:
    """In the middle of its life; it is started again as its policy says."""
    app = app_of(Works(), Bare())
    app.subscribe(recorder)
    faults = Faults(app)
    with pytest.raises(LifecycleError):
        faults.crash("a")
    async with app:
        await advance(7)
        faults.crash("a", ConnectionError("lost"))
        failed = await recorder.wait(StateChanged, path="a", new=State.FAILED)
        assert isinstance(failed.error, ConnectionError)
        assert now() == 7
        faults.crash("b")
        await recorder.wait(RestartScheduled, path="b")
        await recorder.wait(StateChanged, path="a", new=State.RUNNING, incarnation=2)
    assert faults.paths == {"a", "b"}


# -- when it strikes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "strikes"), [(1, {1}), (3, {3}), (range(2, 4), {2, 3}), ({1, 4}, {1, 4}), (None, {1, 2, 3, 4})]
)
async def test_it_strikes_at_the_calls_that_were_asked_for(at: Any, strikes: set[int]) -> None:
    """The n-th, those of a range or a set, or all; calls are counted over the lives of a service."""
    app = app_of(Full())
    with Faults(app) as faults:
        async with app:
            fault = faults.slow("a", "on_start", 5, at=at)
            took = []
            for _ in range(4):
                begin = now()
                await app["a"].restart()
                took.append(now() - begin)
    assert took == [5.0 if call in strikes else 0.0 for call in range(1, 5)]
    assert (fault.calls, fault.strikes) == (4, len(strikes))


async def test_faults_on_one_hook_strike_in_order() -> None:
    """Each in turn, until one does not let the call go on; also those of two injectors."""
    app = app_of(Full())
    with Faults(app) as first, Faults(app) as second:
        put = [
            first.slow("a", "on_start", 3), second.slow("a", "on_start", 4),
            first.fail("a", "on_start"), first.slow("a", "on_start", 5),
        ]  # fmt: skip
        with pytest.raises(StartFailed):
            await app.serve()
        assert now() == 7
        assert [fault.strikes for fault in put] == [1, 1, 1, 0]
        second.restore()
        put[2].lift()
        async with app:
            assert now() == 15


async def test_struck_waits() -> None:
    """For so many strikes, and says so if they do not come."""
    app = app_of(Full())
    with Faults(app) as faults:
        fault = faults.slow("a", "on_start", 1)
        async with app:
            await fault.struck()
            waiting = asyncio.create_task(fault.struck(2))
            await settle()
            assert not waiting.done()
            await app["a"].restart()
            await waiting
            with pytest.raises(
                NotSeen, match="on_start of 'a': 2 strikes in 2 calls> did not strike 3 times within 5 s"
            ):
                await fault.struck(3, timeout=5)


# -- where it is put -------------------------------------------------------------------------------------------------


async def test_a_plan_is_for_the_trees_that_join() -> None:
    """Put before there is a tree; the first must have every path, later ones take what they have."""
    first, second, third = app_of(Full()), app_of(Full()), app_of()
    third.add(Bare(), name="z")
    with Faults() as faults:
        fault = faults.slow("a", "on_start", 5)
        for app in (first, second, third):
            faults.join(app)
        faults.slow("z", "on_start", 1)
        for app in (first, second, third):
            async with app:
                pass
        assert fault.strikes == 2
        assert now() == 11
    with Faults() as faults:
        faults.slow("nowhere", "on_start", 5)
        with pytest.raises(LookupError, match="no service 'nowhere' to put a fault on; there are /, a"):
            faults.join(first)


async def test_a_tree_that_joins_twice_is_struck_once() -> None:
    """As one does that is then given to `running`; and a tree that nobody else has is not kept."""
    app = app_of(Full())
    with Faults(app) as faults:
        fault = faults.slow("a", "on_start", 5)
        async with running(app, faults=faults):
            assert now() == 5
        assert fault.strikes == 1
        for _ in range(3):
            faults.join(Application("gone"))
        gc.collect()
        assert faults._trees == [app]


async def test_what_cannot_be_struck_is_refused() -> None:
    """A hook that no service has, the run of a group, a path that is not there."""
    app = app_of(Full(), Group())
    with Faults(app) as faults:
        with pytest.raises(ValueError, match="'on_begin' is no hook of a service; those are on_start, run"):
            faults.fail("a", "on_begin")
        with pytest.raises(ValueError, match="group 'b' is a group, which has no run"):
            faults.fail("b", "run")
        with pytest.raises(LookupError, match="there are /, a, b"):
            faults.fail("c", "run")
        with pytest.raises(LookupError, match="'c'"):
            faults.crash("c")
        assert faults.placed == []
    with pytest.raises(ValueError, match="'on_begin' is no hook"):
        Faults().fail("a", "on_begin")


async def test_put_on_while_it_runs() -> None:
    """On a hook that the class has not, of a service that has no task: it is called all the same."""
    app = app_of(Bare())
    with Faults(app) as faults:
        async with app:
            put = [faults.slow("a", hook, 2) for hook in ("on_stop", "on_drain", "check")]
            await settle()
            assert put[2].strikes == 1
        assert now() == 4
        assert [fault.strikes for fault in put] == [1, 1, 1]


async def test_a_stop_is_struck_of_a_service_that_has_no_task() -> None:
    """Put on while it runs, and by itself."""
    app = app_of(Bare())
    with Faults(app) as faults:
        async with app:
            fault = faults.slow("a", "on_stop", 2)
        assert (fault.strikes, now()) == (1, 2)


async def test_a_check_that_is_restored_is_forgotten() -> None:
    """The service is as healthy as one without a check, and nothing is due any more."""
    app = app_of(Bare())
    async with app:
        with Faults(app) as faults:
            fault = faults.fail("a", "check")
            await advance(25)
            assert fault.strikes == 3
            assert app["a"].health.level.value == "unready"
        assert app["a"].health.level.value == "ready"
        await settle()
        assert app["a"]._engine().deadlines._live == 0
