"""100,000 delayed calls, scheduled and fired, on the classic reactor and on Twisted's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import partial

from bench.measure import Row, at_least, in_turns, interval, ratios
from bench.setting import HERE, Setting, environment, on_core

SCRIPT = HERE / "trees" / "calllater.py"
PACKAGES = {"classic": "plait.classic", "Twisted": "twisted"}


def measure(setting: Setting) -> Iterator[Row]:
    """CPU time of fresh processes, from the first call asked for to the last one made."""
    setting.say("100,000 delayed calls")
    things = {name: partial(_run, setting, package) for name, package in PACKAGES.items()}
    in_turns(1, things)
    runs = in_turns(setting.choose(15, 5), things)
    for number, what in enumerate(("scheduled", "scheduled and fired")):
        taken = {name: [run[number] for run in results] for name, results in runs.items()}
        yield Row(
            f"100,000 callLater, {what}: vs Twisted",
            ratios(taken["Twisted"], taken["classic"]),
            at_least(1.7) if number else None,
            beside=", ".join(f"{name} {interval(values).median * 10:.2f} µs each" for name, values in taken.items()),
            raw=taken,
        )


def _run(setting: Setting, package: str) -> tuple[float, float]:
    """CPU seconds until all are scheduled, and until all are fired."""
    how = {"env": environment(), "preexec_fn": on_core(setting.server_core), "timeout": 60}
    done = subprocess.run(  # type: ignore[call-overload]
        [setting.peers / "python", SCRIPT, package], check=True, capture_output=True, text=True, **how
    )
    scheduled, fired = map(float, done.stdout.split())
    return scheduled, fired
