"""An idle application: how often any of its threads wakes up. Each wake-up ends in a voluntary context switch."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.measure import Row, at_most, interval
from bench.processes import ADDRESS, Server, free_port
from bench.rows.serving import SERVERS
from bench.setting import Setting

SETTLING = 1.0


def measure(setting: Setting) -> Iterator[Row]:
    """`plait run` of an echo server to which nobody talks."""
    seconds = setting.choose(10, 3)
    setting.say(f"idle for {seconds} s")
    woken, threads = wakeups_of_plait(setting, SERVERS / "cold_echo.py", seconds)
    yield Row(
        f"idle for {seconds} s: wake-ups of all threads",
        interval([woken]),
        at_most(0),
        "",
        beside=f"{threads} threads",
        raw={"wake-ups": [woken]},
    )


def wakeups_of_plait(setting: Setting, file: Path, seconds: float, settling: float = SETTLING) -> tuple[float, int]:
    """Wake-ups in so many seconds of `plait run` of an echo server in `file`, and how many threads it has."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command: list[str | Path] = [Path(sys.executable).parent / "plait", "run", "--log-file", Path(folder) / "log"]
        env = {"ECHO_LISTEN": f"tcp://{ADDRESS}:{port}"}
        with Server([*command, file], setting, port, env=env, cwd=folder) as server:
            return wakeups(server, seconds, settling)


def wakeups(server: Server, seconds: float, settling: float) -> tuple[float, int]:
    """Wake-ups of a server in so many seconds, after a while to settle, and how many threads it has."""
    time.sleep(settling)
    before = _switches(server.child.pid)
    time.sleep(seconds)
    after = _switches(server.child.pid)
    if before.keys() != after.keys() or server.child.poll() is not None:
        raise RuntimeError("the server has ended, or its threads have changed, while it was to be idle")
    return float(sum(after.values()) - sum(before.values())), len(after)


def _switches(pid: int) -> dict[str, int]:
    """Voluntary context switches so far, by thread."""
    counts = {}
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                counts[status.parent.name] = int(line.split()[1])
    return counts
