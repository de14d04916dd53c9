"""Tracebacks for people: where in their own code it went wrong.

Rules: Plait's own frames are left out, and so are those of the event loop and of the import system where they
are the outermost. An error that was raised in Plait itself has then no frames, and its message says it all. Of one
with a message of megabytes the beginning and the end are shown. At level debug nothing is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from traceback import FrameSummary, StackSummary, TracebackException

_PLAIT = str(Path(__file__).parent.parent) + "/"
_ASYNCIO = os.path.join(os.path.dirname(os.__file__), "asyncio", "")
MOST = 50_000
"""Characters that are shown."""
_IMPORTS = ("<frozen importlib", "<frozen runpy")


def render(error: BaseException, *, full: bool = False) -> str:
    """The traceback of `error` and its causes, without a final newline; empty if only its message is left."""
    shown = TracebackException.from_exception(error, compact=True)
    if not full:
        for one in _chain(shown):
            one.stack = _trim(one.stack)
        if not any(one.stack for one in _chain(shown)):
            return ""
    text = "".join(shown.format()).rstrip("\n")
    return text if full or len(text) <= MOST else _without_middle(text)


def _without_middle(text: str) -> str:
    half = MOST // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"


def _chain(shown: TracebackException) -> Iterator[TracebackException]:
    stack: list[TracebackException | None] = [shown]
    while stack:
        one = stack.pop()
        if one is not None:
            yield one
            stack += [one.__cause__, one.__context__, *(one.exceptions or ())]


def _trim(frames: StackSummary) -> StackSummary:
    left = [frame for frame in frames if not _is_ours(frame)]
    while left and _is_machinery(left[0]):
        left.pop(0)
    return StackSummary.from_list(left)


def _is_ours(frame: FrameSummary) -> bool:
    return frame.filename.startswith((_PLAIT, *_IMPORTS)) or "/importlib/" in frame.filename


def _is_machinery(frame: FrameSummary) -> bool:
    return frame.filename.startswith((_ASYNCIO, "uvloop/")) or "/uvloop/" in frame.filename
