"""A service with a `run`: it does its work there, and the application stops it by cancelling it.

    plait run examples/service_run.py

It watches the load of the machine, and finishes the line it is at when it is told to stop (Ctrl-C).
"""

from __future__ import annotations

import asyncio
import os

from plait import Service


class LoadWatch(Service):
    """Logs the load average every `period` seconds, and the highest at the end."""

    def __init__(self, period: float = 1.0) -> None:
        self.period = period

    async def on_start(self) -> None:
        """Ready when this returns; here, after the first look."""
        self.highest = os.getloadavg()[0]

    async def run(self) -> None:
        while True:
            load = os.getloadavg()[0]
            self.highest = max(self.highest, load)
            self.log.info("load %.2f", load)
            await asyncio.sleep(self.period)  # a stop cancels it here

    async def on_stop(self) -> None:
        """Called after run has ended, however it ended."""
        self.log.info("the highest load was %.2f", self.highest)


app = LoadWatch()
