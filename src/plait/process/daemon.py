"""Running in the background, in a way that whoever starts it learns what came of that.

Rules: the process forks twice before it has a thread or a loop, so that it belongs to no terminal and cannot get one.
The first process, the caller, stays until the application is ready, and then ends with 0; if that fails it ends with
the exit code of the failure. Until then stdout and stderr are the caller's, so that what goes wrong is seen where the
command was typed; afterwards they are the log file's. TERM and INT that the caller gets are passed on.

    caller ──fork──→ session leader ──fork──→ daemon
      ↑                                         │
      └──────── "pid N", "ready", "ended C" ────┘      lines in a pipe; none, and it was killed
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from types import FrameType

from plait._kernel.events import Event
from plait.process.notify import became_ready

WITHOUT_A_WORD = 70
"""The caller's exit code where the daemon was killed before it was ready."""


class Daemon:
    """The daemon's side. `detach` is called when it is ready, and lets go of stdout and stderr."""

    def __init__(self, pipe: int) -> None:
        self.detach: Callable[[], None] = _nothing
        self._pipe = pipe
        self._say(f"pid {os.getpid()}")

    def hear(self, event: Event) -> None:
        """A sink of events: the application is ready."""
        if self._pipe >= 0 and became_ready(event):
            self.detach()
            self._say("ready")
            self._close()

    def ended(self, code: int) -> None:
        """It has ended; the caller hears of it if it still waits."""
        if self._pipe >= 0:
            self._say(f"ended {code}")
            self._close()

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # the caller has gone, and the daemon goes on
            os.write(self._pipe, f"{line}\n".encode())

    def _close(self) -> None:
        pipe, self._pipe = self._pipe, -1
        os.close(pipe)


def daemonize() -> Daemon | int:
    """In the new process its Daemon; in the caller, when that is ready or has ended, the exit code to end with."""
    heard, pipe = os.pipe()
    child = os.fork()
    if child:
        os.close(pipe)
        os.waitpid(child, 0)
        return _wait(heard)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.close(heard)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return Daemon(pipe)


def _wait(heard: int) -> int:
    daemon = 0
    waiting: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        if not daemon:
            waiting.append(number)
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon, number)

    before = {one: signal.signal(one, pass_on) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        with open(heard) as lines:
            for line in lines:
                word, _, number = line.strip().partition(" ")
                if word == "pid":
                    daemon = int(number)
                    while waiting:
                        pass_on(waiting.pop(), None)
                else:
                    return 0 if word == "ready" else int(number)
        return WITHOUT_A_WORD
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _nothing() -> None:
    pass
