"""What supervision costs: one restart, against mode's supervisor, and a tree in which nothing is to be restarted.

A restart is CPU time of a fresh process, from one incarnation of a service with a start, a run and a stop to the next:
after its run has raised, or because it was told to. Neither side waits between them, writes a log, or ever gives up.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bench.measure import Row, at_most, in_turns, interval, ratios
from bench.processes import Server, free_port
from bench.rows.idle import wakeups, wakeups_of_plait
from bench.rows.serving import SERVERS
from bench.rows.trees import run
from bench.setting import Setting, Unavailable

SHAPES = {"fail": "after a failure", "command": "by command"}
SETTLING = 4.0
"""Seconds until what has failed at the start runs again."""


def measure(setting: Setting) -> Iterator[Row]:
    """Waking first: it needs no peer."""
    yield _healthy(setting)
    for shape, what in SHAPES.items():
        yield _restart(setting, shape, what)


def _restart(setting: Setting, shape: str, what: str) -> Row:
    python, count = setting.peers / "python", setting.choose(10_000, 1_000)
    setting.say(f"{count:,} restarts {what}")
    things = {
        library: partial(run, setting, "restart", f"{library}_restart", shape, count, python=python)
        for library in ("plait", "mode")
    }
    taken = {
        library: [result["cpu"] for result in results]
        for library, results in in_turns(setting.choose(9, 3), things).items()
    }
    each = {library: interval(values).median * 1e6 for library, values in taken.items()}
    return Row(
        f"one restart {what}: vs mode's supervisor",
        ratios(taken["mode"], taken["plait"]),
        beside=f"Plait {each['plait']:.0f} µs, mode {each['mode']:.0f} µs",
        raw=taken,
    )


def _healthy(setting: Setting) -> Row:
    seconds = setting.choose(10, 3)
    setting.say(f"100 supervised services, healthy for {seconds} s")
    woken, threads = wakeups_of_plait(setting, SERVERS / "plait_supervised.py", seconds, SETTLING)
    return Row(
        f"100 supervised services, healthy for {seconds} s: wake-ups",
        interval([woken]),
        at_most(0),
        "",
        beside=f"{threads} threads; {_of_mode(setting, seconds)}",
        raw={"wake-ups": [woken]},
    )


def _of_mode(setting: Setting, seconds: float) -> str:
    try:
        command = [setting.peers / "python", SERVERS / "mode_supervised.py"]
    except Unavailable:
        return "mode is not there"
    port = free_port()
    with Server([*command, str(port)], setting, port) as server:
        woken, _ = wakeups(server, seconds, SETTLING)
    return f"mode {woken:.0f}"
