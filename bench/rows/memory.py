"""What one service adds to the resident memory of its process, made and started, with nobody watching events."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bench.measure import Row, at_most, in_turns, interval
from bench.rows.trees import run
from bench.setting import Setting

SHAPES = {
    "plain": ("without hooks", 1024),
    "hooks": ("with a task (on_start, on_stop)", 3072),
    "run": ("with a task (run)", 3072),
}


def measure(setting: Setting) -> Iterator[Row]:
    """Each run in a fresh process, so that no freed memory is used again."""
    count, rounds = setting.choose(100_000, 10_000), setting.choose(5, 2)
    things = {shape: partial(run, setting, "memory", "plait", shape, count) for shape in SHAPES}
    for shape, results in in_turns(rounds, things).items():
        what, bar = SHAPES[shape]
        grown = [result["bytes"] for result in results]
        yield Row(f"memory of a service {what}, {count:,}", interval(grown), at_most(bar), "B", raw={"bytes": grown})
