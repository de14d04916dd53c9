"""What every tree program does alike: read its arguments, run on uvloop, and say what it used.

Rules: one run a process. Time is CPU time of this process, so that what else the machine does hardly counts; wall
time is told beside it. The tree is made before the clock starts, and started and stopped while it runs.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import uvloop

Tree = AbstractAsyncContextManager[object]
"""Entering it starts all services, leaving it stops them."""

Make = Callable[[str, int], Tree]
"""Makes a tree of so many services of one shape, and starts nothing."""

PAGE = os.sysconf("SC_PAGE_SIZE")


def rss() -> int:
    """Resident bytes of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE


class Collections:
    """Counts what the garbage collector does, by generation, and the seconds it takes."""

    def __init__(self) -> None:
        self.counts = [0, 0, 0]
        self.seconds = 0.0
        self._begun = 0.0
        gc.callbacks.append(self._call)

    def _call(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._begun = time.process_time()
        else:
            self.seconds += time.process_time() - self._begun
            self.counts[info["generation"]] += 1


async def time_run(make: Make, shape: str, count: int) -> dict[str, object]:
    """CPU and wall seconds to start and to stop `count` services, and to make them."""
    async with make(shape, 10):  # everything is imported and has run once
        pass
    gc.collect()
    collections = Collections()
    begun = time.process_time()
    tree = make(shape, count)
    made, wall = time.process_time(), time.perf_counter()
    await tree.__aenter__()
    started = time.process_time()
    await tree.__aexit__(None, None, None)
    stopped = time.process_time()
    return {
        "make": made - begun,
        "start": started - made,
        "stop": stopped - started,
        "cpu": stopped - made,
        "wall": time.perf_counter() - wall,
        "collections": collections.counts,
        "collecting": collections.seconds,
    }


async def memory_run(make: Make, shape: str, count: int) -> dict[str, object]:
    """Resident bytes that one service adds, made and started."""
    async with make(shape, 10):
        pass
    gc.collect()
    before = rss()
    tree = make(shape, count)
    gc.collect()
    made = rss()
    await tree.__aenter__()
    gc.collect()
    started = rss()
    await tree.__aexit__(None, None, None)
    return {"made": (made - before) / count, "bytes": (started - before) / count}


RUNS: dict[str, Callable[[Make, str, int], Awaitable[dict[str, object]]]] = {"time": time_run, "memory": memory_run}


def main(make: Make) -> None:
    """Run once, as the arguments say, and print the result as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=RUNS)
    parser.add_argument("shape")
    parser.add_argument("count", type=int)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(RUNS[arguments.what](make, arguments.shape, arguments.count))))


__all__ = ["AsyncIterator", "Make", "Tree", "main"]
