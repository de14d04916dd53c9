"""The pytest plugin: plait.testing as fixtures, and coroutine tests on a virtual clock.

Rules: it costs next to nothing where it is not used: everything is imported when a test asks for it. A test marked
`virtual_clock` runs on a VirtualLoop of its own, with pytest-asyncio (in either mode, its fixtures included) or without
it; what reached the loop's exception handler fails the test.

Fixtures: `no_leaks`, `recorder`, `faults`, `running`. Markers: `virtual_clock`, `may_leak`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from plait.testing import Faults, Recorder

WITH_ASYNCIO = "plait with asyncio"
MARKERS = (
    "virtual_clock(start=None, patience=5.0): this coroutine test runs on a clock that jumps when everything waits; "
    "start is the datetime it begins with, patience how many real seconds a silent thread or child process holds it",
    "may_leak: this test leaves something behind on purpose, and the fixture no_leaks lets it",
)


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known; with pytest-asyncio at work, get along with it."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if _asks_for_loops(config):
        from plait.testing import with_asyncio

        config.pluginmanager.register(with_asyncio, WITH_ASYNCIO)


def _asks_for_loops(config: pytest.Config) -> bool:
    """Whether there is a pytest-asyncio that lets others make its loops, as it does from 1.4 on."""
    hook = getattr(config.hook, "pytest_asyncio_loop_factories", None)
    return hook is not None and hook.has_spec()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """An older pytest-asyncio makes its loops when it likes, so they are neither virtual nor can be looked into."""
    if config.pluginmanager.hasplugin("asyncio") and not _asks_for_loops(config):
        for item in items:
            ours = item.get_closest_marker("virtual_clock") or "no_leaks" in getattr(item, "fixturenames", ())
            if ours and item.get_closest_marker("asyncio"):
                raise pytest.UsageError(f"{item.nodeid}: virtual_clock and no_leaks need pytest-asyncio 1.4 or newer")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object | None:
    """Run a marked coroutine test; one that pytest-asyncio runs comes here as a plain function."""
    marker = pyfuncitem.get_closest_marker("virtual_clock")
    if marker is None or not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    from plait.testing import run

    run(_body(pyfuncitem), **marker.kwargs)
    return True


async def _body(item: pytest.Function) -> None:
    arguments = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
    if _is_checked(item) and "no_leaks" in item.fixturenames:
        from plait.testing.leaks import no_leaks

        async with no_leaks():
            await item.obj(**arguments)
    else:
        await item.obj(**arguments)


def _is_checked(item: pytest.Item) -> bool:
    return item.get_closest_marker("may_leak") is None


@pytest.fixture
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """The test, and what is set up after this, leaves no task, timer, thread, descriptor or child process behind.

    For every test: `usefixtures = ["no_leaks"]` in pytest's settings. One marked `may_leak` is let off.
    """
    if not _is_checked(request.node):
        yield
        return
    watch = _watch_of(request)
    if watch is not None:
        request.getfixturevalue(watch)
        yield
        return
    from plait.testing.leaks import no_leaks

    with no_leaks():
        yield


def _watch_of(request: pytest.FixtureRequest) -> str | None:
    """The fixture that looks from inside the loop, where pytest-asyncio runs the test."""
    plugin: Any = request.config.pluginmanager.get_plugin(WITH_ASYNCIO)
    name: str | None = plugin.watch_of(request.node) if plugin is not None else None
    return name


@pytest.fixture
def recorder() -> Recorder:
    """A Recorder: `app.subscribe(recorder)`, or `running(..., recorder=recorder)`."""
    from plait.testing import Recorder

    return Recorder()


@pytest.fixture
def faults() -> Iterator[Faults]:
    """Faults, restored at the end: `faults.join(app)`, or `running(..., faults=faults)`."""
    from plait.testing import Faults

    with Faults() as faults:
        yield faults


@pytest.fixture
def running() -> Any:
    """`plait.testing.running`: `async with running(make_app) as run:`."""
    from plait.testing import running

    return running
