"""Cancellation at the k-th await, for all k, of everything an operator can ask for.

Claims, for every k: whoever is cancelled, the caller of an operation, a task of a service's, or everybody at once, the
tree arrives in a terminal or running state; the snapshot says of every service what its hooks saw; the application can
be stopped, started, paused and resumed as ever; nothing is left of it then. sweeping.py has scenes and checks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest

from plait import State
from plait._kernel.states import AT_REST
from sweeping import (
    RESTED,
    Operate,
    Prepare,
    Scene,
    Sweep,
    Verify,
    cancel_caller,
    cancel_everything,
    cancel_last,
    cancel_task,
    large,
    least,
    small,
)

# -- what is done ------------------------------------------------------------------------------------------------------


def ask(verb: str, path: str = "/") -> Operate:
    """An operator's verb, for the application or a service of it."""

    async def operate(scene: Scene) -> None:
        service = scene.app if path == "/" else scene.app[path]
        await getattr(service, verb)()

    return operate


async def remove(scene: Scene) -> None:
    """A service, and all that needs it."""
    await scene.app.remove("db", dependents=True)


async def serve_and_stop(scene: Scene) -> None:
    """The whole life of a program, which a stop ends."""

    async def stop() -> None:
        await scene.app.wait_ready()
        with suppress(ExceptionGroup):
            await scene.app.stop()

    stopping = asyncio.create_task(stop(), name="test stop")
    try:
        await scene.app.serve()
    finally:
        stopping.cancel()
        await asyncio.wait([stopping])


async def run_around_a_body(scene: Scene) -> None:
    """As a test does."""
    async with scene.app:
        await asyncio.sleep(1)


async def not_started(scene: Scene) -> None:
    """As it was made."""


async def started(scene: Scene) -> None:
    """Ready; one service waits to be started again."""
    await scene.app.start()


def and_then(*operations: Operate) -> Prepare:
    """Ready, all of it, and then something more."""

    async def prepare(scene: Scene) -> None:
        await scene.app.start()
        await asyncio.sleep(RESTED)
        for operate in operations:
            await operate(scene)

    return prepare


running = and_then()

# -- what must follow --------------------------------------------------------------------------------------------------


def each_is(scene: Scene, *states: State, below: str = "/") -> None:
    """Every service there is in one of these states."""
    for told in scene.app.snapshot().walk():
        if below == "/" or told.path == below or told.path.startswith(below + "/"):
            assert told.state in states, told


def rolled_back(scene: Scene, below: str = "/") -> None:
    """The only caller of a start went away: nothing of it runs. One who had his answer goes with it in hand."""
    if scene.callers[0].cancelled():
        each_is(scene, *AT_REST, below=below)
        each_is(scene, State.NEW, State.STOPPED, State.FAILED, below=below)
    else:
        each_is(scene, State.RUNNING, below=below)


def goes_on(*states: State, below: str = "/") -> Verify:
    """That the caller went away changed nothing for the operation, if he had asked at all."""

    def verify(scene: Scene) -> None:
        if scene.begun:
            each_is(scene, *states, below=below)

    return verify


def anew(*paths: str, at: int = 2) -> Verify:
    """These run in an incarnation of such a number."""

    def verify(scene: Scene) -> None:
        if scene.begun:
            for path in paths:
                told = scene.app.snapshot() if path == "/" else scene.app._record.children[path]  # type: ignore[index]
                assert (told.state, told.incarnation) == (State.RUNNING, at), told

    return verify


def gone(scene: Scene) -> None:
    """It was removed, and what needed it."""
    if scene.begun:
        assert "db" not in scene.app
        assert "back" not in scene.app


def at_rest(scene: Scene) -> None:
    """Whatever came, it is over."""
    each_is(scene, *AT_REST)


UP, HELD = (State.RUNNING,), (State.PAUSED, State.RUNNING)

OPERATIONS: dict[str, tuple[Prepare, Operate, Verify]] = {
    "start": (not_started, ask("start"), rolled_back),
    "start again": (and_then(ask("stop")), ask("start"), rolled_back),
    "start db": (and_then(ask("stop", "db")), ask("start", "db"), partial(rolled_back, below="db")),
    "start back": (and_then(ask("stop", "back")), ask("start", "back"), partial(rolled_back, below="back")),
    "stop": (running, ask("stop"), goes_on(*AT_REST)),
    "stop early": (started, ask("stop"), goes_on(*AT_REST)),
    "stop paused": (and_then(ask("pause")), ask("stop"), goes_on(*AT_REST)),
    "stop db": (running, ask("stop", "db"), goes_on(State.STOPPED, below="db")),
    "stop back": (running, ask("stop", "back"), goes_on(State.STOPPED, below="back")),
    "restart": (running, ask("restart"), anew("/", "db")),
    "restart db": (running, ask("restart", "db"), anew("db")),
    "restart back": (running, ask("restart", "back"), anew("back")),
    "restart what is down": (and_then(ask("stop", "db")), ask("restart", "db"), goes_on(*UP, below="db")),
    "pause": (running, ask("pause"), goes_on(*HELD)),
    "pause db": (running, ask("pause", "db"), goes_on(State.PAUSED, below="db")),
    "pause back": (running, ask("pause", "back"), goes_on(*HELD, below="back")),
    "resume": (and_then(ask("pause")), ask("resume"), goes_on(*UP)),
    "resume db": (and_then(ask("pause", "db")), ask("resume", "db"), goes_on(*UP)),
    "resume back": (and_then(ask("pause", "back")), ask("resume", "back"), goes_on(*UP)),
    "remove": (running, remove, gone),
    "serve": (not_started, serve_and_stop, at_rest),
    "async with": (not_started, run_around_a_body, at_rest),
}
IN_BACKOFF: dict[str, tuple[Prepare, Operate, Verify]] = {
    "start": (started, ask("start", "flaky"), lambda scene: None),
    "stop": (started, ask("stop", "flaky"), goes_on(State.STOPPED, below="flaky")),
    "restart": (started, ask("restart", "flaky"), lambda scene: None),
    "pause": (started, ask("pause", "flaky"), goes_on(State.PAUSED, below="flaky")),
    "resume": (started, ask("resume", "flaky"), goes_on(*UP, below="flaky")),
}


def tell(what: str, count: int) -> None:
    """For who runs it with -rP."""
    print(f"{what}: {count} moments")


@pytest.mark.parametrize("make", [small, large])
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_caller_is_cancelled(make: Callable[[], Scene], name: str) -> None:
    """At every turn: a start is rolled back, of all others only the wait ends."""
    turns = Sweep(make, *OPERATIONS[name]).all_turns(cancel_caller)
    tell(f"caller of {name}, {make.__name__}", turns)
    assert turns >= 5


@pytest.mark.parametrize("name", IN_BACKOFF)
def test_the_caller_is_cancelled_while_the_service_waits_to_be_started_again(name: str) -> None:
    """What was asked of it happens all the same; a start or restart leaves it where it was, or starts it."""
    turns = Sweep(large, *IN_BACKOFF[name]).all_turns(cancel_caller)
    tell(f"caller of {name} in backoff", turns)
    assert turns >= 1


@pytest.mark.parametrize("make", [small, large])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_task_of_a_services_is_cancelled(
    make: Callable[[], Scene], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its own, that of a hook beside it, a spawned one, or one in which Plait does what it was asked.

    None of it is noticed only by a deadline.
    """
    prepare, operate, _ = OPERATIONS[name]
    sweep = Sweep(make, prepare, operate)
    moments = sweep.tasks(every=1 if make is small else 10)
    for turn, number, task in moments:
        assert sweep.run({turn: cancel_task(number)}), (turn, task)
        assert not caplog.records, (turn, task, caplog.text)
    tell(f"tasks during {name}, {make.__name__}", len(moments))
    assert len(moments) >= 5


@pytest.mark.parametrize("make", [small, large])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_task_is_cancelled_at_once(make: Callable[[], Scene], name: str) -> None:
    """As the end of an event loop does; the application is at rest or obeys."""
    prepare, operate, _ = OPERATIONS[name]
    turns = Sweep(make, prepare, operate).all_turns(cancel_everything)
    tell(f"everything during {name}, {make.__name__}", turns)
    assert turns >= 5


@pytest.mark.parametrize("make", [small, large])
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_application_is_stopped_meanwhile(make: Callable[[], Scene], name: str) -> None:
    """A stop at every turn of every operation goes before it."""
    prepare, operate, _ = OPERATIONS[name]

    def stop(scene: Scene) -> None:
        scene.call(ask("stop"))

    def stopped(scene: Scene) -> None:
        if len(scene.callers) > 1:
            at_rest(scene)

    turns = Sweep(make, prepare, operate, stopped).all_turns(stop)
    tell(f"a stop during {name}, {make.__name__}", turns)
    assert turns >= 5


PAIRED: dict[str, Prepare] = {
    "start": not_started,
    "stop": running,
    "restart": running,
    "pause": running,
    "resume": and_then(ask("pause")),
}


@pytest.mark.parametrize("second", PAIRED)
@pytest.mark.parametrize("first", PAIRED)
def test_one_of_two_callers_is_cancelled(first: str, second: str) -> None:
    """The second asks before every other turn of the first, and either goes before every turn after that."""
    sweep, count = Sweep(least, PAIRED[first], ask(first)), 0
    for victim in (cancel_caller, cancel_last):
        turn = 1
        while turns := sweep.all_turns(victim, turn + 1, {turn: lambda scene: scene.call(ask(second))}):
            count += turns
            turn += 2
    tell(f"{second} during {first}", count)
    assert count >= 20
