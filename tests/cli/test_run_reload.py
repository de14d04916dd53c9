"""SIGHUP to a real process: files are read anew, and it follows, or says why not."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from running import Running, plait, until

PARTS = """
import asyncio
from plait import Service

class Part(Service):
    def __init__(self, word: str = "hello"):
        self.word = word
    async def on_start(self):
        self.log.warning("starts with %s", self.word)
        if self.word == "slow":
            await asyncio.sleep(0.5)
        if self.word == "broken":
            raise ValueError("it is broken")
    async def on_stop(self):
        self.log.info("stops with %s", self.word)

class Live(Part):
    async def on_reload(self, word: str = "hello"):
        self.log.warning("%s becomes %s", self.word, word)
        self.word = word
"""

FILE = """
[plait]
log_level = "info"
log_format = "console"
[application]
name = "parts"
[services.first]
use = "parts_of_it:Part"
[services.second]
use = "parts_of_it:Live"
needs = ["first"]
options = { word = "one" }
"""


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "parts_of_it.py").write_text(PARTS)
    (folder / "app.toml").write_text(FILE)
    return folder


@pytest.fixture
def app(cwd: Path) -> Iterator[Running]:
    """Ready; it must end in order at the end."""
    with Running("app.toml", cwd=cwd) as running:
        running.expect("ready in")
        yield running
        running.send(signal.SIGTERM)
        assert running.wait() == 0


def change(cwd: Path, old: str, new: str) -> None:
    file = cwd / "app.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_nothing(app: Running) -> None:
    """Said in one line; a comment is no change."""
    app.send(signal.SIGHUP)
    app.expect("reload: nothing has changed")


def test_live(cwd: Path, app: Running) -> None:
    """The service is told, nothing stops; what was different is named, its value is not."""
    change(cwd, '"one"', '"s3cret"')
    app.send(signal.SIGHUP)
    assert "(service 'second': word)" in app.expect("reload: taken live")
    assert "one becomes s3cret" in app.output
    assert "stops with" not in app.output


def test_services_are_registered_and_unloaded(cwd: Path, app: Running) -> None:
    """One is added, one disabled: the next generation has them as the file has; the one that is gone has stopped."""
    change(cwd, "[services.second]", '[services.third]\nuse = "parts_of_it:Part"\n[services.second]\nenabled = false')
    app.send(signal.SIGHUP)
    line = app.expect("reload: generation 2 serves")
    assert "service 'third' is new" in line
    assert "service 'second' is gone" in line
    app.expect("third running")
    app.expect("second stopped")
    change(cwd, "enabled = false", "enabled = true")
    app.send(signal.SIGHUP)
    app.expect("reload: generation 3 serves")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('needs = ["first"]', 'needs = ["frist"]', "did you mean 'first'?"),
        ('"one"', "7", "expected text"),
        ("needs", "neds", "did you mean 'needs'?"),
        ('use = "parts_of_it:Part"', 'use = "parts_of_it:Part"\noptions = { word = "broken" }', "it is broken"),
        ("[application]", "[application", "not valid TOML"),
        ('log_level = "info"', 'log_level = "loud"', "expected one of"),
    ],
)
def test_what_is_wrong_is_said_and_all_goes_on(cwd: Path, app: Running, old: str, new: str, said: str) -> None:
    """Whatever it is; the next reload, with a file that is right, works."""
    change(cwd, old, new)
    app.send(signal.SIGHUP)
    assert said in app.expect("reload failed, everything goes on as before")
    change(cwd, new, old)
    change(cwd, '"one"', '"two"')
    app.send(signal.SIGHUP)
    app.expect("one becomes two")


def test_the_runners_own_options(cwd: Path, app: Running) -> None:
    """Level, format and file of the log follow at once; the loop needs a restart, and that is said."""
    change(cwd, 'log_level = "info"', 'log_level = "debug"')
    app.send(signal.SIGHUP)
    assert "(runner: level)" in app.expect("reload: taken live")
    change(cwd, 'log_format = "console"', 'log_format = "json"')
    app.send(signal.SIGHUP)
    assert json.loads(app.expect("(runner: format)"))["level"] == "info"
    change(cwd, "[plait]", '[plait]\nlog_file = "it.log"\nloop = "asyncio"')
    app.send(signal.SIGHUP)
    app.expect("[plait] loop is another now; restart required")
    until_written(cwd / "it.log", "(runner: file)")
    change(cwd, 'log_file = "it.log"\n', "")
    app.send(signal.SIGHUP)
    assert json.loads(app.expect("(runner: file)"))["message"].startswith("reload: taken live")


def until_written(file: Path, text: str) -> None:
    until(lambda: file.exists() and text in file.read_text(), f"{text} in {file}")


def test_a_flag_wins_over_the_file(cwd: Path) -> None:
    """Also after a reload."""
    with Running("--log-level", "warning", "app.toml", cwd=cwd) as app:
        app.expect("starts with one")
        change(cwd, 'log_level = "info"', 'log_level = "debug"')
        change(cwd, '"one"', '"two"')
        app.send(signal.SIGHUP)
        app.expect("becomes two")
        app.send(signal.SIGTERM)
        assert app.wait() == 0
        assert " running" not in app.output


def test_a_reload_while_it_starts_waits_for_that(cwd: Path) -> None:
    """Also several; they become one."""
    change(cwd, '"one"', '"slow"')
    with Running("app.toml", cwd=cwd) as app:
        app.expect("starts with slow")
        change(cwd, '"slow"', '"quick"')
        for _ in range(3):
            app.send(signal.SIGHUP)
        app.expect("slow becomes quick")
        app.send(signal.SIGTERM)
        assert app.wait() == 0
        lines = [line for line in app.lines if "ready in" in line or "reload:" in line or "becomes" in line]
        assert ["ready" in lines[0], "becomes" in lines[1]] == [True, True]


def test_a_state_that_cannot_be_read_is_a_usage_error(cwd: Path) -> None:
    """Exit code 2, one line, and the cure."""
    (cwd / "state").mkdir()
    (cwd / "state" / "intents-parts.json").write_text("{")
    done = plait("run", "--state-dir", "state", "app.toml", cwd=cwd)
    assert done.returncode == 2
    assert "move it away to start with everything up" in done.stderr
