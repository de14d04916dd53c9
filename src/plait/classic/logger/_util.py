"""Traces of events, to be read."""

from __future__ import annotations

from typing import Any

from plait.classic.logger._interfaces import LogTrace


def formatTrace(trace: LogTrace) -> str:
    """Who has called whom, a line each, indented by depth."""
    lines: list[str] = []
    depths: dict[int, int] = {}

    def add(one: Any, depth: int) -> None:
        name = f" ({one.name})" if hasattr(one, "name") else ""
        lines.append(f"{'  ' * depth}{'-> ' if depth else ''}{one}{name}\n")
        depths[id(one)] = depth

    for publisher, observer in trace:
        if id(publisher) not in depths:
            add(publisher, 0)
        add(observer, depths[id(publisher)] + 1)
    return "".join(lines)
