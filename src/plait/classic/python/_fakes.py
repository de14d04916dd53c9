"""Objects that look like a traceback to Python's own tools, made of the rows that are left of one.

Rule: they have every attribute that `traceback`, `dis.distb` and debuggers read, and hold no frame alive.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Sequence
from typing import Any


class _Code:
    """Looks like the code of a function of which only name and file are known."""

    co_argcount = co_firstlineno = co_flags = co_kwonlyargcount = co_nlocals = co_posonlyargcount = co_stacksize = 0
    co_cellvars = co_consts = co_freevars = co_names = ()
    co_code = co_lnotab = co_linetable = co_exceptiontable = b""

    def __init__(self, name: str, filename: str) -> None:
        self.co_name = self.co_qualname = name
        self.co_filename = filename
        self.co_varnames: list[str] = []

    def co_positions(self) -> tuple[tuple[None, None, None, None], ...]:
        """Of its one instruction, nothing is known."""
        return ((None, None, None, None),)

    def co_lines(self) -> tuple[tuple[int, int, int], ...]:
        """No instruction has a line."""
        return ()


class _Frame:
    """Looks like a frame; `frameinfo` is a row of `Failure.frames`."""

    f_lasti = 0
    f_trace = None
    f_builtins = vars(builtins)

    def __init__(self, frameinfo: Sequence[Any], back: _Frame | None) -> None:
        name, file, line, variables, global_variables = frameinfo
        self.f_code = _Code(name, file)
        self.f_lineno: int = line
        self.f_locals = dict(variables or {})
        self.f_globals = dict(global_variables or {})
        self.f_back = back


class _TracebackFrame:
    """Looks like one link of a traceback."""

    tb_lasti = 0

    def __init__(self, frame: _Frame) -> None:
        self.tb_frame = frame
        self.tb_lineno = frame.f_lineno
        self.tb_next: _TracebackFrame | None = None


def _Traceback(tbFrames: Iterable[Sequence[Any]]) -> _TracebackFrame:
    """A traceback of at least one row."""
    first: _TracebackFrame | None = None
    last: _TracebackFrame | None = None
    for row in tbFrames:
        link = _TracebackFrame(_Frame(row, last.tb_frame if last else None))
        if last is None:
            first = link
        else:
            last.tb_next = link
        last = link
    if first is None:
        raise ValueError("a traceback has at least one frame")
    return first
