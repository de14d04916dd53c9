"""What the numbers were taken on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

from bench.setting import Setting, Unavailable

OURS = ("plait", "uvloop", "msgspec", "click")
PEERS = ("Twisted", "aiomisc", "mode-streaming")


def describe(setting: Setting, *, peers: bool) -> dict[str, str]:
    """Names and versions, for the head of the table; those of the peers only if they take part."""
    return {
        "CPU": f"{_cpu()}, {len(os.sched_getaffinity(0))} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": _versions(setting, peers=peers),
        "C compiler": _compiler(setting),
        "load average": " ".join(f"{load:.1f}" for load in os.getloadavg()) + " at the start",
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


_VERSIONS = """
import sys
from importlib.metadata import version
print(", ".join(f"{name} {version(name)}" for name in sys.argv[1:]))
"""


def _versions(setting: Setting, *, peers: bool) -> str:
    if not peers:
        return _ask(Path(sys.executable), OURS)
    try:
        return _ask(setting.peers / "python", OURS + PEERS)
    except Unavailable as error:
        return f"{_ask(Path(sys.executable), OURS)}; peers are missing: {error}"


def _ask(python: Path, packages: tuple[str, ...]) -> str:
    return subprocess.check_output([python, "-c", _VERSIONS, *packages], text=True).strip()


def _compiler(setting: Setting) -> str:
    try:
        return subprocess.check_output([setting.compiler, "--version"], text=True).splitlines()[0]
    except Unavailable as error:
        return str(error)
