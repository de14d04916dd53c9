"""Several Deferreds at once, and those who take turns."""

from __future__ import annotations

import os
from errno import EPERM
from pathlib import Path
from typing import Any

import pytest
from unhandled import unhandled

from plait.classic.internet import defer
from plait.classic.internet.defer import CancelledError, Deferred, DeferredList, fail, succeed
from plait.classic.internet.task import Clock
from plait.classic.python.failure import Failure


class Oops(Exception):
    """What these tests raise."""


def some(count: int) -> list[Deferred[Any]]:
    """So many that wait."""
    return [Deferred() for _ in range(count)]


# -- lists ------------------------------------------------------------------------------------------------------


def test_a_list_fires_with_all_outcomes_in_order() -> None:
    """Whatever order they come in; each keeps its result for later callbacks."""
    one, two, three = some(3)
    whole = DeferredList([one, two, three])
    later: list[Any] = []
    one.addCallback(later.append)
    three.callback(3)
    one.callback(1)
    assert not whole.called
    two.errback(Oops())
    (first, second, third) = whole.result
    assert (first, third) == ((defer.SUCCESS, 1), (defer.SUCCESS, 3))
    assert (second[0], second[1].type) == (defer.FAILURE, Oops)
    assert later == [1]
    two.addErrback(lambda _: None)
    assert DeferredList([]).result == []


def test_a_list_may_fire_with_the_first_result_or_the_first_error() -> None:
    """With which it was; an empty one has no first result."""
    one, two = some(2)
    first = DeferredList([one, two], fireOnOneCallback=True)
    strict = DeferredList([one, two], fireOnOneErrback=True, consumeErrors=True)
    assert not DeferredList([], fireOnOneCallback=True).called
    two.errback(Oops())
    one.callback("x")
    assert first.result == ("x", 0)
    error = strict.result.value
    assert (type(error), error.index, error.subFailure.type) == (defer.FirstError, 1, Oops)
    assert two.result is None
    strict.addErrback(lambda _: None)


def test_FirstError_shows_and_compares_by_what_it_holds() -> None:
    """Index and Failure."""
    failure = Failure(Oops("x"))
    error = defer.FirstError(failure, 3)
    assert repr(error) == "FirstError[#3, Oops('x')]"
    assert str(error) == f"FirstError[#3, {failure}]"
    assert error == defer.FirstError(failure, 3)
    assert error != defer.FirstError(failure, 4)
    assert error != 3
    assert hash(error) == hash(defer.FirstError(failure, 3))


def test_cancelling_a_list_cancels_all_of_it() -> None:
    """Also if a canceller raises, which is logged; after it has fired it does nothing."""

    def broken(_: object) -> None:
        raise Oops("canceller")

    stuck: Deferred[Any] = Deferred(broken)
    one, two = some(2)
    whole = DeferredList([one, stuck, two], consumeErrors=True)
    with unhandled() as events:
        whole.cancel()
    assert [event["log_failure"].getErrorMessage() for event in events] == ["canceller"]
    assert (one.called, stuck.called, two.called) == (True, False, True)
    stuck.callback(1)
    assert [succeeded for succeeded, _ in whole.result] == [False, True, False]
    whole.cancel()


def test_gatherResults_gives_the_results_or_the_first_error() -> None:
    """Nothing has to be taken apart."""
    assert defer.gatherResults([succeed(1), succeed(2)]).result == [1, 2]
    one, two = some(2)
    gathered = defer.gatherResults([one, two], consumeErrors=True)
    one.errback(Oops())
    assert gathered.result.value.subFailure.type is Oops
    gathered.addErrback(lambda _: None)
    one, two = some(2)
    gathered = defer.gatherResults([one, two], consumeErrors=True)
    gathered.cancel()
    assert gathered.result.value.subFailure.type is CancelledError
    gathered.addErrback(lambda _: None)


def test_a_race_is_won_by_the_first_result() -> None:
    """Errors do not win; the others are cancelled, and what they come to is dropped."""
    runners = some(3)
    final = defer.race(runners)
    with unhandled() as events:
        runners[0].errback(Oops())
        runners[2].callback("won")
        assert final.result == (2, "won")
        assert runners[1].called
        runners[1].callback("too late")
    assert events == []
    assert [runner.result for runner in runners] == [None, None, None]


def test_a_race_that_nobody_wins_fails_with_all_errors() -> None:
    """In the order of the Deferreds; so does one that is cancelled."""
    runners = some(3)
    final = defer.race(runners)
    for number in (2, 0, 1):
        runners[number].errback(Oops(number))
    assert [failure.value.args[0] for failure in final.result.value.failures] == [0, 1, 2]
    final.addErrback(lambda _: None)
    cancelled = defer.race(some(2))
    cancelled.cancel()
    assert [failure.type for failure in cancelled.result.value.failures] == [CancelledError] * 2
    cancelled.addErrback(lambda _: None)


# -- turns ------------------------------------------------------------------------------------------------------


def test_a_lock_is_had_by_one_after_the_other() -> None:
    """In the order of asking, and given back by release; too many releases are an error."""
    lock = defer.DeferredLock()
    first, second, third = lock.acquire(), lock.acquire(), lock.acquire()
    assert (first.result, second.called, lock.locked) == (lock, False, True)
    second.cancel()
    second.addErrback(lambda failure: failure.trap(CancelledError))
    first.cancel()
    lock.release()
    assert third.result is lock
    lock.release()
    assert not lock.locked
    with pytest.raises(AssertionError, match="unlocked lock"):
        lock.release()


def test_run_holds_the_lock_until_the_call_is_through() -> None:
    """Also if it returns a Deferred or a coroutine, and if it fails."""
    lock = defer.DeferredLock()
    inner: Deferred[int] = Deferred()

    async def coroutine(value: int) -> int:
        return value + await inner

    d = lock.run(coroutine, value=1)
    assert lock.locked
    inner.callback(2)
    assert (d.result, lock.locked) == (3, False)
    failed = lock.run(lambda: fail(Oops()))
    assert (failed.result.type, lock.locked) == (Oops, False)
    failed.addErrback(lambda _: None)


def test_a_semaphore_has_room_for_some() -> None:
    """As many as its limit."""
    semaphore = defer.DeferredSemaphore(2)
    turns = [semaphore.acquire() for _ in range(3)]
    assert [turn.called for turn in turns] == [True, True, False]
    assert (semaphore.tokens, semaphore.limit) == (0, 2)
    semaphore.release()
    assert turns[2].called
    semaphore.release()
    semaphore.release()
    with pytest.raises(AssertionError, match="too many"):
        semaphore.release()
    with pytest.raises(ValueError, match="tokens >= 1"):
        defer.DeferredSemaphore(0)


def test_both_work_with_async_with() -> None:
    """Given back also if the body fails, whose error comes through."""
    lock = defer.DeferredLock()

    async def body() -> bool:
        async with lock:
            assert lock.locked
        with pytest.raises(Oops):
            async with lock:
                raise Oops
        return lock.locked

    assert defer.ensureDeferred(body()).result is False


def test_a_queue_gives_each_object_to_one_who_asks() -> None:
    """Before or after it was put there; who has given up gets none."""
    queue: defer.DeferredQueue[int] = defer.DeferredQueue()
    waiting, gave_up, last = queue.get(), queue.get(), queue.get()
    gave_up.cancel()
    gave_up.addErrback(lambda failure: failure.trap(CancelledError))
    for number in (1, 2, 3):
        queue.put(number)
    assert (waiting.result, last.result, queue.pending) == (1, 2, [3])
    assert queue.get().result == 3


def test_a_queue_has_its_limits() -> None:
    """Of objects and of those who wait."""
    queue: defer.DeferredQueue[int] = defer.DeferredQueue(size=1, backlog=1)
    queue.get()
    with pytest.raises(defer.QueueUnderflow):
        queue.get()
    queue.put(1)
    queue.put(2)
    with pytest.raises(defer.QueueOverflow):
        queue.put(3)


# -- a lock between processes -----------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    """Time that the test advances."""
    return Clock()


def test_a_file_lock_is_waited_for(tmp_path: Path, clock: Clock) -> None:
    """It is tried every second, until it is free."""
    name = str(tmp_path / "lock")
    mine, other = (defer.DeferredFilesystemLock(name, scheduler=clock) for _ in range(2))
    assert mine.lock()
    assert os.readlink(name) == str(os.getpid())
    d = other.deferUntilLocked()
    clock.advance(1)
    assert not d.called
    mine.unlock()
    clock.advance(1)
    assert (d.result, other.locked, mine.locked) == (None, True, False)
    assert clock.getDelayedCalls() == []


def test_waiting_for_a_file_lock_ends_by_time_or_by_cancelling(tmp_path: Path, clock: Clock) -> None:
    """Nothing is left scheduled; to wait twice at once is an error."""
    name = str(tmp_path / "lock")
    defer.DeferredFilesystemLock(name, scheduler=clock).lock()
    lock = defer.DeferredFilesystemLock(name, scheduler=clock)
    d = lock.deferUntilLocked(timeout=2.5)
    second = lock.deferUntilLocked()
    assert second.result.type is defer.AlreadyTryingToLockError
    clock.pump([1, 1, 1])
    assert d.result.type is defer.TimeoutError
    assert clock.getDelayedCalls() == []
    third = lock.deferUntilLocked(timeout=9)
    third.cancel()
    assert third.result.type is CancelledError
    assert clock.getDelayedCalls() == []
    for failed in (d, second, third):
        failed.addErrback(lambda _: None)


def test_a_file_lock_of_a_process_that_is_gone_is_taken_over(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`clean` says that it was left behind; one that another process has, of whomever, cannot be unlocked."""

    def another_users(*_: int) -> None:
        raise PermissionError(EPERM, "not permitted")

    name = str(tmp_path / "lock")
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    os.symlink(str(child), name)
    lock = defer.DeferredFilesystemLock(name, scheduler=clock)
    assert lock.lock()
    assert lock.clean is False
    lock.unlock()
    os.symlink(str(os.getppid()), name)
    assert not lock.lock()
    monkeypatch.setattr(os, "kill", another_users)
    assert not lock.lock()
    with pytest.raises(ValueError, match="not owned by this process"):
        lock.unlock()


def test_a_file_lock_waits_on_the_reactor_by_default(tmp_path: Path) -> None:
    """Which is imported for it."""
    from plait.classic.internet import reactor

    lock = defer.DeferredFilesystemLock(str(tmp_path / "lock"))
    assert lock._scheduler is reactor
    assert lock.deferUntilLocked(timeout=1).called
    lock.unlock()
