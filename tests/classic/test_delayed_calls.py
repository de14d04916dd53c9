"""Delayed calls: their order, their moves, and the one timer of the loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from zope.interface.verify import verifyObject

from plait.classic.internet import error, interfaces, reactor, task
from plait.classic.internet._delayed import DelayedCalls
from plait.testing import VirtualLoop


class Timers:
    """A loop that hands out timers, and counts those that are pending."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pending: dict[Any, tuple[float, Any]] = {}
        self.asked = 0

    def wall_time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Any) -> Any:
        self.asked += 1
        handle = _Handle(self)
        self.pending[handle] = (self.now + delay, callback)
        return handle

    def call_soon(self, callback: Any) -> Any:
        return self.call_later(0, callback)

    def fire(self) -> None:
        """Let the time come of the timer there is."""
        ((handle, (when, callback)),) = self.pending.items()
        del self.pending[handle]
        self.now = max(self.now, when)
        callback()


class _Handle:
    def __init__(self, timers: Timers) -> None:
        self._timers = timers

    def cancel(self) -> None:
        self._timers.pending.pop(self, None)


@pytest.fixture
def timers() -> Timers:
    """The loop of a heap."""
    return Timers()


@pytest.fixture
def calls(timers: Timers) -> DelayedCalls:
    """A heap on that loop, whose failing calls fail the test."""

    def failed(call: Any) -> None:
        raise AssertionError(f"{call} raised")

    calls = DelayedCalls(failed)
    calls.bind(timers)  # type: ignore[arg-type]
    return calls


def put(calls: DelayedCalls, delay: float, made: list[Any], what: Any) -> Any:
    """Note `what` in so many seconds."""
    return calls.call(calls.seconds() + delay, made.append, (what,), {}, calls.seconds)


def test_the_order_is_that_of_times_then_of_asking(calls: DelayedCalls, timers: Timers) -> None:
    """0.0011 before 0.0014, however a loop rounds; equal times as they were asked for."""
    made: list[Any] = []
    for delay, what in [(0.0014, "d"), (0.0011, "b"), (0.0011, "c"), (0, "a")]:
        put(calls, delay, made, what)
    assert len(timers.pending) == 1
    while timers.pending:
        timers.fire()
    assert made == list("abcd")


def test_the_loop_has_one_timer_and_none_when_there_is_no_call(calls: DelayedCalls, timers: Timers) -> None:
    """Whatever is asked for, moved and cancelled."""
    made: list[Any] = []
    several = [put(calls, delay, made, delay) for delay in (5, 3, 9, 1)]
    assert len(timers.pending) == 1
    for call in several:
        call.delay(2)
        call.reset(4)
        assert len(timers.pending) == 1
    for call in several:
        call.cancel()
    assert not timers.pending
    assert not calls.pending()


def test_a_call_that_was_moved_is_made_once_at_its_last_time(calls: DelayedCalls, timers: Timers) -> None:
    """Earlier, later, and earlier again."""
    made: list[Any] = []
    call = put(calls, 10, made, "moved")
    put(calls, 4, made, "other")
    call.reset(2)
    call.reset(8)
    call.reset(6)
    assert call.getTime() == 6
    moments = []
    while timers.pending:
        timers.fire()
        moments.append((timers.now, list(made)))
    assert moments[-1] == (6, ["other", "moved"])
    assert [now for now, so_far in moments if so_far == ["other"]] == [4]


def test_what_a_call_asks_for_waits_for_the_next_turn(calls: DelayedCalls, timers: Timers) -> None:
    """So a call that asks for itself at once starves nobody, also on a clock that stands still."""
    made: list[int] = []

    def again() -> None:
        made.append(1)
        calls.call(calls.seconds(), again, (), {}, calls.seconds)

    again()
    for count in (2, 3, 4):
        timers.fire()
        assert len(made) == count


def test_many_that_are_due_at_once_are_made_in_order(calls: DelayedCalls, timers: Timers) -> None:
    """More than are popped one by one; what one of them cancels and moves is not made."""
    made: list[Any] = []
    order = [(number * 7919) % 1000 for number in range(1000)]
    several = {number: put(calls, number / 1000, made, number) for number in order}
    calls.call(0.0905, lambda: (several[500].cancel(), several[501].reset(5)), (), {}, calls.seconds)
    timers.now = 2.0
    timers.fire()
    assert made == [number for number in range(1000) if number not in (500, 501)]
    timers.fire()
    assert made[-1] == 501


def test_the_heap_does_not_keep_what_was_cancelled(calls: DelayedCalls) -> None:
    """The dead are thrown out when they are the majority; moving to and fro adds no entries for good."""
    made: list[Any] = []
    kept = put(calls, 1000, made, "kept")
    for _ in range(10_000):
        put(calls, 10, made, "never").cancel()
        kept.reset(1)
        kept.reset(1000)
    assert len(calls._heap) < 500


def test_a_call_that_is_over_says_so(calls: DelayedCalls, timers: Timers) -> None:
    """AlreadyCalled and AlreadyCancelled, and `active` before."""
    made: list[Any] = []
    called, cancelled = put(calls, 1, made, "x"), put(calls, 2, made, "y")
    verifyObject(interfaces.IDelayedCall, called)
    assert "append" in str(called)
    assert called.active()
    cancelled.cancel()
    timers.fire()
    for call, wrong in ((called, error.AlreadyCalled), (cancelled, error.AlreadyCancelled)):
        assert not call.active()
        for move in (call.cancel, lambda call=call: call.reset(1), lambda call=call: call.delay(1)):
            with pytest.raises(wrong):
                move()


async def test_the_reactor_calls_on_a_loop_that_runs() -> None:
    """In order, with arguments; one that raises is logged and ends nothing."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    made: list[Any] = []
    reactor.callLater(0.02, made.append, "later")
    reactor.callLater(0.0014, made.append, "second")
    reactor.callLater(0.0011, made.append, "first")
    reactor.callLater(0.03, lambda *args, **kw: made.append((args, kw)), 1, x=2)
    reactor.callLater(0.04, done.set_result, None)
    assert len(reactor.getDelayedCalls()) == 5
    await asyncio.wait_for(done, 5)
    assert made == ["first", "second", "later", ((1,), {"x": 2})]
    assert reactor.getDelayedCalls() == []
    with pytest.raises(AssertionError):
        reactor.callLater(-1, made.append, 0)
    with pytest.raises(AssertionError):
        reactor.callLater(1, None)


async def test_a_call_that_raises_is_logged(caplog: Any) -> None:
    """And the next one is made."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    reactor.callLater(0, lambda: 1 / 0)
    reactor.callLater(0, done.set_result, None)
    await asyncio.wait_for(done, 5)
    assert "ZeroDivisionError" in caplog.text


def test_on_a_virtual_loop_the_reactor_goes_by_its_clock() -> None:
    """An hour passes at once, and LoopingCall and seconds() see it pass."""

    async def main() -> list[float]:
        began = reactor.seconds()
        moments: list[float] = []
        loop = task.LoopingCall(lambda: moments.append(reactor.seconds() - began))
        loop.start(1200)
        await task.deferLater(reactor, 3601, loop.stop).asFuture(asyncio.get_running_loop())
        return moments

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(main()) == [0, 1200, 2400, 3600]
