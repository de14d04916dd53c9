"""`@service`: the short way to a service, a generator that yields once.

Rules: up to the yield is on_start, after it is on_stop, in one task, so `async with` around the yield works. What
is yielded is the service's `value`. The decorated function becomes a class: calling it makes one service.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar, Generic, ParamSpec, TypeVar

from plait._kernel.service import Service
from plait.errors import LifecycleError, ServiceError

P = ParamSpec("P")
T = TypeVar("T")


class GeneratorService(Service, Generic[T]):
    """A service written as an async generator; made by `@service`."""

    _function: ClassVar[Callable[..., AsyncIterator[Any]]]
    _generator: AsyncIterator[T] | None = None
    _value: T

    @property
    def value(self) -> T:
        """What the generator yielded. LifecycleError before it has started."""
        if self._generator is None:
            raise LifecycleError(f"{self._record.subject} has not started, so it has no value yet")
        return self._value

    async def on_start(self) -> None:
        """Run the generator up to its yield."""
        args, kwargs = self._record.arguments
        generator = type(self)._function(*args, **kwargs)
        try:
            self._value = await anext(generator)
        except StopAsyncIteration:
            raise ServiceError(f"{self._record.subject} ended before it yielded; it must yield once") from None
        self._generator = generator

    async def on_stop(self) -> None:
        """Run the generator to its end."""
        generator, self._generator = self._generator, None
        assert generator is not None
        try:
            await anext(generator)
        except StopAsyncIteration:
            return
        close = getattr(generator, "aclose", None)
        if close is not None:
            await close()
        raise ServiceError(f"{self._record.subject} yielded twice; what follows its yield must end it")


def service(function: Callable[P, AsyncIterator[T]]) -> Callable[P, GeneratorService[T]]:
    """Make a service of an async generator function that yields once; its parameters are the service's.

    TypeError if it is no async generator function.
    """
    if not inspect.isasyncgenfunction(function):
        raise TypeError(f"@service takes an `async def` that yields once, not {function!r}")
    signature = inspect.signature(function)

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        signature.bind(*args, **kwargs)  # a wrong call fails here, not at the start

    namespace: dict[str, Any] = {
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "__doc__": function.__doc__,
        "__init__": init,
        "__signature__": signature,
        "__annotations__": {},
        "__wrapped__": function,
        "_function": staticmethod(function),
    }
    return type(function.__name__, (GeneratorService,), namespace)
