"""docs/testing.md is true: its files make a project whose tests pass, and its tables name what there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import plait.testing
from plait.testing import Faults, Recorder, Running

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
FILES = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
SETTINGS = "".join(re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("mode", ["alone", "strict", "auto"])
def test_its_programs_pass(tmp_path: Path, mode: str) -> None:
    """All of them, with the settings it tells of, whatever is done with pytest-asyncio."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    settings = ["-p", "no:asyncio"] if mode == "alone" else ["-o", f"asyncio_mode={mode}"]
    if mode != "alone":
        settings += ["-o", "asyncio_default_fixture_loop_scope=function"]
    (tmp_path / "pyproject.toml").write_text(SETTINGS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *settings],
        cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert f"{PAGE.count('def test_')} passed" in done.stdout


def test_every_python_block_is_one_of_its_files() -> None:
    """None is left out of the above."""
    assert len(FILES) == PAGE.count("```python") == 8
    assert SETTINGS


@pytest.mark.parametrize("name", plait.testing.__all__)
def test_every_public_name_is_there_documented_and_on_the_page(name: str) -> None:
    """About a dozen, each where it is said to be."""
    value = getattr(plait.testing, name)
    assert value.__doc__
    assert value.__module__ == plait.testing._HOMES[name]
    assert re.search(rf"\b{name}\b", PAGE, re.IGNORECASE)


@pytest.mark.parametrize("cls", [Faults, Recorder, Running])
def test_every_public_method_is_on_the_page(cls: type) -> None:
    """By name."""
    for name in vars(cls):
        if not name.startswith("_"):
            assert re.search(rf"\b{name}\b", PAGE), name
