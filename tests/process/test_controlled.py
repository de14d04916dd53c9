"""A runner's control socket where the runner is another program's: no signals, a loop of its caller's."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from plait import Application, Options, Runner, Service
from plait.control.client import find
from plait.control.folder import connected, places
from plait.control.frames import Frames, Hello, on_stream
from plait.control.messages import Note, Request, ToServer
from plait.errors import ApplicationFailed, CommandFailed
from plait.process.notify import became_ready
from running import Running as Process

STARTS: list[str] = []

SLOW = """
import asyncio
from plait import Service

class Slow(Service):
    async def on_stop(self):
        await asyncio.sleep(0.2)

def make_app():
    return Slow()
"""


class Part(Service):
    def __init__(self, word: str, gate: asyncio.Event) -> None:
        self.word = word
        self.gate = gate

    async def on_start(self) -> None:
        STARTS.append(self.word)
        if self.word == "waits":
            await self.gate.wait()

    async def on_stop(self) -> None:
        if self.word == "clings":
            raise ValueError("it clings")


class PartOptions(Options):
    word: str = "first"
    count: int = 1


class Running:
    """What a test has of a runner that serves."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.gate = asyncio.Event()
        self.folder = folder
        self.environ = environ
        self.runner = Runner(self.make, environ=environ, runtime_dir=folder)

    def make(self, options: PartOptions) -> Application:
        app = Application("edge")
        app.add(Part(options.word, self.gate), name="part", start_timeout=10)
        return app

    async def tell(self, command: str, on_note: Any = None, **arguments: Any) -> Any:
        """Give a command, as a command line does."""

        def use() -> Any:
            with find(self.folder, "edge") as client:
                client.greet()
                return client.call(command, arguments, timeout=10, on_note=on_note)

        return await asyncio.to_thread(use)


@asynccontextmanager
async def serving(folder: Path, word: str = "first") -> AsyncIterator[Running]:
    STARTS.clear()
    running = Running(folder, {"PART_WORD": word})
    task = asyncio.create_task(running.runner.serve())
    async with asyncio.timeout(20):
        while not STARTS or not list(folder.glob("*.sock")):
            await asyncio.sleep(0.005)
        try:
            yield running
        finally:
            running.gate.set()
            await running.runner.stop()
            try:
                await task
            except ApplicationFailed:
                assert running.environ["PART_WORD"] == "clings"


async def test_stop_is_answered_when_all_has_stopped(tmp_path: Path) -> None:
    """With what the process will exit with; the socket is gone, and serve() has returned."""
    async with serving(tmp_path) as running:
        notes: list[Note] = []
        assert await running.tell("stop", notes.append) == {"code": 0, "text": "", "left_behind": []}
        assert [note.within for note in notes] == [25.0]
        assert list(tmp_path.iterdir()) == []


def test_a_runner_that_had_a_loop_of_its_own_can_be_told_to_stop_on_another(tmp_path: Path) -> None:
    """What ended its first run is of no concern to the second."""
    running = Running(tmp_path, {})
    unsubscribe = running.runner.subscribe(
        lambda event: os.kill(os.getpid(), signal.SIGTERM) if became_ready(event) else None
    )
    assert running.runner.run() == 0
    unsubscribe()
    STARTS.clear()

    async def again() -> Any:
        running.runner.build()
        task = asyncio.create_task(running.runner.serve())
        while not STARTS:
            await asyncio.sleep(0.005)
        ended = await asyncio.wait_for(running.tell("stop"), 10)
        await task
        return ended

    assert asyncio.run(again())["code"] == 0


def test_two_who_say_stop_at_once_do_not_force_it(tmp_path: Path) -> None:
    """Not even where both are read before the watchdog has heard of the first: that would be a second signal."""
    cwd = tmp_path / "work"
    cwd.mkdir()
    (cwd / "app.py").write_text(SLOW)
    with Process("--runtime-dir", "run", "app.py", cwd=cwd) as process:
        process.expect("ready in")
        frames: Frames[Any] = Frames(ToServer)
        said = [Hello.ours(), *(Request(number, "stop") for number in range(1, 9))]
        with connected(places(cwd / "run")[0], 10) as sock:
            sock.sendall(b"".join(on_stream(frame) for message in said for frame in frames.pack(message)))
            assert process.wait() == 0, process.output
        assert process.output.count("says stop") == 1


async def test_stop_that_fails_is_answered_with_its_code(tmp_path: Path) -> None:
    """70, as the process exits with."""
    async with serving(tmp_path, "clings") as running:
        ended = await running.tell("stop")
        assert ended["code"] == 70
        assert ended["text"]


async def test_several_may_say_stop(tmp_path: Path) -> None:
    """It is one stop, and all are answered."""
    async with serving(tmp_path) as running:
        ended = await asyncio.gather(*(running.tell("stop") for _ in range(3)), return_exceptions=True)
        assert {"code": 0, "text": "", "left_behind": []} in ended


async def test_reload_says_what_was_done_and_what_it_waits_for(tmp_path: Path) -> None:
    """A reload during a reload waits for its end, and whoever asked is told so."""
    async with serving(tmp_path) as running:
        assert (await running.tell("reload"))["kind"] == "nothing"
        running.environ["PART_WORD"] = "waits"
        first = asyncio.create_task(running.tell("reload"))
        async with asyncio.timeout(10):
            while "waits" not in STARTS:
                await asyncio.sleep(0.005)
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        notes: list[str] = []

        def hear(note: Note) -> None:
            notes.append(note.text)
            loop.call_soon_threadsafe(told.set)

        second = asyncio.create_task(running.tell("reload", hear))
        await asyncio.wait_for(told.wait(), 10)
        assert not first.done()
        running.gate.set()
        assert (await first)["kind"] == "generation"
        assert (await second)["kind"] == "nothing"
        assert notes == ["waiting for the end of the reload under way"]


async def test_a_reload_during_the_start_waits_for_it(tmp_path: Path) -> None:
    """And says so; a stop does not wait."""
    async with serving(tmp_path, "waits") as running:
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        notes: list[str] = []

        def hear(note: Note) -> None:
            notes.append(note.text)
            loop.call_soon_threadsafe(told.set)

        reload = asyncio.create_task(running.tell("reload", hear))
        await asyncio.wait_for(told.wait(), 10)
        assert notes == ["waiting for the end of the start"]
        assert (await running.tell("stop"))["code"] == 0
        with pytest.raises(CommandFailed):
            await reload


async def test_a_reload_that_fails_tells_why_with_the_code_of_a_start_that_does(tmp_path: Path) -> None:
    """2 for options; a dry run says it the same way."""
    async with serving(tmp_path) as running:
        running.environ["PART_COUNT"] = "many"
        for dry_run in (False, True):
            with pytest.raises(CommandFailed, match=r"PART_COUNT.*expected an integer") as failed:
                await running.tell("reload", dry_run=dry_run)
            assert failed.value.code == 2


async def test_without_a_folder_there_is_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that a program or a test makes is found by nobody, unless it says where."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    app = Application("edge")
    app.add(Part("first", asyncio.Event()), name="part")
    runner = Runner(app)
    STARTS.clear()
    task = asyncio.create_task(runner.serve())
    async with asyncio.timeout(10):
        while not STARTS:
            await asyncio.sleep(0.005)
    assert list(tmp_path.iterdir()) == []
    await runner.stop()
    await task


async def test_a_socket_that_cannot_be_had_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The application runs all the same, and can be stopped."""
    folder = tmp_path / "file"
    folder.write_text("")
    running = Running(folder, {})
    STARTS.clear()
    task = asyncio.create_task(running.runner.serve())
    async with asyncio.timeout(10):
        while not STARTS:
            await asyncio.sleep(0.005)
    await running.runner.stop()
    await task
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith("no control socket: ")
