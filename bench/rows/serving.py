"""Servers side by side under load, window by window: what echo.py and accept.py have in common.

All servers run at the same time on one core; in each window one of them works and the others wait. The ratio is of CPU
time a request, peer to Plait, in windows of the same round. What the row is held to is taken with the generator on a
core of its own. The same is taken once more with the generator on the server's core, and printed beside: there the
server finds all that the clients have sent whenever it runs, as one at its limit does, and is charged for no interrupt
that wakes another core; two equal servers differ by less than 1 %. The peak has windows of its own, in which the
generator spins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.measure import Bar, Row, in_turns, interval, ratios
from bench.processes import Load, Place, Server, Window, free_port
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
        "classic": [python, SERVERS / "classic_echo.py", "PORT"],
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
        in_turns(1, _windows(loads, Place.TOGETHER))  # everything is warm
        taken = {
            place: in_turns(count, _windows(loads, place))
            for place, count in ((Place.APART, rounds), (Place.TOGETHER, rounds), (Place.SPINNING, PEAKS))
        }
    for contest in contests:
        yield _row(contest, taken)


def _windows(loads: dict[str, Load], place: Place) -> dict[str, Callable[[], Window]]:
    return {name: partial(load.window, WINDOW, place) for name, load in loads.items()}


def _row(contest: Contest, taken: dict[Place, Windows]) -> Row:
    apart, together = (_costs(contest, taken[place]) for place in (Place.APART, Place.TOGETHER))
    saturated = ratios(together[contest.peer], together[contest.ours])
    told = [f"on one core {saturated.median:.2f} ({saturated.low:.2f}–{saturated.high:.2f})"]
    told += [f"{name} {interval(values).median * 1e6:.1f} µs" for name, values in apart.items()]
    told += [f"peaks {' : '.join(_peak(taken[Place.SPINNING][name]) for name in apart)} k/s"]
    return Row(
        contest.name,
        ratios(apart[contest.peer], apart[contest.ours]),
        contest.bar,
        beside=", ".join(told),
        raw=apart | {f"{name}, on one core": values for name, values in together.items()},
    )


def _costs(contest: Contest, windows: Windows) -> dict[str, list[float]]:
    """CPU seconds a request, of the two of a contest."""
    return {name: [window.cost for window in windows[name]] for name in (contest.ours, contest.peer)}


def _peak(windows: list[Window]) -> str:
    best = max(windows, key=lambda window: window.requests / window.seconds)
    return f"{best.requests / best.seconds / 1000:.0f} (generator {best.share:.0%})"
