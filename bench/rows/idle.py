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
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        plait = Path(sys.executable).parent / "plait"
        command = [plait, "run", "--log-file", Path(folder) / "log", SERVERS / "cold_echo.py"]
        env = {"ECHO_LISTEN": f"tcp://{ADDRESS}:{port}"}
        with Server(command, setting, port, env=env, cwd=folder) as server:
            time.sleep(SETTLING)
            before = _wakeups(server.child.pid)
            time.sleep(seconds)
            after = _wakeups(server.child.pid)
    woken = float(sum(after.values()) - sum(before.values()))
    yield Row(
        f"idle for {seconds} s: wake-ups of all threads",
        interval([woken]),
        at_most(0),
        "",
        beside=f"{len(after)} threads",
        raw={"wake-ups": [woken]},
    )


def _wakeups(pid: int) -> dict[str, int]:
    """Voluntary context switches so far, by thread."""
    counts = {}
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                counts[status.parent.name] = int(line.split()[1])
    return counts
