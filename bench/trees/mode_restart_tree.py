"""One mode service that is restarted by mode's own supervisor, which is allowed any number of restarts."""

from __future__ import annotations

import asyncio

import mode
from mode.supervisors import OneForOneSupervisor
from restarting import Subject, main


class Failing(mode.Service):
    """Has a start and a stop, and a task that fails `left` times more; then it is `steady`."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 0
        self.again = asyncio.Event()
        self.steady = asyncio.Event()

    async def on_start(self) -> None:
        pass

    @mode.Service.task
    async def work(self) -> None:
        if self.left == 0:
            self.steady.set()
            await self.again.wait()
        self.left -= 1
        raise OSError("on purpose")

    async def on_stop(self) -> None:
        pass


class ModeSubject(Subject):
    """Under a OneForOneSupervisor."""

    def __init__(self) -> None:
        self.service = Failing()
        self.supervisor = OneForOneSupervisor(max_restarts=1_000_000_000.0, over=1.0)
        self.supervisor.add(self.service)

    async def start(self) -> None:
        await self.supervisor.start()
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
        await self.supervisor.stop()


if __name__ == "__main__":
    main(ModeSubject)
