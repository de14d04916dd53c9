"""The pidfile: one process has it, whatever number stands in it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plait.errors import UsageError
from plait.process.pidfile import PidFile

HOLD = (
    "import sys, time; from plait.process.pidfile import PidFile; p = PidFile(sys.argv[1]); print('held', flush=True); "
)


def holding(path: Path, code: str = "time.sleep(60)") -> subprocess.Popen[str]:
    """Another process that has it."""
    process = subprocess.Popen([sys.executable, "-c", HOLD + code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    """By force."""
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_it_holds_the_number_and_is_removed(tmp_path: Path) -> None:
    """As scripts expect it: a number, a newline, readable by all."""
    path = tmp_path / "pid"
    with_umask = os.umask(0o022)
    file = PidFile(path)
    os.umask(with_umask)
    assert path.read_text() == f"{os.getpid()}\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert file.stale == ""
    file.close()
    file.close()
    assert not path.exists()


def test_a_second_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    """And the file is left as it is."""
    path = tmp_path / "pid"
    other = holding(path)
    with pytest.raises(UsageError, match=f"held by process {other.pid}, which is running"):
        PidFile(path)
    assert path.read_text() == f"{other.pid}\n"
    end(other)


def test_a_process_that_was_killed_keeps_nobody_from_starting(tmp_path: Path) -> None:
    """Its number is stale, and that is said."""
    path = tmp_path / "pid"
    other = holding(path)
    end(other)
    file = PidFile(path)
    assert f"left behind by process {other.pid}" in file.stale
    assert path.read_text() == f"{os.getpid()}\n"
    file.close()


def test_a_number_that_another_program_has_got_keeps_nobody_from_starting(tmp_path: Path) -> None:
    """1 always runs; what counts is the lock. Shorter text replaces longer."""
    path = tmp_path / "pid"
    path.write_text("1" + " " * 30)
    file = PidFile(path)
    assert path.read_text() == f"{os.getpid()}\n"
    file.close()


def test_a_child_that_outlives_its_parent_does_not_hold_it(tmp_path: Path) -> None:
    """A forked worker, or a program it started: the file is the parent's alone."""
    path = tmp_path / "pid"
    code = "import os; pid = os.fork(); pid or os.close(1); print(pid, flush=True) if pid else None; time.sleep(60)"
    other = holding(path, code)
    assert other.stdout is not None
    child = int(other.stdout.readline())
    end(other)
    try:
        PidFile(path).close()
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_forked_child_does_not_remove_it(tmp_path: Path) -> None:
    """When it unwinds what its parent had entered."""
    path = tmp_path / "pid"
    file = PidFile(path)
    child = os.fork()
    if not child:
        file.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert path.exists()
    file.close()


def test_one_that_is_another_file_by_now_is_left_alone(tmp_path: Path) -> None:
    """Somebody removed it, and another process has put its own there."""
    path = tmp_path / "pid"
    file = PidFile(path)
    path.unlink()
    other = holding(path)
    file.close()
    assert path.read_text() == f"{other.pid}\n"
    end(other)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """In a folder that others can write to, it could lead to any file of ours."""
    precious = tmp_path / "precious"
    precious.write_text("dear")
    (tmp_path / "pid").symlink_to(precious)
    with pytest.raises(UsageError, match="cannot be written"):
        PidFile(tmp_path / "pid")
    assert precious.read_text() == "dear"


def test_one_that_is_removed_just_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between our opening and our locking it: the lock of a file that nobody finds is worth nothing."""
    path = tmp_path / "pid"
    path.write_text("1\n")
    lock, left = fcntl.flock, [path]

    def late(fd: int, how: int) -> None:
        if left:
            left.pop().unlink()
        lock(fd, how)

    monkeypatch.setattr("plait.process.pidfile.fcntl.flock", late)
    file = PidFile(path)
    assert path.read_text() == f"{os.getpid()}\n"
    file.close()


def test_who_reads_it_within_the_process_does_not_lose_it(tmp_path: Path) -> None:
    """A check of the application's own, say."""
    path = tmp_path / "pid"
    other = holding(path, "open(sys.argv[1]).read(); print('read', flush=True); time.sleep(60)")
    assert other.stdout is not None
    assert other.stdout.readline() == "read\n"
    with pytest.raises(UsageError, match="is running"):
        PidFile(path)
    end(other)


def test_many_that_start_at_once(tmp_path: Path) -> None:
    """Exactly one gets it, though the one before removes it at the same moment."""
    path = tmp_path / "pid"
    before = PidFile(path)
    go = tmp_path / "go"
    code = (
        "import sys, os\nfrom plait.errors import UsageError\nfrom plait.process.pidfile import PidFile\n"
        "print('here', flush=True)\nwhile not os.path.exists(sys.argv[2]): pass\n"
        "for _ in range(200):\n try:\n  p = PidFile(sys.argv[1]); break\n except UsageError: pass\n"
        "else: sys.exit(1)\n"
        "assert open(sys.argv[1]).read() == f'{os.getpid()}\\n'\nprint('got it', flush=True)\nsys.stdin.read()\n"
    )
    others = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path), str(go)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for one in others:
        assert one.stdout is not None
        assert one.stdout.readline() == "here\n"
    go.touch()
    before.close()
    deadline = time.monotonic() + 30
    while sum(one.poll() is None for one in others) > 1:
        assert time.monotonic() < deadline
    (winner,) = [one for one in others if one.poll() is None]
    assert winner.stdout is not None
    assert winner.stdout.readline() == "got it\n"
    for one in others:
        one.communicate()
    assert [one.returncode for one in others].count(0) == 1
