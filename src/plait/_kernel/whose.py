"""Whose code runs: the life of a service, in the context of its tasks.

Rules: every task of an incarnation sets it at its first step. What begins in such a task inherits it, as contexts are
inherited: tasks that nobody owns, callbacks, connections. So a task that nobody owns can be told by the service it came
from; and what is asked on behalf of a life that is over is refused, for what was left behind must not act for the next.
"""

from __future__ import annotations

import asyncio
import gc
from contextvars import Context, ContextVar
from typing import Any

from plait._kernel.record import Life
from plait.errors import LifecycleError

LIFE: ContextVar[Life | None] = ContextVar("plait_life", default=None)


def check_present(life: Life) -> None:
    """LifecycleError if the caller belongs to an earlier life of the same service."""
    mine = LIFE.get()
    if mine is not None and mine is not life and mine.record is life.record:
        raise LifecycleError(
            f"{life.record.subject} is in another incarnation than the caller, whose own, number {mine.number}, is "
            "over; end what it started in on_stop, or start it by self.spawn()"
        )


def life_of(task: asyncio.Task[Any]) -> Life | None:
    """The life in which a task began, if there is one."""
    context = _context_of(task)
    return context.get(LIFE) if context is not None else None


def _context_of(task: asyncio.Task[Any]) -> Context | None:
    if hasattr(task, "get_context"):  # from Python 3.12
        context: Context = task.get_context()
        return context
    return next((thing for thing in gc.get_referents(task) if type(thing) is Context), None)
