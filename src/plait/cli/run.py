"""`plait run`: run a target until it ends or is told to stop."""

from __future__ import annotations

import os
from typing import Any

import click

from plait.cli.target import TargetCommand, asks_for_help, print_help, with_target
from plait.process.runner import Runner
from plait.process.settings import CHOICES, FLAGS, Live
from plait.process.signals import flush


@click.command(
    "run",
    cls=TargetCommand,
    help="Run TARGET until it ends or is told to stop.",
    epilog="Signals: TERM and INT stop, a second one forces, HUP reloads, USR1 reopens the log file. "
    "Exit codes: 0 stopped on request or finished, 2 usage or options, 3 not started, 70 failed later, "
    "128+n forced by a signal. "
    "plait run TARGET --help shows the application's options.",
)
@click.option("--loop", type=click.Choice(CHOICES["loop"]), help="Event loop.  [default: uvloop]")
@click.option("--log-level", type=click.Choice(CHOICES["log_level"]), help="Least level logged.  [default: info]")
@click.option(
    "--log-format",
    type=click.Choice(CHOICES["log_format"]),
    help="Lines for people, or JSON.  [default: auto, for people on a terminal]",
)
@click.option("--log-file", metavar="FILE", help="Log there, not to stderr.")
@click.option(
    "--state-dir",
    metavar="DIR",
    help="Keep there what operators want of the services (paused, down), for the next start.",
)
@with_target
def command(target: str, argv: tuple[str, ...], **given: Any) -> int:
    settings = Live(given, target, argv)
    now = settings.now
    runner = Runner(target, argv, runner_flags=FLAGS, loop=now.loop, logs=settings.logs, state_dir=now.state_dir)
    if asks_for_help(argv):
        loaded = runner.load()
        if loaded.wants_help(argv):
            print_help("plait run", loaded, loaded.help(width=_width()))
            return 0
    code = runner.run()
    if runner.left_behind:
        # A thread that hangs would keep the interpreter from ending.
        flush()
        os._exit(code)
    return code


def _width() -> int:
    import shutil

    return min(shutil.get_terminal_size().columns, 120)
