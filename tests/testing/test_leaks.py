"""The leak check: it finds each kind of thing, names it, lets go by what ends in time, and is cheap."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from plait.errors import Leaked
from plait.testing import no_leaks, run
from plait.testing.holdings import Holdings

Leak = Callable[[contextlib.ExitStack], Any]
"""Leaves something behind; what ends it again goes on the stack."""


def leak_task(stack: contextlib.ExitStack) -> str:
    task = asyncio.create_task(asyncio.Event().wait(), name="lost")
    stack.callback(task.cancel)
    return r"task 'lost' at .*locks\.py:\d+ \(Event\.wait\)"


def leak_timer(stack: contextlib.ExitStack) -> str:
    stack.callback(asyncio.get_running_loop().call_later(3600, print).cancel)
    return "timer <TimerHandle .*print"


def leak_thread(stack: contextlib.ExitStack) -> str:
    release = threading.Event()

    def waits_here() -> None:
        release.wait(5)

    thread = threading.Thread(target=waits_here, name="lost")
    thread.start()
    stack.callback(thread.join)
    stack.callback(release.set)
    return rf"thread 'lost' at {__file__}:\d+ \(leak_thread\.<locals>\.waits_here\)"


def leak_pool(stack: contextlib.ExitStack) -> str:
    pool = ThreadPoolExecutor(1, thread_name_prefix="idle")
    pool.submit(int).result()
    stack.callback(pool.shutdown)
    return "thread 'idle_0'"


def leak_work_in_the_loops_pool(stack: contextlib.ExitStack) -> str:
    release = threading.Event()

    def works_here() -> None:
        release.wait(5)

    asyncio.get_running_loop().run_in_executor(None, works_here)
    stack.callback(release.set)
    return r"thread '\w+_\d' at .*works_here"


def leak_file(stack: contextlib.ExitStack) -> str:
    stack.enter_context(open(__file__))  # noqa: SIM115
    return rf"descriptor \d+: {__file__}"


def leak_pipe(stack: contextlib.ExitStack) -> str:
    for end in os.pipe():
        stack.callback(os.close, end)
    return r"descriptor \d+: pipe:\[\d+\]"


def leak_listener(stack: contextlib.ExitStack) -> str:
    sock = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    return rf"descriptor \d+: socket tcp 127\.0\.0\.1:{sock.getsockname()[1]}, listening"


def leak_udp(stack: contextlib.ExitStack) -> str:
    sock = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
    sock.bind(("127.0.0.1", 0))
    return rf"descriptor \d+: socket udp 127\.0\.0\.1:{sock.getsockname()[1]}"


def leak_pair(stack: contextlib.ExitStack) -> str:
    for sock in socket.socketpair():
        stack.enter_context(sock)
    return "socket unix without a name, connected to without a name"


def leak_child(stack: contextlib.ExitStack) -> str:
    child = subprocess.Popen(["sleep", "61"])
    stack.callback(child.wait)
    stack.callback(child.kill)
    return f"child process {child.pid}: sleep 61"


def leak_zombie(stack: contextlib.ExitStack) -> str:
    child = subprocess.Popen(["true"])
    stack.callback(child.wait)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    return f"child process {child.pid}: ended, and nobody waited for it"


OF_LOOP: list[Leak] = [leak_task, leak_timer, leak_work_in_the_loops_pool]
OF_SYSTEM: list[Leak] = [
    leak_thread, leak_pool, leak_file, leak_pipe, leak_listener, leak_udp, leak_pair, leak_child, leak_zombie,
]  # fmt: skip


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left on purpose is not waited for long."""
    monkeypatch.setattr("plait.testing.leaks.LINGER", 0.2)


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("leak", OF_LOOP + OF_SYSTEM, ids=lambda leak: leak.__name__)
async def test_each_kind_is_found_and_named(leak: Leak, stack: contextlib.ExitStack) -> None:
    """On asyncio's loop and on uvloop; and what was there before is not."""
    leak(stack)
    with pytest.raises(Leaked) as caught:
        async with no_leaks():
            expected = leak(stack)
    assert re.search(expected, str(caught.value)), caught.value
    stack.close()
    await asyncio.sleep(0)


@pytest.mark.parametrize("leak", OF_SYSTEM, ids=lambda leak: leak.__name__)
def test_each_kind_is_found_without_a_loop(leak: Leak, stack: contextlib.ExitStack) -> None:
    """With `with`."""
    with pytest.raises(Leaked) as caught, no_leaks():
        expected = leak(stack)
    assert re.search(expected, str(caught.value)), caught.value


@pytest.mark.skipif(shutil.which("pgrep") is None, reason="there is no pgrep")
@pytest.mark.parametrize("leak", [leak_child, leak_zombie, leak_listener, leak_udp], ids=lambda leak: leak.__name__)
def test_where_there_is_no_proc(leak: Leak, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: children are found by pgrep, descriptors told apart by what fstat says."""
    monkeypatch.setattr("plait.testing.holdings._LINUX", False)
    with no_leaks():
        pass
    with pytest.raises(Leaked) as caught, no_leaks():
        expected = leak(stack)
    assert re.search(expected if leak is not leak_zombie else "child process", str(caught.value)), caught.value
    assert len(caught.value.left) == 1


async def test_a_body_that_cleans_up_leaves_nothing() -> None:
    """A server, clients, threads, a child process, timers, signals: all that a loop can do, given back in the body."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    loop = asyncio.get_running_loop()
    earlier = loop.call_later(1000, int)
    async with no_leaks():
        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b"hello"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        await asyncio.to_thread(time.sleep, 0.001)
        await loop.getaddrinfo("localhost", 80)
        child = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert (await child.communicate(b"out"))[0] == b"out"
        async with asyncio.timeout(3600):
            await asyncio.sleep(0.001)
        loop.add_signal_handler(signal.SIGUSR1, int)
        loop.remove_signal_handler(signal.SIGUSR1)
        loop.call_later(3600, int).cancel()
    earlier.cancel()


async def test_what_is_ending_is_given_the_time() -> None:
    """A cancelled task has some turns of the loop, a thread and a child process a moment of the machine's clock."""

    async def two_turns() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async with no_leaks():
        task = asyncio.create_task(two_turns())
        await asyncio.sleep(0)
        task.cancel()
        threading.Thread(target=time.sleep, args=(0.05,)).start()
    assert task.done()


async def test_a_task_is_not_waited_for() -> None:
    """One that would end by itself in a while has been left behind all the same, and the check says so at once."""
    tasks = []
    with pytest.raises(Leaked, match="task"):
        async with no_leaks():
            tasks.append(asyncio.create_task(asyncio.sleep(0.2)))
    assert not tasks[0].done()
    await tasks[0]


async def test_work_in_a_thread_that_was_there_before() -> None:
    """The loop's thread is no leak while it is idle; what a body left it to do is."""
    release = threading.Event()
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, int)
    async with no_leaks():
        await loop.run_in_executor(None, int)
    with pytest.raises(Leaked, match="thread"):
        async with no_leaks():
            work = loop.run_in_executor(None, release.wait, 5)
    release.set()
    await work


async def test_a_body_that_raised_keeps_its_exception() -> None:
    """What it left is a note."""

    async def body(stack: contextlib.ExitStack) -> None:
        async with no_leaks():
            leak_task(stack)
            raise ZeroDivisionError

    with contextlib.ExitStack() as stack:
        with pytest.raises(ZeroDivisionError) as caught:
            await body(stack)
        assert "left behind: task 'lost' at" in caught.value.__notes__[0]


async def test_what_is_to_be_ignored_is() -> None:
    """By a text in its name; anything else is told."""

    async def body(stack: contextlib.ExitStack, *ignore: str) -> None:
        async with no_leaks(ignore=ignore):
            leak_task(stack)
            leak_timer(stack)

    with contextlib.ExitStack() as stack:
        await body(stack, "'lost'", "TimerHandle")
        with pytest.raises(Leaked) as caught:
            await body(stack, "TimerHandle")
        assert len(caught.value.left) == 1


def test_on_a_virtual_clock() -> None:
    """A thread that is ending is waited for in real time; a timer that is set is a leak."""

    async def ends() -> None:
        async with no_leaks():
            threading.Thread(target=time.sleep, args=(0.05,)).start()

    async def stays() -> None:
        async with no_leaks():
            asyncio.get_running_loop().call_later(1, int)

    run(ends())
    with pytest.raises(Leaked, match=r"timer <TimerHandle when=1\.0 int"):
        run(stays())


async def test_a_check_is_cheap(tmp_path: Path) -> None:
    """Two looks cost less than a hundredth of a second, with a hundred tasks and two hundred descriptors there."""
    files = [open(tmp_path / str(number), "w") for number in range(200)]  # noqa: SIM115
    tasks = [asyncio.create_task(asyncio.Event().wait()) for _ in range(100)]
    await asyncio.sleep(0)
    best = 1.0
    for _ in range(5):
        begin = time.perf_counter()
        async with no_leaks():
            pass
        best = min(best, time.perf_counter() - begin)
    for file in files:
        file.close()
    for task in tasks:
        task.cancel()
    assert best < 0.01


def test_multiprocessings_own_process_does_not_count() -> None:
    """Its resource tracker lives as long as the program, on purpose."""
    code = (
        "from multiprocessing import shared_memory\n"
        "from plait.testing import no_leaks\n"
        "with no_leaks(ignore=['descriptor']):\n"
        "    memory = shared_memory.SharedMemory(create=True, size=16)\n"
        "    memory.close()\n"
        "    memory.unlink()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


async def test_a_look_names_nothing_that_is_still_there() -> None:
    """Two looks in a row differ by nothing."""
    loop = asyncio.get_running_loop()
    assert Holdings(loop).since(Holdings(loop)) == ([], [])
