"""Cancellation, and a stop, at the k-th await of a reload, for all k: live, by a new generation, and where it fails.

Claims, beside those of test_cancellation_sweep.py and for every generation there was: one serves, and its services have
the options that the runner says are in force; what runs only once is never there twice; what operators want holds; the
runner reloads and stops afterwards as ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from plait import Application, Group, Options, Runner, State
from plait._kernel.states import AT_REST, READY
from plait.errors import LifecycleError, ReloadFailed
from sweeping import (
    RESTED,
    Full,
    HookedGroup,
    Ledger,
    Scene,
    Sweep,
    cancel_caller,
    cancel_everything,
    cancel_task,
    check_at_rest,
    check_truth,
    nap,
    new_ledger,
    running_loop,
)

pytestmark = pytest.mark.usefixtures("quiet")

BAD = 13
"""What no service can be started with, or take."""


@pytest.fixture
def quiet() -> Iterator[None]:
    """Thousands of failures need not be logged."""
    log = logging.getLogger("plait")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    yield
    log.setLevel(level)


# -- the tree that is reloaded -----------------------------------------------------------------------------------------


@dataclass
class History:
    """Of the scene that runs: every tree that was made, with its ledger; and whether what runs only once is there."""

    ledgers: dict[Application, Ledger] = field(default_factory=dict)
    is_there: bool = False


history = History()


class Booked:
    """Writes into the ledger of its own generation."""

    @property
    def ledger(self) -> Ledger:
        app: Any = self.application  # type: ignore[attr-defined]
        return history.ledgers[app]


class Anew(Booked, Full):  # type: ignore[misc]  # the ledger is looked up, not kept
    """Takes another value only in a new generation."""

    def __init__(self, value: int) -> None:
        self.value = value

    async def on_start(self) -> None:
        if self.value == BAD:
            await nap()
            raise OSError("no such value")
        await super().on_start()


class Live(Anew):
    """Takes another value while it runs."""

    def __init__(self, value: int) -> None:
        self.value = value

    async def on_reload(self, value: int) -> None:
        await nap()
        self.value = value
        if value == BAD:
            raise OSError("no such value")
        await nap()


class Once(Anew):
    """Must not be there twice."""

    async def on_start(self) -> None:
        await self.enter(alone())
        await super().on_start()


@asynccontextmanager
async def alone() -> AsyncIterator[None]:
    """The only one that is there."""
    assert not history.is_there, "it is there twice"
    history.is_there = True
    try:
        await nap()
        yield
        await nap()
    finally:
        history.is_there = False


class Inner(Booked, HookedGroup):  # type: ignore[misc]
    """A group with hooks."""

    def __init__(self) -> None:
        Group.__init__(self)


class TreeOptions(Options):
    """What its services are made with."""

    db: int = 1
    cache: int = 1
    web: int = 1
    once: int = 1


def make_tree(options: TreeOptions) -> Application:
    """Two that take it live, one in a group that does not, one that runs only once."""
    app = Application("tree")
    history.ledgers[app] = new_ledger()
    app.add(Live(options.db), name="db")
    app.add(Live(options.cache), name="cache", needs=["db"])
    app.add(Inner(), name="back", needs=["db"]).add(Anew(options.web), name="web")
    app.add(Once(options.once), name="once", needs=["db"], placement="one")
    return app


# -- the scene ---------------------------------------------------------------------------------------------------------


class Reloading(Scene):
    """A runner that serves, and is told to reload."""

    def __init__(self) -> None:
        history.ledgers.clear()
        history.is_there = False
        self.environ: dict[str, str] = {}
        self.runner = Runner(make_tree, environ=self.environ)
        super().__init__(self.runner.build(), new_ledger())

    async def begin(self) -> None:
        """Serve, until all is ready."""
        self.serving = asyncio.create_task(self.runner.serve(), name="test serve")
        await self.runner.application.wait_ready()

    @property
    def values(self) -> dict[str, int]:
        """What the services that serve have."""
        app: Any = self.runner.application
        return {path.rpartition("/")[2]: app[path].value for path in ("db", "cache", "back/web", "once")}

    def check(self) -> None:
        for app, ledger in history.ledgers.items():
            check_truth(app, ledger)
            if self.serving.done() or app is not self.runner.application:
                assert {told.state for told in app.snapshot().walk()} <= AT_REST
        options: Any = self.runner.options.options
        assert self.values == {name: getattr(options, name) for name in self.values}
        assert history.is_there == (self.runner.application["once"].state in READY)

    async def obey(self) -> None:
        if not self.serving.done():
            for record in self.runner.application._record.below():
                with suppress(LifecycleError):
                    await record.service.resume()  # type: ignore[attr-defined]
            self.environ.update(TREE_DB="4", TREE_CACHE="4", TREE_WEB="4", TREE_ONCE="4")
            await self.runner.reload()
            self.environ.update(TREE_DB="3", TREE_CACHE="3")
            await self.runner.reload()
            await asyncio.sleep(RESTED)
            assert self.values == {"db": 3, "cache": 3, "web": 4, "once": 4}
            assert {told.state for told in self.runner.application.snapshot().walk()} == {State.RUNNING}
            self.check()
            await self.runner.stop()
            await asyncio.wait_for(asyncio.shield(self.serving), RESTED)
        for app in history.ledgers:
            check_at_rest(app)
        self.check()
        assert not self.runner._tasks


async def served(scene: Scene) -> None:
    """All is ready."""
    assert isinstance(scene, Reloading)
    await scene.begin()


async def held(scene: Scene) -> None:
    """An operator has paused the group, and what runs only once."""
    await served(scene)
    assert isinstance(scene, Reloading)
    await scene.runner.application["back"].pause()
    await scene.runner.application["once"].pause()


CHANGES: dict[str, dict[str, int]] = {
    "nothing": {},
    "live": {"db": 2, "cache": 2},
    "live, failing": {"db": 2, "cache": BAD},
    "generation": {"web": 2, "db": 2},
    "generation, failing": {"web": BAD},
    "once": {"once": 2},
    "once, failing": {"once": BAD},
}


def sweep_of(change: str, prepare: Any = served) -> Sweep:
    """A reload with this change; it does all of it or nothing, whoever waits for it."""

    async def reload(scene: Scene) -> None:
        assert isinstance(scene, Reloading)
        scene.environ.update({f"TREE_{name.upper()}": str(value) for name, value in CHANGES[change].items()})
        with suppress(ReloadFailed):
            await scene.runner.reload()

    return Sweep(Reloading, prepare, reload)


def after(change: str) -> dict[str, int]:
    """What services have when it is over."""
    before = {"db": 1, "cache": 1, "web": 1, "once": 1}
    return before if BAD in CHANGES[change].values() else {**before, **CHANGES[change]}


def tell(what: str, count: int) -> None:
    """For who runs it with -rP."""
    print(f"{what}: {count} moments")


@pytest.mark.parametrize("prepare", [served, held])
@pytest.mark.parametrize("change", CHANGES)
def test_the_caller_of_a_reload_is_cancelled(change: str, prepare: Any) -> None:
    """Only his wait ends: the reload comes to what it would have come to."""
    sweep = sweep_of(change, prepare)

    def verify(scene: Scene) -> None:
        assert isinstance(scene, Reloading)
        assert not scene.begun or scene.values == after(change)

    sweep.verify = verify
    turns = sweep.all_turns(cancel_caller)
    tell(f"caller of a reload, {change}", turns)
    assert turns >= (2 if change == "nothing" else 8)


@pytest.mark.parametrize("how", ["stop", "cancel"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_stop_comes_during_a_reload(change: str, how: str) -> None:
    """At every turn: every generation has stopped when `serve` returns, which it does without an error."""
    sweep = sweep_of(change)
    began: list[float] = []
    ended: list[float] = []

    def stop(scene: Scene) -> None:
        assert isinstance(scene, Reloading)
        runner = scene.runner
        if how == "stop":
            scene.call(lambda _: runner.stop())
        else:
            scene.serving.cancel()
        began.append(running_loop().time())
        scene.serving.add_done_callback(lambda _: ended.append(running_loop().time()))

    def verify(scene: Scene) -> None:
        assert isinstance(scene, Reloading)
        if began:
            assert scene.serving.done()
            assert ended.pop() - began.pop() < 1, "it waited for a deadline"
            assert scene.serving.cancelled() == (how == "cancel")
            assert how == "cancel" or scene.serving.exception() is None

    sweep.verify = verify
    turns = sweep.all_turns(stop)
    tell(f"{how} during a reload, {change}", turns)
    assert turns >= (2 if change == "nothing" else 8)


@pytest.mark.parametrize("change", CHANGES)
def test_a_task_is_cancelled_during_a_reload(change: str) -> None:
    """One of a service of either generation, of a hook, or the one that reloads."""
    sweep = sweep_of(change)
    moments = sweep.tasks(every=16)
    for turn, number, task in moments:
        assert sweep.run({turn: cancel_task(number)}), (turn, task)
    tell(f"tasks during a reload, {change}", len(moments))
    assert len(moments) >= 8


@pytest.mark.parametrize("change", CHANGES)
def test_every_task_is_cancelled_during_a_reload(change: str) -> None:
    """As the end of an event loop does."""
    turns = sweep_of(change).all_turns(cancel_everything)
    tell(f"everything during a reload, {change}", turns)
    assert turns >= (2 if change == "nothing" else 8)
