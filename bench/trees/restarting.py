"""What the programs that restart one service do alike: read their arguments, run on uvloop, and say what it cost.

Rules: one run a process. Time is CPU time of this process, from the first failure (or command) to the readiness of the
last incarnation; the subject is started, and has been restarted a few times, before the clock starts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

import uvloop

WARM = 100


class Subject(ABC):
    """A service under its supervisor."""

    @abstractmethod
    async def start(self) -> None:
        """Until it runs."""

    @abstractmethod
    async def fail(self, count: int) -> None:
        """Let its run raise, and be started again, so many times; until it runs again."""

    @abstractmethod
    async def command(self, count: int) -> None:
        """Have it restarted so many times, as an operator does; until it runs again."""

    @abstractmethod
    async def stop(self) -> None:
        """Until it has stopped."""


async def measured(make: Callable[[], Subject], shape: str, count: int) -> dict[str, float]:
    """CPU and wall seconds of one restart."""
    subject = make()
    restart = {"fail": subject.fail, "command": subject.command}[shape]
    await subject.start()
    await restart(WARM)
    begun, wall = time.process_time(), time.perf_counter()
    await restart(count)
    used, waited = time.process_time() - begun, time.perf_counter() - wall
    await subject.stop()
    return {"cpu": used / count, "wall": waited / count}


def main(make: Callable[[], Subject]) -> None:
    """Run once, as the arguments say, and print the result as JSON. Nobody's log is written."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["restart"])
    parser.add_argument("shape", choices=["fail", "command"])
    parser.add_argument("count", type=int)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(measured(make, arguments.shape, arguments.count))))
