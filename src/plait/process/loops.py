"""An event loop of the runner's own, and its end.

Rules: what the application's code left behind, tasks and async generators and threads, is ended here within bounded
time, and named if it would not end. Nothing hangs: a task that swallows its cancellation or a thread in a blocking
call is left, and the caller is told, so that a process can end all the same.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from plait._kernel.incarnation import where
from plait._kernel.whose import life_of
from plait.errors import UsageError
from plait.observe.logs import loop_failed

T = TypeVar("T")

log = logging.getLogger("plait")

NAMED = 20
"""How many tasks that nobody owns are told one by one."""
TASKS_TIMEOUT = 1.0
"""How long tasks that nobody owns may take to end, once they are cancelled."""
THREADS_TIMEOUT = 5.0
"""How long threads that are no daemons may take to end."""


def _uvloop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        raise UsageError("uvloop is not installed; install it, or use --loop asyncio") from None
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"uvloop": _uvloop, "asyncio": asyncio.new_event_loop}


def run(name: str, main: Callable[[], Coroutine[Any, Any, T]], left: list[str]) -> T:
    """What `main` returns, or raises, on a new loop of this name; what would not end is added to `left`, in words."""
    loop = LOOPS[name]()
    threads = ThreadPoolExecutor(thread_name_prefix="asyncio")
    before = set(threading.enumerate())
    try:
        loop.set_exception_handler(loop_failed)
        loop.set_default_executor(threads)
        task = loop.create_task(main(), name="plait")
        try:
            return _run(loop, task)
        finally:
            left += loop.run_until_complete(_end_tasks())
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        loop.close()
        left += _end_threads(set(threading.enumerate()) - before)


def _run(loop: asyncio.AbstractEventLoop, task: asyncio.Task[T]) -> T:
    try:
        return loop.run_until_complete(task)
    except BaseException:  # a callback raised SystemExit through the loop, or stopped it: what runs stops in order
        if not task.done():
            task.cancel()
            loop.run_until_complete(asyncio.wait([task]))
        raise


async def _end_tasks() -> list[str]:
    """Say who left a task behind, and cancel it, as whatever still runs; the names of what would not end."""
    mine = asyncio.current_task()
    await asyncio.sleep(0)  # what is over already, or was cancelled just now, is nobody's fault
    others = {task for task in asyncio.all_tasks() if task is not mine}
    _tell_leaked([task for task in others if not task.cancelling()])
    for task in others:
        task.cancel()
    stuck: set[asyncio.Task[Any]] = set()
    if others:
        _, stuck = await asyncio.wait(others, timeout=TASKS_TIMEOUT)
    closing = asyncio.ensure_future(asyncio.get_running_loop().shutdown_asyncgens())
    await asyncio.wait([closing], timeout=TASKS_TIMEOUT)
    return [_text(task) for task in stuck]


def _tell_leaked(tasks: list[asyncio.Task[Any]]) -> None:
    told = sorted(map(_text, tasks))
    for text in told[:NAMED]:
        log.warning("%s is owned by nobody, and ran on when all had stopped; start it by self.spawn()", text)
    if len(told) > NAMED:
        log.warning("and %d more tasks that nobody owns ran on when all had stopped", len(told) - NAMED)


def _text(task: asyncio.Task[Any]) -> str:
    """Its name, which service it comes from, and where it is."""
    life = life_of(task)
    whose = f" of {life.record.subject}, incarnation {life.number}," if life is not None else ""
    return f"task {task.get_name()!r}{whose} at {where(task)}"


def _end_threads(threads: Iterable[threading.Thread]) -> list[str]:
    """Wait for threads that would hold up the end of the process; the names of those that will."""
    waited = [thread for thread in threads if not thread.daemon]
    end = time.monotonic() + THREADS_TIMEOUT
    for thread in waited:
        thread.join(max(0.0, end - time.monotonic()))
    return [f"thread {thread.name!r}" for thread in waited if thread.is_alive()]
