"""Many services under one mode Worker, which is told to leave logging alone and to return once it has started.

Logging is set to WARNING: below that, mode writes four lines a service. `lean` shapes leave the Worker out: a plain
service holds the others, and they were put below it before the clock starts; a Worker does that when it starts, at a
cost that grows with the square of their number.
"""

from __future__ import annotations

import logging
from types import TracebackType

import mode
from common import Tree, main


class Plain(mode.Service):
    """Has no hooks."""


class Hooked(mode.Service):
    """Has on_start and on_stop."""

    async def on_start(self) -> None:
        pass

    async def on_stop(self) -> None:
        pass


class Stopping(mode.Service):
    """A mode service whose `async with` stops it, as that of asyncio's own context managers would."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


class Worker(Stopping, mode.Worker):
    """Mode's own entry point."""


SHAPES = {"plain": Plain, "hooks": Hooked}


def make(shape: str, count: int) -> Tree:
    """A Worker of `count` services of one class; or, for a lean shape, a service that holds them."""
    logging.getLogger().setLevel(logging.WARNING)
    cls = SHAPES[shape.removeprefix("lean-")]
    services = [cls() for _ in range(count)]
    if not shape.startswith("lean-"):
        return Worker(*services, override_logging=False, daemon=False)
    root = Stopping()
    for service in services:
        root.add_dependency(service)
    return root


if __name__ == "__main__":
    main(make)
