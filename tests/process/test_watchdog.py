"""The watchdog by itself: what it hears, and what it leaves as it was. Real processes are in tests/cli."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import pytest

from plait.process.signals import HEARD, Interrupted, Watchdog


async def test_a_wake_up_descriptor_set_later_is_taken_back() -> None:
    """Who sets the descriptor after us (asyncio does, for add_signal_handler) hears on, and so do we, once each."""
    loop = asyncio.get_running_loop()
    heard: asyncio.Queue[signal.Signals] = asyncio.Queue()
    theirs, read = socket.socketpair()
    theirs.setblocking(False)
    read.settimeout(5)
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    watchdog = Watchdog()
    try:
        watchdog.attach(heard.put_nowait)
        signal.set_wakeup_fd(theirs.fileno())
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGUSR2)
            assert await asyncio.wait_for(heard.get(), 5) is signal.SIGUSR2
            assert await loop.run_in_executor(None, read.recv, 16)
        assert heard.empty()
    finally:
        watchdog.detach()
        watchdog.close()
        signal.set_wakeup_fd(before)
        theirs.close()
        read.close()


async def test_signals_before_the_loop_wait_for_it() -> None:
    """What comes before `attach` is delivered after it, in order."""
    watchdog = Watchdog()
    try:
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGHUP)
        while len(watchdog._pending) < 2:
            await asyncio.sleep(0.01)
        heard: asyncio.Queue[signal.Signals] = asyncio.Queue()
        watchdog.attach(heard.put_nowait)
        assert {await heard.get(), await heard.get()} == {signal.SIGUSR2, signal.SIGHUP}
        watchdog.detach()
    finally:
        watchdog.close()


def test_an_interruptible_part_is_interrupted() -> None:
    """TERM within `interruptible` raises in the main thread; a second part that follows is not entered."""
    watchdog = Watchdog()
    entered = False
    try:
        with pytest.raises(Interrupted), watchdog.interruptible():
            signal.raise_signal(signal.SIGTERM)
        while watchdog.stop_asked is None:
            pass
        with pytest.raises(Interrupted), watchdog.interruptible():
            entered = True
        assert not entered
    finally:
        watchdog.close()


def test_close_puts_everything_back() -> None:
    """Handlers and the wake-up descriptor are as they were, twice over."""
    before = {one: signal.getsignal(one) for one in HEARD}
    for _ in range(2):
        Watchdog().close()
        assert {one: signal.getsignal(one) for one in HEARD} == before
        assert signal.set_wakeup_fd(-1) == -1
