"""Faults: hooks of services that fail, hang, are slow, or misbehave worse, in a tree that is not ours to edit.

Rules: a fault is on a path and a hook. It strikes at calls of that hook, counted from when it was put there: at the
n-th, at those of a set or range, or at all. It holds for the service that stands at the path, and for its successors
in later generations. Those on one hook strike in the order in which they were put. What is restored is as it was, and
who still hangs in a fault goes on with the hook itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections.abc import Awaitable, Callable, Container
from functools import partial
from types import TracebackType
from typing import Any, Self

from plait._kernel.engine import engine_of
from plait._kernel.graph import find
from plait._kernel.group import Group
from plait._kernel.record import Record
from plait.errors import InjectedFault, LifecycleError, NotSeen
from plait.testing.hooking import Real, check, intercept, take_back
from plait.testing.stubborn import Stubborn

Error = BaseException | Callable[[], BaseException] | None
"""An exception, or its class or what else makes one; None for an InjectedFault that says where."""
At = int | Container[int] | None
"""At which calls: the n-th, from 1; those in a set or range; None for all."""
Strike = Callable[["Fault", Real], Awaitable[Any]]

TIMEOUT = 10.0


class Fault:
    """One fault on one hook. `calls` counts the calls of the hook, `strikes` those at which the fault struck."""

    def __init__(self, path: str, hook: str, strike: Strike, at: At) -> None:
        self.path = path
        self.hook = hook
        self.calls = 0
        self.strikes = 0
        self._on_lift: list[Callable[[], None]] = []
        self._strike = strike
        self._at = at
        self._lifted = asyncio.Event()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._records: list[Record] = []

    def __repr__(self) -> str:
        return f"<Fault on {self.hook} of {self.path!r}: {self.strikes} strikes in {self.calls} calls>"

    async def __call__(self, real: Real) -> Any:
        self.calls += 1
        if not self._strikes_at(self.calls):
            return await real()
        self.strikes += 1
        for strikes, future in self._waiting:
            if self.strikes >= strikes and not future.done():
                future.set_result(None)
        return await self._strike(self, real)

    def _strikes_at(self, call: int) -> bool:
        if self._at is None:
            return True
        return call == self._at if isinstance(self._at, int) else call in self._at

    async def struck(self, strikes: int = 1, *, timeout: float = TIMEOUT) -> None:
        """Until it has struck so often. NotSeen after `timeout` seconds of the loop's clock."""
        if self.strikes >= strikes:
            return
        waiting = (strikes, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(timeout):
                await waiting[1]
        except TimeoutError:
            raise NotSeen(f"{self!r} did not strike {strikes} times within {timeout:g} s") from None
        finally:
            self._waiting.remove(waiting)

    def lift(self) -> None:
        """Strike no more; who hangs in it goes on with the hook itself."""
        records, self._records[:] = self._records[:], []
        for record in records:
            take_back(record, self.hook, self)
        with contextlib.suppress(RuntimeError):  # the loop of those who hang is closed
            self._lifted.set()
            for call in self._on_lift:
                call()

    def _put_on(self, record: Record) -> None:
        """Strike at the calls of this service's hook."""
        intercept(record, self.hook, self)
        self._records.append(record)

    @property
    def is_lifted(self) -> bool:
        """Whether it strikes no more."""
        return self._lifted.is_set()

    async def _until_lifted(self, timeout: float | None = None) -> None:
        """Until it is lifted, or `timeout` seconds have passed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._lifted.wait()


class Faults:
    """Puts faults on the services of trees, and takes them off again: `with Faults(app) as faults:`, or `restore()`.

    Paths are as in `app[...]`, "/" for the application. Made without a tree it is a plan, for those that `join` it.
    Each method that puts a fault returns it; ValueError for a hook that there cannot be, LookupError for a path that no
    tree has.
    """

    def __init__(self, *trees: Group) -> None:
        self.placed: list[Fault] = []
        """Every fault, also those that were lifted since."""
        self.crashed: set[str] = set()
        """The paths of what `crash` made fail."""
        self._joined: list[weakref.ref[Group]] = []
        for tree in trees:
            self.join(tree)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()

    def join(self, tree: Group) -> None:
        """Put the faults on this tree as well, the next generation, say; what it has not, an earlier one must have."""
        if tree in self._trees:
            return
        self._joined.append(weakref.ref(tree))
        for fault in self.placed:
            if not fault.is_lifted:
                self._put_on(fault, [tree])

    def restore(self) -> None:
        """Lift every fault, newest first: all hooks are as they were."""
        for fault in reversed(self.placed):
            fault.lift()

    # -- what can go wrong with a hook -------------------------------------------------------------------------------

    def fail(self, path: str, hook: str, error: Error = None, *, at: At = None) -> Fault:
        """It raises `error` instead of doing anything."""
        return self._put(path, hook, partial(_fail, error), at)

    def hang(self, path: str, hook: str, *, at: At = None) -> Fault:
        """It waits for ever, but can be cancelled."""
        return self._put(path, hook, _hang, at)

    def slow(self, path: str, hook: str, seconds: float, *, at: At = None) -> Fault:
        """It waits `seconds` of the loop's clock before it does its work."""
        return self._put(path, hook, partial(_slow, seconds), at)

    def block(self, path: str, hook: str, seconds: float, *, at: At = None) -> Fault:
        """It blocks the loop for `seconds` of the machine's clock before it does its work."""
        return self._put(path, hook, partial(_block, seconds), at)

    def ignore_cancellation(self, path: str, hook: str, seconds: float | None = None, *, at: At = None) -> Fault:
        """It does its work, and no cancellation reaches it until `seconds` after the first; None: never.

        `asyncio.timeout` cancels as well, so while that lasts the hook's own timeouts do not end anything.
        """
        return self._put(path, hook, partial(_ignore_cancellation, seconds), at)

    def cancel(self, path: str, hook: str, *, at: At = None) -> Fault:
        """Its task is cancelled, and nobody said why."""
        return self._put(path, hook, _cancel, at)

    def crash(self, path: str, error: Exception | None = None) -> None:
        """The service fails now, in the middle of its life. LifecycleError if it does not run."""
        record = self._find(path)
        engine = engine_of(record)
        if engine is None:
            raise LifecycleError(f"{record.subject} is in no application, so it does not run")
        engine.life(record).fail(error if error is not None else _injected(repr(path)))
        self.crashed.add(record.path)

    @property
    def paths(self) -> set[str]:
        """Where anything was put, or made to fail."""
        return {fault.path for fault in self.placed} | self.crashed

    def _put(self, path: str, hook: str, strike: Strike, at: At) -> Fault:
        fault = Fault(path.strip("/") or "/", hook, strike, at)
        check(hook)
        if self._joined:
            self._put_on(fault, self._trees)
        self.placed.append(fault)
        return fault

    def _put_on(self, fault: Fault, trees: list[Group]) -> None:
        self._find(fault.path)
        for tree in trees:
            if (record := _record(tree, fault.path)) is not None:
                fault._put_on(record)

    @property
    def _trees(self) -> list[Group]:
        """Those that joined and are still there: generations come and go."""
        return [tree for joined in self._joined if (tree := joined()) is not None]

    def _find(self, path: str) -> Record:
        """The service at this path in the newest tree that has it."""
        for tree in reversed(self._trees):
            if (record := _record(tree, path)) is not None:
                return record
        known = ", ".join(one.path for tree in self._trees[-1:] for one in tree._record.below())
        raise LookupError(f"there is no service {path!r} to put a fault on; there are {known or 'no trees'}")


def _record(tree: Group, path: str) -> Record | None:
    path = path.strip("/")
    return find(tree._record, path) if path else tree._record


# -- how each strikes ------------------------------------------------------------------------------------------------


def _injected(what: str) -> InjectedFault:
    return InjectedFault(f"the test makes {what} fail")


async def _fail(error: Error, fault: Fault, real: Real) -> Any:
    if isinstance(error, BaseException):
        raise error.with_traceback(None)
    raise error() if error is not None else _injected(f"{fault.hook} of {fault.path!r}")


async def _hang(fault: Fault, real: Real) -> Any:
    await fault._until_lifted()
    return await real()


async def _slow(seconds: float, fault: Fault, real: Real) -> Any:
    await fault._until_lifted(seconds)
    return await real()


async def _block(seconds: float, fault: Fault, real: Real) -> Any:
    time.sleep(seconds)  # noqa: ASYNC251  # which is the point
    return await real()


async def _ignore_cancellation(seconds: float | None, fault: Fault, real: Real) -> Any:
    stubborn = Stubborn(seconds)
    fault._on_lift.append(stubborn.give_in)
    return await stubborn.drive(_call(real))


async def _cancel(fault: Fault, real: Real) -> Any:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)
    return await real()


async def _call(real: Real) -> Any:
    return await real()
