"""Schedules 100,000 calls and fires them, on the reactor of a package: prints the CPU seconds of both.

python calllater.py (twisted | plait.classic)
"""

from __future__ import annotations

import random
import sys
import time
from importlib import import_module

COUNT = 100_000


def main(package: str) -> None:
    """Delays of up to 50 ms in any order; scheduling takes longer, so that all are due when the loop looks."""
    if package == "twisted":
        import_module("twisted.internet.epollreactor").install()
    reactor = import_module(f"{package}.internet.reactor")
    delays = [random.uniform(0, 0.05) for _ in range(COUNT)]
    left = COUNT
    began = scheduled = 0.0

    def fired() -> None:
        nonlocal left
        left -= 1
        if not left:
            print(scheduled - began, time.process_time() - began)
            reactor.stop()

    def schedule() -> None:
        nonlocal began, scheduled
        began = time.process_time()
        for delay in delays:
            reactor.callLater(delay, fired)
        scheduled = time.process_time()

    reactor.callWhenRunning(schedule)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1])
