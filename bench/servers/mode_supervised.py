"""The same under mode: an echo server beside 100 services that wait, under three of mode's supervisors."""

from __future__ import annotations

import asyncio
import logging
import sys

import mode
import uvloop
from mode.supervisors import OneForAllSupervisor, OneForOneSupervisor
from uvloop_echo import Echo

GROUPS = ((OneForOneSupervisor, 40), (OneForAllSupervisor, 30), (OneForOneSupervisor, 30))


class Waiting(mode.Service):
    """Has a task that waits, for work that does not come."""

    @mode.Service.task
    async def work(self) -> None:
        await asyncio.get_running_loop().create_future()


async def main(port: int) -> None:
    """Serve until the process is ended."""
    logging.disable(logging.CRITICAL)
    for kind, count in GROUPS:
        supervisor = kind()
        supervisor.add(*(Waiting() for _ in range(count)))
        await supervisor.start()
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1])))
