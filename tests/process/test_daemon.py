"""`plait run --daemon`: in the background, and whoever typed it knows what came of it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from running import PLAIT, environment, plait, until

APP = """
import asyncio, os, signal, sys
from plait import Application, Service
from plait.net import Server

class Work(Service):
    async def on_start(self):
        print("on_start printed", flush=True)
        how = os.environ.get("HOW", "")
        if how == "fails":
            raise RuntimeError("no work")
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "slow":
            open("starting", "w").write(str(os.getpid()))
            await asyncio.sleep(60)
    async def run(self):
        while not os.path.exists("say"):
            await asyncio.sleep(0.01)
        print("run printed", flush=True)
        os.write(2, b"C code wrote\\n")
        await self.stopping

async def echo(reader, writer):
    writer.write(await reader.read(100))

def make_app():
    app = Application("shop")
    app.add(Work(), name="work", restart="never", start_timeout=100)
    app.add(Server("unix:///" + os.getcwd().lstrip("/") + "/s", echo), name="echo")
    return app
"""


@pytest.fixture
def cwd(tmp_path: Path) -> Iterator[Path]:
    """A folder with the application; a daemon that is left there is killed."""
    folder = tmp_path / "w"
    folder.mkdir()
    (folder / "app.py").write_text(APP)
    yield folder
    for file in ("pid", "starting"):
        with suppress(FileNotFoundError, ValueError):
            pid = int((folder / file).read_text())
            if not gone(pid) and os.readlink(f"/proc/{pid}/cwd") == str(folder):
                os.kill(pid, signal.SIGKILL)


def daemon(cwd: Path, *more: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command, to the end of its output: a daemon that kept hold of stdout or stderr would be waited for."""
    return plait("run", "--daemon", "--pidfile", "pid", "--log-file", "log", *more, "app.py", cwd=cwd, env=env)


def gone(pid: int) -> bool:
    """Whether a process has ended; nobody here is its parent."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_it_returns_when_the_application_is_ready(cwd: Path) -> None:
    """With 0 and what the start printed; the daemon has a session, no terminal, and is nobody's child."""
    done = daemon(cwd)
    assert (done.returncode, done.stdout, done.stderr) == (0, "on_start printed\n", "")
    assert (cwd / "s").is_socket()
    pid = int((cwd / "pid").read_text())
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    assert int(stat[3]) not in (pid, os.getsid(0))  # in a session of its own, and not its leader
    assert stat[4] == "0"  # no terminal
    os.kill(pid, signal.SIGTERM)
    until(lambda: gone(pid), "ended")
    assert not (cwd / "pid").exists()
    assert "stopped after" in (cwd / "log").read_text()


def test_a_start_that_fails_is_told_where_it_was_typed(cwd: Path) -> None:
    """With the exit code and the words that it would have had in the foreground; nothing is left."""
    done = daemon(cwd, HOW="fails")
    assert done.returncode == 3
    assert "service 'work': RuntimeError: no work" in done.stderr
    assert not (cwd / "pid").exists()


def test_a_daemon_that_is_killed_before_it_is_ready(cwd: Path) -> None:
    """The caller does not wait for ever, and does not say that all is well."""
    assert daemon(cwd, HOW="killed").returncode == 70


def test_a_second_is_refused_by_the_pidfile(cwd: Path) -> None:
    """The first is not disturbed."""
    assert daemon(cwd).returncode == 0
    done = daemon(cwd)
    assert done.returncode == 2
    assert f"held by process {(cwd / 'pid').read_text().strip()}" in done.stderr


def test_a_log_is_asked_for(cwd: Path) -> None:
    """A daemon has no stderr."""
    done = plait("run", "--daemon", "app.py", cwd=cwd)
    assert (done.returncode, done.stderr) == (
        2,
        "plait: error: a daemon has no stderr to log to; add --log-file FILE or --syslog\n",
    )


def test_a_caller_that_is_told_to_stop_stops_the_daemon(cwd: Path) -> None:
    """Ctrl-C while it starts: nothing is left in the background."""
    caller = subprocess.Popen(
        [*PLAIT, "run", "--daemon", "--log-file", "log", "app.py"],
        cwd=cwd, env=environment(cwd.parent / "home", HOW="slow"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until(lambda: (cwd / "starting").exists() and (cwd / "starting").read_text() != "", "starting")
    pid = int((cwd / "starting").read_text())
    caller.send_signal(signal.SIGINT)
    assert caller.wait(20) == 0  # as in the foreground: stopped on request
    until(lambda: gone(pid), "ended")


def test_what_code_prints_goes_to_the_log_file(cwd: Path) -> None:
    """Also what C code writes; and to the new file, after the old one was moved away and SIGUSR1."""
    assert daemon(cwd).returncode == 0
    pid = int((cwd / "pid").read_text())
    (cwd / "log").rename(cwd / "log.1")
    os.kill(pid, signal.SIGUSR1)
    until(lambda: (cwd / "log").exists() and "log file reopened" in (cwd / "log").read_text(), "reopened")
    (cwd / "say").touch()
    until(lambda: "C code wrote" in (cwd / "log").read_text(), "written")
    assert "run printed" in (cwd / "log").read_text()
    assert "printed" not in (cwd / "log.1").read_text()


def test_it_lives_when_the_caller_was_killed(cwd: Path) -> None:
    """While it was starting: the daemon goes on."""
    app = (cwd / "app.py").read_text().replace("asyncio.sleep(60)", "asyncio.sleep(1)")
    (cwd / "app.py").write_text(app)
    caller = subprocess.Popen(
        [*PLAIT, "run", "--daemon", "--pidfile", "pid", "--log-file", "log", "app.py"],
        cwd=cwd, env=environment(cwd.parent / "home", HOW="slow"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until(lambda: (cwd / "starting").exists(), "starting")
    caller.kill()
    caller.wait()
    until(lambda: "ready in" in (cwd / "log").read_text(), "ready")
    assert not gone(int((cwd / "pid").read_text()))
