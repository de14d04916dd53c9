"""Nothing is left: every test ends with no task but its own, and no more descriptors open than before."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import AsyncIterator

import pytest


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """Tasks and sockets; a few turns of the loop are given to what is being closed."""
    gc.collect()
    before = sockets()
    yield
    for _ in range(5):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks left behind: {left}"
    gc.collect()
    assert sockets() - before == set()


def sockets() -> set[str]:
    """The open ones, but for those by which a loop hears of signals and threads, which it makes when it likes."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            sock = socket.socket(fileno=int(name))
            if sock.family != socket.AF_UNIX or sock.getsockname():
                found.add(f"{name} {sock.getsockname()}")
            sock.detach()
    return found
