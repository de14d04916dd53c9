"""Random trees whose services do everything a service can do wrong, under random commands, on a clock that jumps.

Claims, for every seed: the application always comes to rest; every command returns; nothing in the kernel raised
an error of its own; every move was along the table; no deadline, operation or task is left but those reported by name.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from plait import Application, Group, Service, State, events
from plait._kernel.states import AT_REST
from plait.errors import IllegalTransition, PlaitError
from plait.testing import VirtualLoop

SEEDS = 2_000
CHUNK = 250

HOOKS = ("on_start", "run", "on_drain", "on_stop")
DEFECTS = (AssertionError, AttributeError, IllegalTransition, TypeError)
"""What only the kernel could have raised here."""


async def ignore_cancellation(service: Service, rng: random.Random) -> None:
    """For five seconds, or for longer than anybody will wait."""
    loop = asyncio.get_running_loop()
    end = loop.time() + rng.choice([5, 200])
    while loop.time() < end:
        try:
            await asyncio.sleep(50)
        except asyncio.CancelledError:
            continue


async def fail(service: Service, rng: random.Random) -> None:
    """At once."""
    raise ValueError("on purpose")


async def cancel_itself(service: Service, rng: random.Random) -> None:
    """Behind Plait's back."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def spawn_one_that_fails(service: Service, rng: random.Random) -> None:
    """A second later."""
    if service.state in (State.STARTING, State.RUNNING):
        service.spawn(fail_later())
    await asyncio.sleep(2)


async def fail_later() -> None:
    """In a spawned task."""
    await asyncio.sleep(1)
    raise KeyError("on purpose")


async def spawn_one_that_lasts(service: Service, rng: random.Random) -> None:
    """Or ends at once."""
    if service.state in (State.STARTING, State.RUNNING):
        service.spawn(asyncio.sleep(rng.choice([0, 1000])))


async def watch_stopping(service: Service, rng: random.Random) -> None:
    """And go when it is set."""
    if service.state is State.RUNNING:
        await service.stopping


async def stop_itself(service: Service, rng: random.Random) -> None:
    """Without waiting for it."""
    commands.append(asyncio.ensure_future(service.stop()))


async def stop_everything(service: Service, rng: random.Random) -> None:
    """And wait for it, which is to wait for oneself."""
    await service.application.stop()


async def wait_a_little(service: Service, rng: random.Random) -> None:
    """Some seconds."""
    await asyncio.sleep(rng.choice([0, 0.1, 1, 3]))


async def wait_for_ever(service: Service, rng: random.Random) -> None:
    """Or nearly."""
    await asyncio.sleep(1000)


async def nothing(service: Service, rng: random.Random) -> None:
    """As most do."""


Behaviour = Callable[[Service, random.Random], Awaitable[None]]
BEHAVIOURS: dict[Behaviour, int] = {
    nothing: 40,
    wait_a_little: 20,
    fail: 8,
    wait_for_ever: 6,
    ignore_cancellation: 6,
    cancel_itself: 4,
    spawn_one_that_lasts: 4,
    spawn_one_that_fails: 3,
    watch_stopping: 3,
    stop_itself: 3,
    stop_everything: 3,
}

commands: list[asyncio.Future[Any]] = []


def make(rng: random.Random, base: type[Service]) -> Service:
    """A service, or a group, with a random choice of hooks, each of which does something else every time."""

    def hook() -> Callable[[Service], Awaitable[None]]:
        async def behave(self: Service) -> None:
            (behaviour,) = rng.choices(list(BEHAVIOURS), list(BEHAVIOURS.values()))
            await behaviour(self, rng)

        return behave

    names = [name for name in HOOKS if rng.random() < 0.5 and not (name == "run" and base is Group)]
    if base is Group and rng.random() < 0.6:
        names = []
    made: Service = type(base.__name__, (base,), {name: hook() for name in names})()
    return made


def plant(rng: random.Random) -> tuple[Application, list[str]]:
    """A random tree, and its paths."""
    app = Application("random", shutdown_timeout=rng.choice([5, 25, 100]), shutdown_delay=rng.choice([0, 0, 2]))
    groups: list[Group] = [app]
    paths: list[str] = []
    for number in range(rng.randrange(1, 8)):
        group = rng.choice(groups)
        known = [path for path in paths if not group.path.startswith(path)]
        needs = ["/" + path for path in rng.sample(known, min(len(known), rng.choice([0, 1, 2])))]
        service = group.add(make(rng, Group if rng.random() < 0.25 else Service), name=f"s{number}", needs=needs)
        paths.append(service.path)
        if isinstance(service, Group):
            groups.append(service)
    return app, paths


async def meddle(rng: random.Random, app: Application, paths: list[str], serving: asyncio.Task[None]) -> None:
    """A few random commands, at random times."""
    for _ in range(rng.randrange(0, 6)):
        await asyncio.sleep(rng.choice([0, 0, 0.05, 1, 7]))
        path, verb = (
            rng.choice(paths),
            rng.choice(["start", "stop", "restart", "remove", "add", "end", "cancel", "quit"]),
        )
        if serving.done() or path not in app:
            continue
        service = app[path]
        if verb in ("start", "stop", "restart"):
            commands.append(asyncio.ensure_future(getattr(service, verb)()))
        elif verb == "remove":
            parent = service._record.parent
            assert parent is not None
            assert isinstance(parent.service, Group)
            commands.append(asyncio.ensure_future(parent.service.remove(service.name, dependents=rng.random() < 0.5)))
        elif verb == "add":
            late = app.add(make(rng, Service), name=f"late{len(paths)}")
            paths.append(late.path)
            commands.append(asyncio.ensure_future(late.start()))
        elif verb == "end":
            commands.append(asyncio.ensure_future(app.stop()))
        else:
            rng.choice(commands if verb == "cancel" else [serving]).cancel()


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The single errors in a group of them."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from causes(inner)
    elif error is not None:
        yield error


async def one_run(seed: int) -> None:
    """The claims above, for one seed."""
    rng = random.Random(seed)
    app, paths = plant(rng)
    moves: list[events.StateChanged] = []
    app.subscribe(lambda event: moves.append(event) if isinstance(event, events.StateChanged) else None)
    serving = asyncio.create_task(app.serve())
    commands[:] = [serving]
    await meddle(rng, app, paths, serving)
    await asyncio.sleep(rng.choice([0, 50]))
    commands.append(asyncio.ensure_future(app.stop()))
    _, pending = await asyncio.wait(commands, timeout=400)
    assert not pending
    engine = app._root_engine
    assert {service.state for service in app.snapshot().walk()} <= AT_REST
    assert all(move.new in move.old.next for move in moves)
    assert (engine.alive, engine.operations, len(engine.deadlines)) == (0, [], 0)
    for command in commands:
        for error in () if command.cancelled() else causes(command.exception()):
            assert not isinstance(error, DEFECTS), error
            assert isinstance(error, (PlaitError, ValueError, KeyError)), error
    await asyncio.sleep(500)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left or app.left_behind, left


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_seed_comes_to_rest(first: int) -> None:
    """A failing seed is in the message."""
    for seed in range(first, first + CHUNK):
        loop = VirtualLoop()
        try:
            loop.run_until_complete(one_run(seed))
            defects = [context for context in loop.failures if isinstance(context.get("exception"), DEFECTS)]
            assert not defects
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(300))
            loop.close()
