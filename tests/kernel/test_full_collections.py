"""Full garbage collections are held back while very many services start, and only then."""

from __future__ import annotations

import gc

import pytest

from plait import Application, Service
from plait._kernel.collector import LARGE


@pytest.fixture(autouse=True)
def thresholds() -> tuple[int, int, int]:
    """What they are before the test."""
    return gc.get_threshold()


@pytest.mark.parametrize("count", [LARGE - 2, LARGE + 1])
async def test_the_thresholds_are_as_before_once_the_tree_is_up(count: int, thresholds: tuple[int, int, int]) -> None:
    """Within a large start the full pass is far away; within a small one, and after either, all is as it was."""
    within: list[tuple[int, int, int]] = []

    class Looking(Service):
        async def on_start(self) -> None:
            within.append(gc.get_threshold())

    app = Application("many")
    for number in range(count - 1):
        app.add(Service(), name=f"s{number}")
    app.add(Looking())
    async with app:
        assert gc.get_threshold() == thresholds
    assert gc.get_threshold() == thresholds
    assert (within[0] == thresholds) == (count < LARGE)
    assert within[0][:2] == thresholds[:2]


async def test_a_collector_that_is_switched_off_is_left_alone() -> None:
    """Somebody else has taken it in hand."""
    gc.disable()
    try:
        before = gc.get_threshold()
        app = Application("many")
        for number in range(LARGE):
            app.add(Service(), name=f"s{number}")
        async with app:
            assert gc.get_threshold() == before
            assert not gc.isenabled()
    finally:
        gc.enable()
