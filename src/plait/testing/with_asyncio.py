"""How the pytest plugin gets along with pytest-asyncio, where that is at work.

Rules: pytest-asyncio runs the test and its async fixtures, on the loop it is told to make. Who makes it is asked of
hooks, and once a hook answers for one test it must for all, so the one here is registered only while a marked test is
collected. The mark `virtual_clock` is enough: it brings `asyncio` along, with a loop for the one test.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

LOOPS: pytest.StashKey[list[Any]] = pytest.StashKey()
"""The virtual loops of the present test."""
UNHEARD = "the loop's exception handler was told of what nobody else heard"
SCOPES = ("function", "class", "module", "package", "session")


class _Factory:
    """Answers pytest-asyncio for one marked test."""

    def __init__(self, config: pytest.Config, marker: pytest.Mark) -> None:
        self._make = partial(_make_loop, config, marker.kwargs)

    @pytest.hookimpl(tryfirst=True)
    def pytest_asyncio_loop_factories(self) -> dict[str, Callable[[], Any]]:
        return {"virtual_clock": self._make}


def _make_loop(config: pytest.Config, options: Mapping[str, Any]) -> Any:
    from plait.testing import VirtualLoop

    loop = VirtualLoop(**options)
    config.stash.setdefault(LOOPS, []).append(loop)
    return loop


# -- collecting ------------------------------------------------------------------------------------------------------


def _coroutine_of(obj: object) -> Any:
    """The coroutine function of a test, be it a method or what hypothesis made of it; None if it has none."""
    inner = getattr(getattr(obj, "hypothesis", None), "inner_test", obj)
    return getattr(obj, "__func__", obj) if inspect.iscoroutinefunction(inner) else None


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, obj: object) -> None:
    """Mark with `asyncio` what is marked with `virtual_clock`."""
    function = _coroutine_of(obj)
    if function is not None and _has(collector, function, "virtual_clock") and not _has(collector, function, "asyncio"):
        pytest.mark.asyncio(loop_scope="function")(function)


def _has(collector: pytest.Collector, function: Any, name: str) -> bool:
    marks = getattr(function, "pytestmark", [])
    return any(mark.name == name for mark in marks) or collector.get_closest_marker(name) is not None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None, Any, Any]:
    """While a marked test is collected, say who makes its loop."""
    marker = metafunc.definition.get_closest_marker("virtual_clock")
    if marker is None or _coroutine_of(metafunc.function) is None:
        return (yield)
    factory = _Factory(metafunc.config, marker)
    metafunc.config.pluginmanager.register(factory)
    try:
        return (yield)
    finally:
        metafunc.config.pluginmanager.unregister(factory)


# -- running ---------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """What reached the exception handler of its loop fails a test."""
    return (yield from _heard(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    """So it does while its fixtures are taken down."""
    try:
        return (yield from _heard(item))
    finally:
        item.config.stash.get(LOOPS, []).clear()


def _heard(item: pytest.Item) -> Generator[None, Any, Any]:
    loops = item.config.stash.get(LOOPS, [])
    try:
        result = yield
    except BaseException as error:
        for failure in _failures(loops):
            error.add_note(f"and in the loop: {failure!r}")
        raise
    if failures := _failures(loops):
        raise ExceptionGroup(UNHEARD, failures)
    return result


def _failures(loops: list[Any]) -> list[Exception]:
    if not loops:
        return []
    from plait.testing.runs import failures_of

    return [failure for loop in loops for failure in failures_of(loop)]


# -- looking for leaks -----------------------------------------------------------------------------------------------


def watch_of(item: pytest.Item) -> str | None:
    """The fixture that looks from inside the loop that a test runs on; None for a test that has none."""
    marker = item.get_closest_marker("asyncio")
    if marker is None or _coroutine_of(getattr(item, "obj", None)) is None:
        return None
    scope = marker.kwargs.get("loop_scope") or item.config.getini("asyncio_default_test_loop_scope")
    return f"_plait_no_leaks_{scope}"


def _watch(scope: str) -> Any:
    @pytest_asyncio.fixture(name=f"_plait_no_leaks_{scope}", loop_scope=scope)  # type: ignore[call-overload, untyped-decorator]
    async def watch() -> AsyncIterator[None]:
        from plait.testing.leaks import no_leaks

        async with no_leaks():
            yield

    return watch


for _scope in SCOPES:
    globals()[f"_plait_no_leaks_{_scope}"] = _watch(_scope)
