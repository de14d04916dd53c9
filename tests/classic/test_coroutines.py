"""Coroutines and generators that wait for Deferreds, and Deferreds that become Futures and back."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import weakref
from collections.abc import Callable, Generator
from typing import Any

import pytest
from unhandled import unhandled

from plait.classic.internet import _deferred, defer
from plait.classic.internet.defer import CancelledError, Deferred, ensureDeferred, fail, inlineCallbacks, succeed
from plait.classic.python.failure import Failure


class Oops(Exception):
    """What these tests raise."""


async def awaits(*deferreds: Deferred[Any]) -> list[Any]:
    """A coroutine that waits for all of them, in order."""
    return [await deferred for deferred in deferreds]


@inlineCallbacks
def yields(*deferreds: Deferred[Any]) -> Generator[Deferred[Any], Any, list[Any]]:
    """The same as a generator."""
    results = []
    for deferred in deferreds:
        results.append((yield deferred))
    return results


def coroutine(*deferreds: Deferred[Any]) -> Deferred[list[Any]]:
    """`awaits`, run."""
    return ensureDeferred(awaits(*deferreds))


Run = Callable[..., Deferred[Any]]
both = pytest.mark.parametrize("run", [coroutine, yields])


@both
def test_it_goes_on_with_results_as_they_come(run: Run) -> None:
    """Those that are there at once, the others when they are fired."""
    waited: list[Deferred[Any]] = [Deferred(), succeed(2), Deferred()]
    d = run(*waited)
    waited[2].callback(3)
    assert not d.called
    waited[0].callback(1)
    assert d.result == [1, 2, 3]


@both
def test_a_failure_is_raised_where_it_waits_with_its_own_traceback(run: Run) -> None:
    """It ends the coroutine, whose Deferred has one Failure that shows both places and none of ours before them."""

    def fails() -> None:
        raise Oops

    later: Deferred[Any] = Deferred()
    later.addCallback(lambda _: fails())
    for d in (run(defer.execute(fails)), run(later)):
        if not d.called:
            later.callback(None)
        names = [frame[0] for frame in d.result.frames]
        assert d.result.type is Oops
        assert names[0] in ("awaits", "yields")
        assert names[-1] == "fails"
        d.addErrback(lambda _: None)


@both
def test_what_was_waited_for_while_it_was_missing_is_left_with_None(run: Run) -> None:
    """A result has one owner; a generator takes also what is there already."""
    later: Deferred[Any] = Deferred()
    run(later)
    later.callback(5)
    assert later.result is None


@both
def test_cancelling_cancels_what_is_waited_for(run: Run) -> None:
    """Its error is raised inside, and what comes of that is the result."""
    waited: Deferred[Any] = Deferred()
    d = run(waited)
    d.cancel()
    assert waited.result is None
    assert d.result.type is CancelledError
    d.addErrback(lambda _: None)


def test_a_cancelled_coroutine_may_go_on() -> None:
    """It is not fired before it ends, and can be cancelled again."""
    asked: list[int] = []

    def fires(d: Deferred[Any]) -> None:
        asked.append(2)
        d.callback(None)

    async def stubborn() -> str:
        try:
            await Deferred(lambda _: asked.append(1))
        except CancelledError:
            pass
        await Deferred(fires)
        return "done"

    d = ensureDeferred(stubborn())
    d.cancel()
    assert (asked, d.called) == ([1], False)
    d.cancel()
    assert (asked, d.result) == ([1, 2], "done")


def test_cancelling_one_that_is_running_does_nothing() -> None:
    """It waits for nothing, so there is nothing to cancel; the next wait is not cancelled either."""
    first: Deferred[Any] = Deferred()

    async def cancels_itself() -> str:
        await first
        d.cancel()
        await second
        return "done"

    second: Deferred[Any] = Deferred()
    d = ensureDeferred(cancels_itself())
    first.callback(None)
    second.callback(None)
    assert d.result == "done"


def test_a_canceller_that_raises_fails_the_coroutine_that_waits() -> None:
    """And what the coroutine still comes to is ignored, unless it is an error."""

    def broken(_: Deferred[Any]) -> None:
        raise Oops("canceller")

    waited: Deferred[Any] = Deferred(broken)
    d = coroutine(waited)
    d.cancel()
    assert d.result.getErrorMessage() == "canceller"
    d.addErrback(lambda _: None)
    waited.callback("late")
    assert d.result is None


@both
@pytest.mark.parametrize("careful", [False, True])
def test_ten_thousand_wait_for_each_other(run: Run, careful: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them is resumed from within another, also where Deferreds are debugged."""
    if careful:
        monkeypatch.setattr(_deferred, "_careful", True)
    first: Deferred[Any] = Deferred()
    last: Deferred[Any] = first
    for _ in range(10_000):
        last = run(last)
    first.errback(Oops())
    assert last.result.type is Oops
    last.addErrback(lambda _: None)


@both
def test_callbacks_of_what_was_waited_for_follow_those_of_who_waited(run: Run) -> None:
    """The coroutine is one callback of it, with all that hangs on the coroutine's own Deferred."""
    order: list[str] = []
    waited: Deferred[Any] = Deferred()
    d = run(waited)
    waited.addCallback(lambda _: order.append("waited for"))
    d.addCallback(lambda _: order.append("waiting"))
    waited.callback(None)
    assert order == ["waiting", "waited for"]


def test_it_runs_in_a_copy_of_the_context_of_its_start() -> None:
    """What it sets stays with it, over all waits, and whoever fires what it waits for has another."""
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

    async def counts() -> int:
        token = variable.set(variable.get() + 1)
        await waited
        assert variable.get() == 11
        variable.reset(token)
        return variable.get()

    waited: Deferred[Any] = Deferred()
    variable.set(10)
    d = ensureDeferred(counts())
    assert variable.get() == 10
    variable.set(20)
    contextvars.Context().run(waited.callback, None)
    assert d.result == 10


def test_a_generator_gets_back_what_is_no_deferred_and_waits_for_coroutines() -> None:
    """A Failure is raised; a coroutine or a plain generator is run."""

    def plain() -> Generator[Any, Any, str]:
        result: str = yield succeed("plain")
        return result

    async def fails() -> None:
        raise Oops

    @inlineCallbacks
    def everything() -> Generator[Any, Any, list[Any]]:
        got: list[Any] = [(yield 5), (yield None), (yield awaits(succeed(6))), (yield plain())]
        for failing in (Failure(Oops()), fails()):
            try:
                yield failing
            except Oops:
                got.append("raised")
        return got

    assert everything().result == [5, None, [6], "plain", "raised", "raised"]


def test_a_coroutine_may_await_what_is_no_deferred() -> None:
    """What a foreign awaitable yields is sent back to it."""

    class Foreign:
        def __await__(self) -> Generator[Any, Any, Any]:
            got = yield 7
            more = yield got + 1
            return more

    async def waits() -> Any:
        return await Foreign()

    assert ensureDeferred(waits()).result == 8


@both
def test_a_run_without_waiting_leaves_no_garbage(run: Run) -> None:
    """Arguments and result are free as soon as nobody holds them."""

    class Thing:
        pass

    gc.disable()
    try:
        thing = Thing()
        gone = weakref.ref(thing)
        d = run(succeed(thing))
        assert d.result == [thing]
        del d, thing
        assert gone() is None
    finally:
        gc.enable()


@both
def test_what_was_waited_for_is_let_go_at_the_end(run: Run) -> None:
    """The Deferred of a run that has ended refers to nothing but the result."""
    gc.disable()
    try:
        waited: Deferred[Any] = Deferred()
        gone = weakref.ref(waited)
        d = run(waited)
        waited.callback(1)
        del waited
        assert gone() is None
        assert d.result == [1]
    finally:
        gc.enable()


@both
def test_errors_are_logged_once_by_who_has_them_last(run: Run) -> None:
    """That of the run, if nobody has handled it; not that of what it waited for."""
    with unhandled() as events:
        failed, later = fail(Oops("there")), Deferred[Any]()
        one, two = run(failed), run(later)
        later.errback(Oops("later"))
        del one, two
        gc.collect()
        told = [event["log_failure"].getErrorMessage() for event in events if "log_failure" in event]
        del failed, later
    assert sorted(told) == ["later", "there"]
    assert len(events) == 4


def test_one_that_is_never_resumed_is_closed_when_it_is_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quietly, though it and what it waits for refer to each other."""
    closed: list[str] = []
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)

    async def forever() -> None:
        try:
            await Deferred()
        finally:
            closed.append("coroutine")

    @inlineCallbacks
    def for_ever() -> Generator[Any, Any, None]:
        try:
            yield Deferred()
        finally:
            closed.append("generator")

    ensureDeferred(forever())
    for_ever()
    gc.collect()
    assert sorted(closed) == ["coroutine", "generator"]
    assert unraisable == []


@both
def test_any_exception_at_all_is_its_result(run: Run) -> None:
    """Also those that Python itself uses to end things."""
    for kind in (KeyboardInterrupt, SystemExit, GeneratorExit, Oops):
        d = run(fail(kind()))
        assert d.result.type is kind
        d.addErrback(lambda _: None)
    assert run(succeed(1)).result == [1]


def test_awaiting_one_that_was_paused_before_its_turn_ends() -> None:
    """Twisted asks such a Deferred for ever."""

    def pauses(result: Any) -> Any:
        d.pause()
        return result

    d: Deferred[Any] = Deferred()
    d.addCallback(pauses)
    waiting = coroutine(d)
    d.callback(5)
    assert waiting.result == [5]


def test_what_is_no_coroutine_is_refused() -> None:
    """By ensureDeferred, which takes a Deferred as it is, and by fromCoroutine, which does not."""
    d: Deferred[Any] = Deferred()
    assert ensureDeferred(d) is d
    bad: Any
    for bad in (5, None, "x", lambda: 1, awaits):
        with pytest.raises(defer.NotACoroutineError, match="is not a coroutine or a Deferred"):
            ensureDeferred(bad)
    for bad in (5, d):
        with pytest.raises(defer.NotACoroutineError, match="is not a coroutine"):
            Deferred.fromCoroutine(bad)
    assert Deferred.fromCoroutine(awaits(succeed(1))).result == [1]


def test_inlineCallbacks_wants_a_generator_function() -> None:
    """It keeps its name and text; a function that returns anything else is told so."""
    assert (yields.__name__, yields.__doc__) == ("yields", "The same as a generator.")
    five: Any = lambda: 5  # noqa: E731
    plain = inlineCallbacks(five)
    with pytest.raises(TypeError, match=r"inlineCallbacks requires .* to produce a generator; instead got 5"):
        plain()


def test_returnValue_ends_a_generator_with_a_warning() -> None:
    """Another one, if it is called by a function of the generator's; TypeError where there is no generator."""

    def mistaken() -> None:
        defer.returnValue(2)

    @inlineCallbacks
    def proper() -> Generator[Any, Any, Any]:
        yield succeed(None)
        defer.returnValue(1)

    @inlineCallbacks
    def improper() -> Generator[Any, Any, Any]:
        yield succeed(None)
        mistaken()

    with pytest.warns(DeprecationWarning, match="returnValue") as warned:
        assert proper().result == 1
    assert len(warned) == 1
    with pytest.warns(DeprecationWarning, match="returnValue") as warned:
        assert improper().result == 2
    assert str(warned[1].message).startswith("returnValue() in 'mistaken' causing 'improper' to exit")
    with pytest.warns(DeprecationWarning, match="returnValue"), pytest.raises(TypeError, match="inlineCallbacks"):
        inlineCallbacks(mistaken)()  # type: ignore[arg-type]


def test_one_whose_deferred_was_fired_by_others_loses_no_error() -> None:
    """What it raises is logged."""

    async def fails() -> None:
        await waited
        raise Oops("lost")

    waited: Deferred[Any] = Deferred()
    with unhandled() as events:
        d = ensureDeferred(fails())
        d.callback(None)
        waited.callback(None)
        assert d.result is None
        assert waited.result.type is defer.AlreadyCalledError
        waited.addErrback(lambda _: None)
    assert "lost" in [event["log_failure"].getErrorMessage() for event in events if "log_failure" in event]


# -- Futures ----------------------------------------------------------------------------------------------------


async def test_a_deferred_becomes_a_future() -> None:
    """With its result or its error; it is left with None."""
    loop = asyncio.get_running_loop()
    assert await succeed(5).asFuture(loop) == 5
    d: Deferred[Any] = Deferred()
    future = d.asFuture(loop)
    loop.call_soon(d.errback, Oops("e"))
    with pytest.raises(Oops, match="e"):
        await future
    assert d.result is None
    with pytest.raises(RuntimeError, match="StopIteration"):
        await fail(StopIteration()).asFuture(loop)


async def test_cancelling_the_future_cancels_the_deferred() -> None:
    """Whatever that comes to then is dropped."""
    asked: list[Any] = []

    def canceller(d: Deferred[Any]) -> None:
        asked.append(d)
        d.callback("anyway")

    d: Deferred[Any] = Deferred(canceller)
    future = d.asFuture(asyncio.get_running_loop())
    future.cancel()
    await asyncio.sleep(0)
    assert asked == [d]
    assert (future.cancelled(), d.result) == (True, None)


async def test_a_future_becomes_a_deferred() -> None:
    """With its result, its error, or its cancellation."""
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[Any]] = [loop.create_future() for _ in range(3)]
    deferreds = [Deferred.fromFuture(future) for future in futures]
    futures[0].set_result(1)
    futures[1].set_exception(Oops())
    futures[2].cancel()
    await asyncio.sleep(0)
    assert deferreds[0].result == 1
    assert deferreds[1].result.type is Oops
    assert deferreds[2].result.type is asyncio.CancelledError
    for d in deferreds:
        d.addErrback(lambda _: None)


async def test_cancelling_the_deferred_cancels_the_future_and_waits_for_it() -> None:
    """A task that will not be cancelled has the last word."""

    async def stubborn() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "last word"

    task = asyncio.ensure_future(stubborn())
    d = Deferred.fromFuture(task)
    await asyncio.sleep(0)
    d.cancel()
    assert not d.called
    await task
    await asyncio.sleep(0)
    assert d.result == "last word"
