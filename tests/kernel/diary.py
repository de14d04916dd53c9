"""Services that write down what happens to them, for the kernel's tests."""

from __future__ import annotations

import asyncio
from typing import Any

from plait import Service

Diary = list[str]

FATAL: dict[str, Any] = {"restart": "never", "significant": True}
"""The policy of a service whose failure is the end of its application."""


class Writer(Service):
    """Writes each of its hooks into a diary shared by the test; may be slow or fail in any of them."""

    def __init__(self, diary: Diary, **slow: float | Exception) -> None:
        self.diary = diary
        self.slow = slow

    async def at(self, hook: str) -> None:
        """Write, then wait or raise as the test has it."""
        self.diary.append(f"{self.name} {hook}")
        what = self.slow.get(hook)
        if isinstance(what, Exception):
            raise what
        if what is not None:
            await asyncio.sleep(what)

    async def on_start(self) -> None:
        await self.at("on_start")

    async def on_stop(self) -> None:
        await self.at("on_stop")


class Runner(Writer):
    """A Writer with a run that lasts, unless the test says how long, and a drain."""

    async def run(self) -> None:
        try:
            await self.at("run")
            if "run" not in self.slow:
                await asyncio.Event().wait()
        finally:
            self.diary.append(f"{self.name} ran")

    async def on_drain(self) -> None:
        await self.at("on_drain")


def spread(group: ExceptionGroup[Any]) -> list[str]:
    """The errors of a group, in order, as text."""
    return [str(error) for error in group.exceptions]
