"""Draws states.svg from the kernel's table: `python docs/states.py`, with Graphviz. A test compares the two."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from plait._kernel.states import AT_REST, LIVE, READY, TRANSITIONS, State

COLOURS = {
    **dict.fromkeys(AT_REST, ("#f6f8fa", "#57606a")),
    **dict.fromkeys(LIVE, ("#fff8c5", "#9a6700")),
    **dict.fromkeys(READY, ("#dafbe1", "#1a7f37")),
    State.FAILED: ("#ffebe9", "#cf222e"),
    State.BACKOFF: ("#fff1e5", "#bc4c00"),
}
ROWS = (
    (State.NEW, State.STARTING),
    (State.RUNNING, State.PAUSING, State.PAUSED, State.RESUMING),
    (State.STOPPED, State.FAILED),
)
"""What stands side by side."""


def dot() -> str:
    """The diagram, in Graphviz's language."""
    lines = [
        "digraph states {",
        'bgcolor="transparent"; nodesep=0.45; ranksep=0.55; pad=0.1;',
        'node [shape=box, style="rounded,filled", fontname="Helvetica,Arial,sans-serif", fontsize=12];',
        'edge [color="#57606a", arrowsize=0.7];',
    ]
    for state in State:
        fill, line = COLOURS[state]
        lines.append(f'{state.value} [fillcolor="{fill}", color="{line}", fontcolor="{line}"];')
    for row in ROWS:
        lines.append("{rank=same; " + "; ".join(state.value for state in row) + "}")
    for old, news in TRANSITIONS.items():
        lines += [f"{old.value} -> {new.value};" for new in news]
    return "\n".join([*lines, "}"])


def edges(svg: str) -> set[tuple[str, str]]:
    """The edges that a drawing has."""
    return set(re.findall(r"<title>(\w+)&#45;&gt;(\w+)</title>", svg))


if __name__ == "__main__":
    drawn = subprocess.run(["dot", "-Tsvg"], input=dot(), capture_output=True, text=True, check=True).stdout
    Path(__file__).with_name("states.svg").write_text(drawn)
