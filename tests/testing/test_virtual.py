"""The virtual clock: exact, fast, and still for what is not virtual."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from plait import Application, Cron
from plait.errors import Deadlock
from plait.testing import VirtualLoop, advance, run, settle


def virtual() -> VirtualLoop:
    """The running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def in_a_thread(seconds: float = 0.1) -> str:
    """Takes that many seconds of the machine's clock."""
    time.sleep(seconds)
    return "done"


# -- time ------------------------------------------------------------------------------------------------------------


def test_a_year_takes_no_time_and_the_moments_are_exact() -> None:
    """A sleeper wakes at the very moment, after tenths of a second or decades; a century takes less than a second."""

    async def main() -> list[float]:
        times = []
        for seconds in (0.1, 59.9, 86_400.0, 1e7, 2.5e7, 3e9):
            due = virtual().time() + seconds
            await asyncio.sleep(seconds)
            times.append(virtual().time() - due)
        return times

    begin = time.perf_counter()
    assert run(main()) == [0.0] * 6
    assert time.perf_counter() - begin < 1


def test_timers_go_off_in_order() -> None:
    """Each at its own moment, also those that are a nanosecond apart or set for the past."""

    async def main() -> list[tuple[str, float]]:
        log: list[tuple[str, float]] = []
        for name, when in (("c", 3.0), ("a", 1.0), ("b", 1.0 + 2e-9), ("now", -5.0)):
            virtual().call_at(when, lambda name=name: log.append((name, virtual().time())))  # type: ignore[misc]
        await asyncio.sleep(4)
        return log

    assert run(main()) == [("now", 0.0), ("a", 1.0), ("b", 1.0 + 2e-9), ("c", 3.0)]


def test_a_cancelled_timer_does_not_move_the_clock() -> None:
    """The clock jumps to what is due, not to what was."""

    async def main() -> float:
        virtual().call_later(50, print).cancel()
        await asyncio.sleep(100)
        return virtual().time()

    assert run(main()) == 100


def test_the_wall_clock_begins_where_it_is_told() -> None:
    """`start` is a date, in UTC if it has no zone; without one it is the beginning of 2000, whatever day it is."""

    async def main() -> datetime:
        await asyncio.sleep(3600)
        return datetime.fromtimestamp(virtual().wall_time(), UTC)

    assert run(main()) == datetime(2000, 1, 1, 1, tzinfo=UTC)
    for start in (datetime(2026, 3, 29, 0, 30), datetime(2026, 3, 29, 0, 30, tzinfo=UTC)):
        assert run(main(), start=start) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    berlin = datetime(2026, 3, 29, 1, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    assert run(main(), start=berlin) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


# -- settle and advance ----------------------------------------------------------------------------------------------


def test_settle_returns_when_all_else_waits_and_no_time_has_passed() -> None:
    """However many turns of the loop the others need; a timer that is set does not go off."""

    async def main() -> tuple[list[int], float]:
        done: list[int] = []

        async def work() -> None:
            for number in range(100):
                await asyncio.sleep(0)
                done.append(number)
            await asyncio.sleep(1)
            done.append(-1)

        task = asyncio.create_task(work())
        await settle()
        result = list(done), virtual().time()
        await task
        return result

    assert run(main()) == (list(range(100)), 0.0)


def test_settle_waits_for_threads() -> None:
    """What a thread of run_in_executor will bring is part of what can be done now."""

    async def main() -> bool:
        task = asyncio.create_task(asyncio.to_thread(in_a_thread))
        await settle()
        return task.done()

    assert run(main()) is True


def test_advance_does_all_that_is_due_by_then() -> None:
    """Also what comes at the very moment, with all that follows from it without time passing; and nothing later."""

    async def main() -> tuple[list[float], float]:
        ticks: list[float] = []

        async def tick() -> None:
            while True:
                await asyncio.sleep(1)
                for _ in range(10):
                    await asyncio.sleep(0)
                ticks.append(virtual().time())

        task = asyncio.create_task(tick())
        await advance(3)
        result = list(ticks), virtual().time()
        task.cancel()
        return result

    assert run(main()) == ([1.0, 2.0, 3.0], 3.0)


async def test_a_real_clock_cannot_be_advanced() -> None:
    """On asyncio's loop and on uvloop the error says how to get a virtual one."""
    for call in (settle(), advance(1)):
        with pytest.raises(RuntimeError, match=r"needs a virtual clock.*plait\.testing\.run"):
            await call


# -- what is not virtual ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", [None, ThreadPoolExecutor], ids=["default", "own"])
def test_the_clock_stands_still_while_a_thread_works(executor: Any) -> None:
    """A timeout of a millisecond does not cut off a function that takes a hundred, nor does time pass."""

    async def main() -> tuple[str, float]:
        pool = executor(1) if executor else None
        try:
            async with asyncio.timeout(0.001):
                result = await virtual().run_in_executor(pool, in_a_thread)
        finally:
            if pool is not None:
                pool.shutdown()
        return result, virtual().time()

    assert run(main()) == ("done", 0.0)


def test_a_thread_whose_caller_was_cancelled_still_holds_the_clock() -> None:
    """Cancelling the caller ends no thread: the clock goes on when the function has returned."""
    ended: list[bool] = []

    def work() -> None:
        time.sleep(0.1)
        ended.append(True)

    async def main() -> None:
        task = asyncio.create_task(asyncio.to_thread(work))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(10)
        assert ended

    run(main())


def test_a_thread_that_waits_for_the_clock_does_not_stop_it(caplog: pytest.LogCaptureFixture) -> None:
    """Silent for `patience` real seconds it holds the clock no longer; the log says so, and names the function."""
    release = threading.Event()

    async def main() -> float:
        waiting = virtual().run_in_executor(None, release.wait, 20)
        virtual().call_later(100, release.set)
        assert await waiting
        return virtual().time()

    with caplog.at_level(logging.WARNING):
        assert run(main(), patience=0.05) == 100
    assert "goes on without Event.wait in a thread, silent for 0.05 s" in caplog.text


def test_the_clock_stands_still_while_the_loops_threads_end() -> None:
    """From Python 3.12 on that has a timeout of its own, which would be over at once."""

    async def main() -> float:
        pool = ThreadPoolExecutor()
        virtual().set_default_executor(pool)
        pool.submit(time.sleep, 0.1)
        timer = virtual().call_later(1, int)
        await virtual().shutdown_default_executor()
        timer.cancel()
        return virtual().time()

    assert run(main()) == 0.0


def test_the_clock_stands_still_while_a_child_process_runs() -> None:
    """Its output and its exit code come before a timeout of a millisecond; so does what a shell does."""

    async def main() -> tuple[bytes, int | None, float]:
        async with asyncio.timeout(0.001):
            child = await asyncio.create_subprocess_exec("sh", "-c", "sleep 0.1; echo out; exit 3", stdout=-1)
            out, _ = await child.communicate()
            shell = await asyncio.create_subprocess_shell("sleep 0.1; exit 4")
            code = await shell.wait()
        ended = virtual().time()
        await asyncio.sleep(1000)
        return out, child.returncode, ended + code

    begin = time.perf_counter()
    assert run(main()) == (b"out\n", 3, 4.0)
    assert time.perf_counter() - begin < 4  # once they have ended they hold the clock no longer: not for `patience`


def test_a_silent_child_process_holds_the_clock_no_longer_than_patience() -> None:
    """A server that runs beside the test, say; it is left to its own after that."""

    async def main() -> float:
        child = await asyncio.create_subprocess_exec("sleep", "60")
        for _ in range(50):
            await asyncio.sleep(10)
        child.kill()
        await child.wait()
        return virtual().time()

    begin = time.perf_counter()
    assert run(main(), patience=0.2) == 500
    assert time.perf_counter() - begin < 5


def test_sockets_are_served_before_the_clock_moves() -> None:
    """A thousand round trips over TCP, with a timer due all the time, take no virtual time."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    async def main() -> float:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        async with asyncio.timeout(0.001):
            for _ in range(1000):
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()
        return virtual().time()

    assert run(main()) == 0.0


def test_hold_waits_for_what_only_the_test_knows_of() -> None:
    """A thread of the test's own, or another program: in `hold` the clock waits for it, however long it takes."""

    async def main(holds: bool) -> bool:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        thread = threading.Thread(target=lambda: (time.sleep(0.1), theirs.send(b"x")))
        thread.start()
        try:
            async with asyncio.timeout(0.001):
                if holds:
                    with virtual().hold("the thread"):
                        await virtual().sock_recv(ours, 1)
                else:
                    await virtual().sock_recv(ours, 1)
            return True
        except TimeoutError:
            return False
        finally:
            thread.join()
            ours.close()
            theirs.close()

    assert run(main(True), patience=0.01) is True
    assert run(main(False)) is False


def test_signals_are_heard() -> None:
    """One that this process sends itself comes before any timer."""

    async def main() -> float:
        heard = asyncio.Event()
        virtual().add_signal_handler(signal.SIGUSR1, heard.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        async with asyncio.timeout(1):
            await heard.wait()
        virtual().remove_signal_handler(signal.SIGUSR1)
        return virtual().time()

    assert run(main()) == 0.0


# -- the end ---------------------------------------------------------------------------------------------------------


def test_a_deadlock_names_every_task_and_its_line() -> None:
    """And is raised at once, where nothing outside the loop could end it."""

    async def waits_for_ever() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.sleep(7)
        first = asyncio.create_task(waits_for_ever(), name="first")
        second = asyncio.create_task(waits_for_ever(), name="second")
        await asyncio.gather(first, second)

    with pytest.raises(Deadlock) as caught:
        run(main())
    text = str(caught.value)
    line = waits_for_ever.__code__.co_firstlineno + 1
    assert text.startswith("deadlock at 7 s of the virtual clock")
    assert f"task 'first' at {__file__}:{line} (" in text
    assert f"task 'second' at {__file__}:{line} (" in text
    assert "task 'main' at" in text


def test_a_deadlock_with_sockets_is_found_after_patience() -> None:
    """Somebody might still come, so it waits really; then it says so."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours, theirs:
            await virtual().sock_recv(ours, 1)

    with pytest.raises(Deadlock, match="main"):
        run(main(), patience=0.05)


def test_a_deadlock_names_the_thread_that_everything_waits_for() -> None:
    """One that will never return, say."""
    release = threading.Event()

    async def main() -> None:
        try:
            await virtual().run_in_executor(None, release.wait, 20)
        finally:
            release.set()

    with pytest.raises(Deadlock, match=r"Event\.wait in a thread, silent for 0\.05 s"):
        run(main(), patience=0.05)


# -- run -------------------------------------------------------------------------------------------------------------


def test_run_raises_what_main_raises_and_returns_what_it_returns() -> None:
    """As asyncio.run does."""

    async def fail() -> None:
        raise ZeroDivisionError("as told")

    async def succeed() -> int:
        return 7

    assert run(succeed()) == 7
    with pytest.raises(ZeroDivisionError, match="as told"):
        run(fail())


def test_run_raises_what_reached_the_exception_handler() -> None:
    """A callback that failed, and a task whose failure nobody asked for: both, with what is known of them."""

    def callback() -> None:
        raise ValueError("in a callback")

    async def task() -> None:
        raise KeyError("in a task")

    async def main() -> None:
        virtual().call_soon(callback)
        asyncio.create_task(task(), name="lost")  # noqa: RUF006
        await asyncio.sleep(1)

    with pytest.raises(ExceptionGroup) as caught:
        run(main())
    first, second = caught.value.exceptions
    assert isinstance(first, ValueError)
    assert "Exception in callback" in first.__notes__[0]
    assert isinstance(second, KeyError)
    assert "lost" in second.__notes__[0]


def test_what_main_raises_goes_first_and_has_the_others_as_notes() -> None:
    """So a test that expects an error still gets it."""

    async def main() -> None:
        virtual().call_soon(lambda: [].pop())
        await asyncio.sleep(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        run(main())
    assert caught.value.__notes__ == ["and in the loop: IndexError('pop from empty list')"]


def test_run_ends_what_is_left() -> None:
    """Tasks are cancelled and awaited, async generators closed, threads joined, descriptors closed."""
    ended: list[str] = []

    async def stray() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(5)
            ended.append("task")

    async def numbers() -> Any:
        try:
            yield 1
        finally:
            await asyncio.sleep(5)
            ended.append("generator")

    async def main() -> None:
        main.task = asyncio.create_task(stray())  # type: ignore[attr-defined]
        main.generator = numbers()  # type: ignore[attr-defined]
        await anext(main.generator)  # type: ignore[attr-defined]
        await asyncio.to_thread(int)

    threads, files = threading.enumerate(), os.listdir("/proc/self/fd")
    run(main())
    assert ended == ["task", "generator"]
    assert threading.enumerate() == threads
    assert os.listdir("/proc/self/fd") == files


def test_run_names_what_would_not_end() -> None:
    """A task that swallows its cancellation does not hang the test: it fails it, by name and line."""

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                pass

    async def main() -> None:
        main.task = asyncio.create_task(stubborn(), name="stubborn")  # type: ignore[attr-defined]
        await asyncio.sleep(1)

    with pytest.raises(ExceptionGroup) as caught:
        run(main())
    assert "task 'stubborn' at " in str(caught.value.exceptions[0])
    assert "did not end" in str(caught.value.exceptions[0])
    task: Any = main.task  # type: ignore[attr-defined]
    task._log_destroy_pending = False


def test_run_names_an_async_generator_that_would_not_end() -> None:
    """As it does a task."""

    async def numbers() -> Any:
        try:
            yield 1
        finally:
            await asyncio.sleep(1000)

    async def main() -> None:
        main.generator = numbers()  # type: ignore[attr-defined]
        await anext(main.generator)  # type: ignore[attr-defined]

    with pytest.raises(ExceptionGroup) as caught:
        run(main())
    assert str(caught.value.exceptions[0]) == "an async generator was cancelled, and did not end"


async def test_run_in_a_running_loop_is_refused() -> None:
    """With the cure; and no coroutine is left that was never awaited."""

    async def main() -> None: ...

    with pytest.raises(RuntimeError, match="await it instead"):
        run(main())


# -- Plait's own timers ----------------------------------------------------------------------------------------------


def test_cron_goes_by_the_virtual_clock() -> None:
    """A week of nights with the change to summer time takes no time; each call comes at its minute."""
    calls: list[str] = []

    async def main() -> None:
        app = Application("nightly")
        zone = ZoneInfo("Europe/Berlin")
        app.add(
            Cron(
                "30 2 * * *",
                lambda: calls.append(f"{datetime.fromtimestamp(virtual().wall_time(), zone):%d %H:%M}"),
                tz=zone,
            ),
            name="cron",
        )
        async with app:
            await advance(7 * 86_400)

    begin = time.perf_counter()
    run(main(), start=datetime(2026, 3, 26, tzinfo=ZoneInfo("Europe/Berlin")))
    assert time.perf_counter() - begin < 5
    assert calls == ["26 02:30", "27 02:30", "28 02:30", "29 03:00", "30 02:30", "31 02:30", "01 02:30"]
