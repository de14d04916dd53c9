"""Between what Twisted's code returns, Deferreds and coroutines, and the tasks of a loop."""

from __future__ import annotations

import asyncio
import inspect
import types
from collections.abc import Coroutine, Generator
from typing import Any

from plait.classic.internet.defer import Deferred, ensureDeferred
from plait.classic.python import log


async def settled(result: Any) -> Any:
    """What a call came to: of a Deferred, a coroutine or a future what that comes to, of anything else itself.

    Cancelling who waits cancels what is waited for.
    """
    if isinstance(result, Deferred):
        return await result.asFuture(asyncio.get_running_loop())
    if inspect.iscoroutine(result):
        return await driven(result)
    return await result if inspect.isawaitable(result) else result


@types.coroutine
def driven(coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Run a coroutine in this task, be it that it awaits Deferreds, or what asyncio's do, or both."""
    step, given = coroutine.send, None
    while True:
        try:
            awaited = step(given)
        except StopIteration as end:
            return end.value
        step, given = coroutine.send, None
        try:
            if isinstance(awaited, Deferred):
                yield from _fired(awaited)
            else:
                given = yield awaited
        except BaseException as error:
            step, given = coroutine.throw, error


def _fired(deferred: Deferred[Any]) -> Generator[Any, Any, None]:
    """Until it has a result, which stays in it."""
    fired = asyncio.get_running_loop().create_future()

    def tell(result: Any) -> Any:
        if not fired.done():
            fired.set_result(None)
        return result

    deferred.addBoth(tell)
    try:
        yield from fired
    except asyncio.CancelledError:
        deferred.cancel()
        raise


def deferred(result: Any) -> Any:
    """A coroutine begun, as a Deferred: in a task where a loop runs; anything else as it is."""
    if not inspect.iscoroutine(result):
        return result
    if asyncio._get_running_loop() is None:
        return ensureDeferred(result)
    return Deferred.fromFuture(asyncio.ensure_future(driven(result)))


def begun(result: Any) -> None:
    """Let a coroutine run for which nobody waits; what it raises is logged."""
    if inspect.iscoroutine(result):
        deferred(result).addErrback(log.err)


def task_of(work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
    """A task of asyncio's as a Deferred."""
    return Deferred.fromFuture(asyncio.get_running_loop().create_task(work))
