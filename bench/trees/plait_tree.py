"""Many services in one Plait application."""

from __future__ import annotations

import asyncio

from common import Tree, main

from plait import Application, Service


class Plain(Service):
    """Has no hooks, and so no task."""


class Hooked(Service):
    """Has on_start and on_stop, and so a task."""

    async def on_start(self) -> None:
        pass

    async def on_stop(self) -> None:
        pass


class Running(Service):
    """Has a run that waits until it is cancelled."""

    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()


SHAPES = {"plain": Plain, "hooks": Hooked, "run": Running}


def make(shape: str, count: int) -> Tree:
    """An application of `count` services of one class."""
    app = Application("tree")
    cls = SHAPES[shape]
    for number in range(count):
        app.add(cls(), name=f"s{number}")
    return app


if __name__ == "__main__":
    main(make)
