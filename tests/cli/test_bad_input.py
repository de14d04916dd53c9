"""Bad input: each kind gives a clear message and the right exit code, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from running import plait

APP = '''
import asyncio, os, socket, tempfile
from plait import Application, Options, Service

class DemoOptions(Options):
    port: int = 0
    password: str = "secret"

class First(Service):
    """Starts before the one that goes wrong, and holds what must not be left behind."""
    async def on_start(self):
        self.server = await asyncio.start_unix_server(lambda r, w: None, "first.sock")
        self.spawn(asyncio.sleep(1000))
        await self.enter(tempfile.TemporaryDirectory())
    async def on_stop(self):
        self.server.close()
        os.unlink("first.sock")

class Port(Service):
    def __init__(self, port): self.port = port
    async def on_start(self):
        self.server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", self.port)

class Raises(Service):
    async def on_start(self): raise ConnectionRefusedError("nobody is there")
class Hangs(Service):
    async def on_start(self): await asyncio.sleep(1000)
class Cancelled(Service):
    async def on_start(self): raise asyncio.CancelledError

def make_app(options: DemoOptions) -> Application:
    return of(Port(options.port))

def of(service, **policy):
    app = Application("demo")
    app.add(First(), name="first")
    app.add(service, name="it", needs=["first"], **policy)
    return app

def raises(): return of(Raises())
def hangs(): return of(Hangs(), start_timeout=0.2)
def cancelled(): return of(Cancelled())
def twice():
    app = of(Raises())
    app.add(Service(), name="it")
    return app
def cycle():
    app = Application("demo")
    app.add(Service(), name="a", needs=["b"])
    app.add(Service(), name="b", needs=["a"])
    return app
def unknown_need():
    app = Application("demo")
    app.add(Service(), name="database")
    app.add(Service(), name="web", needs=["databse"])
    return app
def explodes(): raise RuntimeError("no such luck")
def gives_nothing(): pass
empty = Application("empty")
number = 3
'''


@dataclass
class Case:
    """A command line, what it answers, and the files it needs beside the application."""

    argv: list[str]
    code: int
    says: list[str]
    files: dict[str, str] = field(default_factory=dict)


def _service(text: str) -> dict[str, str]:
    return {"app.toml": f"[services.it]\n{text}\n"}


CASES = {
    "no target": Case([], 2, ["missing argument 'TARGET'"]),
    "unknown runner option": Case(["--lop", "uvloop", "app.py"], 2, ["no option --lop, did you mean --loop?"]),
    "runner option with a wrong value": Case(["--loop", "trio", "app.py"], 2, ["'trio' is not one of"]),
    "application option before the target": Case(
        ["--port", "1", "app.py"], 2, ["stands after the target: plait run app.py --port"]
    ),
    "runner option after the target": Case(
        ["app.py", "--log-level", "debug"], 2, ["--log-level", "before the target", "plait run --log-level"]
    ),
    "unknown option": Case(["app.py", "--prot", "1"], 2, ["--prot: unknown; did you mean '--port'?"]),
    "wrong type": Case(["app.py", "--port", "many"], 2, ["--port: port = 'many': expected an integer"]),
    "several at once": Case(["app.py", "--port", "many", "--prot", "1"], 2, ["'many'", "--prot"]),
    "missing option value": Case(["app.py", "--port"], 2, ["--port: needs a value"]),
    "wrong type in the file": Case(
        ["app.py", "--config", "c.toml"], 2, ["c.toml: port = 'x': expected an integer"], {"c.toml": 'port = "x"'}
    ),
    "unknown key in the file": Case(
        ["app.py", "--config", "c.toml"], 2, ["c.toml: prot: unknown; did you mean 'port'?"], {"c.toml": "prot = 1"}
    ),
    "TOML syntax error": Case(
        ["app.py", "--config", "c.toml"], 2, ["c.toml: line 2", "TOML"], {"c.toml": "a = 1\nport = x\n"}
    ),
    "TOML syntax error in the target": Case(["app.toml"], 2, ["app.toml", "line 2", "TOML"], _service("use = ")),
    "missing --config file": Case(["app.py", "--config", "no.toml"], 2, ["no.toml", "no such file"]),
    "missing --env-file": Case(["app.py", "--env-file", "no.env"], 2, ["no.env", "no such file"]),
    "unknown key of [plait]": Case(
        ["app.py", "--config", "c.toml"],
        2,
        ["c.toml [plait]: log_levle: unknown; did you mean 'log_level'?"],
        {"c.toml": '[plait]\nlog_levle = "debug"'},
    ),
    "wrong value in [plait]": Case(
        ["app.py", "--config", "c.toml"], 2, ["[plait]: loop = 'trio': expected"], {"c.toml": '[plait]\nloop = "trio"'}
    ),
    "[plait] is no table": Case(
        ["app.py", "--config", "c.toml"], 2, ["plait: expected a table"], {"c.toml": "plait = 1"}
    ),
    "log file in no folder": Case(["--log-file", "no/app.log", "app.py"], 2, ["'no/app.log' cannot be opened"]),
    "missing file": Case(["nothing.py"], 2, ["there is no file", "nothing.py"]),
    "missing TOML file": Case(["nothing.toml"], 2, ["there is no file", "nothing.toml"]),
    "module not found": Case(["nothing.there:make_app"], 2, ["there is no module 'nothing'"]),
    "plugin not found": Case(["ehco"], 2, ["there is no plugin 'ehco'", "did you mean 'echo'?"]),
    "attribute not found": Case(["app.py:rasies"], 2, ["no attribute 'rasies'; did you mean 'raises'?"]),
    "no attribute of a default name": Case(["plain.py"], 2, ["no make_app, app or application"], {"plain.py": "x = 1"}),
    "no service": Case(["app.py:number"], 2, ["is an int, not a service"]),
    "`use` of no service": Case(["app.toml"], 2, ["services.it", "app:number"], _service('use = "app:number"')),
    "`use` of nothing": Case(
        ["app.toml"], 2, ["[services.it]: use", "'app' has no attribute 'nothing'"], _service('use = "app:nothing"')
    ),
    "misspelt key of a service": Case(
        ["app.toml"], 2, ["services.it", "did you mean 'needs'?"], _service('use = "app:Raises"\nneed = []')
    ),
    "module that raises on import": Case(
        ["broken.py"], 3, ["broken.py", "ZeroDivisionError", "line 2"], {"broken.py": "import os\n1 / 0\n"}
    ),
    "module with a syntax error": Case(["broken.py"], 3, ["SyntaxError", "line 1"], {"broken.py": "def f(:\n"}),
    "module whose import is missing": Case(
        ["broken.py"], 3, ["No module named 'missing_thing'"], {"broken.py": "import missing_thing\n"}
    ),
    "factory that raises": Case(
        ["app.py:explodes"], 3, ["app.py:explodes", "RuntimeError: no such luck", "in explodes"]
    ),
    "factory that gives nothing": Case(["app.py:gives_nothing"], 3, ["returned nothing, not a service"]),
    "empty application": Case(["app.py:empty"], 3, ["'empty' has no services"]),
    "two services of one name": Case(["app.py:twice"], 3, ["has a service 'it' already"]),
    "a cycle in needs": Case(["app.py:cycle"], 3, ["a cycle", "'a' needs 'b'", "'b' needs 'a'"]),
    "an unknown need": Case(["app.py:unknown_need"], 3, ["'databse'", "did you mean 'database'?"]),
    "start raises": Case(
        ["app.py:raises"],
        3,
        ["did not start: service 'it': ConnectionRefusedError: nobody is there; stopped again: 'first'", "in on_start"],
    ),
    "start hangs": Case(["app.py:hangs"], 3, ["service 'it' was not ready after 0.2 s", "start_timeout"]),
    "start is cancelled": Case(["app.py:cancelled"], 3, ["service 'it' was cancelled, but not by Plait"]),
}


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    folder = tmp_path / "cwd"
    folder.mkdir()
    (folder / "app.py").write_text(APP)
    return folder


STARTED = [name for name in CASES if name.startswith("start ")]
"""Those that get as far as the log."""


@pytest.mark.parametrize(
    ("name", "log_format"), [*((name, "console") for name in CASES), *((name, "json") for name in STARTED)]
)
def test_bad_input(cwd: Path, name: str, log_format: str) -> None:
    """It says what is wrong, exits with the right code, and leaves no file, socket or process behind."""
    case = CASES[name]
    for file, text in case.files.items():
        (cwd / file).write_text(text)
    before = sorted(cwd.iterdir())
    done = plait("run", "--log-format", log_format, *case.argv, cwd=cwd)
    assert done.returncode == case.code, done.stderr
    for text in case.says:
        assert text in done.stderr
    if case.code == 2:
        assert all(line.startswith("plait: error: ") for line in done.stderr.splitlines()), done.stderr
    assert "Traceback" not in done.stderr or "/plait/" not in done.stderr, "a traceback shows the user's frames alone"
    assert done.stdout == ""
    assert sorted(cwd.iterdir()) == before
    assert list((cwd.parent / "cwd-home").iterdir()) == []


CHECKED = [name for name in CASES if name not in STARTED]


@pytest.mark.parametrize("name", [n for n in CHECKED if CASES[n].argv and not CASES[n].argv[0].startswith("--lo")])
def test_check_finds_it_as_well(cwd: Path, name: str) -> None:
    """What is wrong before anything starts, `plait check` says, with the same exit code, and touches nothing."""
    case = CASES[name]
    for file, text in case.files.items():
        (cwd / file).write_text(text)
    before = sorted(cwd.iterdir())
    done = plait("check", *case.argv, cwd=cwd)
    assert done.returncode == case.code, done.stderr
    for text in case.says:
        assert text.replace("plait run app", "plait check app") in done.stderr
    assert sorted(cwd.iterdir()) == before


def test_every_problem_is_told(cwd: Path) -> None:
    """Three wrong values are three lines, not the first alone."""
    (cwd / "c.toml").write_text('prot = 1\npasword = "hunter2"\n')
    done = plait("run", "app.py", "--config", "c.toml", "--port", "x", cwd=cwd)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 3
    assert "hunter2" not in done.stderr


def test_full_tracebacks_at_level_debug(cwd: Path) -> None:
    """At --log-level debug the frames of Plait and of the loop are shown as well."""
    done = plait("run", "--log-level", "debug", "--log-format", "console", "app.py:raises", cwd=cwd)
    assert done.returncode == 3
    assert "incarnation.py" in done.stderr


def test_a_failed_start_with_a_log_file_is_told_on_stderr_too(cwd: Path) -> None:
    """Who starts it sees why it failed, though the log goes to a file."""
    done = plait("run", "--log-file", "app.log", "app.py:raises", cwd=cwd)
    assert done.returncode == 3
    assert done.stderr.startswith("plait: error: application 'demo' did not start: service 'it'")
    assert "in on_start" in done.stderr
    assert "did not start" in (cwd / "app.log").read_text()


def _net(listen: str) -> dict[str, str]:
    return _service(f'use = "echo"\noptions = {{ listen = "{listen}" }}\n[services.first]\nuse = "app:First"')


def test_port_in_use(cwd: Path) -> None:
    """The address is named, what had started is stopped, and the exit code is 3."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for file, text in _net(f"tcp://127.0.0.1:{port}").items():
            (cwd / file).write_text(text)
        done = plait("run", "app.toml", cwd=cwd)
    assert done.returncode == 3
    assert f"127.0.0.1:{port}" in done.stderr
    assert "in use" in done.stderr
    assert not (cwd / "first.sock").exists()


def test_port_below_1024_without_rights(cwd: Path) -> None:
    """Without the right to bind it, the address is named and the cause, and the exit code is 3."""
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 81:
        pytest.skip("this machine lets anybody bind port 81")
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root has the right, and there is no setpriv to take it away")
    without = ("setpriv", "--bounding-set=-net_bind_service") if os.geteuid() == 0 else ()
    for file, text in _net("tcp://127.0.0.1:81").items():
        (cwd / file).write_text(text)
    done = plait("run", "app.toml", cwd=cwd, prefix=without)
    assert done.returncode == 3, done.stderr
    assert "127.0.0.1:81" in done.stderr
    assert "denied" in done.stderr or "1024" in done.stderr
    assert not (cwd / "first.sock").exists()
