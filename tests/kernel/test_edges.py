"""Every edge of the state table is gone along, by directed stories; a test prints how often, and fails below 100 %."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import pytest

from plait import Application, Service, State
from plait._kernel.events import Event, StateChanged
from plait._kernel.states import TRANSITIONS
from plait.errors import PlaitError
from plait.testing import advance, run

Edges = Counter[tuple[State, State]]


class Slow(Service):
    """Takes three seconds to pause and to resume; may fail at its start, or end, as it is told."""

    def __init__(self, *, fails: int = 0, ends: bool = False) -> None:
        self.fails = fails
        self.ends = ends

    async def on_start(self) -> None:
        self.fails -= 1
        if self.fails >= 0:
            raise ValueError("on purpose")

    async def run(self) -> None:
        while not self.ends:
            await asyncio.sleep(1)

    async def on_pause(self) -> None:
        await asyncio.sleep(3)

    async def on_resume(self) -> None:
        await asyncio.sleep(3)


async def paused_and_resumed(service: Service) -> None:
    """The whole circle, and once more through a restart, which comes back paused."""
    await service.pause()
    await service.restart()
    await service.resume()


async def stopped_on_the_way(service: Service) -> None:
    """While it pauses, is paused, and resumes."""
    pausing = asyncio.create_task(service.pause())
    await advance(1)
    await service.stop()
    await service.start()
    await service.pause()
    await service.stop()
    await service.start()
    await service.pause()
    resuming = asyncio.create_task(service.resume())
    await advance(1)
    await service.stop()
    await asyncio.gather(pausing, resuming, return_exceptions=True)


async def failed_and_back(service: Service) -> None:
    """It fails twice, once more while nobody brings it back, and is stopped while it waits."""
    assert isinstance(service, Slow)
    await advance(20)
    service.fails = 100
    await service.stop()
    with contextlib.suppress(PlaitError, ExceptionGroup):
        await service.start()
    service.fails = 0
    await service.start()
    service.fails = 100
    service.spawn(asyncio.sleep(0)).add_done_callback(lambda _: None)
    task = next(task for task in asyncio.all_tasks() if task.get_name() == service.path)
    task.cancel()
    await advance(5)
    await service.stop()


async def ended_and_back(service: Service) -> None:
    """Its run returns, and it is started again by itself."""
    assert isinstance(service, Slow)
    service.ends = True
    await advance(5)


STORIES = {
    "pausable": (Slow(), paused_and_resumed, {}),
    "stopped": (Slow(), stopped_on_the_way, {}),
    "failing": (Slow(fails=2), failed_and_back, {"on_exhausted": "park"}),
    "ending": (Slow(), ended_and_back, {"restart": "always"}),
}


async def gone_along() -> Edges:
    """All stories, in one application."""
    app, edges = Application("edges"), Edges()

    def sink(event: Event) -> None:
        if isinstance(event, StateChanged):
            edges[event.old, event.new] += 1

    app.subscribe(sink)
    for name, (service, _, policy) in STORIES.items():
        app.add(service, name=name, **policy)
    async with app:
        await asyncio.gather(*(story(service) for service, story, _ in STORIES.values()))
    return edges


def test_every_edge_is_gone_along_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    """The table has no edge that nothing takes, and nothing takes one that it has not."""
    edges = run(gone_along())
    legal = [(old, new) for old, news in TRANSITIONS.items() for new in news]
    with capsys.disabled():
        covered = sum(1 for edge in legal if edges[edge])
        print(f"\nedges of the state table: {covered} of {len(legal)}")
        for old, new in legal:
            print(f"  {old.value:9} -> {new.value:9} {edges[old, new]}")
    assert [edge for edge in legal if not edges[edge]] == []
    assert set(edges) <= set(legal)
