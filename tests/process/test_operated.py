"""What a process takes before it runs: its folder, umask, limits, title; from the command line and from the file."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from plait.errors import OptionsError
from plait.process.settings import settle
from running import PLAIT, Running, plait, until

APP = """
import asyncio, os, resource
from plait import Application, Service

class Work(Service):
    async def run(self):
        if "EAT" in os.environ:
            held = []
            while True:
                held.append(bytearray(1 << 20))
                await asyncio.sleep(0)
        open("made", "w").close()
        self.log.info("files %d", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        await self.stopping

def make_app():
    app = Application("shop")
    app.add(Work(), name="work", restart="never", significant=True)
    return app
"""


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    """A folder with a folder with the application."""
    folder = tmp_path / "w"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "app.py").write_text(APP)
    return folder


def test_it_works_in_its_folder(cwd: Path) -> None:
    """Every path is as if typed there: the target, the configuration, the pidfile; the umask holds for what is made."""
    (cwd / "sub" / "c.toml").write_text('[plait]\numask = "027"\npidfile = "pid"\nnofile = 99\n')
    with Running("--rundir", "sub", "app.py", "--config", "c.toml", cwd=cwd) as app:
        app.expect("files 99")
        assert (cwd / "sub" / "made").stat().st_mode & 0o777 == 0o640
        assert (cwd / "sub" / "pid").read_text() == f"{app.pid}\n"
        app.send(signal.SIGTERM)
        assert app.wait() == 0


def test_a_folder_that_is_not_there(cwd: Path) -> None:
    """Is told."""
    done = plait("run", "--rundir", "none", "app.py", cwd=cwd)
    assert (done.returncode, done.stderr) == (
        2,
        "plait: error: --rundir 'none' cannot be entered: No such file or directory\n",
    )


def test_more_files_than_the_system_allows(cwd: Path) -> None:
    """Are asked for in vain, and that is told before anything is imported."""
    done = plait("run", "--nofile", "1000000000", "sub/app.py", cwd=cwd)
    assert done.returncode == 2
    assert "expected a number above zero" in done.stderr or "above the system's limit" in done.stderr
    done = plait("run", "--nofile", "99999999", "sub/app.py", cwd=cwd)
    assert done.returncode == 2
    assert "--nofile 99999999 is above the system's limit of" in done.stderr


def test_who_eats_memory_fails_by_himself(cwd: Path) -> None:
    """As a MemoryError in the service that did it, and not as a machine that swaps."""
    with Running("--memory", "300MiB", "sub/app.py", cwd=cwd, EAT="1") as app:
        assert app.wait() == 70
        assert "MemoryError" in app.output


def test_a_title(cwd: Path) -> None:
    """What ps shows."""
    with Running("--title", "shop: the one", "sub/app.py", cwd=cwd) as app:
        app.expect("ready in")
        assert Path(f"/proc/{app.pid}/cmdline").read_bytes().rstrip(b"\0") == b"shop: the one"


def test_a_title_without_the_library(cwd: Path) -> None:
    """Says what to install."""
    (cwd / "setproctitle.py").write_text("raise ImportError")
    done = plait("run", "--title", "x", "sub/app.py", cwd=cwd, env={"PYTHONPATH": str(cwd)})
    assert (done.returncode, "pip install 'plait[title]'" in done.stderr) == (2, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="a PID namespace takes root")
def test_as_the_first_process_of_a_container(cwd: Path) -> None:
    """The system ignores signals to PID 1 that it does not ask for; TERM stops it in order all the same."""
    space = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    with Running("sub/app.py", cwd=cwd, program=(*space, *PLAIT, "run")) as app:
        app.expect("ready in")
        (inside,) = Path(f"/proc/{app.pid}/task/{app.pid}/children").read_text().split()
        os.kill(int(inside), signal.SIGTERM)
        assert app.wait() == 0
        app.expect("application 'shop' stopped")


def test_a_stale_pidfile_is_said(cwd: Path) -> None:
    """And taken over."""
    (cwd / "pid").write_text("1\n")
    with Running("--pidfile", "pid", "sub/app.py", cwd=cwd) as app:
        app.expect("was left behind by process 1, which has ended")
        app.expect("ready in")
        assert (cwd / "pid").read_text() == f"{app.pid}\n"


def test_what_takes_a_new_start_is_said_by_a_reload(cwd: Path) -> None:
    """The umask, say; it stays as it is."""
    (cwd / "c.toml").write_text('[plait]\numask = "027"\n')
    with Running("sub/app.py", "--config", "c.toml", cwd=cwd) as app:
        app.expect("ready in")
        (cwd / "c.toml").write_text('[plait]\numask = "077"\n')
        app.send(signal.SIGHUP)
        app.expect("[plait] umask is another now; restart required")
        until(lambda: "nothing has changed" in app.output, "reloaded")


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("umask = 22", "expected octal digits as text"),
        ('umask = "9"', "expected octal digits as text"),
        ("nofile = 0", "expected a number above zero"),
        ("nofile = true", "expected a number above zero"),
        ('memory = "much"', "expected a size"),
        ("memory = 0", "expected a size above zero"),
        ('daemon = "yes"', "expected true or false"),
        ('syslog_facility = "local9"', "expected one of kern, user"),
        ('rundir = "x"', "unknown"),
    ],
)
def test_wrong_settings(tmp_path: Path, setting: str, expected: str) -> None:
    """Each with its place and what was expected; the folder to work in cannot stand in a file that lies in one."""
    file = tmp_path / "c.toml"
    file.write_text(f"[plait]\n{setting}\n")
    with pytest.raises(OptionsError, match=expected) as caught:
        settle({}, str(file), [])
    assert str(file) in str(caught.value)


def test_settings_of_all_kinds(tmp_path: Path) -> None:
    """The command line goes before the file, also for switches."""
    file = tmp_path / "c.toml"
    file.write_text('[plait]\nsyslog = true\nsyslog_tag = "shop"\nmemory = "1GiB"\nnofile = 10\numask = "0o22"\n')
    settings = settle({"nofile": "20"}, str(file), [])
    assert (settings.memory, settings.nofile, settings.umask) == (1 << 30, 20, 0o22)
    assert settings.logs.syslog is not None
    assert settings.logs.syslog.tag == "shop"
    assert settle({"syslog": False}, str(file), []).logs.syslog is None
