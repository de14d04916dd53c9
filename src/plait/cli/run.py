"""`plait run`: run a target until it ends or is told to stop."""

from __future__ import annotations

import os
from typing import Any

import click

from plait.cli.target import TargetCommand, asks_for_help, print_help, with_target
from plait.control.folder import runtime_folder
from plait.net import inherited
from plait.process import operated
from plait.process.notify import Notifier
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
@click.option("--syslog/--no-syslog", default=None, help="Log to syslog, not to stderr.")
@click.option(
    "--syslog-facility", type=click.Choice(CHOICES["syslog_facility"]), metavar="NAME", help="[default: daemon]"
)
@click.option("--syslog-tag", metavar="TEXT", help="What each line in syslog begins with.  [default: plait]")
@click.option(
    "--state-dir",
    metavar="DIR",
    help="Keep there what operators want of the services (paused, down), for the next start.",
)
@click.option("--control/--no-control", default=None, help="Be found by plait stop and plait reload.  [default: yes]")
@click.option(
    "--runtime-dir", metavar="DIR", help="Where the control socket is.  [default: XDG_RUNTIME_DIR/plait, or /run/plait]"
)
@click.option("--rundir", metavar="DIR", help="Work in this folder: every other path is as if typed there.")
@click.option("--daemon/--no-daemon", default=None, help="Run in the background, and return once it is ready.")
@click.option("--pidfile", metavar="FILE", help="Keep the process's number there; refuse a second one.")
@click.option("--umask", metavar="OCTAL", help="What new files are not allowed, as 027.")
@click.option("--nofile", metavar="N", help="At most so many open files and connections.")
@click.option("--memory", metavar="SIZE", help="At most so much memory for data, as 512MiB.")
@click.option("--title", metavar="TEXT", help="What ps and top show.")
@click.option("--crash-report", metavar="FILE", help="Tell there of an end that nobody asked for.")
@with_target
def command(target: str, argv: tuple[str, ...], rundir: str | None, **given: Any) -> int:
    if rundir is not None:
        operated.enter(rundir)
    settings = Live(given, target, argv)
    now = settings.now
    inherited.take(os.environ)
    runner = Runner(
        target,
        argv,
        runner_flags=FLAGS,
        loop=now.loop,
        logs=settings.logs,
        state_dir=now.state_dir,
        notifier=Notifier.of(os.environ),
        runtime_dir=runtime_folder(os.environ, now.runtime_dir) if now.control else None,
    )
    if asks_for_help(argv):
        loaded = runner.load()
        if loaded.wants_help(argv):
            print_help("plait run", loaded, loaded.help(width=_width()))
            return 0
    code = operated.run(runner, now, target)
    if runner.left_behind:
        # A thread that hangs would keep the interpreter from ending.
        flush()
        os._exit(code)
    return code


def _width() -> int:
    import shutil

    return min(shutil.get_terminal_size().columns, 120)
