"""A `plait` process of a test: its lines as they come, signals to it, its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

TIMEOUT = 20.0
PLAIT = (sys.executable, "-m", "plait")


def environment(home: Path, **more: str) -> dict[str, str]:
    """Nothing of the tester's own, and folders of the test's for whatever might be left behind."""
    home.mkdir(exist_ok=True)
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH") if name in os.environ}
    return {
        **kept,
        "HOME": str(home),
        "TMPDIR": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }


def plait(*argv: str, cwd: Path, prefix: tuple[str, ...] = (), **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    env = environment(cwd.parent / f"{cwd.name}-home", **more.pop("env", {}))
    return subprocess.run(
        [*prefix, *PLAIT, *argv], cwd=cwd, env=env, capture_output=True, text=True, timeout=60, **more
    )


class Running:
    """`plait run …` in the background; as a context manager it is killed at the end if it still runs."""

    def __init__(self, *argv: str, cwd: Path, program: tuple[str, ...] = (*PLAIT, "run"), **env: str) -> None:
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._process = subprocess.Popen(
            [*program, *argv],
            cwd=cwd,
            env=environment(cwd.parent / f"{cwd.name}-home", **env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._more:
                self.lines.append(line.rstrip("\n"))
                self._more.notify_all()
        with self._more:
            self._more.notify_all()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # its children as well
        self._process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def expect(self, text: str) -> str:
        """The first line that holds this text, waited for."""
        deadline = time.monotonic() + TIMEOUT
        with self._more:
            while True:
                for line in self.lines:
                    if text in line:
                        return line
                alive = self._reader.is_alive()
                if not alive or not self._more.wait(deadline - time.monotonic()):
                    raise AssertionError(f"{text!r} is not among these lines:\n" + "\n".join(self.lines))

    def expect_nth(self, number: int, *texts: str) -> str:
        """The line with which `number` lines hold one of these texts, waited for."""
        deadline = time.monotonic() + TIMEOUT
        with self._more:
            while True:
                found = [line for line in self.lines if any(text in line for text in texts)]
                if len(found) >= number:
                    return found[number - 1]
                if not self._reader.is_alive() or not self._more.wait(deadline - time.monotonic()):
                    last = "\n".join(self.lines[-50:])
                    raise AssertionError(f"{len(found)} of {number} lines hold {texts}:\n{last}")

    def send(self, one: signal.Signals) -> None:
        """A real signal."""
        self._process.send_signal(one)

    def wait(self) -> int:
        """The exit code, once all its lines are here."""
        code = self._process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        return code

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    @property
    def records(self) -> list[dict[str, Any]]:
        """Its lines, each a JSON object."""
        return [json.loads(line) for line in self.lines]


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something another process does."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.01)
