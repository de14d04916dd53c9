"""Cold start: from the start of the process to the first byte that comes back, `plait run` and `twistd`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.measure import Row, at_most, in_turns, interval, ratios
from bench.processes import ADDRESS, Server, free_port
from bench.rows.serving import SERVERS
from bench.setting import Setting


def measure(setting: Setting) -> Iterator[Row]:
    """Both serve the same echo from a file of a few lines; both write their log to nowhere."""
    setting.say("cold start")
    with tempfile.TemporaryDirectory() as folder:
        things = {"plait run": partial(_plait, setting, folder), "twistd": partial(_twistd, setting, folder)}
        in_turns(2, things)  # what is compiled to bytecode is compiled
        taken = in_turns(setting.choose(24, 6), things)
    yield Row(
        "cold start, process to first byte: plait run : twistd",
        ratios(taken["plait run"], taken["twistd"]),
        at_most(1),
        beside=", ".join(f"{name} {interval(values).median * 1000:.0f} ms" for name, values in taken.items()),
        raw=taken,
    )


def _plait(setting: Setting, folder: str) -> float:
    port = free_port()
    command: list[str | Path] = [setting.peers / "plait", "run", SERVERS / "cold_echo.py"]
    return _first_byte(setting, command, port, folder, {"ECHO_LISTEN": f"tcp://{ADDRESS}:{port}"})


def _twistd(setting: Setting, folder: str) -> float:
    port = free_port()
    options = ["--nodaemon", "--pidfile=", "--logfile=/dev/null", "--no_save"]
    command = [setting.peers / "twistd", *options, "--python", SERVERS / "cold_echo.tac"]
    return _first_byte(setting, command, port, folder, {"ECHO_PORT": str(port)})


def _first_byte(setting: Setting, command: list[str | Path], port: int, folder: str, env: dict[str, str]) -> float:
    with Server(command, setting, port, env=env, cwd=folder) as server:
        return server.answered
