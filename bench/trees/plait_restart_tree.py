"""One Plait service that is restarted: its delays are set to nothing, and its limits to what is never reached."""

from __future__ import annotations

import asyncio

from restarting import Subject, main

from plait import Application, Service
from plait._kernel import backoff

backoff.FIRST = 0.0
backoff.HEALTHY = 0.0
backoff.LEAST_ALLOWED = 1_000_000_000


class Failing(Service):
    """Has a start and a stop, and a run that fails `left` times more; then it is `steady`."""

    def __init__(self) -> None:
        self.left = 0
        self.again = asyncio.Event()
        self.steady = asyncio.Event()

    async def on_start(self) -> None:
        pass

    async def run(self) -> None:
        if self.left == 0:
            self.steady.set()
            await self.again.wait()
        self.left -= 1
        raise OSError("on purpose")

    async def on_stop(self) -> None:
        pass


class PlaitSubject(Subject):
    """In an application of its own."""

    def __init__(self) -> None:
        self.app = Application("restarts")
        self.service = self.app.add(Failing())

    async def start(self) -> None:
        await self.app.start()
        await self.service.steady.wait()

    async def fail(self, count: int) -> None:
        service = self.service
        service.left = count
        service.steady.clear()
        service.again.set()
        await asyncio.sleep(0)
        service.again.clear()
        await service.steady.wait()

    async def command(self, count: int) -> None:
        for _ in range(count):
            await self.service.restart()

    async def stop(self) -> None:
        await self.app.stop()


if __name__ == "__main__":
    main(PlaitSubject)
