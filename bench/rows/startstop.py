"""Starting and stopping many services: against aiomisc and mode, and against ten times fewer of our own.

Time is CPU time of a fresh process, from the call that starts the tree to the return of the one that stops it; making
services and handing them to their entry point is not in it. Entry points are each library's own: Application,
aiomisc.entrypoint, mode.Worker. A Worker puts its services below itself when it starts, and searches all it has for
each; the rows `mode, no Worker` have that done before the clock starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from bench.measure import Bar, Row, at_least, at_most, in_turns, interval, ratios
from bench.rows.trees import run
from bench.setting import Setting

FEW, MANY = 10_000, 100_000
SHAPES = {"plain": "no hooks", "hooks": "on_start + on_stop"}
LINEAR = at_most(1.5)
"""Ours: the contract says "linear", and a cache that no longer holds everything is granted."""

PEERS: dict[str, tuple[str, str, dict[str, Bar]]] = {
    "aiomisc": ("aiomisc", "", {"plain": at_least(5), "hooks": at_least(2)}),
    "mode": ("mode", "", {"plain": at_least(5), "hooks": at_least(5)}),
    "mode, no Worker": ("mode", "lean-", {}),
}


def measure(setting: Setting) -> Iterator[Row]:
    """Each shape against each peer, then against itself."""
    yield from _linearity(setting)
    for shape in SHAPES:
        yield from _against_peers(setting, shape)


def _against_peers(setting: Setting, shape: str) -> Iterator[Row]:
    python = setting.peers / "python"
    setting.say(f"start and stop of {FEW:,} services, {SHAPES[shape]}")
    things = {"Plait": partial(run, setting, "time", "plait", shape, FEW, python=python)}
    for peer, (library, prefix, _) in PEERS.items():
        things[peer] = partial(run, setting, "time", library, prefix + shape, FEW, python=python)
    taken = {name: _each(runs, FEW) for name, runs in in_turns(setting.choose(9, 3), things).items()}
    for peer, (_, _, bars) in PEERS.items():
        yield Row(
            f"start and stop, {FEW:,} services, {SHAPES[shape]}: vs {peer}",
            ratios(taken[peer], taken["Plait"]),
            bars.get(shape),
            beside=_beside({name: taken[name] for name in ("Plait", peer)}),
            raw={name: taken[name] for name in ("Plait", peer)},
        )


def _linearity(setting: Setting) -> Iterator[Row]:
    for shape, what in SHAPES.items():
        setting.say(f"start and stop of {MANY:,} services, {what}")
        things = {f"{count:,}": partial(run, setting, "time", "plait", shape, count) for count in (FEW, MANY)}
        runs = in_turns(setting.choose(7, 3), things)
        taken = {f"{count:,}": _each(runs[f"{count:,}"], count) for count in (FEW, MANY)}
        collecting = interval(result["collecting"] / result["cpu"] for result in runs[f"{MANY:,}"]).median
        yield Row(
            f"time of a service at {MANY:,} : at {FEW:,}, {what}",
            ratios(taken[f"{MANY:,}"], taken[f"{FEW:,}"]),
            LINEAR,
            beside=f"{_beside(taken)}; {collecting:.0%} of the time at {MANY:,} in the garbage collector",
            raw=taken,
        )


def _each(runs: list[dict[str, Any]], count: int) -> list[float]:
    """Seconds a service."""
    return [result["cpu"] / count for result in runs]


def _beside(taken: dict[str, list[float]]) -> str:
    return ", ".join(f"{name} {interval(values).median * 1e6:.1f} µs" for name, values in taken.items())
