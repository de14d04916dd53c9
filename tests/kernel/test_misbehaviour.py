"""Services that do what none should, in real processes: the report names each, and the process ends in time.

The report is the log. Each is told to stop by a real SIGTERM, once by itself, and once after supervision has started it
again and again.
"""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from running import Running

APP = '''
import asyncio, time
from plait import Application, Service

class Db(Service):
    async def on_start(self): ...
    async def on_stop(self): self.log.info("db was closed")

class Deaf(Service):
    """Ignores its cancellation, for good."""
    async def run(self):
        self.log.info("deaf")
        while True:
            try:
                await asyncio.sleep(1000)  # deaf
            except asyncio.CancelledError:
                pass

class DeafAgain(Deaf):
    """And fails beside that."""
    async def on_start(self):
        self.spawn(self.fail())
    async def fail(self):
        await self.application.wait_ready()
        raise OSError("lost it")

class Blocks(Service):
    """Blocks the loop, in the middle of its work."""
    async def run(self):
        await self.application.wait_ready()
        self.log.info("blocking")
        time.sleep(1000)  # blocks

class BlocksAtItsEnd(Service):
    """Blocks the loop when it is cancelled."""
    async def run(self):
        try:
            await asyncio.Event().wait()
        finally:
            time.sleep(1000)  # blocks at its end

class BlocksAgain(Service):
    """Blocks the loop for a while, and then fails."""
    async def run(self):
        await self.application.wait_ready()
        self.log.info("blocking")
        time.sleep(0.2)
        raise OSError("timed out")

class CannotClose(Service):
    """Raises in on_stop."""
    async def on_start(self): ...
    async def on_stop(self): raise OSError("cannot close")

class CannotCloseAgain(CannotClose):
    """And fails before that."""
    async def run(self):
        await self.application.wait_ready()
        raise ValueError("no such row")

class Leaks(Service):
    """Leaves a task that nobody owns."""
    async def run(self):
        self.task = asyncio.create_task(self.poll())
        self.log.info("leaking")
        await asyncio.Event().wait()
    async def poll(self):
        while True:
            await asyncio.sleep(1000)  # leaked

class LeaksAgain(Leaks):
    """In each incarnation."""
    async def run(self):
        self.task = asyncio.create_task(self.poll())
        await self.application.wait_ready()
        raise OSError("lost it")

class Crashes(Service):
    async def run(self):
        await self.application.wait_ready()
        raise OSError(f"no disk for {self.name}")

class StopsTheLoop(Service):
    """As if it were its own."""
    async def run(self):
        asyncio.get_running_loop().stop()
        await asyncio.Event().wait()

class CancelsAll(Service):
    """Every task there is."""
    async def run(self):
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.Event().wait()

def of(cls, many=1, timeout=1, **policy):
    def make() -> Application:
        app = Application("app", shutdown_timeout=timeout)
        app.add(Db(), name="db")
        for number in range(many):
            app.add(cls(), name=f"it{number}" if many > 1 else "it", needs=["db"], **policy)
        return app
    return make

deaf, deaf_again = of(Deaf), of(DeafAgain, stop_timeout=0.1)
blocks, blocks_at_its_end, blocks_again = of(Blocks), of(BlocksAtItsEnd), of(BlocksAgain)
cannot_close, cannot_close_again = of(CannotClose), of(CannotCloseAgain)
leaks, leaks_again = of(Leaks), of(LeaksAgain)
crowd = of(Crashes, 1000, timeout=10)
stops_the_loop, cancels_all = of(StopsTheLoop), of(CancelsAll)
'''


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    folder = tmp_path / "cwd"
    folder.mkdir()
    (folder / "app.py").write_text(APP)
    return folder


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def place(comment: str, function: str) -> str:
    """How the line with this comment is named."""
    (line,) = [number for number, text in enumerate(APP.splitlines(), 1) if text.endswith(f"# {comment}")]
    return f"app.py:{line} ({function})"


def told(app: Running, level: str) -> list[str]:
    """The messages of one level."""
    return [record["message"] for record in app.records if record["level"] == level]


# -- told to stop by a signal ------------------------------------------------------------------------------------------


def test_one_that_ignores_its_cancellation(cwd: Path, loop: str) -> None:
    """It is left behind, named with the line it is at; the others have stopped in order, and the code is 70."""
    with Running("--loop", loop, "app.py:deaf", cwd=cwd) as app:
        app.expect("deaf")
        app.send(signal.SIGTERM)
        assert app.wait() == 70
    stuck, failed = told(app, "error")
    assert "it would not stop, and was left behind: its task at " in stuck
    assert place("deaf", "Deaf.run") in stuck
    assert "it failed: StopTimeout: service 'it' did not stop within " in failed
    assert "db was closed" in app.output
    assert told(app, "critical")[0].startswith("application 'app' failed: service 'it': StopTimeout: ")


def test_one_that_blocks_the_loop(cwd: Path, loop: str) -> None:
    """The watchdog names the line while it waits, and at the deadline shows every stack and ends the process."""
    with Running("--loop", loop, "app.py:blocks", cwd=cwd) as app:
        app.expect("blocking")
        app.send(signal.SIGTERM)
        assert app.wait() == 70
    (warning,) = told(app, "warning")
    assert "SIGTERM: the loop does not answer; it is at " in warning
    assert place("blocks", "run") in warning
    (last,) = told(app, "critical")
    assert "did not stop within 1 s; service 'db' is running, service 'it' is running" in last
    assert "time.sleep(1000)  # blocks" in last


def test_one_that_blocks_the_loop_when_it_is_to_stop(cwd: Path, loop: str) -> None:
    """The signal was answered, and then the loop was not: its service is the one that is stopping."""
    with Running("--loop", loop, "app.py:blocks_at_its_end", cwd=cwd) as app:
        app.expect("ready in")
        app.send(signal.SIGTERM)
        assert app.wait() == 70
    (last,) = told(app, "critical")
    assert "did not stop within 1 s; service 'db' is running, service 'it' is stopping" in last
    assert "time.sleep(1000)  # blocks at its end" in last


def test_one_that_raises_in_on_stop(cwd: Path, loop: str) -> None:
    """It has failed, with a traceback; the others have stopped, and the last line says whose error it was."""
    with Running("--loop", loop, "app.py:cannot_close", cwd=cwd) as app:
        app.expect("ready in")
        app.send(signal.SIGTERM)
        assert app.wait() == 70
    assert told(app, "error") == ["it failed: OSError: cannot close"]
    assert "in on_stop" in app.output
    assert "db was closed" in app.output
    assert told(app, "critical") == ["application 'app' failed: service 'it': OSError: cannot close"]


def test_one_that_leaks_a_task(cwd: Path, loop: str) -> None:
    """The task is named, with the service it came from and the line it is at; it harms nobody."""
    with Running("--loop", loop, "app.py:leaks", cwd=cwd) as app:
        app.expect("leaking")
        app.send(signal.SIGTERM)
        assert app.wait() == 0
    (leaked,) = told(app, "warning")
    assert re.match(r"task 'Task-\d+' of service 'it', incarnation 1, at ", leaked)
    assert place("leaked", "Leaks.poll") in leaked
    assert "is owned by nobody" in leaked


def test_one_that_stops_the_loop(cwd: Path, loop: str) -> None:
    """All stop in order all the same, and the code says that this was no end."""
    with Running("--loop", loop, "app.py:stops_the_loop", cwd=cwd) as app:
        assert app.wait() == 70
    assert "db was closed" in app.output
    assert told(app, "critical") == ["RuntimeError: Event loop stopped before Future completed."]
    assert "is owned by nobody" not in app.output


def test_one_that_cancels_every_task(cwd: Path, loop: str) -> None:
    """Plait's own included: all stop, and the last line says what happened, and what to do about it."""
    with Running("--loop", loop, "app.py:cancels_all", cwd=cwd) as app:
        assert app.wait() == 70
    assert "db was closed" in app.output
    (last,) = told(app, "critical")
    assert last.startswith("the task that serves application 'app' was cancelled, but not by Plait; find who calls")


def test_a_thousand_that_crash_at_once(cwd: Path, loop: str) -> None:
    """Each is named each time, until there were too many failures; the rest stops in order, and the code is 70."""
    with Running("--loop", loop, "app.py:crowd", cwd=cwd) as app:
        assert app.wait() == 70
    failed = {text.split()[0] for text in told(app, "error") if " failed: OSError: no disk for " in text}
    assert failed == {f"it{number}" for number in range(1000)}
    (gave_up,) = [text for text in told(app, "error") if "gives up" in text]
    assert re.match(
        r"app gives up: 3\d\d\d failures in its group in 60 s, the last of service 'it\d+': OSError", gave_up
    )
    assert "db was closed" in app.output
    assert told(app, "critical")[0].startswith("application 'app' failed: service 'it")


def test_a_thousand_that_wait_to_be_started_again(cwd: Path, loop: str) -> None:
    """A stop in the middle of it is quiet."""
    with Running("--loop", loop, "app.py:crowd", cwd=cwd) as app:
        app.expect("starts again in")
        app.send(signal.SIGTERM)
        assert app.wait() == 0
    assert "db was closed" in app.output
    assert "stopped after" in app.records[-1]["message"]


# -- started again before that -----------------------------------------------------------------------------------------


def twice(target: str, cwd: Path, loop: str) -> Running:
    """A process in which `it` has failed twice, and which was then told to stop; it has ended with code 0."""
    with Running("--loop", loop, f"app.py:{target}", cwd=cwd) as app:
        app.expect_nth(2, "it starts again in")
        app.send(signal.SIGTERM)
        assert app.wait() == 0
    assert "db was closed" in app.output
    return app


def test_one_that_ignores_its_cancellation_is_started_again_beside_what_it_left(cwd: Path, loop: str) -> None:
    """Each task that was left behind is named with its incarnation; none of them holds up the end."""
    app = twice("deaf_again", cwd, loop)
    stuck = [record for record in app.records if "was left behind: its task at" in record["message"]]
    assert [record["incarnation"] for record in stuck] == [1, 2]
    assert all(place("deaf", "Deaf.run") in record["message"] for record in stuck)
    both = "failed, and then more went wrong: OSError: lost it; StopTimeout: "
    assert sum(both in text for text in told(app, "error")) == 2
    left = next(text for text in told(app, "warning") if text.startswith("left behind: "))
    assert "service 'it': its task at" in left
    assert "service 'it', incarnation 2: its task at" in left


def test_one_that_blocks_the_loop_for_a_while_is_started_again(cwd: Path, loop: str) -> None:
    """What others have to do in between is done."""
    twice("blocks_again", cwd, loop)


def test_one_that_fails_and_raises_in_on_stop_is_started_again(cwd: Path, loop: str) -> None:
    """The line says what it failed of, the traceback both; a stop later is clean."""
    app = twice("cannot_close_again", cwd, loop)
    failed = [record for record in app.records if record["message"].startswith("it failed: ")]
    assert len(failed) == 2
    for record in failed:
        assert record["message"].endswith("and then more went wrong: ValueError: no such row; OSError: cannot close")
        assert "OSError: cannot close" in record["traceback"]


def test_one_that_leaks_a_task_in_each_incarnation(cwd: Path, loop: str) -> None:
    """Each is named."""
    app = twice("leaks_again", cwd, loop)
    leaked = [text for text in told(app, "warning") if "is owned by nobody" in text]
    assert [re.search(r"service 'it', incarnation (\d),", text)[1] for text in leaked] == ["1", "2"]  # type: ignore[index]
