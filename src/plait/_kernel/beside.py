"""A hook that runs beside a service's own task: on_pause, on_resume, on_reload, check.

Rules: it has a task and a deadline of its own, and one who waits for it, told once: of its result, or of what went
wrong. Past the deadline he is told at once and the task is cancelled; its incarnation, which owns it, cancels it again
and awaits it at its end. What it enters would be left in another task, so it must enter nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from plait._kernel.deadlines import Deadlines
from plait._kernel.record import Done, Life
from plait._kernel.whose import LIFE
from plait._kernel.words import error_text
from plait.errors import ServiceCancelled, ServiceError


class Owner(Protocol):
    """What it takes of the engine."""

    deadlines: Deadlines

    def create_task(self, coro: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]: ...


class Beside:
    """One call of one hook. `late` makes the error for one that took too long, given its task."""

    __slots__ = ("_deadline", "_done", "_late", "_owner", "task")

    def __init__(
        self,
        owner: Owner,
        life: Life,
        work: Coroutine[Any, Any, Any],
        name: str,
        timeout: float,
        late: Callable[[asyncio.Task[Any]], Exception],
        done: Done,
    ) -> None:
        self._owner = owner
        self._late = late
        self._done: Done | None = done
        self.task = owner.create_task(contain(work, life), name)
        self.task.add_done_callback(lambda _: work.close())  # one cancelled before its first step has not begun it
        self.task.add_done_callback(self._over)
        self._deadline = owner.deadlines.after(timeout, self._overdue)

    def _overdue(self) -> None:
        error = self._late(self.task)
        self.task.cancel()
        self._tell(None, error)

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._owner.deadlines.cancel(self._deadline)
        if task.cancelled():
            self._tell(None, ServiceCancelled(f"{task.get_name()} was cancelled before it was done"))
        elif (error := task.exception()) is not None:
            assert isinstance(error, Exception)  # contain sees to it
            self._tell(None, error)
        else:
            self._tell(task.result(), None)

    def _tell(self, result: Any, error: Exception | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(result, error)


async def contain(coro: Coroutine[Any, Any, Any], life: Life) -> Any:
    """`coro`, but what is no Exception, SystemExit and KeyboardInterrupt above all, becomes a failure that is one."""
    LIFE.set(life)
    task = asyncio.current_task()
    try:
        return await coro
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as exc:
        if isinstance(exc, GeneratorExit) and not runs(task):
            raise
        raise contained(exc) from exc


def runs(task: asyncio.Task[Any] | None) -> bool:
    """Whether its coroutine is run now, by it. One that is being closed, by whoever dropped the loop, is not."""
    try:
        return task is not None and asyncio.current_task() is task
    except RuntimeError:  # no loop runs
        return False


def contained(exc: BaseException) -> ServiceError:
    """What is left of an exception that would have ended the program, or that nobody expects."""
    cure = "to end the program call application.stop()" if isinstance(exc, _EXITS) else "raise an Exception instead"
    error = ServiceError(f"a service raised {error_text(exc)}; {cure}")
    error.__cause__ = exc
    return error


_EXITS = (SystemExit, KeyboardInterrupt)
