"""A service that starts paused: what it was told at its start holds, whatever operators want by then."""

from __future__ import annotations

import asyncio

import pytest

from plait import Application, Group, Service, State
from plait._kernel.hooks import Shape


class Opening(Service):
    """Opens in on_start unless it starts paused, and closes and opens as it is told; `gate` holds up its start."""

    def __init__(self) -> None:
        self.is_open = False
        self.began = asyncio.Event()
        self.gate = asyncio.Event()

    async def on_start(self) -> None:
        self.is_open = not self._starts_paused
        self.began.set()
        await self.gate.wait()

    async def on_pause(self) -> None:
        self.is_open = False

    async def on_resume(self) -> None:
        self.is_open = True


async def settled(service: Service, state: State) -> None:
    """Until it is in that state."""
    async with asyncio.timeout(5):
        while service.state is not state:
            await asyncio.sleep(0)


async def test_one_that_is_resumed_during_its_start_runs_and_is_open() -> None:
    """It was told that it starts paused, and has opened nothing: it is paused all the same, and then resumed."""
    app = Application("test")
    opening = app.add(Opening(), name="opening")
    await opening.pause()
    starting = asyncio.create_task(app.start())
    await opening.began.wait()
    resuming = asyncio.create_task(opening.resume())
    await asyncio.sleep(0)
    opening.gate.set()
    await asyncio.gather(starting, resuming)
    assert (opening.state, opening.is_open) == (State.RUNNING, True)
    await app.stop()


async def test_one_that_starts_again_in_a_group_that_is_resumed_meanwhile_runs() -> None:
    """The group's resume is over before it is ready, so that nobody waits for it."""
    app = Application("test")
    group = app.add(Group(), name="group")
    opening = group.add(Opening(), name="opening")
    opening.gate.set()
    async with app:
        await group.pause()
        opening.gate.clear()
        opening.began.clear()
        restarting = asyncio.create_task(opening.restart())
        await opening.began.wait()
        await group.resume()
        assert opening.state is State.STARTING
        opening.gate.set()
        await restarting
        await settled(opening, State.RUNNING)
        assert opening.is_open


async def test_one_that_is_ready_after_its_group_was_paused_is_paused() -> None:
    """With readiness of its own it may be ready long after on_start, when the pause of the group is over."""

    class Manual(Opening):
        readiness = "manual"

        async def run(self) -> None:
            await self.gate.wait()
            self.ready()
            await asyncio.Event().wait()

        async def on_start(self) -> None:
            self.is_open = True
            self.began.set()

    app = Application("test")
    group = app.add(Group(), name="group")
    manual = Manual()
    async with app:
        group.add(manual, name="manual")
        starting = asyncio.create_task(manual.start())
        await manual.began.wait()
        await group.pause()
        manual.gate.set()
        await starting
        await settled(manual, State.PAUSED)
        assert not manual.is_open


# -- who is told of a reload -------------------------------------------------------------------------------------------


class Base(Service):
    """Takes one of its two arguments live."""

    live_parameters = ("most",)

    def __init__(self, listen: str, most: int) -> None: ...

    async def on_reload(self, listen: str, most: int) -> None: ...


class Renamed(Base):
    """Nothing of its own."""


class OwnConstructor(Base):
    """Other arguments, so that the base's on_reload would not know them."""

    def __init__(self) -> None:
        super().__init__("here", 1)


class OwnReload(OwnConstructor):
    """Its on_reload is for its own constructor, and takes all there is."""

    def __init__(self, size: int) -> None: ...

    async def on_reload(self, size: int) -> None: ...  # type: ignore[override]


@pytest.mark.parametrize(
    ("cls", "reloads", "live"),
    [(Service, False, None), (Base, True, ("most",)), (Renamed, True, ("most",)), (OwnConstructor, False, ("most",)),
     (OwnReload, True, None)],
)  # fmt: skip
def test_an_on_reload_is_for_the_constructor_it_stands_beside(
    cls: type[Service], reloads: bool, live: tuple[str, ...] | None
) -> None:
    """A subclass with another constructor would be called with arguments that its base does not know."""
    shape = Shape(cls, group=False)
    assert (shape.reload, shape.live) == (reloads, live)
