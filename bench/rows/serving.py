"""Servers side by side under load, window by window: what echo.py and accept.py have in common.

All servers run at the same time on one core; in each window one of them works and the others wait. The ratio is of CPU
time a request, peer to Plait, in windows of the same round. In these windows the generator shares the server's core: it
has sent all it can whenever the server runs, so the server works in batches as a busy one does, whichever of the two is
faster, and is charged for no interrupt to another core. (With a core for each, two equal servers differed by 3 % and
their cost by a third, by who slept when.) The peak is taken in windows of its own, with a core for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.measure import Bar, Row, in_turns, interval, ratios
from bench.processes import Load, Server, Window, free_port
from bench.setting import HERE, Setting

WINDOW = 0.3
PEAKS = 4
SERVERS = HERE / "servers"

Command = list[str | Path]
Windows = dict[str, list[Window]]


def commands(setting: Setting) -> dict[str, Command]:
    """How to start each server, less its port."""
    python = setting.peers / "python"
    return {
        "Plait": [python, SERVERS / "plait_echo.py", "PORT", "protocol"],
        "Plait, coroutine handler": [python, SERVERS / "plait_echo.py", "PORT", "stream"],
        "raw uvloop": [python, SERVERS / "uvloop_echo.py", "PORT"],
        "Twisted": [python, SERVERS / "twisted_echo.py", "PORT"],
        "C epoll": [setting.compiled(SERVERS / "epoll_echo.c"), "PORT"],
    }


@dataclass(frozen=True)
class Contest:
    """One row: whose windows are compared with whose, and what is asked of it."""

    name: str
    ours: str
    peer: str
    bar: Bar | None = None


@contextmanager
def serving(setting: Setting, names: list[str], mode: str, connections: int, size: int) -> Iterator[dict[str, Load]]:
    """The servers of these names, each with its generator connected."""
    with ExitStack() as stack:
        loads = {}
        for name in names:
            port = free_port()
            command = [str(port) if part == "PORT" else part for part in commands(setting)[name]]
            server = stack.enter_context(Server(command, setting, port))
            loads[name] = stack.enter_context(Load(setting, server, mode, connections, size))
        yield loads


def compare(
    setting: Setting, contests: list[Contest], mode: str, connections: int, size: int, rounds: int
) -> Iterator[Row]:
    """The rows of contests that are held at once."""
    names = list(dict.fromkeys(name for contest in contests for name in (contest.ours, contest.peer)))
    with serving(setting, names, mode, connections, size) as loads:
        things = {name: partial(load.window, WINDOW) for name, load in loads.items()}
        in_turns(2, things)  # everything is warm
        windows = in_turns(rounds, things)
        peaks = in_turns(PEAKS, {name: partial(load.window, WINDOW, "spin") for name, load in loads.items()})
    for contest in contests:
        yield _row(contest, windows, peaks)


def _row(contest: Contest, windows: Windows, peaks: Windows) -> Row:
    names = (contest.ours, contest.peer)
    costs = {name: [window.cost for window in windows[name]] for name in names}
    return Row(
        contest.name,
        ratios(costs[contest.peer], costs[contest.ours]),
        contest.bar,
        beside="; ".join(f"{name} {interval(costs[name]).median * 1e6:.1f} µs, {_peak(peaks[name])}" for name in names),
        raw=costs,
    )


def _peak(windows: list[Window]) -> str:
    best = max(windows, key=lambda window: window.requests / window.seconds)
    return f"peak {best.requests / best.seconds / 1000:.0f} k/s (generator {best.share:.0%})"
