"""A file that tells of an end that nobody asked for.

Rules: while the process lives the file has a line that says which process that is. A clean end takes the line back,
and removes the file if there was nothing else in it. What is left tells of an end that was none: with stacks below it
(a fatal signal, as in a fault of C code; written by `faulthandler`, which needs nothing of the interpreter), with what
failed in which service (an application that failed, or did not stop in time), or alone (the process was killed or was
forced to end, or the machine stopped). Reports are added one after another, so one that a restart follows is not lost.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import platform
import sys
import time

from plait import __version__
from plait.errors import UsageError
from plait.observe.tracebacks import render

log = logging.getLogger("plait")


class CrashReport:
    """Open from its making to `close`. UsageError if the file cannot be opened. `target` names what is run."""

    def __init__(self, path: str | os.PathLike[str], target: str) -> None:
        self.path = os.path.abspath(path)
        self._owner = os.getpid()
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(f"crash report {self.path!r} cannot be written: {error.strerror}") from error
        self._before = os.fstat(self._fd).st_size
        self._write(
            f"== process {self._owner} runs {target} since {_now()}; plait {__version__}, "
            f"Python {platform.python_version()}, {platform.platform()}, in {os.getcwd()}\n"
        )
        self._clean = os.fstat(self._fd).st_size
        self._enabled = faulthandler.is_enabled()
        faulthandler.enable(self._fd, all_threads=True)

    def tell(self, text: str, error: BaseException | None = None) -> None:
        """Report an end that is about to come: what happened, and each error below it."""
        errors = error.exceptions if isinstance(error, BaseExceptionGroup) else (error,) if error is not None else ()
        self._write(f"{_now()} {text}\n" + "".join(f"{render(one, full=True)}\n" for one in errors))

    def _write(self, text: str) -> None:
        try:
            os.write(self._fd, text.encode("utf-8", "backslashreplace"))
        except OSError as error:
            log.error("crash report %r cannot be written: %s", self.path, error.strerror)

    def close(self) -> None:
        """Take back the line of this process if that is all there is to say."""
        if os.getpid() != self._owner:
            return
        faulthandler.disable()
        if self._enabled and sys.__stderr__ is not None:
            faulthandler.enable()
        with contextlib.suppress(OSError):
            if os.fstat(self._fd).st_size == self._clean:
                os.ftruncate(self._fd, self._before)
                if not self._before:
                    os.unlink(self.path)
        os.close(self._fd)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
