"""A diary for each test, and the check that a test leaves no task behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from diary import Diary


@pytest.fixture
def diary() -> Diary:
    """An empty diary."""
    return []


@pytest.fixture(autouse=True)
async def no_task_left(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Every test ends with no task but its own; one that leaves one on purpose asks for `lax`."""
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if "lax" not in request.fixturenames:
        assert not left, f"tasks left behind: {left}"
    for task in left:
        task.cancel()


@pytest.fixture
def lax() -> None:
    """The test leaves a task behind, which is its point."""
