"""Running a coroutine on a virtual clock of its own, to its very end.

Rules: when `run` returns nothing of it is left: tasks are cancelled, async generators closed, threads joined. What
reached the loop's exception handler is raised, and so is what would not end: a test that only its log knows to be
wrong passes for years.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from datetime import datetime
from typing import Any, TypeVar

from plait._kernel.incarnation import where
from plait.testing.virtual import PATIENCE, VirtualLoop

T = TypeVar("T")

ENDING = 60.0
"""Seconds of the virtual clock that cancelled tasks and async generators have to end."""


def run(main: Coroutine[Any, Any, T], *, start: datetime | None = None, patience: float = PATIENCE) -> T:
    """What `main` returns or raises, on a new loop with a virtual clock, as `asyncio.run` does on a real one.

    `start` is the date the clock begins with, `patience` for how many seconds of the machine's clock a silent thread
    or child process holds it; see VirtualLoop. An ExceptionGroup of what reached the loop's exception handler, if
    `main` itself raised nothing; otherwise its exception has notes of that. Deadlock if nothing is due any more.
    RuntimeError in a running loop.
    """
    if asyncio._get_running_loop() is not None:
        main.close()
        raise RuntimeError("run() makes a loop of its own, and cannot be called where one is running; await it instead")
    loop = VirtualLoop(start=start, patience=patience)
    try:
        result = loop.run_until_complete(loop.create_task(main, name="main"))
    except BaseException as error:
        end(loop)
        for failure in failures_of(loop):
            error.add_note(f"and in the loop: {failure!r}")
        raise
    end(loop)
    if failures := failures_of(loop):
        raise ExceptionGroup("the loop's exception handler was told of what nobody else heard", failures)
    return result


def end(loop: VirtualLoop) -> None:
    """End what is left on a loop, and close it; what would not end is added to its failures."""
    try:
        for left in loop.run_until_complete(_end(loop)):
            loop.failures.append({"message": f"{left} was cancelled, and did not end"})
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


async def _end(loop: asyncio.AbstractEventLoop) -> list[str]:
    others = asyncio.all_tasks(loop) - {asyncio.current_task()}
    for task in others:
        task.cancel()
    stuck = (await asyncio.wait(others, timeout=ENDING))[1] if others else set()
    for task in others - stuck:
        if not task.cancelled() and (error := task.exception()) is not None:
            loop.call_exception_handler(
                {"message": "a task failed when it was cancelled", "exception": error, "task": task}
            )
    left = [f"task {task.get_name()!r} at {where(task)}" for task in stuck]
    try:
        await asyncio.wait_for(loop.shutdown_asyncgens(), ENDING)
    except TimeoutError:
        left.append("an async generator")
    return left


def failures_of(loop: VirtualLoop) -> list[Exception]:
    """What reached the loop's exception handler, as exceptions, taken from it."""
    contexts, loop.failures[:] = loop.failures[:], []
    return [_failure(context) for context in contexts]


def _failure(context: Mapping[str, Any]) -> Exception:
    message = context.get("message", "")
    others = [f"{key}: {value!r}" for key, value in context.items() if key not in ("message", "exception")]
    error = context.get("exception")
    if isinstance(error, Exception):
        error.add_note("; ".join([message, *others]))
        return error
    return RuntimeError("; ".join([message, *others, *([repr(error)] if error is not None else [])]))
