"""What is known of a Deferred beside its result: an error nobody has handled, who made it and who fired it.

Rule: an error that is still there when its Deferred is collected is logged, as two events: that there is one, then
the Failure. Only a Deferred that has failed, or is debugged, has such a record, since most need none.
"""

from __future__ import annotations

import logging
import sys
import traceback
from importlib import import_module
from types import FrameType
from typing import Any

_MODULES = ("_debugging", "_deferred", "_coroutines", "_making", "_groups", "_locks")
_OURS = {f"plait.classic.internet.{name}" for name in _MODULES}
"""Frames of these modules, at the end of a stack, are of no interest."""


class DebugInfo:
    """The record; it logs `failResult` when it is collected. What was not set is not known."""

    __slots__ = ("creator", "failResult", "invoker")

    failResult: Any
    creator: list[str]
    invoker: list[str]

    @classmethod
    def of_creation(cls) -> DebugInfo:
        """With the stack of who makes a Deferred just now."""
        info = cls()
        info.creator = _stack()
        return info

    def note_firing(self) -> None:
        """Keep the stack of who fires the Deferred just now."""
        self.invoker = _stack()

    def tell(self) -> str:
        """Both stacks, as lines that begin with C and I."""
        parts = (("C", "Deferred was created:", "creator"), ("I", "First Invoker was:", "invoker"))
        lines = [
            f" {letter}:{line}\n"
            for letter, title, stack in parts
            if hasattr(self, stack)
            for line in (f" {title}", *getattr(self, stack))
        ]
        return "".join(lines)

    def __del__(self) -> None:
        failure = getattr(self, "failResult", None)
        if failure is None:
            return
        told = self.tell()
        try:
            log = logger()
        except ImportError:  # the interpreter is going down
            logging.getLogger("plait.classic").critical("unhandled error in a Deferred: %s", failure.getErrorMessage())
            return
        log.critical("Unhandled error in Deferred:", isError=True)
        log.failure("(debug: {debugInfo})" if told else "", failure, debugInfo=told)


def logger() -> Any:
    """What Deferreds log with, which is imported when one has to."""
    return import_module("plait.classic.logger").Logger("plait.classic.internet.defer")


def _stack() -> list[str]:
    """The lines of the stack, without our own frames at its end."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") in _OURS:
        frame = frame.f_back
    return [line for entry in traceback.format_stack(frame) for line in entry.splitlines()]
