"""Deferreds: firing, callbacks, chains, pauses, cancellation, time-outs, errors nobody has handled."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from unhandled import unhandled

from plait.classic.internet import defer
from plait.classic.internet.defer import CancelledError, Deferred, fail, succeed
from plait.classic.internet.task import Clock
from plait.classic.python.failure import Failure, NoCurrentExceptionError


class Oops(Exception):
    """What these tests raise."""


@pytest.fixture
def debugging() -> Iterator[None]:
    """Under setDebugging."""
    defer.setDebugging(True)
    yield
    defer.setDebugging(False)


def oops(_: object = None) -> Any:
    """A callback that raises."""
    raise Oops("in a callback")


# -- firing and callbacks ---------------------------------------------------------------------------------------


def test_each_callback_gets_what_the_one_before_returned_and_its_own_arguments() -> None:
    """In the order in which they were added, before the firing and after it."""
    d: Deferred[Any] = Deferred()
    d.addCallback(lambda result, more, key: [result, more, key], 2, key=3)
    d.addCallbacks(lambda result, more: [*result, more], None, (4,))
    d.callback(1)
    d.addCallback(lambda result: [*result, 5])
    assert d.result == [1, 2, 3, 4, 5]


def test_a_failure_goes_to_the_errbacks_and_a_result_to_the_callbacks() -> None:
    """An exception, or a Failure that is returned, changes over to errbacks; what an errback returns changes back."""
    seen: list[str] = []
    d: Deferred[Any] = Deferred()
    d.addErrback(lambda _: seen.append("no error yet"))
    d.addCallback(oops)
    d.addCallback(lambda _: seen.append("no result any more"))
    d.addErrback(lambda failure: failure.type.__name__)
    d.addErrback(lambda _: seen.append("no error any more"))
    d.addCallback(lambda result: Failure(Oops(result)))
    d.addBoth(lambda failure: failure.getErrorMessage())
    d.callback(None)
    assert d.result == "Oops"
    assert seen == []


def test_callback_with_a_failure_and_errback_are_the_same() -> None:
    """And errback takes an exception, a Failure, or what is being handled."""
    failure = Failure(Oops())
    got: list[Any] = []
    one: Deferred[Any] = Deferred()
    one.addErrback(got.append)
    one.callback(failure)
    two: Deferred[Any] = Deferred()
    two.addErrback(got.append)
    two.errback(failure.value)
    three: Deferred[Any] = Deferred()
    three.addErrback(got.append)
    try:
        oops()
    except Oops:
        three.errback()
    assert got[0] is failure
    assert got[1].value is failure.value
    assert got[2].frames[-1][0] == "oops"
    with pytest.raises(NoCurrentExceptionError):
        Deferred().errback()


def test_addCallbacks_without_an_errback_lets_a_failure_pass_and_a_missing_callback_fails_when_it_is_called() -> None:
    """None is no callback that returns its argument; only as `errback` it stands for passing on."""
    d: Deferred[Any] = fail(Oops())
    d.addCallbacks(lambda _: "never", None)
    assert d.result.type is Oops
    d.addErrback(lambda _: None)
    broken: Any = None
    d.addCallback(broken)
    assert isinstance(d.result.value, TypeError)
    d.addErrback(lambda _: None)


def test_it_is_fired_once() -> None:
    """Whatever the first and the second firing are; the result stays."""
    d: Deferred[int] = succeed(1)
    fire: Any
    for fire, what in ((d.callback, 2), (d.errback, Oops())):
        with pytest.raises(defer.AlreadyCalledError) as raised:
            fire(what)
        assert raised.value.args == ()
    assert d.result == 1


def test_it_holds_attributes_of_others_and_a_dictionary_only_then() -> None:
    """`d.foo = 1` works; `result` is no attribute before there is one."""
    d: Any = Deferred()
    assert not hasattr(d, "result")
    assert (d.called, d.paused) == (False, 0)
    d.foo = 1
    assert (d.foo, vars(d)) == (1, {"foo": 1})
    assert vars(Deferred().addCallback(print)) == {}
    with pytest.raises(AttributeError):
        _ = Deferred().foo  # type: ignore[attr-defined]


def test_its_type_takes_a_parameter() -> None:
    """At run time as well, and a subclass of that works."""

    class Numbers(Deferred[int]):
        pass

    d = Numbers()
    d.addCallback(lambda number: number + 1)
    d.callback(1)
    assert d.result == 2
    assert isinstance(Deferred[str](), Deferred)


def test_what_it_shows() -> None:
    """Its address, and its result or what it waits for."""
    d: Deferred[Any] = Deferred()
    other: Deferred[Any] = Deferred()
    assert repr(d) == f"<Deferred at 0x{id(d):x}>"
    d.addCallback(lambda _: other)
    d.callback(None)
    assert repr(d) == f"<Deferred at 0x{id(d):x} waiting on Deferred at 0x{id(other):x}>"
    other.callback("orange")
    assert repr(d) == f"<Deferred at 0x{id(d):x} current result: 'orange'>"


def test_callbacks_can_be_looked_at_with_a_warning() -> None:
    """As pairs, with arguments; Twisted gave the attribute up."""
    d: Deferred[Any] = Deferred()
    d.addCallback(print, 1, end="").addErrback(repr)
    with pytest.warns(DeprecationWarning, match="Deferred.callbacks was deprecated"):
        one, other = d.callbacks
    assert one[0] == (print, (1,), {"end": ""})
    assert (other[0][0](7), other[1]) == (7, (repr, (), {}))


def test_callbacks_that_are_added_while_one_runs_wait_their_turn() -> None:
    """The first alone or one of many, they are run after all that were there before, in the same run."""
    for others in (0, 2):
        order: list[str] = []
        d: Deferred[Any] = Deferred()

        def first(_: object, d: Deferred[Any] = d, order: list[str] = order) -> None:
            d.addCallback(lambda _: order.append("added"))
            order.append("first")

        d.addCallback(first)
        for number in range(others):
            d.addCallback(lambda _, number=number, order=order: order.append(f"other {number}"))
        d.callback(None)
        assert order == ["first", *(f"other {number}" for number in range(others)), "added"]


def test_a_callback_may_add_itself_very_often() -> None:
    """Without any limit of recursion."""
    d: Deferred[Any] = Deferred()
    count = 0

    def again(_: object) -> None:
        nonlocal count
        count += 1
        if count < 20_000:
            d.addCallback(again)

    d.addCallback(again)
    d.callback(None)
    assert count == 20_000


# -- chains -----------------------------------------------------------------------------------------------------


def test_a_callback_that_returns_a_deferred_makes_the_rest_wait_for_it() -> None:
    """The result, or the error, is taken from it: it is left with None."""
    fire: Any
    for fire, what, expected in ((Deferred.callback, 5, "5"), (Deferred.errback, Oops("x"), "x")):
        inner: Deferred[Any] = Deferred()
        outer = succeed(None).addCallback(lambda _, inner=inner: inner)
        outer.addErrback(lambda failure: failure.getErrorMessage()).addCallback(str)
        assert (outer.paused, outer.called) == (1, True)
        fire(inner, what)
        assert outer.result == expected
        assert inner.result is None


def test_a_result_that_is_there_is_taken_at_once() -> None:
    """And no error is left behind to be logged."""
    with unhandled() as events:
        outer = succeed(None).addCallback(lambda _: fail(Oops("y"))).addErrback(lambda failure: str(failure.value))
    assert outer.result == "y"
    assert events == []


def test_who_waits_goes_on_before_later_callbacks_of_the_other() -> None:
    """The chain that waited is run as far as it goes, then the rest of the one that gave it its result."""
    order: list[str] = []
    inner: Deferred[Any] = Deferred()
    outer = succeed(None).addCallback(lambda _: inner)
    outer.addCallback(lambda _: order.append("outer"))
    inner.addCallback(lambda _: order.append("inner, later"))
    inner.callback(None)
    assert order == ["outer", "inner, later"]


def test_ten_thousand_deferreds_wait_for_each_other() -> None:
    """The depth of the stack does not grow with them."""
    depths = []

    def depth(result: object) -> object:
        frame, count = sys._getframe(), 0
        while frame.f_back is not None:
            frame, count = frame.f_back, count + 1
        depths.append(count)
        return result

    for length in (1, 10_000):
        first: Deferred[Any] = Deferred()
        last = first
        for _ in range(length):
            last = succeed(None).addCallback(lambda _, last=last: last).addCallback(lambda result: result)
        last.addCallback(depth)
        first.callback("done")
        assert last.result == "done"
    assert depths[0] == depths[1]


def test_a_callback_that_returns_its_own_deferred_is_warned_of() -> None:
    """At the callback's own lines; and where warnings are errors, that is the result."""
    d: Deferred[Any] = Deferred()

    def circular(_: object) -> Deferred[Any]:
        return d

    d.addCallback(circular)
    with pytest.warns(DeprecationWarning, match="returned the Deferred it was attached to") as warned:
        d.callback(None)
    assert warned[0].filename == __file__
    assert circular.__code__.co_firstlineno < warned[0].lineno <= circular.__code__.co_firstlineno + 1
    other: Deferred[Any] = Deferred()
    other.addCallback(lambda _: other)
    other.callback(None)
    assert other.result.type is DeprecationWarning
    other.addErrback(lambda _: None)


def test_chainDeferred_fires_another() -> None:
    """With the result or the error; itself it is left with None."""
    one: Deferred[Any] = Deferred()
    other: Any = Deferred()
    one.chainDeferred(other)
    one.errback(Oops())
    assert other.result.type is Oops
    assert one.result is None
    other.addErrback(lambda _: None)


# -- pausing ----------------------------------------------------------------------------------------------------


def test_a_paused_deferred_runs_nothing_until_it_is_unpaused_as_often() -> None:
    """Whether it was fired before or is fired meanwhile."""
    ran: list[Any] = []
    d: Deferred[Any] = Deferred()
    d.pause()
    d.pause()
    d.addCallback(ran.append)
    d.callback(1)
    d.addCallback(ran.append)
    d.unpause()
    assert ran == []
    d.unpause()
    assert ran == [1, None]


def test_a_paused_deferred_that_waits_keeps_the_result_until_it_goes_on() -> None:
    """The one it waited for is rid of it."""
    ran: list[Any] = []
    inner: Deferred[Any] = Deferred()
    outer = succeed(None).addCallback(lambda _: inner).addCallback(ran.append)
    outer.pause()
    inner.callback(5)
    assert (ran, inner.result) == ([], None)
    outer.unpause()
    assert ran == [5]


# -- cancelling -------------------------------------------------------------------------------------------------


def test_cancelling_without_a_canceller_fails_it_and_lets_it_be_fired_once_more() -> None:
    """Who was to fire it knows nothing of it; a third firing is an error again."""
    d: Deferred[Any] = Deferred()
    got: list[Any] = []
    d.addErrback(lambda failure: got.append(failure.type))
    d.cancel()
    d.cancel()
    assert got == [CancelledError]
    d.callback("too late")
    with pytest.raises(defer.AlreadyCalledError):
        d.callback("again")


@pytest.mark.parametrize(
    ("canceller", "expected"),
    [
        (lambda d: None, CancelledError),
        (lambda d: d.errback(Oops()), Oops),
        (lambda d: d.callback(None), type(None)),
    ],
)
def test_a_canceller_decides_what_it_comes_to(canceller: Any, expected: type) -> None:
    """CancelledError, if it decides nothing; and who fires it afterwards is told."""
    asked: list[Any] = []

    def notes(d: Deferred[Any]) -> None:
        asked.append(d)
        canceller(d)

    d: Deferred[Any] = Deferred(notes)
    got: list[Any] = []
    d.addBoth(got.append)
    d.cancel()
    d.cancel()
    assert asked == [d]
    assert getattr(got[0], "type", type(got[0])) is expected
    with pytest.raises(defer.AlreadyCalledError):
        d.callback("too late")


def test_cancelling_one_that_waits_cancels_what_it_waits_for() -> None:
    """And after it was fired, without waiting, it does nothing."""
    inner: Deferred[Any] = Deferred()
    outer = succeed(1).addCallback(lambda _: inner)
    outer.cancel()
    assert outer.result.type is CancelledError
    outer.addErrback(lambda _: None)
    outer.cancel()
    assert outer.result is None


def test_the_canceller_is_let_go_once_it_is_fired() -> None:
    """So that a cycle through it costs no garbage collection."""

    class Canceller:
        deferred: Any = None

        def __call__(self, _: object) -> None:
            raise AssertionError

    gc.disable()
    try:
        canceller: Any = Canceller()
        canceller.deferred = Deferred(canceller)
        gone = weakref.ref(canceller)
        canceller.deferred.callback(None)
        del canceller
        assert gone() is None
    finally:
        gc.enable()


# -- time-outs --------------------------------------------------------------------------------------------------


def test_a_deferred_that_takes_too_long_is_cancelled_and_fails() -> None:
    """CancelledError becomes TimeoutError, and nothing is left scheduled."""
    clock = Clock()
    d: Deferred[Any] = Deferred().addTimeout(3, clock)
    clock.advance(2.9)
    assert not d.called
    clock.advance(0.1)
    assert d.result.type is defer.TimeoutError
    assert d.result.value.args == (3, "Deferred")
    d.addErrback(lambda _: None)
    assert clock.getDelayedCalls() == []


def test_a_deferred_in_time_leaves_no_delayed_call() -> None:
    """And is not touched when the time is up."""
    clock = Clock()
    d: Deferred[Any] = Deferred().addTimeout(3, clock)
    inner: Deferred[Any] = Deferred()
    d.addCallback(lambda _: inner)
    d.callback(1)
    assert clock.getDelayedCalls() == []
    clock.advance(5)
    assert not inner.called


def test_the_function_for_a_time_out_decides_and_other_results_pass() -> None:
    """It gets what the cancelling came to; a canceller that fires is heard; a cancel of others is no time-out."""
    clock = Clock()
    custom: Deferred[Any] = Deferred().addTimeout(3, clock, lambda result, timeout: (result.type, timeout))
    fired: Deferred[Any] = Deferred(lambda d: d.callback("fired")).addTimeout(3, clock)
    cancelled: Deferred[Any] = Deferred().addTimeout(3, clock, lambda *_: "never")
    cancelled.cancel()
    clock.advance(3)
    assert custom.result == (CancelledError, 3)
    assert fired.result == "fired"
    assert cancelled.result.type is CancelledError
    cancelled.addErrback(lambda _: None)


# -- errors nobody has handled ----------------------------------------------------------------------------------


def test_an_error_that_nobody_has_handled_is_logged_when_the_deferred_goes() -> None:
    """Once, as two events, also out of a cycle; and while it is held, nothing is."""
    with unhandled() as events:
        d: Any = fail(Oops("lost"))
        gc.collect()
        assert events == []
        d.itself = d
        del d
    assert [event["log_format"] for event in events] == ["Unhandled error in Deferred:", ""]
    assert events[1]["log_failure"].getErrorMessage() == "lost"
    assert all(event["log_namespace"] == "plait.classic.internet.defer" for event in events)


def test_errors_that_were_handled_or_handed_on_are_not_logged() -> None:
    """By an errback before or after, by who waits, by an awaiting coroutine; nor one of a paused Deferred."""

    async def wait(d: Deferred[Any]) -> None:
        with pytest.raises(Oops):
            await d

    with unhandled() as events:
        fail(Oops()).addErrback(lambda _: None)
        Deferred().addCallback(oops).addErrback(lambda _: None).callback(None)
        succeed(None).addCallback(lambda _: fail(Oops())).addErrback(lambda _: None)
        failed = fail(Oops())
        defer.ensureDeferred(wait(failed))
        later: Deferred[Any] = Deferred()
        defer.ensureDeferred(wait(later))
        later.errback(Oops())
        paused: Deferred[Any] = Deferred()
        paused.pause()
        paused.errback(Oops())
        again: Deferred[Any] = Deferred()
        again.pause()
        again.callback(Failure(Oops()))
        del failed, later, paused, again
    assert events == []


def test_an_errback_that_fails_leaves_its_own_error() -> None:
    """The one that it got is not logged."""
    with unhandled() as events:
        fail(Oops("first")).addErrback(oops)
    assert [event["log_failure"].getErrorMessage() for event in events if "log_failure" in event] == ["in a callback"]


# -- debugging --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("debugging")
def test_under_debugging_a_second_firing_tells_who_made_it_and_who_fired_it() -> None:
    """Both stacks, without our own frames."""

    def make() -> Deferred[Any]:
        return Deferred()

    def fire(d: Deferred[Any]) -> None:
        d.callback(None)

    async def returns() -> None:
        pass

    assert defer.getDebugging()
    assert Deferred.debug
    d = make()
    fire(d)
    with pytest.raises(defer.AlreadyCalledError) as raised:
        d.callback(None)
    lines = raised.value.args[0].splitlines()
    created = [line for line in lines if line.startswith(" C:")]
    invoked = [line for line in lines if line.startswith(" I:")]
    assert created[-2].endswith(" in make")
    assert invoked[-2].endswith(" in fire")
    assert "_deferred.py" not in raised.value.args[0]
    with pytest.raises(defer.AlreadyCalledError, match="First Invoker"):
        defer.ensureDeferred(returns()).callback(None)


@pytest.mark.usefixtures("debugging")
def test_under_debugging_a_failure_holds_variables_and_the_log_tells_the_stacks() -> None:
    """And the stack of the creation ends with whoever called `succeed`, `fail` or a coroutine."""

    async def fails() -> None:
        oops()

    with unhandled() as events:
        d = succeed(None).addCallback(oops)
        assert dict(d.result.frames[0][3])["_"] is None
        del d
        fail(Oops())
        defer.ensureDeferred(fails())
    assert len(events) == 6
    for event in events[1::2]:
        assert event["log_format"] == "(debug: {debugInfo})"
        created = [line for line in event["debugInfo"].splitlines() if line.startswith(" C:")]
        assert created[-2].endswith(" in test_under_debugging_a_failure_holds_variables_and_the_log_tells_the_stacks")


def test_one_deferred_can_be_debugged_by_itself() -> None:
    """What happened before is not known, the firing is; others are not touched."""
    d: Deferred[Any] = Deferred()
    d.debug = True
    assert not Deferred().debug
    d.callback(None)
    with pytest.raises(defer.AlreadyCalledError, match="First Invoker"):
        d.callback(None)
    with pytest.raises(defer.AlreadyCalledError) as raised:
        succeed(None).callback(None)
    assert raised.value.args == ()


# -- small functions --------------------------------------------------------------------------------------------


def test_maybeDeferred_makes_a_deferred_of_whatever_a_call_does() -> None:
    """A value, an exception, a Failure, a Deferred (the same), a coroutine."""
    same: Deferred[int] = Deferred()

    async def coroutine(value: int) -> int:
        return value + 1

    assert defer.maybeDeferred(lambda a, b: a + b, 1, b=2).result == 3
    assert defer.maybeDeferred(lambda: same) is same
    assert defer.maybeDeferred(coroutine, 1).result == 2
    for failing in (oops, lambda: Failure(Oops())):
        d = defer.maybeDeferred(failing)
        assert d.result.type is Oops
        d.addErrback(lambda _: None)
    assert defer.execute(int, "7").result == 7
    d = defer.execute(int, "x")
    assert d.result.type is ValueError
    d.addErrback(lambda _: None)


def test_logError_logs_and_passes_on_and_passthru_passes_on() -> None:
    """Both are there to be callbacks."""
    failure = Failure(Oops("told"))
    with unhandled() as events:
        assert defer.logError(failure) is failure
    assert [event["log_failure"] for event in events] == [failure]
    assert defer.passthru(failure) is failure


def test_timeout_fails_a_deferred_and_warns() -> None:
    """It is Twisted's own function of old."""
    d: Deferred[Any] = Deferred()
    with pytest.warns(DeprecationWarning, match="please use twisted.internet.defer.Deferred.addTimeout"):
        defer.timeout(d)
    assert d.result.type is defer.TimeoutError
    d.addErrback(lambda _: None)
