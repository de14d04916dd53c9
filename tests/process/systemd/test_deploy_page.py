"""The page about deployment: its commands are run, its units are started, its table names every flag of twistd."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from booted import Machine

from plait.cli.run import command
from running import environment, until

PAGE = (Path(__file__).parents[3] / "docs" / "deploy.md").read_text()
BIN = Path(sys.executable).parent


def blocks(kind: str, section: str) -> list[str]:
    """The blocks of a kind in a section."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0] if section else PAGE.partition("\n## ")[0]
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(section: str) -> list[str]:
    """What is typed in a section."""
    return [line[2:] for block in blocks("console", section) for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Path]:
    """A folder with the page's application."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "shop.py").write_text(blocks("python", "")[0].replace("127.0.0.1:8000", "127.0.0.1:0"))
    yield folder
    if (folder / "shop.pid").exists():
        os.kill(int((folder / "shop.pid").read_text()), 9)


def test_the_commands_for_the_background(shop: Path) -> None:
    """Typed one after another, each works; what they say happens is in the log, and nothing is left."""
    said = ["", "", "", "reload: nothing has changed", "log file reopened", "stopped after"]
    typed = [*commands(""), *commands("In the background")]
    env = environment(shop.parent / "home", PATH=f"{BIN}:{os.environ['PATH']}")
    for line, text in zip(typed, said, strict=True):
        done = subprocess.run(["sh", "-c", line], cwd=shop, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        until(partial(_says, shop / "shop.log", text), text)
    until(lambda: not (shop / "shop.pid").exists(), "ended")
    assert sorted(path.name for path in shop.iterdir()) == ["shop.log", "shop.log.1", "shop.py", "shop.toml"]


def _says(log: Path, text: str) -> bool:
    """A log that was moved away is made anew only when the daemon has heard of it."""
    return not text or (log.exists() and text in log.read_text())


def test_the_units(machine: Machine) -> None:
    """As root would type it on a fresh machine: the service, then its socket."""
    if str(BIN).startswith(("/tmp/", "/var/tmp/")):
        pytest.skip("the unit has a /tmp of its own, and this Plait is installed in the machine's")
    service, sock = blocks("ini", "systemd")
    machine.write("/etc/systemd/system/shop.service", service.replace("/srv/shop/.venv/bin", str(BIN)))
    machine.write("/etc/systemd/system/shop.socket", sock)
    machine.write("/srv/shop/shop.py", blocks("python", "")[0])
    machine.write("/srv/shop/shop.toml", 'greeting = "good day"\n')
    machine.run("chmod", "a+rx", "/root", "/srv", "/srv/shop")  # where the tests' Python is may be root's
    ask = "import socket, sys; print(socket.create_connection(('127.0.0.1', int(sys.argv[1]))).makefile().read())"
    for line in commands("systemd"):
        if line.endswith("shop.socket"):
            machine.write("/srv/shop/shop.toml", 'listen = "systemd://web"\n')
        machine.run("sh", "-c", f"PATH={BIN}:$PATH; {line}")
        if line.endswith("--now shop"):
            assert machine.run(sys.executable, "-c", ask, "8000").strip() == "good day"
            machine.write("/srv/shop/shop.toml", 'greeting = "good night"\n')
        if line.endswith("reload shop"):
            machine.until("shop", "StatusText", "ready, generation 2")
            assert machine.run(sys.executable, "-c", ask, "8000").strip() == "good night"
            user = machine.run("ps", "-o", "user=", "-p", machine.property("shop", "MainPID")).strip()
            assert user == "shop"
    assert machine.run(sys.executable, "-c", ask, "80").strip() == "welcome"
    assert machine.run("sh", "-c", "systemd-analyze verify shop.service shop.socket 2>&1") == ""
    assert "web running" in machine.journal("shop", "PLAIT_SERVICE=web")
    machine.run("systemctl", "disable", "--now", "shop.socket", "shop.service")
    assert machine.run("sh", "-c", "ls /var/lib/shop") == ""  # no crash


def test_every_flag_of_twistd_is_in_the_table() -> None:
    """Of the Twisted that classic is compared with."""
    from twisted.scripts._twistd_unix import ServerOptions

    table = PAGE.partition("## twistd's flags")[2]
    options = ServerOptions()
    known = {f"--{name.rstrip('=')}" for name in options.longOpt} | {
        f"-{name}" for name in options.shortOpt if name != ":"
    }
    assert {flag for flag in known if f"`{flag}`" not in table} == set()


def test_every_flag_of_plait_run_that_the_page_names_is_there() -> None:
    """And each of these flags is on the page."""
    there = {name for one in command.params for name in one.opts if name.startswith("--")}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE.partition("## twistd's flags")[0]))
    others = {"--dry-run", "--config", "--format", "--system", "--no-create-home", "--now"}
    assert named - others - there == set()
    operated = {"--daemon", "--pidfile", "--rundir", "--umask", "--nofile", "--memory", "--title", "--crash-report"}
    assert (operated | {"--syslog", "--syslog-facility", "--syslog-tag", "--log-file"}) - named == set()
