"""What all tests share: every coroutine test runs on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import uvloop

uvloop.new_event_loop().close()  # the first of a process opens a pipe for signals and keeps it: no test's leak


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Asked by pytest-asyncio for each coroutine test."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
