"""Random programs of Deferreds: what they do, step by step, on any implementation of Twisted's API.

Rules: a program makes some Deferreds and is a list of operations on them, by number. What happens is a trace that
names nothing of the implementation: each callback with what it got, each exception an operation raised, and after
each operation what every Deferred holds. A callback returns a Deferred only of a higher number, so that none waits
for itself, and a Deferred is unpaused only as often as it was paused. At the end all is dropped, and what was logged
as unhandled is part of the trace.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from hypothesis import strategies as st

COUNT = 5

# -- programs ---------------------------------------------------------------------------------------------------

numbers = st.integers(0, COUNT - 1)
values = st.integers(0, 9)

acts = st.one_of(
    st.tuples(st.just("return"), values),
    st.tuples(st.just("pass")),
    st.tuples(st.just("raise"), values),
    st.tuples(st.just("failure"), values),
    st.tuples(st.just("wait"), numbers),
    st.tuples(st.just("wait"), numbers),
    st.tuples(st.just("pause"), numbers),
    st.tuples(st.just("unpause"), numbers),
    st.tuples(st.just("cancel"), numbers),
    st.tuples(st.just("fire"), numbers, values),
    st.tuples(st.just("fail"), numbers, values),
    st.tuples(st.just("add"), numbers, values),
)
"""What a callback does."""

cancellers = st.sampled_from(["none", "none", "nothing", "fires", "fails", "raises"])

operations = st.one_of(
    st.tuples(st.just("addCallback"), numbers, acts),
    st.tuples(st.just("addErrback"), numbers, acts),
    st.tuples(st.just("addBoth"), numbers, acts),
    st.tuples(st.just("addCallbacks"), numbers, acts, acts),
    st.tuples(st.just("callback"), numbers, values),
    st.tuples(st.just("callback"), numbers, values),
    st.tuples(st.just("errback"), numbers, values),
    st.tuples(st.just("failed"), numbers, values),
    st.tuples(st.just("pause"), numbers),
    st.tuples(st.just("unpause"), numbers),
    st.tuples(st.just("cancel"), numbers),
    st.tuples(st.just("chainDeferred"), numbers, numbers),
    st.tuples(st.just("addTimeout"), numbers, st.integers(1, 3), st.booleans()),
    st.tuples(st.just("advance"), st.integers(1, 3)),
    st.tuples(st.just("list"), st.lists(numbers, max_size=3), st.booleans(), st.booleans(), st.booleans()),
    st.tuples(st.just("gather"), st.lists(numbers, max_size=3), st.booleans()),
    st.tuples(st.just("race"), st.lists(numbers, max_size=3, unique=True)),
    st.tuples(st.just("coroutine"), st.lists(numbers, max_size=3, unique=True), st.booleans()),
    st.tuples(st.just("generator"), st.lists(numbers, max_size=3, unique=True), st.booleans()),
    st.tuples(
        st.just("cancelLast"),
    ),
)


@dataclass(frozen=True)
class Program:
    """What to do."""

    cancellers: Sequence[str]
    operations: Sequence[tuple[Any, ...]]


programs = st.builds(
    Program,
    st.lists(cancellers, min_size=COUNT, max_size=COUNT),
    st.lists(operations, max_size=25),
)


# -- running one ------------------------------------------------------------------------------------------------


class Oops(Exception):
    """What callbacks raise."""


class Run:
    """One run of a program on one implementation: its modules defer, failure, logger and task."""

    def __init__(self, defer: ModuleType, failure: ModuleType, logger: ModuleType, task: ModuleType) -> None:
        self.defer = defer
        self.Failure = failure.Failure
        self.logger = logger
        self.clock = task.Clock()
        self.trace: list[Any] = []
        self.calls = 0
        self.pauses = [0] * COUNT
        self.last: Any = None

    def __call__(self, program: Program) -> list[Any]:
        """The trace."""
        unhandled: list[str] = []

        def observe(event: dict[str, Any]) -> None:
            if "log_failure" in event:
                unhandled.append(self.shown(event["log_failure"]))

        gc.collect()  # what the run before has left is none of ours
        gc.disable()
        self.logger.globalLogPublisher.addObserver(observe)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.awaiting = any(operation[0] == "coroutine" for operation in program.operations)
                self.deferreds = [self.make(number, kind) for number, kind in enumerate(program.cancellers)]
                for operation in program.operations:
                    self.do(operation)
                self.deferreds.clear()
                self.last = None
                self.clock = None
                gc.collect()
        finally:
            gc.enable()
            self.logger.globalLogPublisher.removeObserver(observe)
        self.trace.append(("unhandled", sorted(unhandled)))
        return self.trace

    def make(self, number: int, kind: str) -> Any:
        """A Deferred with that kind of canceller."""

        def canceller(deferred: Any) -> None:
            self.trace.append(("cancelling", number))
            if kind == "fires":
                deferred.callback(100 + number)
            elif kind == "fails":
                deferred.errback(Oops(number))
            elif kind == "raises":
                raise Oops(number)

        return self.defer.Deferred(None if kind == "none" else canceller)

    def do(self, operation: tuple[Any, ...]) -> None:
        """One operation, and what all hold after it."""
        name, *arguments = operation
        try:
            getattr(self, f"do_{name}")(*arguments)
        except RecursionError:
            raise
        except Exception as error:
            self.trace.append(("raised", type(error).__name__))
        self.trace.append(("state", name, [self.state(deferred) for deferred in self.deferreds]))

    def state(self, deferred: Any) -> tuple[Any, ...]:
        """What a Deferred holds."""
        return bool(deferred.called), deferred.paused, self.shown(getattr(deferred, "result", "nothing"))

    def shown(self, value: Any) -> str:
        """A value without addresses."""
        if isinstance(value, self.Failure):
            value = value.value
            if isinstance(value, self.defer.FirstError):
                return f"FirstError {value.index} {self.shown(value.subFailure)}"
            if isinstance(value, self.defer.FailureGroup):
                return f"FailureGroup {[self.shown(failure) for failure in value.failures]}"
            arguments = [self.shown(argument) for argument in value.args]
            return f"Failure {type(value).__name__} {'' if isinstance(value, TypeError) else arguments}"
        if isinstance(value, self.defer.Deferred):
            places = [number for number, one in enumerate(self.deferreds) if one is value]
            return f"Deferred {places}"
        if isinstance(value, (list, tuple)):
            return f"[{', '.join(self.shown(item) for item in value)}]"
        return repr(value)

    # -- callbacks ---------------------------------------------------------------------------------------------

    def callback_of(self, act: tuple[Any, ...], of: int) -> Callable[[Any], Any]:
        """A callback of the Deferred `of` that does that."""
        self.calls += 1
        number = self.calls
        name, *arguments = act

        def callback(result: Any) -> Any:
            self.trace.append(("call", number, name, self.shown(result)))
            if name == "return":
                return arguments[0]
            if name == "raise":
                raise Oops(arguments[0])
            if name == "failure":
                return self.Failure(Oops(arguments[0]))
            if name == "wait":
                return self.deferreds[arguments[0]] if arguments[0] > of else result
            if name != "pass":
                self.act_on(name, *arguments)
            return result

        return callback

    def act_on(self, name: str, number: int, value: int = 0) -> None:
        """What a callback does to another Deferred, or to its own."""
        deferred = self.deferreds[number]
        if name == "pause" and self.awaiting:
            return  # Twisted never ends if a Deferred is paused between its firing and the coroutine's turn
        if name == "fire":
            deferred.callback(value)
        elif name == "fail":
            deferred.errback(Oops(value))
        elif name == "add":
            deferred.addBoth(self.callback_of(("pass",), number))
        elif name == "cancel":
            deferred.cancel()
        else:
            getattr(self, f"do_{name}")(number)

    # -- operations --------------------------------------------------------------------------------------------

    def do_addCallback(self, number: int, act: tuple[Any, ...]) -> None:
        self.deferreds[number].addCallback(self.callback_of(act, number))

    def do_addErrback(self, number: int, act: tuple[Any, ...]) -> None:
        self.deferreds[number].addErrback(self.callback_of(act, number))

    def do_addBoth(self, number: int, act: tuple[Any, ...]) -> None:
        self.deferreds[number].addBoth(self.callback_of(act, number))

    def do_addCallbacks(self, number: int, one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
        self.deferreds[number].addCallbacks(self.callback_of(one, number), self.callback_of(other, number))

    def do_callback(self, number: int, value: int) -> None:
        self.deferreds[number].callback(value)

    def do_errback(self, number: int, value: int) -> None:
        self.deferreds[number].errback(Oops(value))

    def do_failed(self, number: int, value: int) -> None:
        self.deferreds[number].callback(self.Failure(Oops(value)))

    def do_pause(self, number: int) -> None:
        self.pauses[number] += 1
        self.deferreds[number].pause()

    def do_unpause(self, number: int) -> None:
        if self.pauses[number]:
            self.pauses[number] -= 1
            self.deferreds[number].unpause()

    def do_cancel(self, number: int) -> None:
        self.deferreds[number].cancel()

    def do_chainDeferred(self, number: int, other: int) -> None:
        if number != other:
            self.deferreds[number].chainDeferred(self.deferreds[other])

    def do_addTimeout(self, number: int, seconds: int, custom: bool) -> None:
        def late(result: Any, timeout: float) -> str:
            self.trace.append(("late", number, self.shown(result), timeout))
            return "late"

        self.deferreds[number].addTimeout(seconds, self.clock, late if custom else None)

    def do_advance(self, seconds: int) -> None:
        self.clock.advance(seconds)

    def do_list(self, of: list[int], one: bool, error: bool, consume: bool) -> None:
        self.follow("list", self.defer.DeferredList([self.deferreds[number] for number in of], one, error, consume))

    def do_gather(self, of: list[int], consume: bool) -> None:
        self.follow("gather", self.defer.gatherResults([self.deferreds[number] for number in of], consume))

    def do_race(self, of: list[int]) -> None:
        self.follow("race", self.defer.race([self.deferreds[number] for number in of]))

    def do_coroutine(self, of: list[int], catch: bool) -> None:
        async def wait() -> Any:
            result = None
            for number in of:
                try:
                    result = await self.deferreds[number]
                except Exception as error:
                    self.trace.append(("caught", type(error).__name__))
                    if not catch:
                        raise
                self.trace.append(("awaited", number, self.shown(result)))
            return result

        self.follow("coroutine", self.defer.ensureDeferred(wait()))

    def do_generator(self, of: list[int], catch: bool) -> None:
        def wait() -> Generator[Any, Any, Any]:
            result = None
            for number in of:
                try:
                    result = yield self.deferreds[number]
                except Exception as error:
                    self.trace.append(("caught", type(error).__name__))
                    if not catch:
                        raise
                self.trace.append(("yielded", number, self.shown(result)))
            return result

        self.follow("generator", self.defer.inlineCallbacks(wait)())

    def do_cancelLast(self) -> None:
        if self.last is not None:
            self.last.cancel()

    def follow(self, name: str, deferred: Any) -> None:
        """Tell what comes of what is made of several."""
        self.last = deferred
        deferred.addBoth(lambda result: self.trace.append((name, self.shown(result))))
