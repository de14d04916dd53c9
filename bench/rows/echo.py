"""Echo over connections that stay open: what Plait's Server adds to a request, and what it spares."""

from __future__ import annotations

from collections.abc import Iterator

from bench.measure import Row, at_least
from bench.rows.serving import Contest, compare
from bench.setting import Setting

CONNECTIONS = 64
SIZES = {64: ("64 B", 2.5), 4096: ("4 KiB", 2.0)}


def measure(setting: Setting) -> Iterator[Row]:
    """Small and larger requests."""
    for size, (text, twisted) in SIZES.items():
        setting.say(f"echo of {text}")
        yield from compare(setting, _contests(text, twisted), "echo", CONNECTIONS, size, setting.choose(24, 6))


def _contests(text: str, twisted: float) -> list[Contest]:
    echo = f"echo {text}, {CONNECTIONS} connections: "
    return [
        Contest(echo + "protocol vs raw uvloop", "Plait", "raw uvloop", at_least(0.95)),
        Contest(echo + "protocol vs Twisted", "Plait", "Twisted", at_least(twisted)),
        Contest(echo + "raw uvloop vs Twisted (the limit)", "raw uvloop", "Twisted"),
        Contest(echo + "protocol vs C epoll (the limit)", "Plait", "C epoll"),
        Contest(echo + "coroutine handler vs Twisted", "Plait, coroutine handler", "Twisted", at_least(1.3)),
    ]
