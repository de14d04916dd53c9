"""`plait stop` and `plait reload` against real applications: what they do, what they say, what they exit with."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from running import PLAIT, Running, environment, plait, until

PARTS = """
import asyncio
import time
from plait import Service

class Part(Service):
    def __init__(self, word: str = "hello", after: str = ""):
        self.word = word
        self.after = after
    async def on_start(self):
        self.log.warning("starts with %s", self.word)
        if self.word == "broken":
            raise ValueError("it is broken")
        if self.word == "held":
            asyncio.get_running_loop().call_later(0.2, self.hold)
    def hold(self):
        self.log.warning("holds the loop")
        time.sleep(8)
    async def on_stop(self):
        if self.word == "slow":
            await asyncio.sleep(1)
        if self.word == "clinging":
            raise RuntimeError("it clings")
        self.log.warning("stops with %s", self.word)

class Live(Part):
    async def on_reload(self, word: str = "hello", after: str = ""):
        self.log.warning("%s becomes %s", self.word, word)
        self.word = word
"""

FILE = """
[plait]
log_format = "console"
[application]
name = "{name}"
[services.first]
use = "parts_of_it:Part"
options = {{ word = "{first}" }}
[services.second]
use = "parts_of_it:Live"
options = {{ word = "one" }}
"""


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "parts_of_it.py").write_text(PARTS)
    write(folder)
    return folder


def write(cwd: Path, name: str = "parts", first: str = "hello", file: str = "app.toml") -> None:
    (cwd / file).write_text(FILE.format(name=name, first=first))


def change(cwd: Path, old: str, new: str) -> None:
    text = (cwd / "app.toml").read_text()
    assert old in text
    (cwd / "app.toml").write_text(text.replace(old, new))


def sockets(cwd: Path) -> list[Path]:
    return sorted((cwd.parent / f"{cwd.name}-home" / "plait").glob("*.sock"))


def in_background(*argv: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PLAIT, *argv],
        cwd=cwd,
        env=environment(cwd.parent / f"{cwd.name}-home"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def app(cwd: Path) -> Iterator[Running]:
    """Ready; whatever a test did to it, it can still be stopped in order."""
    with Running("app.toml", cwd=cwd) as running:
        running.expect("ready in")
        yield running
        running.send(signal.SIGTERM)
        assert running.wait() == 0


# -- stop --------------------------------------------------------------------------------------------------------------


def test_stop(cwd: Path) -> None:
    """It returns when the process has ended, the services having stopped, and the socket is gone."""
    write(cwd, first="slow")
    with Running("app.toml", cwd=cwd) as running:
        running.expect("ready in")
        assert len(sockets(cwd)) == 1
        done = plait("stop", cwd=cwd)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"parts (process {running.pid}) has stopped\n", "")
        assert os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        assert running.wait() == 0
        running.expect("stops with slow")
        running.expect("application 'parts' stopped")
        assert sockets(cwd) == []


def test_stop_is_no_second_signal(cwd: Path) -> None:
    """A stop that is under way is waited for, by as many as want to; a TERM after it forces, as a second one does."""
    write(cwd, first="slow")
    with Running("app.toml", cwd=cwd) as running:
        running.expect("ready in")
        running.send(signal.SIGTERM)
        running.expect("stopping")
        assert plait("stop", cwd=cwd).returncode == 0
        assert running.wait() == 0


def test_stop_that_fails(cwd: Path) -> None:
    write(cwd, first="clinging")
    with Running("app.toml", cwd=cwd) as running:
        running.expect("ready in")
        done = plait("stop", cwd=cwd)
        code = running.wait()
        assert done.returncode == code == 70
        assert "it clings" in done.stderr
        assert "Traceback" not in done.stderr


def test_stop_when_killed_meanwhile(cwd: Path) -> None:
    write(cwd, first="slow")
    with Running("app.toml", cwd=cwd) as running:
        running.expect("ready in")
        stopping = in_background("stop", cwd=cwd)
        running.expect("says stop")
        running.send(signal.SIGKILL)
        out, err = stopping.communicate(timeout=20)
        assert stopping.returncode == 70
        assert out == ""
        assert "did not say how" in err


@pytest.mark.slow
def test_stop_of_a_loop_that_is_held_up(cwd: Path) -> None:
    """It is told by a signal then, whose watchdog says where the loop is, and stops when it can."""
    write(cwd, first="held")
    with Running("app.toml", cwd=cwd) as running:
        running.expect("holds the loop")
        done = plait("stop", cwd=cwd)
        assert "does not answer" in done.stderr
        assert "by a signal" in done.stderr
        assert running.wait() == 0
        running.expect("stops with held")


def test_interrupting_the_command_does_not_take_it_back(cwd: Path) -> None:
    write(cwd, first="slow")
    with Running("app.toml", cwd=cwd) as running:
        running.expect("ready in")
        stopping = in_background("stop", cwd=cwd)
        running.expect("says stop")
        stopping.send_signal(signal.SIGINT)
        _, err = stopping.communicate(timeout=20)
        assert stopping.returncode == 130
        assert "Traceback" not in err
        assert running.wait() == 0


# -- which one ---------------------------------------------------------------------------------------------------------


def test_none_is_running(cwd: Path) -> None:
    for command in (["stop"], ["reload"], ["reload", "--dry-run"]):
        done = plait(*command, cwd=cwd)
        assert done.returncode == 2
        assert re.fullmatch(r"plait: error: no application is running .*\n", done.stderr)


def test_several(cwd: Path) -> None:
    """They are named, and none is touched, until one is meant, by name or number."""
    write(cwd, name="shop", file="shop.toml")
    write(cwd, name="blog", file="blog.toml")
    with (
        Running("shop.toml", cwd=cwd) as shop,
        Running("blog.toml", cwd=cwd) as blog,
        Running("blog.toml", cwd=cwd) as other,
    ):
        for running in (shop, blog, other):
            running.expect("ready in")
        named = {f"shop (process {shop.pid})", f"blog (process {blog.pid})", f"blog (process {other.pid})"}

        done = plait("stop", cwd=cwd)
        assert done.returncode == 2
        assert {one for one in named if one in done.stderr} == named

        done = plait("reload", "blog", cwd=cwd)
        assert done.returncode == 2
        assert f"process {blog.pid}" in done.stderr
        assert f"process {other.pid}" in done.stderr
        assert "shop" not in done.stderr

        done = plait("stop", "ship", cwd=cwd)
        assert done.returncode == 2
        assert {one for one in named if one in done.stderr} == named

        assert plait("reload", "shop", cwd=cwd).returncode == 0
        assert plait("reload", str(other.pid), cwd=cwd).returncode == 0
        shop.expect("reload: nothing")
        other.expect("reload: nothing")
        assert "reload" not in blog.output

        assert plait("stop", str(blog.pid), cwd=cwd).returncode == 0
        assert blog.wait() == 0
        assert plait("stop", "blog", cwd=cwd).returncode == 0
        assert other.wait() == 0
        assert plait("stop", cwd=cwd).returncode == 0
        assert shop.wait() == 0


def test_a_killed_one_is_passed_over(cwd: Path, app: Running) -> None:
    """Its file stays until the next one starts, which removes it."""
    with Running("app.toml", cwd=cwd) as killed:
        killed.expect("ready in")
        killed.send(signal.SIGKILL)
        killed.wait()
    assert len(sockets(cwd)) == 2
    assert plait("reload", cwd=cwd).returncode == 0
    done = plait("stop", str(killed.pid), cwd=cwd)
    assert done.returncode == 2
    assert f"process {app.pid}" in done.stderr
    with Running("app.toml", cwd=cwd) as following:
        following.expect("ready in")
        assert {str(app.pid), str(following.pid)} == {path.stem.rpartition("-")[2] for path in sockets(cwd)}
        assert plait("stop", str(following.pid), cwd=cwd).returncode == 0


# -- reload ------------------------------------------------------------------------------------------------------------


def test_reload_nothing(cwd: Path, app: Running) -> None:
    done = plait("reload", cwd=cwd)
    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing is different\n", "")


def test_reload_live(cwd: Path, app: Running) -> None:
    change(cwd, '"one"', '"two"')
    done = plait("reload", cwd=cwd)
    assert done.returncode == 0
    assert done.stdout.startswith("the services that are running take it\n")
    assert "second" in done.stdout
    assert "two" not in done.stdout  # never a value
    app.expect("one becomes two")
    assert plait("reload", cwd=cwd).stdout == "nothing is different\n"


def test_reload_generation(cwd: Path, app: Running) -> None:
    """It returns when the new one serves. A generation of another name is found by that."""
    change(cwd, '"hello"', '"goodbye"')
    change(cwd, 'name = "parts"', 'name = "pieces"')
    done = plait("reload", "parts", cwd=cwd)
    assert done.returncode == 0
    assert done.stdout.startswith("a new generation takes over\n")
    app.expect("starts with goodbye")
    app.expect("generation 2 serves")
    assert [path.name for path in sockets(cwd)] == [f"pieces-{app.pid}.sock"]
    assert plait("reload", "parts", cwd=cwd).returncode == 2
    assert plait("reload", "pieces", cwd=cwd).returncode == 0


@pytest.mark.parametrize(
    ("new", "code", "why"),
    [
        pytest.param('word = "broken"', 3, "it is broken", id="does not start"),
        pytest.param('words = "hello"', 2, "words", id="wrong options"),
        pytest.param('word = "hello', 2, "app.toml", id="no TOML"),
    ],
)
def test_reload_fails(cwd: Path, app: Running, new: str, code: int, why: str) -> None:
    """It says why, and exits with what a start would have; everything goes on as before."""
    before = (cwd / "app.toml").read_text()
    change(cwd, 'word = "hello"', new)
    done = plait("reload", cwd=cwd)
    assert done.returncode == code
    assert done.stdout == ""
    assert why in done.stderr
    assert all(line.startswith("plait: error:") for line in done.stderr.splitlines())
    app.expect("reload failed")
    (cwd / "app.toml").write_text(before)
    assert plait("reload", cwd=cwd).stdout == "nothing is different\n"


def test_reload_dry(cwd: Path, app: Running) -> None:
    """The plan, or why there is none, and nothing else."""
    lines = len(app.lines)
    assert plait("reload", "--dry-run", cwd=cwd).stdout == "nothing is different\n"
    change(cwd, '"one"', '"two"')
    done = plait("reload", "--dry-run", cwd=cwd)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "the services that are running take it")
    change(cwd, '"hello"', '"goodbye"')
    done = plait("reload", "--dry-run", cwd=cwd)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "a new generation takes over")
    assert "first" in done.stdout
    change(cwd, 'word = "goodbye"', 'words = "goodbye"')
    done = plait("reload", "--dry-run", cwd=cwd)
    assert done.returncode == 2
    assert "would fail" in done.stderr
    assert len(app.lines) == lines


def test_reload_of_what_stops(cwd: Path) -> None:
    write(cwd, first="slow")
    with Running("app.toml", cwd=cwd) as running:
        running.expect("ready in")
        running.send(signal.SIGTERM)
        running.expect("stopping")
        done = plait("reload", cwd=cwd)
        assert done.returncode == 70
        assert done.stderr.startswith("plait: error:")
        assert running.wait() == 0


def test_reloads_at_once(cwd: Path, app: Running) -> None:
    """Ten that are asked for at once are answered, each by a plan."""
    change(cwd, '"hello"', '"goodbye"')
    asked = [in_background("reload", cwd=cwd) for _ in range(10)]
    for one in asked:
        out, err = one.communicate(timeout=60)
        assert one.returncode == 0, err
        assert out.startswith(("a new generation takes over", "nothing is different"))
    assert app.output.count("starts with goodbye") == 1


def test_signals_as_before(cwd: Path, app: Running) -> None:
    change(cwd, '"one"', '"two"')
    app.send(signal.SIGHUP)
    app.expect("one becomes two")
    app.expect("reload: taken live")


# -- where it is -------------------------------------------------------------------------------------------------------


def test_for_its_user_alone(cwd: Path, app: Running) -> None:
    [path] = sockets(cwd)
    assert path.name == f"parts-{app.pid}.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_none_if_not_wanted(cwd: Path) -> None:
    with Running("--no-control", "app.toml", cwd=cwd) as running:
        running.expect("ready in")
        assert sockets(cwd) == []
        assert plait("stop", cwd=cwd).returncode == 2
        running.send(signal.SIGTERM)
        assert running.wait() == 0


def test_in_another_folder(cwd: Path) -> None:
    with Running("--runtime-dir", "run", "app.toml", cwd=cwd) as running:
        running.expect("ready in")
        assert plait("stop", cwd=cwd).returncode == 2
        assert plait("reload", "--runtime-dir", "run", cwd=cwd).returncode == 0
        assert plait("stop", "--runtime-dir", "run", cwd=cwd).returncode == 0
        assert running.wait() == 0


@pytest.mark.parametrize("why", ["a file", "open to all"])
def test_a_folder_that_cannot_be_had(cwd: Path, why: str) -> None:
    """One warning, and the application runs; nobody looks there for sockets either."""
    folder = cwd.parent / "there"
    if why == "a file":
        folder.write_text("")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    with Running("--runtime-dir", str(folder), "app.toml", cwd=cwd) as running:
        running.expect("ready in")
        assert len([line for line in running.lines if "no control socket" in line]) == 1
        done = plait("stop", "--runtime-dir", str(folder), cwd=cwd)
        assert done.returncode in (2, 70)
        assert str(folder) in done.stderr
        running.send(signal.SIGTERM)
        assert running.wait() == 0


def test_a_long_path(cwd: Path) -> None:
    """Longer than the address of a unix socket may be."""
    folder = cwd / ("deep" * 20) / ("deeper" * 20)
    with Running("--runtime-dir", str(folder), "app.toml", cwd=cwd) as running:
        running.expect("ready in")
        assert plait("reload", "--runtime-dir", str(folder), cwd=cwd).returncode == 0
        assert plait("stop", "--runtime-dir", str(folder), cwd=cwd).returncode == 0
        assert running.wait() == 0


def test_a_forced_end_removes_it(cwd: Path) -> None:
    write(cwd, first="slow")
    with Running("app.toml", cwd=cwd) as running:
        running.expect("ready in")
        running.send(signal.SIGTERM)
        running.expect("stopping")
        running.send(signal.SIGTERM)
        assert running.wait() == 143
        assert sockets(cwd) == []


def test_a_start_that_fails_leaves_none(cwd: Path) -> None:
    write(cwd, first="broken")
    assert plait("run", "app.toml", cwd=cwd).returncode == 3
    assert sockets(cwd) == []


def test_a_stopped_process_is_not_waited_for_for_ever(cwd: Path) -> None:
    """A reload of a process that SIGSTOP holds says so, soon."""
    with Running("app.toml", cwd=cwd) as running:
        running.expect("ready in")
        running.send(signal.SIGSTOP)
        since = time.monotonic()
        done = plait("reload", cwd=cwd)
        assert done.returncode == 70
        assert "does not answer" in done.stderr
        assert time.monotonic() - since < 15
        running.send(signal.SIGCONT)
        running.send(signal.SIGTERM)
        assert running.wait() == 0


def test_no_web_stack_and_no_loop(cwd: Path, app: Running) -> None:
    """The commands are quick: they import neither asyncio nor what serves."""
    done = plait("reload", cwd=cwd, env={"PYTHONPROFILEIMPORTTIME": "1"})
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "plait.control.client" in imported
    assert not imported & {"asyncio", "uvloop", "plait.net", "plait.control.server", "plait.process.runner"}
    until(lambda: "reload: nothing" in app.output, "the reload")
