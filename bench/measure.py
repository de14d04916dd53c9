"""How things are measured: side by side, in turns, and with an interval.

Rules: a ratio is taken between two things measured one right after the other, many times, and the median counts. Its
interval holds the true median with 95 % (order statistics: no assumption about the noise). A bar is missed only if the
interval excludes it. Cost is CPU time of the measured process, which what else the machine does disturbs least.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import comb
from statistics import median
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Interval:
    """The median of some values, and between what the true one lies with 95 %."""

    median: float
    low: float
    high: float
    count: int


def interval(values: Iterable[float]) -> Interval:
    """Of at least one value; with fewer than six the interval is all of them, which is a little less than 95 %."""
    ordered = sorted(values)
    rank = _rank(len(ordered))
    return Interval(median(ordered), ordered[rank], ordered[-1 - rank], len(ordered))


def _rank(count: int) -> int:
    """How many values may be left out at either end, so that the rest hold the median with 95 %."""
    outside, rank = 2 * comb(count, 0) / 2**count, 0
    while outside + 2 * comb(count, rank + 1) / 2**count <= 0.05:
        rank += 1
        outside += 2 * comb(count, rank) / 2**count
    return rank if outside <= 0.05 else 0


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> Interval:
    """Of values that were measured in pairs."""
    return interval(a / b for a, b in zip(numerators, denominators, strict=True))


@dataclass(frozen=True)
class Bar:
    """What a row is held to."""

    value: float
    at_least: bool

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.value:g}"

    def holds(self, measured: Interval) -> bool:
        """Whether the interval leaves room for it."""
        return measured.high >= self.value if self.at_least else measured.low <= self.value


def at_least(value: float) -> Bar:
    """The more the better."""
    return Bar(value, at_least=True)


def at_most(value: float) -> Bar:
    """The less the better."""
    return Bar(value, at_least=False)


@dataclass(frozen=True)
class Row:
    """One line of the table. `beside` is told, and held to nothing; without a measurement it says why."""

    name: str
    measured: Interval | None
    bar: Bar | None = None
    unit: str = "×"
    beside: str = ""
    broken: bool = False
    raw: dict[str, list[float]] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """What became of the bar."""
        if self.measured is None:
            return "BROKEN" if self.broken else "skipped"
        if self.bar is None:
            return ""
        return "pass" if self.bar.holds(self.measured) else "MISS"


def in_turns(rounds: int, things: dict[str, Callable[[], T]]) -> dict[str, list[T]]:
    """Call each thing once a round, forwards and backwards by turns, so that no drift favours one."""
    results: dict[str, list[T]] = {name: [] for name in things}
    for number in range(rounds):
        names = list(things)
        for name in names if number % 2 == 0 else reversed(names):
            results[name].append(things[name]())
    return results


def cpu_clock(pid: int) -> Callable[[], float]:
    """A clock of the CPU seconds that a process, with all its threads, has used: Linux's clock_getcpuclockid."""
    clock = (~pid << 3) | 2
    return lambda: time.clock_gettime(clock)
