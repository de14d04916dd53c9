"""What a process takes before it runs an application, and gives back when that has ended.

Rules: limits and the umask come first, since everything after is subject to them; then the daemon's forks, before there
is a thread; then what belongs to the process that stays: its title, its pidfile, its crash report. What is wrong with
any of these is told where the command was typed, and nothing was imported or bound by then. Each is imported on use, as
some are for Unix alone.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from plait.errors import PlaitError, UsageError
from plait.process.exits import FAILED, exit_code
from plait.process.runner import Runner
from plait.process.settings import Settings

if TYPE_CHECKING:
    from plait.process.daemon import Daemon


def enter(rundir: str) -> None:
    """Work in this folder. UsageError."""
    try:
        os.chdir(rundir)
    except OSError as error:
        raise UsageError(f"--rundir {rundir!r} cannot be entered: {error.strerror}") from error


def run(runner: Runner, settings: Settings, target: str) -> int:
    """Run it as the settings say; the exit code. PlaitError if something that it shall have cannot be had."""
    _limit(settings)
    if not settings.daemon:
        return _run(runner, settings, target)
    if not settings.logs.is_elsewhere and settings.log_format != "journal":
        raise UsageError("a daemon has no stderr to log to; add --log-file FILE or --syslog")
    from plait.process.daemon import daemonize

    daemon = daemonize()
    if isinstance(daemon, int):
        return daemon
    return _run_as_daemon(daemon, runner, settings, target)


def _run_as_daemon(daemon: Daemon, runner: Runner, settings: Settings, target: str) -> int:
    daemon.detach = runner.streams_to_log
    runner.subscribe(daemon.hear)
    code = FAILED
    try:
        code = _run(runner, settings, target)
        return code
    except PlaitError as error:
        code = exit_code(error)
        raise
    finally:
        daemon.ended(code)


def _limit(settings: Settings) -> None:
    if settings.umask is not None:
        os.umask(settings.umask)
    if settings.nofile is not None or settings.memory is not None:
        from plait.process import limits

        if settings.nofile is not None:
            limits.limit_files(settings.nofile)
        if settings.memory is not None:
            limits.limit_memory(settings.memory)


def _run(runner: Runner, settings: Settings, target: str) -> int:
    if settings.title is not None:
        from plait.process.title import set_title

        set_title(settings.title)
    with contextlib.ExitStack() as stack:
        if settings.pidfile is not None:
            from plait.process.pidfile import PidFile

            pidfile = PidFile(settings.pidfile)
            stack.callback(pidfile.close)
            if pidfile.stale:
                sys.stderr.write(f"plait: warning: {pidfile.stale}\n")
        if settings.crash_report is not None:
            from plait.process.crash import CrashReport

            report = CrashReport(settings.crash_report, target)
            stack.callback(report.close)
            runner.on_crash = report.tell
        return runner.run()
