"""Many services under one aiomisc entrypoint.

Its Service has an abstract `start`, so the plainest service has one. The entrypoint is asked to leave logging and
signals alone, which costs it nothing per service.
"""

from __future__ import annotations

import aiomisc
from common import Tree, main


class Plain(aiomisc.Service):
    """The least that can be started."""

    async def start(self) -> None:
        pass


class Hooked(aiomisc.Service):
    """Has a start and a stop."""

    async def start(self) -> None:
        pass

    async def stop(self, exception: Exception | None = None) -> None:
        pass


SHAPES = {"plain": Plain, "hooks": Hooked}


def make(shape: str, count: int) -> Tree:
    """An entrypoint of `count` services of one class."""
    cls = SHAPES[shape]
    return aiomisc.entrypoint(*(cls() for _ in range(count)), log_config=False, catch_signals=())


if __name__ == "__main__":
    main(make)
