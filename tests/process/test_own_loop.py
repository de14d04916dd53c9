"""The runner's own loop, and its end: nothing hangs, and what would not end is named."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from plait.process import loops


@pytest.fixture(params=["uvloop", "asyncio"])
def name(request: pytest.FixtureRequest) -> str:
    loop: str = request.param
    return loop


def test_tasks_and_async_generators_are_ended(name: str) -> None:
    """A task that nobody owns is cancelled, an async generator that nobody closed is closed."""
    ended: list[str] = []

    async def stray() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append("task")

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            ended.append("generator")

    generator = numbers()

    async def main() -> int:
        asyncio.get_running_loop().keep = asyncio.ensure_future(stray()) if name == "asyncio" else None  # type: ignore[attr-defined]
        tasks.append(asyncio.ensure_future(stray()))
        await anext(generator)
        await asyncio.sleep(0)
        return 7

    tasks: list[asyncio.Task[None]] = []
    left: list[str] = []
    assert loops.run(name, main, left) == 7
    assert left == []
    assert set(ended) == {"task", "generator"}


def test_what_would_not_end_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that swallows its cancellation and a thread in a blocking call are left, by name."""
    monkeypatch.setattr(loops, "TASKS_TIMEOUT", 0.05)
    monkeypatch.setattr(loops, "THREADS_TIMEOUT", 0.05)
    release = threading.Event()
    tasks: list[asyncio.Task[None]] = []

    async def stubborn() -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                pass

    async def main() -> None:
        tasks.append(asyncio.create_task(stubborn(), name="stubborn"))
        asyncio.get_running_loop().run_in_executor(None, release.wait)
        await asyncio.sleep(0.01)

    left: list[str] = []
    try:
        loops.run(name, main, left)
    finally:
        release.set()
    assert left[0].startswith("task 'stubborn' at ")
    assert left[0].endswith("test_what_would_not_end_is_named.<locals>.stubborn)")
    assert left[1].startswith("thread 'asyncio_")
    tasks[0].get_coro().close()  # type: ignore[union-attr]
    tasks[0]._log_destroy_pending = False  # type: ignore[attr-defined]


def test_exit_in_a_callback_stops_what_runs(name: str) -> None:
    """SystemExit out of a callback cancels what runs, waits for its end, and goes on."""
    ended: list[str] = []

    def leave() -> None:
        raise SystemExit(3)

    async def main() -> None:
        asyncio.get_running_loop().call_soon(leave)
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0.01)
            ended.append("main")

    with pytest.raises(SystemExit):
        loops.run(name, main, [])
    assert ended == ["main"]
