"""Taking new connections: each is made, echoes 64 bytes once, and is closed by its client."""

from __future__ import annotations

from collections.abc import Iterator

from bench.measure import Row, at_least
from bench.rows.serving import Contest, compare
from bench.setting import Setting

AT_A_TIME = 64


def measure(setting: Setting) -> Iterator[Row]:
    """Against uvloop's own create_server."""
    setting.say("accepting connections")
    contest = Contest("accepting connections vs raw uvloop", "Plait", "raw uvloop", at_least(0.9))
    yield from compare(setting, [contest], "accept", AT_A_TIME, 64, setting.choose(24, 6))
