"""Jobs: services whose `run` returns. When all have, the application ends by itself, with exit code 0.

    plait run examples/jobs.py --numbers 1000000 --jobs 4

A need is met by a job that has finished: `total` begins when every `part` has started, and waits for their results.
"""

from __future__ import annotations

import asyncio

from plait import Application, Options, Service


class JobsOptions(Options):
    """Add up numbers, in parts."""

    numbers: int = 1_000_000
    jobs: int = 4


class Part(Service):
    """Adds up one range, in a thread."""

    def __init__(self, numbers: range) -> None:
        self.numbers = numbers
        self.result = asyncio.Queue[int]()

    async def run(self) -> None:
        self.result.put_nowait(await self.run_in_thread(sum, self.numbers))


class Total(Service):
    """Adds up the results of all parts."""

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts

    async def run(self) -> None:
        results = [await part.result.get() for part in self.parts]
        self.log.info("the sum is %d", sum(results))


def make_app(options: JobsOptions) -> Application:
    """One service for each part, and one that needs them all."""
    app = Application("jobs")
    size = -(-options.numbers // options.jobs)
    starts = range(0, options.numbers, size)
    parts = [app.add(Part(range(start, min(start + size, options.numbers))), name=f"part{start}") for start in starts]
    app.add(Total(parts), name="total", needs=parts)
    return app
