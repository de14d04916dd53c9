"""The built wheel, installed in a new environment, runs an application: what users get, not the source tree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the checkout, in isolation, as a release would be."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(ROOT))
    (built,) = out.glob("*.whl")
    return built


def run(*command: str, **more: object) -> str:
    """The output of a command that must succeed; on failure its output is the message."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_REQUIRE"))}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env, check=False, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return str(done.stdout)


def test_it_holds_the_package_its_types_and_its_licence(wheel: Path) -> None:
    """And nothing of the tests."""
    names = zipfile.ZipFile(wheel).namelist()
    assert "plait/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert all(name.startswith(("plait/", "plait-")) for name in names)
    (entries,) = [name for name in names if name.endswith("entry_points.txt")]
    assert "[pytest11]\nplait = plait.testing.plugin" in zipfile.ZipFile(wheel).read(entries).decode()


@pytest.mark.timeout(600)
def test_an_application_runs_from_it(wheel: Path, tmp_path: Path) -> None:
    """Installed with its declared dependencies alone; started by its own command, and by `python -m plait`."""
    run(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    python = str(tmp_path / "venv" / "bin" / "python")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel))
    (tmp_path / "job.py").write_text(
        "from plait import Application, Service\n"
        "class Job(Service):\n"
        "    async def run(self):\n"
        "        print('the job is done', flush=True)\n"
        "def make_app():\n"
        "    app = Application('jobs')\n"
        "    app.add(Job())\n"
        "    return app\n"
    )
    for command in ([str(tmp_path / "venv" / "bin" / "plait")], [python, "-m", "plait"]):
        assert "the job is done" in run(*command, "run", "job.py", cwd=str(tmp_path))
    assert re.search(r"^echo\b", run(python, "-m", "plait", "list", cwd=str(tmp_path)), re.MULTILINE)
