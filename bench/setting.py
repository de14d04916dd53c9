"""Where the bench runs: its folder, the peers' environment, what the compiler makes, which core does what.

Rules: everything made is in .bench/, which git ignores. Peers and Plait run in one virtual environment, .bench/venv, so
that interpreter, uvloop and path are the same for both; Plait is installed there as an editable checkout, so what is
measured is never stale. Rows about Plait alone run in the environment of the bench.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent


class Unavailable(Exception):
    """What a row needs is not there; its text says what. The row is skipped."""


class Setting:
    """See the module's rules."""

    def __init__(self, *, quick: bool) -> None:
        self.quick = quick
        self.folder = ROOT / ".bench"
        self.folder.mkdir(exist_ok=True)
        cores = sorted(os.sched_getaffinity(0))
        self.server_core = cores[0]
        self.load_core = cores[-1]

    def choose(self, full: int, quick: int) -> int:
        """The one that the kind of run asks for."""
        return quick if self.quick else full

    def say(self, text: str) -> None:
        """Progress, for who waits."""
        print(f"bench: {text}", file=sys.stderr, flush=True)

    @cached_property
    def peers(self) -> Path:
        """The folder of programs of the peers' environment, made if it is not there; Unavailable if it cannot be."""
        venv = self.folder / "venv"
        mark, wanted = venv / "made-for", self._wanted()
        if not mark.exists() or mark.read_text() != wanted:
            self.say("installing the peers into .bench/venv")
            self._make([sys.executable, "-m", "venv", "--clear", venv])
            pip = [venv / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            self._make([*pip, "--requirement", HERE / "peers.txt", "--editable", ROOT])
            mark.write_text(wanted)
        return venv / "bin"

    def _wanted(self) -> str:
        """What the peers' environment depends on."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        return "\n".join([sys.version, (HERE / "peers.txt").read_text(), repr(project)])

    @cached_property
    def compiler(self) -> str:
        """The C compiler; Unavailable without one."""
        found = shutil.which("cc")
        if found is None:
            raise Unavailable("no C compiler (cc) here")
        return found

    def compiled(self, source: Path) -> Path:
        """The program made of a C file."""
        program = self.folder / source.stem
        if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
            self._make([self.compiler, "-O2", "-o", program, source])
        return program

    def _make(self, command: list[str | Path]) -> None:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            reason = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise Unavailable(f"{Path(command[0]).name} {command[1]} … failed: {reason[-1] if reason else 'no reason'}")

    @cached_property
    def load(self) -> list[str]:
        """How to start the load generator: the one in C, or without a compiler the one in Python."""
        try:
            return [str(self.compiled(HERE / "load.c"))]
        except Unavailable:
            return [sys.executable, str(HERE / "load.py")]


def environment(**more: str) -> dict[str, str]:
    """For every child: ours, but for Python's own variables, which could keep it from caching bytecode, for one."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | more


def on_core(core: int) -> Callable[[], None]:
    """For a child, before it runs: stay on one core."""
    return lambda: os.sched_setaffinity(0, {core})
