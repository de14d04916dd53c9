"""Options of the handbook's: addOpt, and where values come from."""

from __future__ import annotations

import pathlib
from pathlib import Path

import pytest

from plait.classic.application.service import Options
from plait.errors import LifecycleError, OptionsError
from plait.options.sources import Inputs
from plait.plugins import lookup


def declared() -> Options:
    options = Options("my-echo")
    options.addOpt("port", type="int", default=1234, help="The port.")
    options.addOpt("max-size", type=float, default=1.5)
    options.addOpt("name", default="x")
    options.addOpt("debug", type="bool", default=False)
    options.addOpt("where", type=pathlib.Path)
    return options


def test_defaults_and_the_ways_of_a_mapping() -> None:
    """It reads like a mapping, with the names as they were declared."""
    options = declared()
    assert dict(options) == {"port": 1234, "max-size": 1.5, "name": "x", "debug": False, "where": None}
    assert "port" in options
    assert options.get("none") is None
    with pytest.raises(KeyError):
        options["none"]


def test_each_source_goes_before_those_below(tmp_path: Path) -> None:
    """default < file < environment < command line, each converted."""
    (tmp_path / "echo.toml").write_text('port = 1\nmax_size = 2.5\nname = "file"\nwhere = "/tmp"\n')
    environ = {"MY_ECHO_NAME": "environment", "MY_ECHO_PORT": "2"}
    argv = ["--config", str(tmp_path / "echo.toml"), "--port", "3", "--debug"]
    with lookup.loading_with(Inputs(argv, environ)):
        options = declared()
    assert dict(options) == {
        "port": 3,
        "max-size": 2.5,
        "name": "environment",
        "debug": True,
        "where": pathlib.Path("/tmp"),
    }


def test_what_is_wrong_is_told_to_who_loads_it() -> None:
    """All of it, each with its source."""
    with lookup.loading_with(Inputs(["--port", "x", "--nonsense"], {"MY_ECHO_DEBUG": "perhaps"})):
        options = declared()
    with pytest.raises(OptionsError) as raised:
        options["name"]
    assert {problem.key for problem in raised.value.problems} == {"port", "--nonsense", "debug"}


def test_the_environment_counts_where_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line of the program that imports it does not."""
    monkeypatch.setenv("MY_ECHO_PORT", "77")
    monkeypatch.setattr("sys.argv", ["pytest", "--port", "1", "--verbose"])
    assert declared()["port"] == 77


def test_several_share_a_command_line() -> None:
    """Each has variables of its own; what one has declared the others cannot, and no more is declared after a read."""
    with lookup.loading_with(Inputs(["--port", "3"], {"MY_ECHO_NAME": "a", "OTHER_NAME": "b", "OTHER_LEVEL": "7"})):
        options, other = declared(), Options("other")
        other.addOpt("level", type=int, default=1)
        with pytest.raises(ValueError, match="declared already, by 'my-echo'"):
            other.addOpt("name")
    assert (other["level"], options["port"], options["name"], list(other)) == (7, 3, "a", ["level"])
    with pytest.raises(LifecycleError, match="after they were read"):
        other.addOpt("late")


@pytest.mark.parametrize("name", ["", "a b", "config", "help", "class", "_a", "1a"])
def test_names_that_cannot_work(name: str) -> None:
    """They are refused where they are declared."""
    with pytest.raises((ValueError, TypeError)):
        Options("echo").addOpt(name)


def test_declarations_that_cannot_work() -> None:
    """A type that is none, a name declared twice, one declared too late."""
    options = Options("echo")
    with pytest.raises(TypeError, match="'int', 'float', 'str', 'bool'"):
        options.addOpt("port", type="integer")
    options.addOpt("port", type="int", default=1)
    with pytest.raises(ValueError, match="declared already"):
        options.addOpt("port")
    assert options["port"] == 1
    with pytest.raises(LifecycleError, match="after they were read"):
        options.addOpt("host")
