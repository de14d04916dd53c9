"""Deferreds at work, on plait.classic or on Twisted: `deferreds.py PACKAGE`, or `deferreds.py PACKAGE memory SHAPE N`.

Without more, it first goes through everything once, as a program does that uses more than one feature, says the
names of the rows, and then answers each line `NAME COUNT` with the CPU nanoseconds of one turn. With `memory`, it
says by how many bytes a waiting Deferred makes the process grow.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

WARM = 3000

TEN = f"{'d.addCallback(same); ' * 10}d.callback(1)"

ROWS = {
    "an empty class": "Empty()",
    "one in a list": "d = Least(); d.addCallback(same); d.callback(1)",
    "ten in a list": f"d = Least(); {TEN}",
    "create": "Deferred()",
    "succeed": "succeed(1)",
    "one callback": "d = Deferred(); d.addCallback(same); d.callback(1)",
    "ten callbacks": f"d = Deferred(); {TEN}",
    "callback and errback": "d = Deferred(); d.addCallback(same); d.addErrback(drop); d.callback(1)",
    "errback": "d = Deferred(); d.addErrback(drop); d.errback(error)",
    "a callback that raises": "d = Deferred(); d.addCallback(fails); d.addErrback(drop); d.callback(1)",
    "chain, result there": "d = Deferred(); e = succeed(1); d.addCallback(lambda _: e); d.callback(1)",
    "chain, waiting": "d = Deferred(); e = Deferred(); d.addCallback(lambda _: e); d.callback(1); e.callback(2)",
    "ensureDeferred, result there": "ensureDeferred(awaits(succeed(1)))",
    "ensureDeferred, waiting": "d = Deferred(); ensureDeferred(awaits(d)); d.callback(1)",
    "ensureDeferred, ten results there": "ensureDeferred(awaits_ten(succeed))",
    "inlineCallbacks, result there": "yields(succeed(1))",
    "inlineCallbacks, waiting": "d = Deferred(); yields(d); d.callback(1)",
    "inlineCallbacks, ten results there": "yields_ten(succeed)",
}

SHAPES = {
    "nothing": lambda deferred: deferred,
    "a callback": lambda deferred: deferred.addCallback(same),
    "a callback and an errback": lambda deferred: deferred.addCallback(same).addErrback(drop),
}


class Empty:
    """Takes what a Deferred takes, and does nothing."""

    def __init__(self, canceller: Any = None) -> None:
        pass


class Least:
    """Callbacks that are kept and called, one after the other, and nothing else."""

    __slots__ = ("callbacks", "result")

    def __init__(self, canceller: Any = None) -> None:
        self.callbacks: list[Any] = []

    def addCallback(self, callback: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N802
        """Keep it."""
        self.callbacks.append(callback)
        return self

    def callback(self, result: Any) -> None:
        """Call all."""
        for callback in self.callbacks:
            result = callback(result)
        self.result = result


def same(result: Any) -> Any:
    """A callback."""
    return result


def drop(failure: Any) -> None:
    """An errback."""


def fails(result: Any) -> Any:
    """A callback that raises."""
    raise ValueError


async def awaits(deferred: Any) -> Any:
    """A coroutine that waits once."""
    return await deferred


async def awaits_ten(succeed: Any) -> None:
    """A coroutine that waits ten times."""
    for _ in range(10):
        await succeed(1)


def yields(deferred: Any) -> Any:
    """A generator that waits once."""
    result = yield deferred
    return result


def yields_ten(succeed: Any) -> Any:
    """A generator that waits ten times."""
    for _ in range(10):
        yield succeed(1)


def turns(package: str) -> dict[str, Callable[[int], None]]:
    """For each row, what takes it so many times."""
    defer: Any = import_module(f"{package}.internet.defer")
    names = {name: getattr(defer, name) for name in ("Deferred", "succeed", "ensureDeferred")}
    names |= {"same": same, "drop": drop, "fails": fails, "awaits": awaits, "awaits_ten": awaits_ten}
    names |= {"yields": defer.inlineCallbacks(yields), "yields_ten": defer.inlineCallbacks(yields_ten)}
    names |= {"error": ValueError(), "Empty": Empty, "Least": Least}
    loops: dict[str, Callable[[int], None]] = {}
    for row, statement in ROWS.items():
        exec(f"def loop(count):\n for _ in range(count):\n  {statement}\n", names)
        loops[row] = names.pop("loop")
    return loops


def answer(package: str) -> None:
    """Go through everything, then measure what is asked for."""
    loops = turns(package)
    for loop in loops.values():
        loop(WARM)
    gc.collect()
    print("\t".join(loops), flush=True)
    for line in sys.stdin:
        row, _, count = line.rpartition(" ")
        begun = time.process_time_ns()
        loops[row](int(count))
        print((time.process_time_ns() - begun) / int(count), flush=True)


def resident() -> int:
    """Bytes of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def memory(package: str, shape: str, count: int) -> None:
    """Say what one Deferred costs, of so many that all wait."""
    make = import_module(f"{package}.internet.defer").Deferred
    dress = SHAPES[shape]
    dress(make())
    kept: list[Any] = [None] * count
    gc.collect()
    before = resident()
    for number in range(count):
        kept[number] = dress(make())
    print((resident() - before) / count)


if __name__ == "__main__":
    if sys.argv[2:3] == ["memory"]:
        memory(sys.argv[1], sys.argv[3], int(sys.argv[4]))
    else:
        answer(sys.argv[1])
