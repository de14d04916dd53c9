"""Echo through a classic Protocol: against Plait's own protocol server, and against Twisted on epoll.

The goal is 3 times Twisted. What stays below is what raw uvloop leaves: see the limit in echo.py's rows.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.measure import Row, at_least
from bench.rows.serving import Contest, compare
from bench.setting import Setting

CONNECTIONS = 64
SIZES = {64: ("64 B", 2.0), 4096: ("4 KiB", 1.7)}


def measure(setting: Setting) -> Iterator[Row]:
    """Small and larger requests."""
    for size, (text, twisted) in SIZES.items():
        setting.say(f"classic echo of {text}")
        yield from compare(setting, _contests(text, twisted), "echo", CONNECTIONS, size, setting.choose(24, 6))


def _contests(text: str, twisted: float) -> list[Contest]:
    echo = f"classic echo {text}, {CONNECTIONS} connections: "
    return [
        Contest(echo + "vs Plait's protocol server", "classic", "Plait", at_least(0.9)),
        Contest(echo + "vs Twisted", "classic", "Twisted", at_least(twisted)),
    ]
