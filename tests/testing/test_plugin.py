"""The pytest plugin, in projects that have only Plait installed: with pytest-asyncio in each mode, or without."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

MODES = {
    "alone": ["-p", "no:asyncio"],
    "strict": ["-o", "asyncio_mode=strict", "-o", "asyncio_default_fixture_loop_scope=function"],
    "auto": ["-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"],
}
"""With no pytest-asyncio at work, and with it in both of its modes."""

FACTORIES = """
import asyncio, pytest, uvloop

@pytest.hookimpl(tryfirst=True)
def pytest_asyncio_loop_factories():
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
"""


@dataclass
class Project:
    """A folder with tests in it, and how to run them."""

    folder: Path

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def run(self, *arguments: str, **outcomes: int) -> str:
        """What pytest prints; its counts are as expected, and nothing is warned of."""
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", "--strict-markers", *arguments],
            cwd=self.folder, capture_output=True, text=True, timeout=100, check=False,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
        )  # fmt: skip
        last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr
        counted = {word: int(count) for count, word in _pairs(last)}
        assert counted == outcomes, done.stdout + done.stderr
        return done.stdout


def _pairs(line: str) -> list[tuple[str, str]]:
    words = [word.strip(",=").rstrip("s") for word in line.split()]
    return [(one, two) for one, two in pairwise(words) if one.isdigit() and two in ("passed", "failed", "error")]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.write("pytest.ini", "[pytest]\n")
    return project


# -- unused ----------------------------------------------------------------------------------------------------------


def test_it_costs_nothing_where_it_is_not_used() -> None:
    """Neither asyncio nor the kernel is imported with it, nor anything but a few small modules of Plait's."""
    code = (
        "import sys, pytest; before = set(sys.modules); import plait.testing.plugin; "
        "print(sorted(set(sys.modules) - before)); print('asyncio' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    new, has_asyncio = printed.stdout.splitlines()
    assert eval(new) == ["plait", "plait._lazy", "plait.testing", "plait.testing.plugin"]
    assert has_asyncio == "False"


@pytest.mark.parametrize("mode", MODES)
def test_it_changes_nothing_where_it_is_not_used(project: Project, mode: str) -> None:
    """Plain tests, async tests on the loop they had, their ids; it imports no kernel, and no asyncio of its own."""
    project.write(
        "test_it.py",
        "import sys, pytest\n"
        "def test_plain():\n"
        f"    assert 'plait._kernel' not in sys.modules and ('asyncio' in sys.modules) is {mode != 'alone'}\n"
        + ("" if mode == "alone" else "@pytest.mark.asyncio\n")
        + ("" if mode == "alone" else "async def test_loop():\n    import asyncio\n")
        + (
            "" if mode == "alone" else "    assert type(asyncio.get_running_loop()).__module__.startswith('asyncio.')\n"
        ),
    )
    printed = project.run(*MODES[mode], "-v", passed=1 if mode == "alone" else 2)
    assert "test_loop[" not in printed


# -- the virtual clock -----------------------------------------------------------------------------------------------

CLOCK = """
import asyncio
from datetime import datetime, timezone

import pytest
from plait.testing import VirtualLoop, advance

def loop():
    found = asyncio.get_running_loop()
    assert isinstance(found, VirtualLoop)
    return found

@pytest.mark.virtual_clock
async def test_a_day():
    assert loop().time() == 0
    await asyncio.sleep(86_400)
    assert loop().time() == 86_400

@pytest.mark.virtual_clock(start=datetime(2026, 3, 29, tzinfo=timezone.utc), patience=0.5)
@pytest.mark.parametrize("seconds", [1, 2])
async def test_options(seconds, tmp_path, recorder, faults, no_leaks, running):
    assert loop().patience == 0.5
    await advance(seconds)
    assert datetime.fromtimestamp(loop().wall_time(), timezone.utc) == datetime(
        2026, 3, 29, 0, 0, seconds, tzinfo=timezone.utc
    )
    assert tmp_path.is_dir()

class TestClass:
    pytestmark = pytest.mark.virtual_clock

    async def test_method(self):
        await asyncio.sleep(loop().time() + 3600)

    def test_plain(self):
        pass

@pytest.mark.virtual_clock
class TestMarked:
    async def test_method(self):
        assert loop().time() == 0
"""


@pytest.mark.parametrize(
    ("mode", "factories"), [("alone", False), ("strict", False), ("strict", True), ("auto", False), ("auto", True)]
)
def test_marked_tests_run_on_a_virtual_clock(project: Project, mode: str, factories: bool) -> None:
    """Each once, on a loop of its own, with the options of its mark; also where the project makes its own loops."""
    project.write("test_it.py", CLOCK)
    if factories:
        project.write("conftest.py", FACTORIES)
    printed = project.run(*MODES[mode], "-v", passed=6)
    assert "test_a_day PASSED" in printed
    assert "test_options[1] PASSED" in printed


def test_a_module_may_be_marked(project: Project) -> None:
    """And a test in it that is no coroutine runs as ever."""
    body = (
        "import asyncio, pytest\npytestmark = pytest.mark.virtual_clock\n"
        "async def test_it():\n    await asyncio.sleep(3600)\ndef test_plain():\n    pass\n"
    )
    project.write("test_it.py", body)
    for arguments in MODES.values():
        project.run(*arguments, passed=2)


FIXTURES = """
import asyncio

import pytest
import pytest_asyncio
from plait.testing import VirtualLoop

@pytest_asyncio.fixture
async def clock():
    loop = asyncio.get_running_loop()
    await asyncio.sleep(10)
    yield loop
    await asyncio.sleep(10)
    assert loop.time() == 30

@pytest.mark.virtual_clock
async def test_it(clock):
    assert clock is asyncio.get_running_loop()
    await asyncio.sleep(10)
    assert clock.time() == 20

@pytest.mark.asyncio
async def test_another():
    assert not isinstance(asyncio.get_running_loop(), VirtualLoop)

@pytest.mark.virtual_clock
@pytest.mark.asyncio
async def test_both(clock):
    assert clock.time() == 10
    await asyncio.sleep(10)
"""


@pytest.mark.parametrize(("mode", "scope"), [("strict", "function"), ("strict", "module"), ("auto", "session")])
def test_async_fixtures_are_on_the_same_clock(project: Project, mode: str, scope: str) -> None:
    """Set up and taken down there; the tests beside them are on the loop they had, whatever its scope."""
    project.write("test_it.py", FIXTURES)
    both = "" if scope == "function" else "@pytest.mark.virtual_clock\n@pytest.mark.asyncio\n"
    if both:  # the mark asyncio, by itself, asks for the loop of the wider scope
        project.write("test_it.py", FIXTURES.replace(both, "@pytest.mark.virtual_clock\n"))
    project.run(*MODES[mode], "-o", f"asyncio_default_test_loop_scope={scope}", passed=3)


def test_hypothesis_under_pytest_asyncio(project: Project) -> None:
    """Every example of a coroutine test is on the clock."""
    project.write(
        "test_it.py",
        "import asyncio, pytest\nfrom hypothesis import given, settings, strategies\n"
        "from plait.testing import VirtualLoop\n"
        "@pytest.mark.virtual_clock\n@settings(max_examples=20, deadline=None)\n@given(strategies.integers(1, 1000))\n"
        "async def test_it(seconds):\n    loop = asyncio.get_running_loop()\n    assert isinstance(loop, VirtualLoop)\n"
        "    begin = loop.time()\n    await asyncio.sleep(seconds)\n    assert loop.time() == begin + seconds\n",
    )
    for mode in ("strict", "auto"):
        project.run(*MODES[mode], passed=1)


FAILURES = """
import asyncio, pytest
pytestmark = pytest.mark.virtual_clock

def fail():
    raise ZeroDivisionError("in a callback")

async def test_callback():
    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(1)

async def test_both():
    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(1)
    raise KeyError("of the test")

async def test_deadlock():
    await asyncio.Event().wait()

async def test_fine():
    await asyncio.sleep(1)
"""


@pytest.mark.parametrize("mode", MODES)
def test_what_reached_the_exception_handler_fails_the_test(project: Project, mode: str) -> None:
    """That test and no other; a test that failed anyhow has it as a note; a deadlock is told by its lines."""
    project.write("test_it.py", FAILURES)
    printed = project.run(*MODES[mode], failed=3, passed=1)
    assert printed.count("ZeroDivisionError: in a callback") == 1
    assert "KeyError: 'of the test'" in printed
    assert "and in the loop: ZeroDivisionError('in a callback')" in printed
    assert "deadlock at 0 s of the virtual clock" in printed
    assert "test_it.py:18 (test_deadlock)" in printed


# -- leaks -----------------------------------------------------------------------------------------------------------

LEAKS = """
import asyncio, os, pytest
kept = []

def test_file():
    kept.append(open(os.devnull))

def test_clean():
    with open(os.devnull):
        pass

@pytest.mark.may_leak
def test_on_purpose():
    kept.append(open(os.devnull))

{mark}
async def test_task():
    kept.append(asyncio.create_task(asyncio.sleep(1000), name="lost"))

{mark}
async def test_async_clean():
    await asyncio.sleep(0)

{mark}
@pytest.mark.may_leak
async def test_task_on_purpose():
    kept.append(asyncio.create_task(asyncio.sleep(1000)))
"""


@pytest.mark.parametrize(
    ("mode", "mark", "scope"),
    [
        ("alone", "virtual_clock", None),
        ("strict", "asyncio", "function"),
        ("strict", "virtual_clock", "module"),
        ("auto", "asyncio", "session"),
        ("auto", "virtual_clock", "function"),
    ],
)
def test_no_leaks_on_every_test(project: Project, mode: str, mark: str, scope: str | None) -> None:
    """By a setting: those that leave something fail, by name, but for those that are marked."""
    project.write("test_it.py", LEAKS.format(mark=f"@pytest.mark.{mark}"))
    settings = [] if scope is None else ["-o", f"asyncio_default_test_loop_scope={scope}"]
    outcomes = {"failed": 1, "passed": 5, "error": 1} if mode == "alone" else {"passed": 6, "error": 2}
    printed = project.run("-o", "usefixtures=no_leaks", *MODES[mode], *settings, **outcomes)
    assert "left behind:" in printed
    assert "/dev/null" in printed
    assert "task 'lost' at" in printed


def test_an_async_fixture_that_leaks_is_found(project: Project) -> None:
    """One that is set up after `no_leaks` is, as every fixture is that a setting asks for first."""
    project.write(
        "test_it.py",
        "import asyncio, pytest, pytest_asyncio\nkept = []\n"
        "@pytest_asyncio.fixture\nasync def leaky():\n    yield\n"
        "    kept.append(asyncio.create_task(asyncio.sleep(1000), name='lost'))\n"
        "@pytest.mark.asyncio\nasync def test_it(leaky):\n    pass\n",
    )
    assert "task 'lost'" in project.run("-o", "usefixtures=no_leaks", *MODES["strict"], passed=1, error=1)


# -- the others ------------------------------------------------------------------------------------------------------


def test_faults_are_restored_and_the_recorder_is_fresh(project: Project) -> None:
    """Between any two tests."""
    project.write(
        "test_it.py",
        "import pytest\nfrom plait import Application, Service\n"
        "class It(Service):\n    async def on_start(self): ...\n"
        "pytestmark = pytest.mark.virtual_clock\nbefore = dict(vars(It))\n"
        "def make():\n    app = Application('app')\n    app.add(It(), name='it')\n    return app\n"
        "async def test_one(running, faults, recorder):\n"
        "    fault = faults.slow('it', 'on_start', 5)\n"
        "    async with running(make, faults=faults, recorder=recorder) as run:\n"
        "        assert fault.strikes == 1 and run.recorder is recorder and len(recorder)\n"
        "    assert dict(vars(It)) != before\n"
        "async def test_two(recorder):\n    assert dict(vars(It)) == before and not len(recorder)\n",
    )
    for arguments in MODES.values():
        project.run(*arguments, passed=2)
