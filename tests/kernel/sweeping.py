"""A sweep: the same scene again and again, each time disturbed one turn of the loop later, until it is over untouched.

Rules: a scene is replayed exactly, on a clock that jumps and with one seed, so "before turn k" is the same moment each
time; since whatever awaits is suspended before some turn, all turns are all awaits. Services write into ledgers what
their hooks saw; afterwards the snapshot has to agree with those, the application must obey, and nothing may be left.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from plait import Application, Group, Intent, Policy, Service, Snapshot, State, service
from plait._kernel.states import AT_REST, READY
from plait.errors import IllegalTransition, PlaitError
from plait.testing import VirtualLoop

RESTED = 60.0
"""Seconds after which everything has come to where it goes, backoff included."""

DEFECTS = (AssertionError, AttributeError, IllegalTransition, KeyError, NameError, TypeError, ValueError)
"""What no service of a scene raises, so only the kernel could have."""


class SteppingLoop(VirtualLoop):
    """Counts its turns, from 1, and calls `before` ahead of each while there is one; keeps every task it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[asyncio.Task[Any]] = []
        self.turn = 0
        self.before: Callable[[int], None] | None = None

    def _run_once(self) -> None:
        if self.before is not None:
            self.turn += 1
            self.before(self.turn)
        super()._run_once()  # type: ignore[misc]  # asyncio's own turn, which typeshed leaves out

    def create_task(self, *args: Any, **kwargs: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        task = super().create_task(*args, **kwargs)
        self.made.append(task)
        return task


def running_loop() -> SteppingLoop:
    """The one the scene runs on."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SteppingLoop)
    return loop


# -- what hooks saw ----------------------------------------------------------------------------------------------------


@dataclass
class Page:
    """What the hooks of one service saw, over all its incarnations."""

    started: int = 0
    stopped: int = 0
    entered: int = 0
    left: int = 0
    running: int = 0
    chores: int = 0
    is_paused: bool = False
    has_run: bool = False
    can_pause: bool = False


Ledger = dict[str, Page]


def new_ledger() -> Ledger:
    """One page for each service, made when it is first written on."""
    return defaultdict(Page)


async def nap() -> None:
    """Suspended twice: for a turn, and for a while."""
    await asyncio.sleep(0)
    await asyncio.sleep(0.01)


@asynccontextmanager
async def opened(page: Page) -> AsyncIterator[None]:
    """Something that must be closed."""
    await nap()
    page.entered += 1
    try:
        yield
    finally:
        page.left += 1
        await nap()


class Hooked:
    """The hooks of a service and of a group, each of which takes its time and writes into the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    @property
    def page(self) -> Page:
        return self.ledger[self.path]  # type: ignore[attr-defined]

    async def on_start(self) -> None:
        page = self.page
        page.can_pause = True
        page.is_paused = False
        await self.enter(opened(page))  # type: ignore[attr-defined]
        await nap()
        page.started += 1

    async def on_drain(self) -> None:
        await nap()

    async def on_stop(self) -> None:
        self.page.stopped += 1
        await nap()

    async def on_pause(self) -> None:
        await nap()
        self.page.is_paused = True

    async def on_resume(self) -> None:
        await nap()
        self.page.is_paused = False


class Full(Hooked, Service):
    """Has every hook, a task beside it, and a check."""

    policy = Policy(check_period=RESTED)

    async def on_start(self) -> None:
        self.page.has_run = True
        await super().on_start()
        self.spawn(self.chore(), name="chore")

    async def chore(self) -> None:
        self.page.chores += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.page.chores -= 1

    async def run(self) -> None:
        self.page.running += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.page.running -= 1

    async def check(self) -> None:
        await nap()


class Asking(Service):
    """Has no hook for it, and is paused because it asks."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    async def run(self) -> None:
        page = self.ledger[self.path]
        page.running += 1
        page.has_run = True
        try:
            while True:
                await self.unpaused()
                await asyncio.sleep(RESTED)
        finally:
            page.running -= 1


class Manual(Asking):
    """Says itself when it is ready, and returns by itself when it is told to stop."""

    readiness = "manual"

    async def run(self) -> None:
        page = self.ledger[self.path]
        page.has_run = True
        page.running += 1
        try:
            await nap()
            self.ready()
            await self.stopping
            await nap()
        finally:
            page.running -= 1


class Flaky(Asking):
    """Fails in its first two incarnations."""

    async def on_start(self) -> None:
        page = self.ledger[self.path]
        await self.enter(opened(page))
        page.started += 1
        if page.entered < 3:
            page.started -= 1
            raise OSError("on purpose")

    async def on_stop(self) -> None:
        self.ledger[self.path].stopped += 1


class Draining(Service):
    """Has a drain and no task."""

    async def on_drain(self) -> None:
        await nap()


class HookedGroup(Hooked, Group):
    """A group with hooks."""

    def __init__(self, ledger: Ledger) -> None:
        Hooked.__init__(self, ledger)
        Group.__init__(self)


@service
async def generated(ledger: Ledger) -> AsyncIterator[None]:
    """The short way to a service."""
    page = ledger["generated"]
    await nap()
    page.started += 1
    yield
    page.stopped += 1
    await nap()


# -- scenes ------------------------------------------------------------------------------------------------------------


@dataclass
class Scene:
    """One application, what its hooks saw, and who has asked it for something."""

    app: Application
    ledger: Ledger
    callers: list[asyncio.Task[Any]] = field(default_factory=list)
    """In order; the first is the one whose operation is swept."""
    begun: int = 0
    """How many of them have got as far as asking."""

    def call(self, operate: Operate) -> None:
        """One more caller."""

        async def ask() -> None:
            self.begun += 1
            await operate(self)

        self.callers.append(asyncio.get_running_loop().create_task(ask(), name="test caller"))

    def check(self) -> None:
        """What must hold whenever all has settled."""
        check_truth(self.app, self.ledger)

    async def obey(self) -> None:
        """It does what it is told, and then nothing of it is left."""
        await check_obedience(self)


Prepare = Callable[[Scene], Awaitable[None]]
Operate = Callable[[Scene], Awaitable[Any]]
Disturbance = Callable[[Scene], None]
Verify = Callable[[Scene], None]


def large() -> Scene:
    """Needs, a group with hooks, every kind of service."""
    ledger = new_ledger()
    app = Application("large")
    app.add(Full(ledger), name="db")
    group = app.add(HookedGroup(ledger), name="back", needs=["db"])
    group.add(Manual(ledger), name="manual")
    group.add(Full(ledger), name="web", needs=["manual"])
    app.add(Flaky(ledger), name="flaky", on_exhausted="park")
    app.add(Asking(ledger), name="asking", needs=["back"])
    app.add(generated(ledger), name="generated")
    app.add(Draining(), name="draining", needs=["generated"])
    app.add(Service(), name="plain")
    return Scene(app, ledger)


def small() -> Scene:
    """The least in which one stands in a group and needs another."""
    ledger = new_ledger()
    app = Application("small")
    app.add(Full(ledger), name="db")
    app.add(HookedGroup(ledger), name="back", needs=["db"]).add(Asking(ledger), name="web")
    return Scene(app, ledger)


def least() -> Scene:
    """One service."""
    ledger = new_ledger()
    app = Application("least")
    app.add(Full(ledger), name="db")
    return Scene(app, ledger)


# -- the sweep ---------------------------------------------------------------------------------------------------------


@dataclass
class Sweep:
    """A scene, what is done to it before, and the operation in which it is disturbed."""

    make: Callable[[], Scene]
    prepare: Prepare
    operate: Operate
    verify: Verify = lambda scene: None
    """What must hold once all has settled, beside what always must."""

    def all_turns(self, disturb: Disturbance, first: int = 1, also: dict[int, Disturbance] | None = None) -> int:
        """Disturb before each turn, until the operation is over untouched; how many turns that were.

        `also` is done in every run, at its own turns.
        """
        turn = first
        while self.run({**(also or {}), turn: disturb}):
            turn += 1
        return turn - first

    def tasks(self, every: int = 1) -> list[tuple[int, int, str]]:
        """Which tasks there are before each turn of the undisturbed operation, those of the test left out: the turn,
        the task's number in the order of their making, which is the same in every run, and its name. One that waits
        for the same as before is in it only `every` so many turns.
        """
        seen: list[tuple[int, int, str]] = []
        waited_for: dict[int, object] = {}

        def look(scene: Scene) -> None:
            loop = running_loop()
            for number, task in enumerate(loop.made):
                if task.done() or task.get_name().startswith("test"):
                    continue
                waiter = task._fut_waiter  # type: ignore[attr-defined]
                is_new = number not in waited_for or waiter is not waited_for[number]
                if is_new or (loop.turn + number) % every == 0:
                    seen.append((loop.turn, number, task.get_name()))
                waited_for[number] = waiter

        last = self.all_turns(lambda scene: None)
        self.run(dict.fromkeys(range(1, last + 1), look))
        return seen

    def run(self, disturbances: dict[int, Disturbance]) -> bool:
        """Once; whether the operation lasted until the last disturbance. Everything is verified either way."""
        random.seed(1)
        loop = SteppingLoop()
        try:
            was_disturbed = loop.run_until_complete(loop.create_task(self._run(loop, disturbances), name="test"))
            assert not loop.failures, loop.failures
            assert not [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
            return was_disturbed
        except BaseException as error:
            error.add_note(f"disturbed before turns {list(disturbances)}")
            raise
        finally:
            with suppress(BaseException):
                for left in asyncio.all_tasks(loop):
                    left.cancel()
                loop.run_until_complete(asyncio.sleep(RESTED))
            loop.close()

    async def _run(self, loop: SteppingLoop, disturbances: dict[int, Disturbance]) -> bool:
        scene = self.make()
        await self.prepare(scene)
        last, was_disturbed = max(disturbances), False

        def before(turn: int) -> None:
            nonlocal was_disturbed
            if turn in disturbances and not all(caller.done() for caller in scene.callers):
                was_disturbed = was_disturbed or turn == last
                disturbances[turn](scene)

        loop.before, loop.turn = before, 0
        scene.call(self.operate)
        while not all(caller.done() for caller in scene.callers):
            _, waiting = await asyncio.wait(scene.callers, timeout=RESTED)
            assert not waiting, "a caller waits for ever"
        loop.before = None
        await asyncio.sleep(RESTED)
        for caller in scene.callers:
            no_defect(caller)
        scene.check()
        self.verify(scene)
        await scene.obey()
        check_no_task_left()
        return was_disturbed


def cancel_caller(scene: Scene) -> None:
    """Who asked for it goes away."""
    scene.callers[0].cancel()


def cancel_last(scene: Scene) -> None:
    """Who asked last goes away."""
    scene.callers[-1].cancel()


def cancel_task(number: int) -> Disturbance:
    """Somebody cancels a task of a service's behind Plait's back."""
    return lambda scene: running_loop().made[number].cancel() and None


def cancel_everything(scene: Scene) -> None:
    """As asyncio.run does when its main coroutine is over."""
    for task in asyncio.all_tasks(asyncio.get_running_loop()):
        if task.get_name() != "test":
            task.cancel()


def no_defect(task: asyncio.Task[Any]) -> None:
    """What a caller got is an answer, not an error of the kernel's own."""
    if task.cancelled():
        return
    for error in causes(task.exception()):
        assert not isinstance(error, DEFECTS), repr(error)
        assert isinstance(error, (PlaitError, OSError)), repr(error)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The single errors in a group of them."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from causes(inner)
    elif error is not None:
        yield error


# -- what must hold ----------------------------------------------------------------------------------------------------


def check_truth(app: Application, ledger: Ledger) -> None:
    """Everything has arrived somewhere, and the snapshot says of each service what its hooks saw."""
    for told in app.snapshot().walk():
        assert told.state in AT_REST | {State.RUNNING, State.PAUSED}, told
        page = ledger.get(told.path)
        if page is None:
            continue
        is_live = int(told.state in READY)
        assert page.started - page.stopped == is_live * (page.started > 0), (told, page)
        assert page.entered - page.left == is_live * (page.entered > 0), (told, page)
        assert page.running == is_live * page.has_run, (told, page)
        assert page.chores == is_live * (page.chores > 0), (told, page)
        if page.can_pause:
            assert (told.state is State.PAUSED) == (page.is_paused and bool(is_live)), (told, page)
    _check_intents(app.snapshot(), ledger, is_held=False)


def _check_intents(told: Snapshot, ledger: Ledger, *, is_held: bool) -> None:
    """Nobody is paused who shall not be, nor runs who shall be paused and can, nor lives who shall be down."""
    is_held = is_held or told.intent is Intent.PAUSED
    page = ledger.get(told.path)
    assert is_held or told.state is not State.PAUSED, told
    if told.state is State.RUNNING:
        assert not (is_held and page is not None and page.can_pause), told
        assert told.intent is not Intent.DOWN, told
    for inner in told.services:
        _check_intents(inner, ledger, is_held=is_held)


async def check_obedience(scene: Scene) -> None:
    """It stops, starts, pauses, resumes and stops again when told to, and then nothing of it is left."""
    app = scene.app
    with suppress(ExceptionGroup):
        await app.stop()
    check_at_rest(app)
    scene.check()
    for record in app._record.below():
        record.intent = Intent.UP
    await app.start()
    await asyncio.sleep(RESTED)
    assert {told.state for told in app.snapshot().walk()} == {State.RUNNING}
    scene.check()
    await app.pause()
    assert app.state is State.PAUSED
    scene.check()
    await app.resume()
    assert {told.state for told in app.snapshot().walk()} == {State.RUNNING}
    scene.check()
    await app.stop()
    check_at_rest(app)
    scene.check()


def check_at_rest(app: Application) -> None:
    """No deadline, operation or note of anything is left."""
    engine = app._root_engine
    assert {told.state for told in app.snapshot().walk()} <= AT_REST
    assert (engine.alive, engine.operations) == (0, [])
    assert not engine.is_open or len(engine.deadlines) == 0
    assert [*engine.restarts, *engine.errands, *engine.leaving, *engine._watchers] == []
    assert not engine.supervision.waiting  # type: ignore[attr-defined]
    checks = engine.checks
    assert [*checks._calls, *checks._next, *checks._checked, *checks.said] == []


def check_no_task_left() -> None:
    """But those of the test."""
    left = [task for task in asyncio.all_tasks() if not task.get_name().startswith("test")]
    assert not left, left
