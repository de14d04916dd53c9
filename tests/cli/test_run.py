"""`plait run`, from outside: what it says, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from running import PLAIT, Running, plait, until

APP = '''
import asyncio, sys, threading, warnings, logging
from typing import Annotated
from plait import Application, Meta, Options, Service

class DemoOptions(Options):
    """Demonstrates things."""
    word: Annotated[str, Meta(description="what to say")] = "hello"
    times: int = 1

class Db(Service):
    async def on_start(self): ...
    async def on_stop(self): self.log.info("closing", extra={"rows": 3})

class Web(Service):
    def __init__(self, word): self.word = word
    async def on_start(self):
        self.server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        self._announce("tcp://127.0.0.1:%d" % self.server.sockets[0].getsockname()[1])
        self.log.info("says %s", self.word)
    async def on_stop(self): self.server.close()

class Job(Service):
    async def run(self): await asyncio.sleep(0.01)

class Noisy(Service):
    async def run(self):
        warnings.warn("careful")
        thread = threading.Thread(target=lambda: 1 / 0, name="worker")
        thread.start()
        thread.join()
        asyncio.get_running_loop().call_soon(lambda: {}["missing"])
        logging.getLogger("library").error("bad call %d", "text")
        logging.getLogger("library").error("two\\nlines", extra={"value": float("nan")})
        await asyncio.sleep(0.01)

class Spawner(Service):
    """Leaves behind a task that nobody owns, and a thread that hangs."""
    async def run(self):
        self.task = asyncio.ensure_future(asyncio.sleep(1000))
        threading.Thread(target=threading.Event().wait, name="hangs").start()

def make_app(options: DemoOptions) -> Application:
    app = Application("demo", version="1.2")
    app.add(Db(), name="db")
    app.add(Web(options.word), name="web", needs=["db"])
    return app

def one(service):
    def make() -> Application:
        app = Application("one")
        app.add(service(), name="it")
        return app
    return make

job, noisy, spawner = one(Job), one(Noisy), one(Spawner)
'''


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    folder = tmp_path / "cwd"
    folder.mkdir()
    (folder / "demo.py").write_text(APP)
    return folder


def test_runs_until_told_to_stop(cwd: Path) -> None:
    """It says when it is ready and in one line what it listens on, and TERM stops it with exit code 0."""
    with Running("demo.py", cwd=cwd) as app:
        line = app.expect("ready in")
        assert re.search(r"ready in \d\.\d\d s: listening on tcp://127.0.0.1:[1-9]\d+ \(web\)", line)
        app.send(signal.SIGTERM)
        assert app.wait() == 0
    assert [r["message"] for r in app.records if r.get("service") in ("db", "web")] == [
        "db running",
        "says hello",
        "web running",
        "web stopped",
        "closing",
        "db stopped",
    ]
    assert re.fullmatch(r"application 'demo' stopped after \d+\.\d s", app.records[-1]["message"])


def test_logs_elsewhere_than_on_a_terminal_are_json_lines(cwd: Path) -> None:
    """Every line is one JSON object with time, level, logger and message, and what was passed as extra."""
    with Running("--log-level", "debug", "demo.py", cwd=cwd) as app:
        app.expect("ready in")
        app.send(signal.SIGTERM)
        app.wait()
    for record in app.records:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["time"])
        assert {"level", "logger", "message"} <= record.keys()
    (closing,) = [record for record in app.records if record["message"] == "closing"]
    assert (closing["service"], closing["incarnation"], closing["rows"]) == ("db", 1, 3)
    assert "db starting" in [record["message"] for record in app.records]


def test_json_stays_json_whatever_goes_wrong(cwd: Path) -> None:
    """Warnings, threads that fail, callbacks that raise and log calls that are wrong are JSON lines as well."""
    with Running("demo.py:noisy", cwd=cwd) as app:
        assert app.wait() == 0
    messages = " ".join(record["message"] for record in app.records)
    for text in ("UserWarning: careful", "thread 'worker' failed: ZeroDivisionError", "KeyError: 'missing'"):
        assert text in messages
    assert "'bad call %d' with ('text',)" in messages
    assert "two\nlines" in messages


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_the_loop_is_the_one_asked_for(cwd: Path, loop: str) -> None:
    """--loop chooses it."""
    (cwd / "which.py").write_text(
        "import asyncio\nfrom plait import Service\n"
        "class App(Service):\n    async def run(self): self.log.info(type(asyncio.get_running_loop()).__module__)\n"
        "app = App()\n"
    )
    with Running("--loop", loop, "which.py", cwd=cwd) as app:
        assert app.wait() == 0
    assert app.expect('"plait.service"').count(loop) == 1


def test_ends_by_itself_when_all_have_finished(cwd: Path) -> None:
    """An application whose services have all returned ends with exit code 0, and says that it has finished."""
    with Running("--log-format", "console", "demo.py:job", cwd=cwd) as app:
        assert app.wait() == 0
    assert "application 'one' finished after" in app.lines[-1]


def test_lines_for_people(cwd: Path) -> None:
    """A line has the time, the level, who says it, and what; off a terminal there is no colour."""
    with Running("--log-format", "console", "demo.py", "--word", "hi", cwd=cwd) as app:
        app.expect("ready in")
        app.send(signal.SIGINT)
        assert app.wait() == 0
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} info     web: says hi", app.expect("says hi"))
    assert "\x1b" not in app.output


def test_what_was_left_behind_does_not_hang_the_process(cwd: Path) -> None:
    """A thread that hangs in code nobody owns is named, and the process ends all the same."""
    with Running("--log-format", "console", "demo.py:spawner", cwd=cwd) as app:
        assert app.wait() == 0
    assert "left behind: thread 'hangs'" in app.output


def test_usr1_reopens_the_log_file(cwd: Path) -> None:
    """After USR1 lines go to a new file of the same name, and none is lost between the two."""
    log, old = cwd / "app.log", cwd / "app.log.1"
    with Running("--log-file", "app.log", "demo.py", cwd=cwd) as app:
        _wait_for(log, "ready in")
        log.rename(old)
        app.send(signal.SIGUSR1)
        _wait_for(log, "log file reopened")
        app.send(signal.SIGTERM)
        assert app.wait() == 0
    assert app.lines == []
    assert "ready in" in old.read_text()
    assert "SIGTERM: stopping" in log.read_text()


def _wait_for(file: Path, text: str) -> None:
    until(lambda: file.exists() and text in file.read_text(), f"{text!r} in {file.name}")


def test_a_file_that_cannot_be_reopened_stays_the_old_one(cwd: Path) -> None:
    """USR1 with the folder gone keeps the old file, and says why."""
    folder = cwd / "logs"
    folder.mkdir()
    with Running("--log-file", "logs/app.log", "demo.py", cwd=cwd) as app:
        _wait_for(folder / "app.log", "ready in")
        folder.rename(cwd / "moved")
        app.send(signal.SIGUSR1)
        _wait_for(cwd / "moved" / "app.log", "cannot be reopened, the old one stays: No such file")
        app.send(signal.SIGTERM)
        assert app.wait() == 0


@pytest.mark.parametrize("name", ["SIGUSR2", "SIGTTIN", "SIGTTOU"])
def test_other_signals_are_answered_and_change_nothing(cwd: Path, name: str) -> None:
    """One line each, and the application runs on."""
    with Running("demo.py", cwd=cwd) as app:
        app.expect("ready in")
        app.send(signal.Signals[name])
        assert "nothing changes" in app.expect(name)
        app.send(signal.SIGTERM)
        assert app.wait() == 0
    assert app.output.count(name) == 1


def test_the_table_plait_gives_the_runners_options(cwd: Path) -> None:
    """`[plait]` of the --config file counts below the command line."""
    (cwd / "c.toml").write_text('times = 3\n[plait]\nlog_format = "console"\nlog_level = "debug"\n')
    with Running("--log-level", "info", "demo.py", "--config", "c.toml", cwd=cwd) as app:
        assert app.expect("ready in")[0].isdigit()
        app.send(signal.SIGTERM)
        assert app.wait() == 0
    assert "starting" not in app.output


def test_the_table_plait_of_a_composed_application(cwd: Path) -> None:
    """`[plait]` of a file target as well."""
    (cwd / "app.toml").write_text('[plait]\nlog_format = "console"\n[services.db]\nuse = "demo:Db"\n')
    with Running("app.toml", cwd=cwd) as app:
        assert app.expect("ready in")[0].isdigit()
        app.send(signal.SIGTERM)
        assert app.wait() == 0


def test_nobody_reading_stderr_harms_nothing(cwd: Path) -> None:
    """With the reader of its log gone, the application runs and stops as ever."""
    code = (
        "import os, signal, subprocess, sys, time, pathlib\n"
        "p = subprocess.Popen(sys.argv[1:], stderr=subprocess.PIPE)\n"
        "p.stderr.readline()\np.stderr.close()\n"
        "time.sleep(0.5)\np.send_signal(signal.SIGTERM)\nsys.exit(p.wait(20))\n"
    )
    with Running(*PLAIT, "run", "demo.py", cwd=cwd, program=(sys.executable, "-c", code)) as app:
        assert app.wait() == 0


def test_with_its_standard_streams_closed(cwd: Path) -> None:
    """No log line goes to a socket that was given the number of a closed stderr."""
    command = 'exec "$@" 0<&- 1>&- 2>&-'
    with Running(*PLAIT, "run", "--log-file", "log", "demo.py", cwd=cwd, program=("sh", "-c", command, "sh")) as app:
        _wait_for(cwd / "log", "ready in")
        streams = [os.readlink(f"/proc/{app.pid}/fd/{fd}") for fd in range(3)]
        assert streams == ["/dev/null"] * 3
        app.send(signal.SIGTERM)
        assert app.wait() == 0


def test_help_of_a_target(cwd: Path) -> None:
    """`plait run TARGET --help` shows type, default, variable and description of each option, and runs nothing."""
    done = plait("run", "demo.py", "--help", cwd=cwd)
    assert done.returncode == 0
    assert done.stderr == ""
    for text in ("Demonstrates things.", "--word TEXT", "what to say", "default: hello", "DEMO_WORD", "--times INT"):
        assert text in done.stdout


def test_nothing_is_written(cwd: Path) -> None:
    """A run leaves nothing in the working directory, in HOME or among temporary files."""
    before = sorted(cwd.iterdir())
    with Running("demo.py", cwd=cwd) as app:
        app.expect("ready in")
        app.send(signal.SIGTERM)
        app.wait()
    assert sorted(cwd.iterdir()) == before
    assert list((cwd.parent / "cwd-home").iterdir()) == []
