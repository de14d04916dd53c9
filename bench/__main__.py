"""Measure Plait beside its peers, and print one table.

    python -m bench [--only FAMILY]... [--quick] [--json FILE]

Exit code: 1 if a row could not be taken though all it needs is there; with --strict also if a bar was missed. Else 0
whatever the numbers are, so that a noisy machine breaks no build.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from bench import machine
from bench.measure import Row
from bench.rows import (
    accept,
    classic_calllater,
    classic_deferred,
    classic_echo,
    coldstart,
    commandline,
    echo,
    idle,
    memory,
    restart,
    startstop,
)
from bench.setting import Setting, Unavailable
from bench.table import render

FAMILIES: dict[str, Callable[[Setting], Iterator[Row]]] = {
    "echo": echo.measure,
    "accept": accept.measure,
    "startstop": startstop.measure,
    "memory": memory.measure,
    "coldstart": coldstart.measure,
    "help": commandline.measure,
    "idle": idle.measure,
    "classic-echo": classic_echo.measure,
    "classic-calllater": classic_calllater.measure,
    "classic-deferred": classic_deferred.measure,
    "restart": restart.measure,
}

PEERED = {
    "echo",
    "accept",
    "startstop",
    "coldstart",
    "restart",
    "classic-echo",
    "classic-calllater",
    "classic-deferred",
}
"""Those in which peers take part."""


def main() -> int:
    """Run what the command line asks for."""
    arguments = parse()
    setting = Setting(quick=arguments.quick)
    peers = arguments.only is None or bool(set(arguments.only) & PEERED)
    about = machine.describe(setting, peers=peers)
    rows = [row for family in arguments.only or FAMILIES for row in measured(family, setting)]
    print(render(about, rows))
    if arguments.json:
        kept = [{**asdict(row), "verdict": row.verdict} for row in rows]
        arguments.json.write_text(json.dumps({"machine": about, "rows": kept}, indent=1) + "\n")
    verdicts = {row.verdict for row in rows}
    return int("BROKEN" in verdicts or (arguments.strict and "MISS" in verdicts))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Plait beside its peers.")
    parser.add_argument("--only", action="append", choices=FAMILIES, help="this family of rows; may be repeated")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs, less than two minutes for all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything that was measured to FILE")
    parser.add_argument("--strict", action="store_true", help="end with exit code 1 if a bar was missed")
    return parser.parse_args()


def measured(family: str, setting: Setting) -> Iterator[Row]:
    """The rows of one family. What cannot be measured here is one row that says why, and so is what breaks."""
    try:
        yield from FAMILIES[family](setting)
    except Unavailable as error:
        yield Row(family, None, beside=str(error))
    except Exception as error:
        traceback.print_exc()
        yield Row(family, None, beside=f"{type(error).__name__}: {error}".splitlines()[0], broken=True)


if __name__ == "__main__":
    sys.exit(main())
