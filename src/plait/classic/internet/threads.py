"""Calls in threads, and from threads.

Rules: a thread gives its result to the loop; no Deferred is touched in a thread. A Deferred that is cancelled drops the
result: a call that runs cannot be stopped.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable
from typing import Any

from plait.classic.internet import defer
from plait.classic.internet._default import default_reactor
from plait.classic.internet._resolver import in_thread
from plait.classic.python.failure import Failure


def deferToThreadPool(
    reactor: Any, threadpool: Any, f: Callable[..., Any], *args: Any, **kwargs: Any
) -> defer.Deferred[Any]:
    """A Deferred of what `f` returns in a thread of this pool; it fires in this reactor's loop."""
    return in_thread(reactor, threadpool, lambda: f(*args, **kwargs))


def deferToThread(f: Callable[..., Any], *args: Any, **kwargs: Any) -> defer.Deferred[Any]:
    """A Deferred of what `f` returns in a thread of the reactor's pool."""
    reactor = default_reactor()
    return deferToThreadPool(reactor, reactor.getThreadPool(), f, *args, **kwargs)


def callMultipleInThread(tupleList: Iterable[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]) -> None:
    """Call these, each with its arguments, one after another, in one thread of the reactor's pool."""

    def call_all() -> None:
        for f, args, kwargs in calls:
            f(*args, **kwargs)

    calls = list(tupleList)
    default_reactor().callInThread(call_all)


def blockingCallFromThread(reactor: Any, f: Callable[..., Any], *a: Any, **kw: Any) -> Any:
    """What `f`, or the Deferred it returns, comes to in the loop; for any thread but the loop's, which it would block.

    Raises what it fails with.
    """
    answers: queue.Queue[Any] = queue.Queue()

    def call() -> None:
        result: Any = defer.maybeDeferred(f, *a, **kw)
        result.addBoth(answers.put)

    reactor.callFromThread(call)
    result = answers.get()
    if isinstance(result, Failure):
        result.raiseException()
    return result


__all__ = ["blockingCallFromThread", "callMultipleInThread", "deferToThread", "deferToThreadPool"]
