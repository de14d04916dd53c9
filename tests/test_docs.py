"""The documentation is true: its Python runs, its console commands exist, its links lead somewhere."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from plait import Application, Policy, events
from plait._kernel.states import TRANSITIONS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = [ROOT / "README.md", ROOT / "docs/tutorial.md", ROOT / "docs/net.md", ROOT / "docs/lifecycle.md"]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


def blocks(page: Path) -> list[str]:
    """The Python of a page."""
    return PYTHON.findall(page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file of the repository; the web is left alone."""
    for target in LINK.findall(page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize(
    ("page", "number"),
    [(page, number) for page in PROGRAMS for number in range(len(blocks(page)))],
    ids=lambda value: value.name if isinstance(value, Path) else str(value),
)
def test_every_program_of_these_pages_runs(page: Path, number: int, tmp_path: Path) -> None:
    """Those with a make_app are checked as `plait check` does; a test in them is run."""
    source = blocks(page)[number]
    (tmp_path / "program.py").write_text(source)
    if "def make_app" in source:
        done = subprocess.run(
            [sys.executable, "-m", "plait", "check", "program.py"],
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    else:
        namespace: dict[str, object] = {}
        exec(compile(source, str(page), "exec"), namespace)
        (test,) = [value for name, value in namespace.items() if name.startswith("test_")]
        asyncio.run(test())  # type: ignore[operator]


async def test_the_readmes_smallest_service_answers(tmp_path: Path) -> None:
    """As a reader would try it, but on a port that is free."""
    namespace: dict[str, object] = {}
    exec(blocks(ROOT / "README.md")[0].replace(":8000", ":0"), namespace)
    app = namespace["make_app"]()  # type: ignore[operator]
    assert isinstance(app, Application)
    async with app:
        (server,) = app
        (endpoint,) = server.endpoints  # type: ignore[attr-defined]
        reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
        writer.write(b"world\n")
        assert await reader.read() == b"hello, world\n"
        writer.close()
        await writer.wait_closed()


def test_the_table_of_states_is_the_kernels() -> None:
    """Written from the transitions; a new edge has to be written down."""
    rows = [f"{old.value:10} -> {', '.join(new.value for new in news)}" for old, news in TRANSITIONS.items()]
    assert "\n".join(rows) in (ROOT / "docs" / "lifecycle.md").read_text()


def test_the_diagram_of_states_is_the_kernels() -> None:
    """Drawn from the transitions by docs/states.py; a new edge has to be drawn."""
    import states

    drawn = states.edges((ROOT / "docs" / "states.svg").read_text())
    assert drawn == {(old.value, new.value) for old, news in TRANSITIONS.items() for new in news}


def test_every_default_of_a_policy_is_told() -> None:
    """With its present value."""
    page = (ROOT / "docs" / "lifecycle.md").read_text()
    for field in fields(Policy):
        value = str(field.default) if not isinstance(field.default, str) else f'"{field.default}"'
        assert f"| `{field.name}` | `{value}` |" in page


def test_every_kind_of_event_is_told() -> None:
    """In the table of the lifecycle's page."""
    page = (ROOT / "docs" / "lifecycle.md").read_text()
    for kind in get_args(events.Event):
        assert f"`{kind.__name__}`" in page


def test_the_layout_in_the_design_names_every_kernel_file() -> None:
    """And no file that is gone."""
    page = (ROOT / "docs" / "design.md").read_text()
    files = {path.name for path in (ROOT / "src/plait/_kernel").glob("*.py")} - {"__init__.py", "host.py", "policy.py"}
    files -= {"reserved.py", "snapshot.py"}
    assert {name for name in files if f"`{name}`" not in page} == set()
