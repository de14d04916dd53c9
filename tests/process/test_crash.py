"""The crash report: there is one after an end that nobody asked for, and none after any other."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from running import Running

APP = """
import asyncio, ctypes, os, time
from plait import Application, Service

class Work(Service):
    async def run(self):
        how = os.environ.get("HOW", "")
        if how == "segfault":
            await asyncio.to_thread(ctypes.string_at, 0)
        if how == "fails":
            raise RuntimeError("out of work")
        await self.stopping
        if how == "stuck":
            self.log.info("stuck")
            time.sleep(1000)
        if how == "again":
            self.log.info("slow")
            await asyncio.sleep(1000)
    async def on_start(self):
        if os.environ.get("HOW") == "no start":
            raise RuntimeError("not today")

def make_app():
    app = Application("shop", shutdown_timeout=0.2 if os.environ.get("HOW") == "stuck" else 25)
    app.add(Work(), name="work", restart="never", significant=True, drain_timeout=100)
    return app
"""


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    """A folder with the application."""
    folder = tmp_path / "w"
    folder.mkdir()
    (folder / "app.py").write_text(APP)
    return folder


def crashing(cwd: Path, how: str) -> Running:
    """The application, with a report at `crash`."""
    return Running("--crash-report", "crash", "app.py", cwd=cwd, HOW=how)


def test_a_clean_end_leaves_none(cwd: Path) -> None:
    """Stopped on request: no file, though there was one while it ran."""
    with crashing(cwd, "") as app:
        app.expect("ready in")
        assert (cwd / "crash").read_text().startswith(f"== process {app.pid} runs app.py since ")
        app.send(signal.SIGTERM)
        assert app.wait() == 0
    assert not (cwd / "crash").exists()


def test_a_start_that_fails_is_no_crash(cwd: Path) -> None:
    """Whoever started it is told; so is a file that cannot be written."""
    with crashing(cwd, "no start") as app:
        assert app.wait() == 3
    assert not (cwd / "crash").exists()
    with Running("--crash-report", "no/crash", "app.py", cwd=cwd) as app:
        assert app.wait() == 2
        app.expect("cannot be written: No such file")


def test_an_application_that_failed(cwd: Path) -> None:
    """What failed, in which service, with the traceback."""
    with crashing(cwd, "fails") as app:
        assert app.wait() == 70
    report = (cwd / "crash").read_text()
    assert "application 'shop' failed: service 'work': RuntimeError: out of work" in report
    assert 'raise RuntimeError("out of work")' in report


def test_a_fault_in_c_code(cwd: Path) -> None:
    """The stacks of all threads, in Python."""
    with crashing(cwd, "segfault") as app:
        assert app.wait() == -signal.SIGSEGV
    report = (cwd / "crash").read_text()
    assert "Fatal Python error: Segmentation fault" in report
    assert "in string_at" in report


def test_a_stop_that_took_too_long(cwd: Path) -> None:
    """Who was still there, and the line that the main thread is at."""
    with crashing(cwd, "stuck") as app:
        app.expect("ready in")
        app.send(signal.SIGTERM)
        assert app.wait() == 70
    report = (cwd / "crash").read_text()
    assert "did not stop within 0.2 s; service 'work' is stopping" in report
    assert "time.sleep(1000)" in report


def test_a_second_signal_is_no_crash_of_ours(cwd: Path) -> None:
    """The operator forced it: the line of the process is all that is left, without a reason below."""
    with crashing(cwd, "again") as app:
        app.expect("ready in")
        app.send(signal.SIGTERM)
        app.expect("slow")
        app.send(signal.SIGTERM)
        assert app.wait() == 143
    assert len((cwd / "crash").read_text().splitlines()) == 1


def test_a_process_that_was_killed_and_reports_before(cwd: Path) -> None:
    """The line of the process is left; what the next one has to tell comes below; a clean one leaves it as it was."""
    with crashing(cwd, "") as app:
        app.expect("ready in")
        app.send(signal.SIGKILL)
        app.wait()
    killed = (cwd / "crash").read_text()
    assert killed.startswith(f"== process {app.pid} ")
    assert len(killed.splitlines()) == 1
    with crashing(cwd, "") as app:
        app.expect("ready in")
        app.send(signal.SIGTERM)
        app.wait()
    assert (cwd / "crash").read_text() == killed
    with crashing(cwd, "fails") as app:
        app.wait()
    assert (cwd / "crash").read_text().startswith(killed + "== process ")
