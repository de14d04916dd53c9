"""From an error to the exit code of the process, and to the lines that people read.

Rules: this table is the only place that knows. What is wrong with a command line, a file or the application's own
code is told in lines; what happened to services is in the log, where it happened, and is summed up there.
"""

from __future__ import annotations

from plait._kernel.words import error_text
from plait.errors import CommandFailed, InvalidTree, PlaitError, StartFailed, TargetFailed, UsageError
from plait.observe.tracebacks import render

OK = 0
USAGE = 2
NOT_STARTED = 3
FAILED = 70

CODES: tuple[tuple[type[BaseException], int], ...] = (
    (UsageError, USAGE),
    (TargetFailed, NOT_STARTED),
    (InvalidTree, NOT_STARTED),
    (StartFailed, NOT_STARTED),
    (BaseException, FAILED),  # ApplicationFailed, and whatever nobody expected
)
"""The first that fits. 0 is for an application that was stopped or has finished, 128 + n for one that was forced."""

TOLD = (UsageError, TargetFailed, InvalidTree)
"""What is told in lines on stderr, whatever form the log has: it concerns who typed the command, or wrote the code."""


def exit_code(error: BaseException) -> int:
    """What a process that ends with this error exits with."""
    if isinstance(error, CommandFailed):
        return error.code
    return next(code for kind, code in CODES if isinstance(error, kind))


def lines_of(error: BaseException, *, full: bool = False) -> str:
    """The error for people: "plait: error: …", a line for each thing that is wrong, then whose code raised what."""
    told = "".join(f"plait: error: {line}\n" for line in summary(error).splitlines() if line.strip())
    cause = _cause(error)
    traceback = render(cause, full=full) if cause is not None else ""
    return told + (traceback + "\n" if traceback else "")


def summary(error: BaseException) -> str:
    """What happened, in words; of Plait's own errors the message, of others the type as well."""
    if isinstance(error, BaseExceptionGroup):
        return str(error.message)
    if isinstance(error, PlaitError):
        return str(error) or type(error).__name__
    return error_text(error)


def _cause(error: BaseException) -> BaseException | None:
    """What its traceback is worth showing of."""
    if isinstance(error, BaseExceptionGroup):
        cause: BaseException = error.exceptions[0]
        return cause
    if not isinstance(error, PlaitError):
        return error
    cause_of_target = error.__cause__ if isinstance(error, TargetFailed) else None
    while isinstance(cause_of_target, TargetFailed):  # a plugin's error wraps that of its module
        cause_of_target = cause_of_target.__cause__
    return cause_of_target
