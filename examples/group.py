"""Groups and needs: what starts after what, what stops before what, and what goes on side by side.

    plait run examples/group.py

`backend` is a group of three; `api` needs all of it, so it starts last and stops first. In it, `cache` and `database`
have nothing to do with each other: they start at the same time.
"""

from __future__ import annotations

import asyncio

from plait import Application, Group, Service


class Part(Service):
    """Takes `delay` seconds to start, and half as many to stop."""

    def __init__(self, delay: float) -> None:
        self.delay = delay

    async def on_start(self) -> None:
        self.log.info("starting")
        await asyncio.sleep(self.delay)

    async def on_stop(self) -> None:
        self.log.info("stopping")
        await asyncio.sleep(self.delay / 2)


def make_app() -> Application:
    """Needs are given as services, or by name: those of siblings, or paths from the root as "/backend/database"."""
    app = Application("shop")
    backend = app.add(Group(), name="backend")
    backend.add(Part(0.2), name="database")
    backend.add(Part(0.3), name="cache")
    backend.add(Part(0.1), name="search", needs=["database"])
    app.add(Part(0.1), name="api", needs=[backend], stop_timeout=2.0)
    return app
