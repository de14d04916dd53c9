"""Programs as a user starts them: real processes, their logs, and a deadline on every wait."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

EXAMPLES = Path(__file__).parents[2] / "examples"
DEADLINE = 30.0
"""Seconds that anything may take before a test fails."""


class Program:
    """A running program whose output is kept. Leaving it kills what is still there."""

    def __init__(self, *command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [*map(str, command)],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.wait()
        if error is not None:
            print(self.output)

    @property
    def output(self) -> str:
        """All that was written so far."""
        return "".join(self.lines)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first place where the log's messages match."""
        expression = re.compile(pattern)
        deadline = time.monotonic() + DEADLINE
        seen = 0
        while True:
            with self._news:
                while seen == len(self.lines):
                    left = deadline - time.monotonic()
                    assert left > 0 and self._reader.is_alive(), f"no {pattern!r} in:\n{self.output}"  # noqa: PT018
                    self._news.wait(min(left, 0.2))
                line = message_of(self.lines[seen])
                seen += 1
            if found := expression.search(line):
                return found

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit code, once it has ended and all its output was read."""
        code = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()


class Application(Program):
    """A target under `plait run`."""

    def __init__(
        self, target: str, *options: str, cwd: Path, env: dict[str, str] | None = None, loop: str = "uvloop"
    ) -> None:
        run = [sys.executable, "-m", "plait", "run", "--loop", loop]
        super().__init__(*run, EXAMPLES / target, *options, cwd=cwd, env=env)

    def wait_ready(self) -> dict[str, tuple[str, int]]:
        """Where its services listen, by name, once all are ready."""
        ready = self.wait_for(r"^ready in .*")[0]
        return {name: (host, int(port)) for host, port, name in re.findall(r"//([\d.]+):(\d+) \(([\w/]+)\)", ready)}


def message_of(line: str) -> str:
    """The message of a JSON log line; any other line as it is."""
    try:
        parsed: Any = json.loads(line)
    except ValueError:
        return line.rstrip("\n")
    return str(parsed["message"]) if isinstance(parsed, dict) and "message" in parsed else line


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Until it is so; another process does it, so there is nothing to wait on but time."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE:g} s: {what}"
        time.sleep(0.02)


def ask(address: tuple[str, int], *questions: str) -> list[list[str]]:
    """The collector's answer to each question: its lines, without the empty one that ends it."""
    with socket.create_connection(address, DEADLINE) as connection:
        connection.sendall("".join(f"{question}\n" for question in (*questions, "quit")).encode())
        with connection.makefile(encoding="utf-8", newline="\n") as answers:
            said = answers.read()
    assert said.endswith("\n\n")
    return [answer.split("\n") for answer in said[:-2].split("\n\n")]


def ask_line(address: tuple[str, int], line: bytes) -> bytes:
    """The line that a server answers to a line."""
    with socket.create_connection(address, DEADLINE) as connection, connection.makefile("rb") as answers:
        connection.sendall(line)
        return answers.readline()
