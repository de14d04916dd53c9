"""Servers and load generators as processes that are watched, bounded, and ended whatever happens."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Self

from bench.measure import cpu_clock
from bench.setting import Setting, environment, on_core

ADDRESS = "127.0.0.1"
START_TIMEOUT = 20.0
STOP_TIMEOUT = 5.0


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind((ADDRESS, 0))
        port: int = sock.getsockname()[1]
        return port


class Process:
    """A child on one core, ended with the `with`."""

    def __init__(self, command: Sequence[str | Path], core: int, *, env: dict[str, str] | None = None, **pipes: object):
        self._command = [str(part) for part in command]
        self._start = {"preexec_fn": on_core(core), "env": environment(**(env or {})), **pipes}

    def __enter__(self) -> Self:
        self.begun = time.perf_counter()
        self.child = subprocess.Popen(self._command, **self._start)  # type: ignore[call-overload]
        self.cpu = cpu_clock(self.child.pid)
        try:
            self.ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def ready(self) -> None:
        """Wait until it can be used."""

    def __exit__(self, *_: object) -> None:
        self.child.terminate()
        try:
            self.child.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


class Server(Process):
    """A program that echoes on `port`."""

    def __init__(self, command: Sequence[str | Path], setting: Setting, port: int, **how: object) -> None:
        self._said = tempfile.TemporaryFile()
        pipes = {"stdout": subprocess.DEVNULL, "stderr": self._said}
        super().__init__(command, setting.server_core, **pipes, **how)  # type: ignore[arg-type]
        self.port = port

    def ready(self) -> None:
        """Until a first byte has come back; `answered` says how many seconds after the start."""
        while not self._answers():
            if self.child.poll() is not None:
                code, words = self.child.returncode, self._last_words()
                raise RuntimeError(f"{' '.join(self._command)} ended with {code} before it served:\n{words}")
            if time.perf_counter() - self.begun > START_TIMEOUT:
                raise TimeoutError(f"{' '.join(self._command)} did not serve within {START_TIMEOUT:g} s")
            time.sleep(0.0005)
        self.answered = time.perf_counter() - self.begun

    def _last_words(self) -> str:
        self._said.seek(0)
        return self._said.read().decode(errors="replace").strip() or "it said nothing"

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._said.close()

    def _answers(self) -> bool:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection((ADDRESS, self.port), 5) as sock:
            sock.sendall(b"?")
            return sock.recv(1) == b"?"
        return False


@dataclass(frozen=True)
class Window:
    """What a server did, and used, in one stretch of load."""

    requests: int
    seconds: float
    cost: float
    """CPU seconds of the server for one request."""
    share: float
    """Of its core, what the generator used; spinning does not count."""


class Place(Enum):
    """Where the generator runs, and whether it sleeps while it waits."""

    APART = "sleep"
    """On a core of its own, as clients do that are no part of the server's machine."""
    TOGETHER = "sleep together"
    """On the server's core: it has sent all it can whenever the server runs."""
    SPINNING = "spin"
    """On a core of its own and never asleep, for the peak."""


class Load(Process):
    """The generator, connected to one server."""

    def __init__(self, setting: Setting, server: Server, mode: str, connections: int, size: int) -> None:
        command = [*setting.load, mode, str(server.port), str(connections), str(size)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        super().__init__(command, setting.load_core, **pipes)  # type: ignore[arg-type]
        self._server = server
        self._setting = setting

    def ready(self) -> None:
        """Connected."""
        if self._answer() != "ready":
            raise RuntimeError("the load generator could not connect")

    def window(self, seconds: float, place: Place = Place.APART) -> Window:
        """Load for so long; the server has finished all of it, closing of connections included."""
        core = self._setting.server_core if place is Place.TOGETHER else self._setting.load_core
        os.sched_setaffinity(self.child.pid, {core})
        before = self._server.cpu()
        assert self.child.stdin is not None
        self.child.stdin.write(f"{seconds * 1000:.0f} {place.value}\n")
        self.child.stdin.flush()
        requests, elapsed, used, errors = (float(word) for word in self._answer().split())
        time.sleep(0.01)
        if errors or not requests:
            raise RuntimeError(f"{errors:.0f} of {requests + errors:.0f} requests failed")
        return Window(int(requests), elapsed, (self._server.cpu() - before) / requests, used / elapsed)

    def _answer(self) -> str:
        assert self.child.stdout is not None
        line: str = self.child.stdout.readline()
        if not line:
            raise RuntimeError("the load generator gave up; see its message")
        return line.strip()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None:
                pipe.close()
