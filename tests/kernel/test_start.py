"""Starting a tree: by needs, concurrently where nothing orders it, and all or nothing."""

from __future__ import annotations

import asyncio

import pytest

from diary import Diary, Runner, Writer, spread
from plait import Application, Group, Service, State, events
from plait.errors import InvalidTree, LifecycleError, StartFailed, StartInterrupted, StartTimeout


def states(app: Application) -> dict[str, str]:
    """Every service's state, by path."""
    return {service.path: service.state.value for service in app.snapshot().walk()}


async def test_a_service_starts_after_what_it_needs_is_ready(diary: Diary) -> None:
    """Not merely after it began: the need's on_start has returned."""
    ready: list[State] = []

    class Web(Service):
        async def on_start(self) -> None:
            ready.append(app["db"].state)

    app = Application("shop")
    app.add(Web(), needs=["db"])
    app.add(Writer(diary, on_start=0.01), name="db")
    async with app:
        assert ready == [State.RUNNING]


async def test_what_nothing_orders_starts_concurrently(diary: Diary) -> None:
    """Each of three waits until all three have begun, which only concurrent starts can do."""
    begun = asyncio.Barrier(3)

    class Part(Service):
        async def on_start(self) -> None:
            await begun.wait()

    app = Application("shop")
    for name in "abc":
        app.add(Part(), name=name, start_timeout=5)
    async with app:
        assert states(app) == {"/": "running", "a": "running", "b": "running", "c": "running"}


async def test_needing_a_group_is_needing_all_of_its_services(diary: Diary) -> None:
    """And a group that needs something holds back every service in it."""
    app = Application("shop")
    app.add(Writer(diary), name="last", needs=["back"])
    back = app.add(Group(), name="back", needs=["first"])
    back.add(Writer(diary, on_start=0.01), name="slow")
    back.add(Writer(diary), name="fast")
    app.add(Writer(diary, on_start=0.01), name="first")
    async with app:
        assert diary[0] == "first on_start"
        assert diary[-1] == "last on_start"


async def test_needs_reach_across_groups_by_path_and_by_object(diary: Diary) -> None:
    """A path from the root, or the service itself."""
    app = Application("shop")
    front, back = app.add(Group(), name="front"), app.add(Group(), name="back")
    db = back.add(Writer(diary, on_start=0.01), name="db")
    front.add(Writer(diary), name="by_path", needs=["/back/db"])
    front.add(Writer(diary), name="by_object", needs=[db])
    async with app:
        assert diary[0] == "db on_start"
        assert len(diary) == 3


async def test_a_group_with_hooks_opens_before_its_services_and_closes_after_them(diary: Diary) -> None:
    """on_start, the services, on_stop."""

    class Back(Group):
        async def on_start(self) -> None:
            diary.append("back on_start")

        async def on_drain(self) -> None:
            diary.append("back on_drain")

        async def on_stop(self) -> None:
            diary.append("back on_stop")

    app = Application("shop")
    app.add(Back(), name="back").add(Writer(diary), name="db")
    async with app:
        assert diary == ["back on_start", "db on_start"]
    assert diary[2:] == ["back on_drain", "db on_stop", "back on_stop"]


async def test_the_first_failure_stops_what_started_in_reverse(diary: Diary) -> None:
    """One ExceptionGroup, root cause first; what needed the failed one never began."""
    app = Application("shop")
    app.add(Writer(diary), name="a")
    app.add(Writer(diary), name="b", needs=["a"])
    app.add(Writer(diary, on_start=OSError("no disk")), name="bad", needs=["b"])
    app.add(Writer(diary), name="never", needs=["bad"])
    with pytest.raises(StartFailed) as caught:
        await app.serve()
    assert spread(caught.value) == ["no disk"]
    assert diary == ["a on_start", "b on_start", "bad on_start", "b on_stop", "a on_stop"]
    assert states(app) == {"/": "failed", "a": "stopped", "b": "stopped", "bad": "failed", "never": "new"}
    assert "service 'bad': OSError: no disk" in str(caught.value)
    assert "stopped again: 'a', 'b'" in str(caught.value)


async def test_what_is_starting_is_cancelled_when_another_fails(diary: Diary) -> None:
    """It does not wait for the slow one to finish, and on_stop is not owed to what never started."""
    app = Application("shop")
    slow = app.add(Writer(diary, on_start=60), name="slow")
    app.add(Writer(diary, on_start=OSError("no")), name="bad")
    with pytest.raises(StartFailed):
        await app.serve()
    assert slow.state is State.STOPPED
    assert "slow on_stop" not in diary


async def test_errors_of_the_roll_back_come_after_the_root_cause(diary: Diary) -> None:
    """All of them, in one group."""
    app = Application("shop")
    app.add(Writer(diary, on_stop=RuntimeError("cannot stop")), name="a")
    app.add(Writer(diary, on_start=OSError("no disk")), name="bad", needs=["a"])
    with pytest.raises(StartFailed) as caught:
        await app.serve()
    assert spread(caught.value) == ["no disk", "cannot stop"]


async def test_a_service_that_fails_while_others_start_fails_the_start(diary: Diary) -> None:
    """Its run raised before the tree was up."""
    app = Application("shop")
    app.add(Runner(diary, run=ValueError("at once")), name="early")
    app.add(Writer(diary, on_start=60), name="slow")
    with pytest.raises(StartFailed, match="service 'early': ValueError: at once"):
        await app.serve()


async def test_a_start_that_hangs_is_a_timeout_that_names_the_line(diary: Diary) -> None:
    """After start_timeout, with the service, the place and the cure."""
    app = Application("shop")
    app.add(Writer(diary, on_start=60), name="slow", start_timeout=0.05)
    with pytest.raises(StartFailed) as caught:
        await app.serve()
    error = caught.value.exceptions[0]
    assert isinstance(error, StartTimeout)
    assert "service 'slow' was not ready after 0.05 s" in str(error)
    assert "diary.py" in str(error)
    assert "raise start_timeout" in str(error)


async def test_a_start_that_is_cancelled_by_somebody_else_fails() -> None:
    """A task that cancels itself is no quiet stop."""

    class Odd(Service):
        async def on_start(self) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(1)

    app = Application("shop")
    app.add(Odd())
    with pytest.raises(StartFailed, match="was cancelled, but not by Plait"):
        await app.serve()


async def test_cancelling_the_last_caller_rolls_the_start_back(diary: Diary) -> None:
    """A caller beside it may go without a trace."""
    app = Application("shop")
    app.add(Writer(diary), name="a")
    app.add(Writer(diary, on_start=60), name="slow", needs=["a"])
    first, second = asyncio.create_task(app.start()), asyncio.create_task(app.start())
    while "slow on_start" not in diary:
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    assert app["slow"].state is State.STARTING
    second.cancel()
    await asyncio.wait([second])
    assert second.cancelled()
    assert states(app) == {"/": "stopped", "a": "stopped", "slow": "stopped"}
    assert diary[-1] == "a on_stop"


async def test_stop_during_start_is_quiet(diary: Diary) -> None:
    """serve() returns as after any requested stop; one who called start() is told."""
    app = Application("shop")
    app.add(Writer(diary), name="a")
    app.add(Writer(diary, on_start=60), name="slow", needs=["a"])
    serving, starting = asyncio.create_task(app.serve()), asyncio.create_task(app.start())
    while "slow on_start" not in diary:
        await asyncio.sleep(0)
    await app.stop()
    await serving
    with pytest.raises(StartInterrupted, match="stopped while it was starting"):
        await starting
    assert diary[-1] == "a on_stop"


async def test_stopping_one_service_during_the_start_leaves_out_what_needs_it(diary: Diary) -> None:
    """The others come up; who stays down, and why, is said."""
    app = Application("shop")
    app.add(Writer(diary, on_start=60), name="slow")
    app.add(Writer(diary), name="web", needs=["slow"])
    app.add(Writer(diary, on_start=0.01), name="other")
    said: list[str] = []
    app.subscribe(lambda e: said.append(f"{e.path}: {e.reason}") if isinstance(e, events.NotStarted) else None)
    starting = asyncio.create_task(app.start())
    while "slow on_start" not in diary:
        await asyncio.sleep(0)
    await app["slow"].stop()
    await starting
    assert states(app) == {"/": "running", "slow": "stopped", "web": "new", "other": "running"}
    assert said == ["web: it needs service 'slow', which is down"]
    await app.stop()


@pytest.mark.parametrize("count", [1, 501, 2_000])
async def test_a_large_tree_starts_and_stops_whole(count: int) -> None:
    """Also beyond the slice after which the loop is given a turn."""
    app = Application("many")
    for number in range(count):
        app.add(Service(), name=f"s{number}")
    async with app:
        assert all(service.state is State.RUNNING for service in app)
    assert all(service.state is State.STOPPED for service in app)


# -- what is wrong is found before anything is touched -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ({"a": ["bb"], "b": []}, "service 'a' needs 'bb', which is not there; did you mean 'b'?"),
        ({"a": ["/x/y"], "b": []}, "service 'a' needs '/x/y', which is not there"),
        ({"a": ["b"], "b": ["a"]}, "a cycle, in which nothing could start first"),
    ],
)
async def test_needs_are_checked_before_anything_starts(
    diary: Diary, needs: dict[str, list[str]], message: str
) -> None:
    """No hook has run, and every state is still NEW."""
    app = Application("shop")
    for name, needed in needs.items():
        app.add(Writer(diary), name=name, needs=needed)
    with pytest.raises(InvalidTree) as caught:
        await app.serve()
    assert message in str(caught.value)
    assert diary == []
    assert set(states(app).values()) == {"new"}


async def test_every_wrong_need_is_reported() -> None:
    """Not only the first."""
    app = Application("shop")
    app.add(Service(), name="a", needs=["x"])
    app.add(Service(), name="b", needs=["y"])
    with pytest.raises(InvalidTree) as caught:
        await app.serve()
    assert "'x'" in str(caught.value)
    assert "'y'" in str(caught.value)


async def test_needing_what_one_is_part_of_is_a_cycle() -> None:
    """An ancestor, and a descendant."""
    app = Application("shop")
    group = app.add(Group(), name="group")
    group.add(Service(), name="inner", needs=["/group"])
    with pytest.raises(InvalidTree, match=r"'group' holds 'group/inner', 'group/inner' needs 'group'"):
        await app.serve()
    app = Application("shop")
    group = app.add(Group(), name="group", needs=["/group/inner"])
    group.add(Service(), name="inner")
    with pytest.raises(InvalidTree, match="a cycle"):
        await app.serve()


async def test_what_runs_in_each_worker_may_not_need_what_runs_in_one() -> None:
    """With any number of workers, so that adding workers later breaks nothing."""
    app = Application("shop")
    app.add(Service(), name="single", placement="one")
    app.add(Service(), name="web", needs=["single"])
    with pytest.raises(InvalidTree, match="service 'web' runs in each worker and needs service 'single'"):
        await app.serve()


async def test_an_empty_application_is_an_error_unless_embedded() -> None:
    """serve() would wait for nothing for ever; a body may add services."""
    app = Application("shop")
    with pytest.raises(InvalidTree, match="has no services"):
        await app.serve()
    async with app:
        service = app.add(Service(), name="late")
        await service.start()
        assert service.state is State.RUNNING


async def test_a_service_outside_an_application_cannot_start() -> None:
    """It says what to do instead."""
    with pytest.raises(LifecycleError, match="is in no application"):
        await Service().start()


async def test_a_service_cannot_start_in_a_group_that_is_at_rest() -> None:
    """Nor in an application that has not started."""
    app = Application("shop")
    service = app.add(Service(), name="a")
    with pytest.raises(LifecycleError, match="service 'a' cannot start while application 'shop' is not started"):
        await service.start()


async def test_an_application_can_run_again(diary: Diary) -> None:
    """A second life, with incarnation 2."""
    app = Application("shop")
    app.add(Writer(diary), name="a")
    for life in (1, 2):
        async with app:
            assert app.snapshot().services[0].incarnation == life
    with pytest.raises(LifecycleError, match="is running already"):
        async with app:
            await app.serve()


async def test_a_task_that_is_cancelled_before_its_first_step_is_a_failure_not_a_hang() -> None:
    """None of its own code ran, so it is found out at its deadline."""

    class Forever(Service):
        async def run(self) -> None:
            await asyncio.Event().wait()

    app = Application("shop")
    app.add(Forever(), name="forever", start_timeout=0.05)
    starting = asyncio.create_task(app.start())
    await asyncio.sleep(0)
    (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "forever"]
    task.cancel()
    with pytest.raises(StartFailed, match="was cancelled, but not by Plait"):
        await starting
