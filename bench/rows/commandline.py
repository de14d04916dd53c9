"""`plait --help`, which everybody waits for, against importing the library that prints it."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.measure import Row, at_most, in_turns, interval, ratios
from bench.setting import Setting, environment, on_core


def measure(setting: Setting) -> Iterator[Row]:
    """CPU time of whole processes."""
    setting.say("plait --help")
    things = {
        "plait --help": partial(_run, setting, [Path(sys.executable).parent / "plait", "--help"]),
        "import click": partial(_run, setting, [sys.executable, "-c", "import click"]),
    }
    in_turns(2, things)
    taken = in_turns(setting.choose(40, 20), things)
    yield Row(
        'plait --help : python -c "import click"',
        ratios(taken["plait --help"], taken["import click"]),
        at_most(1.5),
        beside=", ".join(f"{name} {interval(values).median * 1000:.0f} ms" for name, values in taken.items()),
        raw=taken,
    )


def _run(setting: Setting, command: list[str | Path]) -> float:
    """CPU seconds of one run."""
    before = _used()
    how = {"env": environment(), "preexec_fn": on_core(setting.server_core), "timeout": 30}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **how)  # type: ignore[call-overload]
    return _used() - before


def _used() -> float:
    """CPU seconds of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
