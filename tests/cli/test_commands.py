"""The commands beside `run`, and the command line itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import plait as package
from running import PLAIT, environment, plait

APP = '''
from typing import Annotated
from plait import Application, Group, Meta, Options, Secret, Service

class DemoOptions(Options):
    """Demonstrates things."""
    word: Annotated[str, Meta(description="what to say")] = "hello"
    password: Secret = Secret("hunter2")

class Db(Service):
    async def on_start(self): raise AssertionError("started")

def make_app(options: DemoOptions) -> Application:
    app = Application("demo", version="1.2")
    back = Group()
    back.add(Db(), name="db")
    app.add(back, name="back")
    app.add(Service(), name="web", needs=["back"])
    return app
'''


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    folder = tmp_path / "cwd"
    folder.mkdir()
    (folder / "demo.py").write_text(APP)
    return folder


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["-h"]])
def test_help_imports_nothing_heavy(cwd: Path, argv: list[str]) -> None:
    """`plait --help` and `--version` import neither asyncio nor msgspec nor logging's relatives, nor the kernel."""
    code = (
        "import sys\nfrom plait.cli.main import main\n"
        f"sys.argv = ['plait', *{argv!r}]\ncode = main()\n"
        "print(sorted(n for n in sys.modules if n.split('.')[0] in "
        "('asyncio', 'msgspec', 'uvloop', 'ssl', 'logging', 'json') or n.startswith(('plait._kernel', 'plait.o'))), "
        "file=sys.stderr)\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stderr == "[]\n"
    assert "plait" in done.stdout


def test_version(cwd: Path) -> None:
    """`plait --version` names the package's version."""
    assert plait("--version", cwd=cwd).stdout == f"plait {package.__version__}\n"


def test_the_script_and_the_module_are_the_same(cwd: Path) -> None:
    """`plait` and `python -m plait` say the same."""
    script = Path(sys.executable).parent / "plait"
    done = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=60)
    assert done.stdout == plait("--help", cwd=cwd).stdout
    assert "Usage: plait [OPTIONS] COMMAND" in done.stdout


def test_a_misspelt_command(cwd: Path) -> None:
    """A command that is not there names the nearest; a target in its place, the command to run it."""
    assert (
        plait("rnu", "demo.py", cwd=cwd).stderr
        == "plait: error: no command 'rnu'; did you mean 'run'?; see plait --help\n"
    )
    done = plait("demo.py", cwd=cwd)
    assert done.returncode == 2
    assert "plait run demo.py" in done.stderr


def test_options_names_value_and_source(cwd: Path) -> None:
    """`plait options` has a line for each option, with the source that won; secrets are masked."""
    (cwd / "c.toml").write_text('word = "file"\n')
    env = {"DEMO_PASSWORD": "sesame"}
    done = plait("options", "demo.py", "--config", "c.toml", cwd=cwd, env=env)
    assert done.returncode == 0
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["word", "file", "c.toml", "word"],
        ["password", "****", "environment", "DEMO_PASSWORD"],
    ]
    done = plait("options", "demo.py", "--word", "line", "--config", "c.toml", cwd=cwd)
    assert done.stdout.splitlines()[0].split() == ["word", "line", "--word"]


@pytest.mark.parametrize(("file_format", "name"), [("toml", "c.toml"), ("json", "c.json"), ("env", "c.env")])
def test_options_writes_a_file_that_reads_back(cwd: Path, file_format: str, name: str) -> None:
    """The starting file, given back, has the values it was written with, and no secret."""
    done = plait("options", "--format", file_format, "demo.py", "--word", "written", cwd=cwd)
    assert done.returncode == 0
    assert "hunter2" not in done.stdout
    (cwd / name).write_text(done.stdout)
    flag = "--env-file" if file_format == "env" else "--config"
    back = plait("options", "demo.py", flag, name, cwd=cwd)
    assert back.stdout.splitlines()[0].split()[:3] == ["word", "written", name]


def test_check_prints_the_tree(cwd: Path) -> None:
    """`plait check` starts nothing, and shows the services it would start, with their needs."""
    done = plait("check", "demo.py", cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "application demo 1.2",
        "  back  plait._kernel.group:Group",
        "    db  demo:Db",
        "  web  plait._kernel.service:Service  needs back",
    ]


def _install(site: Path, name: str, entry_points: str) -> None:
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[plait.services]\n{entry_points}\n")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with two installed packages, one of them broken."""
    folder = tmp_path / "site"
    _install(folder, "good-plugin", "demo = good_plugin:make_app")
    _install(folder, "bad-plugin", "broken = bad_plugin:make_app")
    (folder / "good_plugin.py").write_text(APP)
    (folder / "bad_plugin.py").write_text("1 / 0\n")
    return folder


def test_list_shows_plugins_and_what_is_broken(cwd: Path, site: Path) -> None:
    """Each plugin has its description, distribution and version; a broken one the reason, and harms no other."""
    done = plait("list", cwd=cwd, env={"PYTHONPATH": str(site)})
    assert done.returncode == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert lines["demo"].endswith("Demonstrates things.  (good-plugin 1.0)")
    assert "BROKEN" in lines["broken"]
    assert "ZeroDivisionError" in lines["broken"]
    assert lines["broken"].endswith("(bad-plugin 1.0)")


def test_list_as_json(cwd: Path, site: Path) -> None:
    """`plait list --json` gives the same to programs."""
    done = plait("list", "--json", cwd=cwd, env={"PYTHONPATH": str(site)})
    found = {plugin["name"]: plugin for plugin in json.loads(done.stdout)}
    assert found["demo"]["error"] is None
    assert (found["demo"]["distribution"], found["demo"]["version"]) == ("good-plugin", "1.0")
    assert "ZeroDivisionError" in found["broken"]["error"]


def test_a_plugin_has_help_and_a_broken_one_says_so(cwd: Path, site: Path) -> None:
    """`plait run NAME --help` shows a plugin's options; running a broken one names its package."""
    env = {"PYTHONPATH": str(site)}
    assert "--word TEXT" in plait("run", "demo", "--help", cwd=cwd, env=env).stdout
    done = plait("run", "broken", cwd=cwd, env=env)
    assert done.returncode == 3
    assert "bad-plugin" in done.stderr


def test_a_reader_that_has_had_enough(cwd: Path) -> None:
    """Output into a pipe that nobody reads ends quietly."""
    process = subprocess.Popen(
        [*PLAIT, "options", "demo.py"],
        cwd=cwd,
        env=environment(cwd.parent / "home"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(20) == 1
    process.stderr.close()


@pytest.mark.parametrize("words", [["--format", "json"], ["--format=json"]])
def test_format_may_stand_behind_the_target_too(cwd: Path, words: list[str]) -> None:
    """Where it is typed by habit; the application's own options are given beside it."""
    before = plait("options", "--format", "json", "demo.py", cwd=cwd)
    after = plait("options", "demo.py", *words, cwd=cwd)
    assert after.returncode == 0
    assert after.stdout == before.stdout
    (cwd / "own.py").write_text(
        "from plait import Application, Options, Service\n"
        "class OwnOptions(Options):\n"
        "    format: str = 'x'\n"
        "def make_app(options: OwnOptions) -> Application:\n"
        "    app = Application('own')\n"
        "    app.add(Service())\n"
        "    return app\n"
    )
    assert "--format" in plait("options", "own.py", "--format", "json", cwd=cwd).stdout
