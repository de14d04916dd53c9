"""The bench measures what it says: its statistics, its generators, and one whole run of the cheapest row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))

from bench import measure, processes, setting  # noqa: E402
from bench.table import render  # noqa: E402


def test_the_interval_of_twenty_values_leaves_out_five_at_either_end() -> None:
    """The order statistics of the median: with 20 values the 6th and the 15th enclose it with 95.9 %."""
    taken = measure.interval(range(1, 21))
    assert (taken.low, taken.median, taken.high) == (6, 10.5, 15)


def test_few_values_are_their_own_interval() -> None:
    """Up to five values allow nothing to be left out."""
    taken = measure.interval([3.0, 1.0, 2.0])
    assert (taken.low, taken.median, taken.high, taken.count) == (1.0, 2.0, 3.0, 3)


@pytest.mark.parametrize(
    ("bar", "low", "high", "holds"),
    [
        (measure.at_least(0.95), 0.90, 0.96, True),
        (measure.at_least(0.95), 0.90, 0.94, False),
        (measure.at_most(1.5), 1.4, 1.7, True),
        (measure.at_most(1.5), 1.6, 1.7, False),
    ],
)
def test_a_bar_is_missed_only_if_the_interval_excludes_it(
    bar: measure.Bar, low: float, high: float, holds: bool
) -> None:
    """A median on the wrong side is no miss while the interval reaches the bar."""
    assert bar.holds(measure.Interval((low + high) / 2, low, high, 20)) is holds


def test_things_take_turns_forwards_and_backwards() -> None:
    """Every round measures each thing once, and no thing always goes first."""
    order: list[str] = []
    measure.in_turns(2, {name: lambda name=name: order.append(name) for name in "abc"})  # type: ignore[misc]
    assert order == list("abccba")


def test_the_cpu_clock_of_a_process_counts_work_and_not_sleep() -> None:
    """It is the clock of another process: what that one says it has used is what we read."""
    work = "import time; sum(range(3_000_000)); print(time.process_time(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        said = float(child.stdout.readline())
        read = measure.cpu_clock(child.pid)()
        child.communicate("\n")
    assert said <= read < said + 0.1


@pytest.mark.parametrize("mode", ["echo", "accept"])
@pytest.mark.parametrize("generator", ["c", "python"])
def test_both_generators_count_what_the_server_answered(mode: str, generator: str) -> None:
    """A window holds answered requests, some CPU of the server for each, and an honest length."""
    here = setting.Setting(quick=True)
    command = [sys.executable, str(setting.HERE / "load.py")]
    if generator == "c":
        try:
            command = [str(here.compiled(setting.HERE / "load.c"))]
        except setting.Unavailable as error:
            pytest.skip(str(error))
    here.load = command
    port = processes.free_port()
    program = [sys.executable, setting.HERE / "servers/uvloop_echo.py", str(port)]
    with processes.Server(program, here, port) as server, processes.Load(here, server, mode, 4, 64) as load:
        window = load.window(0.1)
    assert window.requests > 10
    assert 0.1 <= window.seconds < 5
    assert window.cost > 1e-6  # a read and a write; less would mean that requests were counted that nobody made
    assert window.cost * window.requests < window.seconds * 1.5


def test_a_server_that_does_not_come_up_is_said_and_ended() -> None:
    """A program that ends before it serves fails the row at once, with its exit code and its last word."""
    here = setting.Setting(quick=True)
    program = [sys.executable, "-c", "import sys; sys.stderr.write('no such port\\n'); sys.exit(3)"]
    with (
        pytest.raises(RuntimeError, match="ended with 3 before it served:\nno such port"),
        processes.Server(program, here, processes.free_port()),
    ):
        pass


def test_children_do_not_inherit_what_python_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a bytecode cache, say, a checkout would compile itself at every start, and its peers would not."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("ECHO_PORT", "1")
    inherited = setting.environment(ECHO_LISTEN="2")
    assert "PYTHONDONTWRITEBYTECODE" not in inherited
    assert (inherited["ECHO_PORT"], inherited["ECHO_LISTEN"]) == ("1", "2")


def test_a_row_without_a_measurement_says_why() -> None:
    """What could not be measured is in the table, with its reason, and is not called a pass."""
    table = render({"CPU": "one"}, [measure.Row("echo", None, beside="no C compiler (cc) here")])
    assert "| skipped |" in table
    assert "no C compiler" in table


def test_the_cheapest_row_can_be_taken(tmp_path: Path) -> None:
    """`python -m bench --only memory --quick` works without any peer, and every service is below its bar."""
    kept = tmp_path / "rows.json"
    command = [sys.executable, "-m", "bench", "--only", "memory", "--quick", "--strict", "--json", str(kept)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    taken = json.loads(kept.read_text())
    assert len(taken["rows"]) == 3
    for row in taken["rows"]:
        assert row["verdict"] == "pass", row
        assert row["measured"]["median"] > 100  # less would mean that nothing was made
        assert row["name"] in done.stdout
