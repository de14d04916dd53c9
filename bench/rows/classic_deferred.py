"""Deferreds of plait.classic against Twisted's: CPU time of what programs do with them, and memory while they wait.

Two processes on one core, one for each, take every row in turns of a few milliseconds, so that both have the same
machine. Both have gone through all rows before: CPython specializes what runs often, and Twisted's Deferreds are
cheaper while a process has only ever used them in one way.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import partial
from typing import Self

from bench.measure import Row, at_least, at_most, in_turns, interval, ratios
from bench.setting import HERE, Setting, environment, on_core

SCRIPT = HERE / "trees" / "deferreds.py"
PACKAGES = {"classic": "plait.classic", "Twisted": "twisted"}

LIMITS = {"an empty class": "create", "one in a list": "one callback", "ten in a list": "ten callbacks"}
"""The least that does what a row does: no class in Python is faster."""
BARS = {
    "create": 1.2,
    "succeed": 1.2,
    "one callback": 2,
    "ten callbacks": 2,
    "errback": 2,
    "a callback that raises": 2,
    "chain, result there": 1.7,
    "chain, waiting": 1.7,
    "ensureDeferred, result there": 3,
    "ensureDeferred, waiting": 3,
    "inlineCallbacks, result there": 2.5,
    "inlineCallbacks, waiting": 2.5,
}
"""At least so many times as fast. Other rows are held to nothing."""

SHAPES = {"nothing": None, "a callback": at_most(0.5), "a callback and an errback": at_most(0.5)}
"""What a waiting Deferred holds, and what share of Twisted's memory it may take."""


class Worker:
    """A process that takes rows."""

    def __init__(self, setting: Setting, package: str) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        how = {"env": environment(), "preexec_fn": on_core(setting.server_core), **pipes}
        self._child = subprocess.Popen(  # type: ignore[call-overload]
            [setting.peers / "python", SCRIPT, package], **how
        )
        self.rows = self._child.stdout.readline().rstrip("\n").split("\t")

    def take(self, row: str, count: int) -> float:
        """CPU nanoseconds of one turn, of so many."""
        self._child.stdin.write(f"{row} {count}\n")
        self._child.stdin.flush()
        return float(self._child.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stdin.close()
        self._child.wait(10)
        self._child.stdout.close()


def measure(setting: Setting) -> Iterator[Row]:
    """Time, then memory."""
    setting.say("Deferreds")
    with Worker(setting, PACKAGES["classic"]) as ours, Worker(setting, PACKAGES["Twisted"]) as theirs:
        for row in ours.rows:
            against = LIMITS.get(row, row)
            count = max(200, round(4e6 / theirs.take(against, 200)))  # about four milliseconds of Twisted's
            name = row if row in LIMITS else "classic"
            things = {name: partial(ours.take, row, count), "Twisted": partial(theirs.take, against, count)}
            taken = in_turns(setting.choose(60, 20), things)
            yield Row(
                f"Deferred, {against}: {f'{row} vs Twisted (the limit)' if row in LIMITS else 'vs Twisted'}",
                ratios(taken["Twisted"], taken[name]),
                at_least(BARS[row]) if row in BARS else None,
                beside=", ".join(f"{name} {interval(values).median:,.0f} ns" for name, values in taken.items()),
                raw=taken,
            )
    yield from _memory(setting)


def _memory(setting: Setting) -> Iterator[Row]:
    count = setting.choose(100_000, 50_000)
    for shape, bar in SHAPES.items():
        things = {name: partial(_grown, setting, package, shape, count) for name, package in PACKAGES.items()}
        taken = in_turns(setting.choose(5, 3), things)
        yield Row(
            f"memory of a waiting Deferred with {shape}: vs Twisted",
            ratios(taken["classic"], taken["Twisted"]),
            bar,
            beside=", ".join(f"{name} {interval(values).median:,.0f} B" for name, values in taken.items()),
            raw=taken,
        )


def _grown(setting: Setting, package: str, shape: str, count: int) -> float:
    """Bytes a Deferred, in a fresh process."""
    how = {"env": environment(), "preexec_fn": on_core(setting.server_core), "timeout": 60}
    done = subprocess.run(  # type: ignore[call-overload]
        [setting.peers / "python", SCRIPT, package, "memory", shape, str(count)],
        check=True,
        capture_output=True,
        text=True,
        **how,
    )
    return float(done.stdout)
