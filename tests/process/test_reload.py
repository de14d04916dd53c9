"""Reload: nothing, live, or a new generation; all or nothing, whatever comes between. The clock is virtual."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from plait import Application, Runner, State
from plait._kernel.events import HealthChanged, IntentChanged, ReloadEnded
from plait.errors import LifecycleError, OptionsError, ReloadFailed, StartFailed, StartTimeout, TargetFailed
from plait.testing import advance, running, settle
from reloading import Thing, change, diary, did, environ, make_app

pytestmark = pytest.mark.virtual_clock


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """An empty diary."""
    diary.clear()
    yield
    diary.clear()


def outcomes(of: Any) -> list[str]:
    return [event.outcome for event in of.recorder.of(ReloadEnded)]


# -- nothing, and live -------------------------------------------------------------------------------------------------


async def test_where_the_options_are_the_same_nothing_happens() -> None:
    """And it is said."""
    async with running(make_app, environ=environ(a={})) as run:
        before, app = did(), run.app
        plan = await run.reload()
        assert (plan.kind, plan.changes, str(plan)) == ("nothing", (), "nothing is different")
        assert before == ["a 0 start"]
        assert did() == []
        assert run.app is app
        assert outcomes(run) == ["nothing"]


async def test_options_that_change_nothing_in_the_tree_are_nothing() -> None:
    """The second tree is the same as the first, and dropped."""
    async with running(make_app, environ=environ(a={"value": 1}, b={})) as run:
        app = run.app
        change(run, b={}, a={"value": 1})
        assert (await run.reload()).kind == "nothing"
        assert run.app is app


async def test_live_in_the_order_of_the_start() -> None:
    """Who has on_reload, and nothing else differs, is given all its arguments; the tree is the same one."""
    async with running(
        make_app, environ=environ(c={"kind": "live", "needs": ["b"]}, b={"needs": ["a"]}, a={"kind": "live"})
    ) as run:
        app = run.app
        did()
        change(run, c={"kind": "live", "needs": ["b"], "value": 2}, b={"needs": ["a"]}, a={"kind": "live", "value": 3})
        plan = await run.reload()
        assert (plan.kind, plan.changes) == ("live", ("service 'c': value", "service 'a': value"))
        assert did() == ["a 0 takes 3", "c 0 takes 2"]
        assert run.app is app
        assert outcomes(run) == ["live"]
        assert (await run.reload()).kind == "nothing"
        change(run, c={"kind": "live", "needs": ["b"], "value": 4}, b={"needs": ["a"]}, a={"kind": "live", "value": 3})
        assert (await run.reload()).changes == ("service 'c': value",)  # the others are in force now


async def test_a_live_reload_that_fails_is_taken_back_in_reverse() -> None:
    """That one and those before it are called with their old arguments, and the next reload starts from these."""
    services = {name: {"kind": "live"} for name in "abc"}
    async with running(make_app, environ=environ(**services)) as run:
        did()
        change(run, a={"kind": "live", "value": 1}, b={"kind": "live", "value": -1}, c={"kind": "live", "value": 1})
        with pytest.raises(ReloadFailed, match="-1 is negative") as caught:
            await run.reload()
        assert isinstance(caught.value.__cause__, ValueError)
        assert did() == ["a 0 takes 1", "b 0 takes -1", "b -1 takes 0", "a 1 takes 0"]
        assert outcomes(run) == ["failed"]
        change(run, a={"kind": "live", "value": 1}, b={"kind": "live"}, c={"kind": "live"})
        assert (await run.reload()).changes == ("service 'a': value",)


async def test_one_that_cannot_go_back_has_failed_and_starts_with_its_old_arguments() -> None:
    """It is constructed anew, in place, while it is at rest."""
    async with running(make_app, environ=environ(a={"kind": "live", "value": -5}), may_fail=["a"]) as run:
        change(run, a={"kind": "live", "value": -6})
        with pytest.raises(ReloadFailed, match="-6 is negative"):
            await run.reload()
        thing = run["a"]
        assert isinstance(thing, Thing)
        assert (thing.state, thing.value) == (State.BACKOFF, -5)
        await advance(2)
        assert thing.state is State.RUNNING


async def test_what_does_not_run_or_is_not_only_arguments_is_no_live_reload() -> None:
    """A service that was stopped cannot be told: a new generation takes over, and it stays down in that."""
    async with running(make_app, environ=environ(a={"kind": "live"}, b={})) as run:
        await run["a"].stop()
        change(run, a={"kind": "live", "value": 1}, b={})
        plan = await run.reload()
        assert (plan.kind, plan.changes) == ("generation", ("service 'a': value (it is stopped)",))
        assert run["a"].state is State.NEW


# -- a new generation --------------------------------------------------------------------------------------------------


async def test_a_new_generation_is_ready_before_the_old_drains() -> None:
    """Its events have its number; the old one drains and stops in order, and nobody waits for it."""
    async with running(make_app, environ=environ(a={}, b={"needs": ["a"], "drain_takes": 3})) as run:
        old = run.app
        did()
        change(run, a={"value": 1}, b={"value": 1, "needs": ["a"]})
        plan = await run.reload()
        assert plan.kind == "generation"
        assert run.app is not old
        assert run.app.snapshot().generation == 2
        await advance(5)
        assert did() == ["a 1 start", "b 1 start", "b 0 drain", "b 0 stop", "a 0 drain", "a 0 stop"]
        assert old.state is State.STOPPED
        (ended,) = run.recorder.of(ReloadEnded)
        assert (ended.outcome, ended.generation) == ("generation", 2)


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ({"fails_at": "start"}, StartFailed),
        ({"start_takes": 100, "start_timeout": 5}, StartFailed),
        ({"kind": "nonsense"}, TargetFailed),
        ({"restart": "sometimes"}, TargetFailed),
    ],
)
async def test_a_new_generation_that_does_not_start_changes_nothing(words: dict[str, Any], cause: type) -> None:
    """What had started of it is stopped again; the old one never heard of it."""
    async with running(make_app, environ=environ(a={}), may_fail=["b"]) as run:
        app = run.app
        did()
        change(run, a={"value": 1}, b={"value": 1, "needs": ["a"], **words})
        with pytest.raises(ReloadFailed) as caught:
            await run.reload()
        assert isinstance(caught.value.__cause__, cause)
        lines = did()
        assert lines.count("a 1 start") == lines.count("a 1 stop")
        assert not [line for line in lines if " 0 " in line]
        assert run.app is app
        assert app.state is State.RUNNING
        change(run, a={"value": 2})
        assert (await run.reload()).kind == "generation"


async def test_a_start_that_hangs_is_bounded_and_named() -> None:
    """By its own start_timeout."""
    async with running(make_app, environ=environ(a={}), may_fail=["b"]) as run:
        change(run, a={}, b={"start_takes": 100, "start_timeout": 5})
        with pytest.raises(ReloadFailed, match="'b'") as caught:
            await run.reload()
        assert isinstance(caught.value.__cause__, StartFailed)
        assert isinstance(caught.value.__cause__.exceptions[0], StartTimeout)


async def test_wrong_options_fail_the_reload() -> None:
    """Nothing was built; what is wrong is said."""
    for wrong, cause in (({"TREE_LIMIT": "many"}, OptionsError), ({"TREE_SERVICES": "]"}, TargetFailed)):
        async with running(make_app, environ=environ(a={})) as run:
            app = run.app
            run.environ.update(wrong)
            with pytest.raises(ReloadFailed) as caught:
                await run.reload()
            assert isinstance(caught.value.__cause__, cause)
            assert (run.app, app.state) == (app, State.RUNNING)


async def test_an_empty_tree_is_no_next_generation() -> None:
    """As it could not have been started in the first place."""
    async with running(make_app, environ=environ(a={})) as run:
        change(run)
        with pytest.raises(ReloadFailed, match="has no services"):
            await run.reload()
        assert run["a"].state is State.RUNNING


async def test_health_and_states_tell_of_no_trouble() -> None:
    """A load balancer that watches sees nothing of a change of generations."""
    services = {"a": {}, "t": {"placement": "one"}}
    async with running(make_app, environ=environ(**services)) as run:
        change(run, a={"value": 1}, t={"placement": "one", "value": 1})
        await run.reload()
        await advance(30)
        assert run.recorder.of(HealthChanged) == []
        assert run.app.health.level.value == "ready"


# -- what runs only once -----------------------------------------------------------------------------------------------


def once(value: int = 0, **words: Any) -> dict[str, Any]:
    return {"value": value, "placement": "one", **words}


async def test_what_runs_only_once_stops_before_its_successor_starts() -> None:
    """After the rest of the new generation is ready, and before the rest of the old drains."""
    async with running(make_app, environ=environ(a={}, t=once(stop_takes=2))) as run:
        did()
        change(run, a={"value": 1}, t=once(1))
        await run.reload()
        await settle()
        assert did() == ["a 1 start", "t 0 drain", "t 0 stop", "t 1 start", "a 0 drain", "a 0 stop"]


async def test_if_the_successor_fails_the_old_one_starts_again() -> None:
    """And the new generation is gone by then."""
    async with running(make_app, environ=environ(a={}, t=once(), d={"placement": "one"}), may_fail=["t"]) as run:
        did()
        await run["d"].stop()
        did()
        change(run, a={"value": 1}, t=once(1, fails_at="start"), d={"placement": "one"})
        with pytest.raises(ReloadFailed, match="1 as told"):
            await run.reload()
        lines = did()
        assert [line for line in lines if line[0] == "t"] == ["t 0 drain", "t 0 stop", "t 1 start", "t 0 start"]
        assert [line for line in lines if line[0] == "a"] == ["a 1 start", "a 1 drain", "a 1 stop"]
        assert run["t"].state is State.RUNNING
        assert run["t"].intent.value == "up"
        assert run["d"].state is State.STOPPED  # an operator's wish is not undone


async def test_each_change_over_waits_for_nobody_else() -> None:
    """A slow one beside it does not make another be missing for longer."""
    async with running(make_app, environ=environ(slow=once(stop_takes=4), quick=once())) as run:
        change(run, slow=once(1), quick=once(1))
        reload = asyncio.create_task(run.reload())
        did()
        await advance(1)
        assert did() == ["slow 0 drain", "quick 0 drain", "slow 0 stop", "quick 0 stop", "quick 1 start"]
        await reload
        assert did() == ["slow 1 start"]


async def test_those_that_need_each_other_change_over_together() -> None:
    """In the order of their needs, on both sides."""
    async with running(make_app, environ=environ(a=once(), b=once(needs=["a"]))) as run:
        did()
        change(run, a=once(1), b=once(1, needs=["a"]))
        await run.reload()
        assert did("stop", "start") == ["b 0 stop", "a 0 stop", "a 1 start", "b 1 start"]


async def test_new_and_gone_ones() -> None:
    """A new one starts in its turn; one that is gone stops with the old generation."""
    async with running(make_app, environ=environ(a=once())) as run:
        did()
        change(run, b=once(1))
        await run.reload()
        await settle()
        assert did("stop", "start") == ["b 1 start", "a 0 stop"]


async def test_the_old_one_that_was_handed_over_cannot_be_started() -> None:
    """It would be there twice."""
    async with running(make_app, environ=environ(t=once(stop_takes=1), u=once(stop_takes=5))) as run:
        old = run["t"]
        change(run, t=once(1), u=once(1))
        reload = asyncio.create_task(run.reload())
        await advance(3)
        with pytest.raises(LifecycleError, match="handed to the next generation"):
            await old.start()
        await reload


# -- what operators want -----------------------------------------------------------------------------------------------


async def test_intents_go_over_by_path() -> None:
    """Down stays down, paused comes up paused, and what is gone is said."""
    services: dict[str, Any] = {"down": {}, "paused": {"kind": "pausable"}, "gone": {}, "up": {}}
    async with running(make_app, environ=environ(**services)) as run:
        await run["down"].stop()
        await run["gone"].stop()
        await run["paused"].pause()
        del services["gone"]
        change(run, **services, more={})
        await run.reload()
        assert [run[name].state.value for name in ("down", "paused", "up", "more")] == [
            "new", "paused", "running", "running",
        ]  # fmt: skip
        assert run["paused"].intent.value == "paused"
        (ended,) = run.recorder.of(ReloadEnded)
        assert any("'gone' is gone" in change and "operator" in change for change in ended.changes)
        await run["down"].start()
        await run["paused"].resume()
        assert run["paused"].state is State.RUNNING


@pytest.mark.parametrize("verb", ["stop", "pause", "start", "resume"])
async def test_what_is_commanded_during_a_reload_holds_after_it(verb: str) -> None:
    """The operator commands the tree that serves; the next one follows."""
    async with running(make_app, environ=environ(p={"kind": "pausable"}, slow={})) as run:
        if verb == "start":
            await run["p"].stop()
        if verb == "resume":
            await run["p"].pause()
        change(run, p={"kind": "pausable"}, slow={"start_takes": 4})
        reload = asyncio.create_task(run.reload())
        await advance(1)
        await getattr(run["p"], verb)()
        await reload
        expected = {"stop": "stopped", "pause": "paused", "start": "running", "resume": "running"}
        assert run["p"].state.value == expected[verb]
        assert run.app.snapshot().generation == 2
        assert run.recorder.of(IntentChanged, path="p")


# -- who asks, and when ------------------------------------------------------------------------------------------------


async def test_a_dry_run_touches_nothing() -> None:
    """It says what would be done, and why."""
    async with running(make_app, environ=environ(a={})) as run:
        app = run.app
        did()
        change(run, a={"value": 1})
        plan = await run.reload(dry_run=True)
        assert str(plan) == "a new generation takes over\n  service 'a': value (Thing has no on_reload)"
        assert (did(), run.app) == ([], app)
        run.environ["TREE_SERVICES"] = "]"
        with pytest.raises(ReloadFailed):
            await run.reload(dry_run=True)
        assert outcomes(run) == []


async def test_reloads_during_a_reload_become_one() -> None:
    """It begins when the first, and the drain that follows it, are over, with what is to be read then."""
    async with running(make_app, environ=environ(a={"drain_takes": 3})) as run:
        change(run, a={"value": 1, "start_takes": 2, "drain_takes": 3})
        first = asyncio.create_task(run.reload())
        await advance(1)
        others = [asyncio.create_task(run.reload()) for _ in range(4)]
        change(run, a={"value": 2})
        await first
        did()
        await asyncio.wait(others)
        assert [task.result().kind for task in others] == ["generation"] * 4
        assert did("start") == ["a 2 start"]
        assert run.app.snapshot().generation == 3


async def test_there_and_back_again() -> None:
    """A reload compares with what is in force, not with what was at the start."""
    async with running(make_app, environ=environ(a={"value": 0})) as run:
        for value in (1, 0):
            change(run, a={"value": value})
            assert (await run.reload()).kind == "generation"
            assert (await run.reload()).kind == "nothing"


async def test_at_most_two_generations_are_there() -> None:
    """The third starts when the first has gone."""
    async with running(make_app, environ=environ(a={"drain_takes": 3})) as run:
        for value in (1, 2):
            change(run, a={"value": value})
            await run.reload()
        await settle()
        lines = did("start", "stop")
        assert lines.index("a 0 stop") < lines.index("a 2 start")


async def test_cancelling_who_asked_ends_only_the_wait() -> None:
    """The reload goes on."""
    async with running(make_app, environ=environ(a={})) as run:
        change(run, a={"value": 1, "start_takes": 2})
        task = asyncio.create_task(run.reload())
        await advance(1)
        task.cancel()
        await advance(5)
        assert task.cancelled()
        assert run.app.snapshot().generation == 2


@pytest.mark.parametrize("after", [0, 1, 3, 5, 7, 9, 12, 30])
async def test_a_stop_at_any_moment_stops_both_generations(after: float) -> None:
    """While the new starts, while those change over that run only once, while the old drains."""
    words = {"start_takes": 2, "drain_takes": 2, "stop_takes": 2}
    async with running(make_app, environ=environ(a=words, t=once(**words))) as run:
        old = run.app
        change(run, a={**words, "value": 1}, t=once(1, **words))
        reload = asyncio.create_task(run.reload())
        await advance(after)
        await run.stop()
        await run.ended()
        await asyncio.wait([reload])
        lines = did()
        assert len([line for line in lines if line.endswith("start")]) >= len(
            [line for line in lines if line.endswith("stop")]
        )
        assert old.state is State.STOPPED
        assert run.app.state is State.STOPPED
        assert reload.exception() is None or isinstance(reload.exception(), (ReloadFailed, LifecycleError))
        with pytest.raises(LifecycleError):
            await run.reload()


async def test_a_stop_cuts_the_time_of_the_one_that_retires() -> None:
    """It has its services' own deadlines, until the application has to end within its own."""
    words = {"drain_takes": 500, "drain_timeout": 400, "stop_takes": 500, "stop_timeout": 400}
    async with running(make_app, environ=environ(a=words), may_fail=["a"]) as run:
        old = run.app
        change(run, a={"value": 1})
        await run.reload()
        await advance(100)
        assert old.state is State.STOPPING
        began = asyncio.get_running_loop().time()
        await run.stop()
        await run.ended()
        assert asyncio.get_running_loop().time() - began <= 25.1


async def test_an_old_generation_that_ends_meanwhile_leaves_the_new_one() -> None:
    """Its jobs are done, or it has failed, before the new one is ready: that takes over all the same."""
    async with running(make_app, environ=environ(a={"kind": "job", "lasts": 2})) as run:
        change(run, a={"start_takes": 5})
        assert (await run.reload()).kind == "generation"
        await advance(10)
        assert run.app.state is State.RUNNING


async def test_when_the_new_generation_has_finished_all_has() -> None:
    """As one that was never reloaded."""
    async with running(make_app, environ=environ(a={"kind": "job", "lasts": 100})) as run:
        change(run, a={"kind": "job", "lasts": 3})
        await run.reload()
        await run.ended()
        assert run.app.state is State.STOPPED


async def test_an_instance_needs_a_restart() -> None:
    """It cannot be called again."""
    app = Application("one")
    app.add(Thing())
    async with running(app) as run:
        with pytest.raises(ReloadFailed, match="restart required"):
            await run.reload()


async def test_what_does_not_serve_cannot_be_reloaded() -> None:
    """Before serve(), and after it."""
    runner = Runner(make_app, environ=environ(a={}))
    with pytest.raises(LifecycleError, match="serves nothing"):
        await runner.reload()


async def test_subscribers_see_every_generation() -> None:
    """In order, each with its number; one that comes later sees the present state."""
    async with running(make_app, environ=environ(a={})) as run:
        change(run, a={"value": 1})
        await run.reload()
        await settle()
        seen: list[Any] = []
        unsubscribe = run.runner.subscribe(seen.append)
        assert {event.generation for event in seen} == {2}
        change(run, a={"value": 2})
        await run.reload()
        assert seen[-1].generation in (2, 3)
        assert {event.generation for event in seen} == {2, 3}
        unsubscribe()
        count = len(seen)
        change(run, a={"value": 3})
        await run.reload()
        assert len(seen) == count
