"""Classic programs as processes: by themselves under `reactor.run()`, and under `plait run`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from running import TIMEOUT, Running, environment, plait

PYTHON = (sys.executable, "-u")
PLAIT_RUN = (sys.executable, "-u", "-m", "plait", "run")
BOTH = pytest.mark.parametrize("program", [PYTHON, PLAIT_RUN], ids=["python", "plait run"])

HEAD = """
from plait.classic.application import service, internet
from plait.classic.internet import reactor, defer, task
"""
TOLD = """
class Told(service.Service):
    def __init__(self, name): self.called = name
    def privilegedStartService(self): print(self.called, "privileged")
    def startService(self): print(self.called, "starts")
    def stopService(self): print(self.called, "stops")
"""


def ended(program: tuple[str, ...], text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A program of this text, run to its end."""
    (folder / "program.py").write_text(HEAD + TOLD + text)
    env = environment(folder.parent / f"{folder.name}-home")
    return subprocess.run(
        [*program, "program.py"], cwd=folder, env=env, capture_output=True, text=True, timeout=TIMEOUT
    )


@BOTH
@pytest.mark.parametrize("how", ["reactor.stop", "SIGTERM"])
def test_services_are_started_and_stopped_once(how: str, program: tuple[str, ...], tmp_path: Path) -> None:
    """Those of every application that has seen setService, however often its stop is asked for."""
    text = """
first, second, left_alone = service.Application("first"), service.Application("second"), service.Application("third")
first.setService(Told("one"))
first.setService(Told("two"))
second.setService(Told("other"))
Told("nobody").setServiceParent(left_alone)
reactor.addSystemEventTrigger("after", "shutdown", print, "over")
reactor.addSystemEventTrigger("before", "shutdown", first.stop)
reactor.callLater(0.05, first.stop)
reactor.callLater(0.1, END)
reactor.run()
"""
    ends = "reactor.stop" if how == "reactor.stop" else "lambda: os.kill(os.getpid(), signal.SIGTERM)"
    text = "import os, signal\n" + text.replace("END", ends)
    text = text.replace("reactor.callLater(0.05, first.stop)\n", "") if program is PLAIT_RUN else text
    done = ended(program, text, tmp_path)
    *said, last = done.stdout.splitlines()
    assert last == "over", done.stderr
    assert sorted(said) == sorted(f"{who} {what}" for who in ("one", "two", "other") for what in DONE), done.stderr
    assert done.returncode == 0


DONE = ("privileged", "starts", "stops")


@BOTH
def test_the_shutdown_waits_for_the_services(program: tuple[str, ...], tmp_path: Path) -> None:
    """What stopService returns is waited for before "during"; so is what other triggers of "before" return."""
    text = """
class Slow(service.Service):
    def stopService(self):
        print("stopping")
        return task.deferLater(reactor, 0.05, print, "stopped")
app = service.Application("slow")
app.setService(Slow())
reactor.addSystemEventTrigger("before", "shutdown", lambda: task.deferLater(reactor, 0.1, print, "before"))
reactor.addSystemEventTrigger("during", "shutdown", print, "during")
reactor.addSystemEventTrigger("after", "shutdown", print, "after")
reactor.callLater(0.05, reactor.stop)
reactor.run()
"""
    done = ended(program, text, tmp_path)
    assert done.stdout.splitlines() == ["stopping", "stopped", "before", "during", "after"], done.stderr
    assert done.returncode == 0


@BOTH
def test_an_application_that_cannot_start(program: tuple[str, ...], tmp_path: Path) -> None:
    """What has started is stopped, the reactor ends, and the process says what it failed of, and exits so."""
    text = """
class Broken(service.Service):
    def startService(self): raise OSError("no room")
app = service.Application("broken")
app.setService(Told("one"))
app.setService(Broken())
reactor.run()
"""
    done = ended(program, text, tmp_path)
    assert done.stdout.splitlines() == ["one privileged", "one starts", "one stops"]
    assert "no room" in done.stderr
    assert done.returncode == (1 if program is PYTHON else 3)


@BOTH
def test_an_application_of_somebody_else(program: tuple[str, ...], tmp_path: Path) -> None:
    """A uid that the process has not is refused with a line and code 2."""
    text = """
import os
app = service.Application("other", os.getuid() + 1)
app.setService(Told("one"))
reactor.run()
"""
    done = ended(program, text, tmp_path)
    assert (done.stdout, done.returncode) == ("", 2)
    assert [line for line in done.stderr.splitlines() if line.startswith("plait: error:") and "uid" in line]


@BOTH
def test_commands_of_an_application(program: tuple[str, ...], tmp_path: Path) -> None:
    """start fires when all is ready, pause and resume when they are done; before that it cannot pause."""
    text = """
class Pauses(Told):
    def pauseService(self): print("pauses")
    def resumeService(self): print("resumes")
app = service.Application("verbs")
app.setService(Pauses("one"))
app.addStateListener(lambda one, old, new: one is app and print(old.value, new.value))
app.pause().addErrback(lambda failure: print(failure.type.__name__))
@defer.inlineCallbacks
def commands():
    yield app.start()
    print("ready")
    print((yield app.pause()))
    yield app.resume()
    reactor.stop()
reactor.callWhenRunning(commands)
reactor.run()
"""
    done = ended(program, text, tmp_path)
    moves = "new starting|one privileged|one starts|starting running|ready|running pausing|pauses|pausing paused|()"
    moves += "|paused resuming|resumes|resuming running|running stopping|one stops|stopping stopped"
    assert done.stdout.splitlines() == ["LifecycleError", *moves.split("|")], done.stderr
    assert done.returncode == 0


def test_an_application_that_is_stopped_leaves_the_reactor_running(tmp_path: Path) -> None:
    """By itself a program goes on, and may start it again."""
    text = """
app = service.Application("again")
app.setService(Told("one"))
@defer.inlineCallbacks
def commands():
    yield app.start()
    yield app.stop()
    print("stopped")
    yield app.start()
    print("started")
    reactor.stop()
reactor.callWhenRunning(commands)
reactor.run()
"""
    done = ended(PYTHON, text, tmp_path)
    one = ["one privileged", "one starts"]
    assert done.stdout.splitlines() == [*one, "one stops", "stopped", *one, "started", "one stops"], done.stderr


def test_an_application_that_somebody_else_starts_is_left_to_him(tmp_path: Path) -> None:
    """Started directly, as Twisted's own programs do it, it is neither started again nor stopped."""
    text = """
app = service.Application("own")
app.setService(Told("one"))
service.IService(app).startService()
reactor.callLater(0.05, reactor.stop)
reactor.run()
"""
    assert ended(PYTHON, text, tmp_path).stdout.splitlines() == ["one starts"]


@BOTH
def test_several_options_of_one_program(program: tuple[str, ...], tmp_path: Path) -> None:
    """They read one command line, whichever is read first, and the help shows all."""
    text = """
one, two = service.Options("one"), service.Options("two")
one.addOpt("port", type="int", default=1)
two.addOpt("name", default="x")
print(two["name"], one["port"])
reactor.callLater(0, reactor.stop)
reactor.run()
"""
    (tmp_path / "program.py").write_text(HEAD + text)
    env = {**environment(tmp_path.parent / "home"), "TWO_NAME": "from the environment"}
    command = [*program, "program.py", "--port", "3"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=TIMEOUT)
    assert (done.returncode, done.stdout) == (0, "from the environment 3\n"), done.stderr
    command = [*program, "program.py", "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0
    assert "ONE_PORT" in done.stdout
    assert "TWO_NAME" in done.stdout


def test_run_within_a_loop(tmp_path: Path) -> None:
    """`run()` where a loop runs raises ReactorAlreadyRunning; stop() there stops Plait's application."""
    (tmp_path / "program.py").write_text(
        HEAD
        + TOLD
        + """
import plait
from plait.classic.internet.error import ReactorAlreadyRunning
def stop():
    try:
        reactor.run()
    except ReactorAlreadyRunning:
        print("runs already")
    reactor.stop()
def make_app():
    app = plait.Application("native")
    app.add(Told("one"), name="one")
    reactor.callWhenRunning(reactor.callLater, 0.05, stop)
    return app
"""
    )
    env = environment(tmp_path.parent / "home")
    done = subprocess.run(
        [*PLAIT_RUN, "program.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.stdout.splitlines() == ["one privileged", "one starts", "runs already", "one stops"], done.stderr
    assert done.returncode == 0


# -- a .tac -----------------------------------------------------------------------------------------------------------

TAC = (
    HEAD
    + """
import os
from parts import Told
print("read", flush=True)
options = service.Options("tac")
options.addOpt("greeting", default="hello", help="What to say.")
application = service.Application("tac", version="2.0")
one = Told(options["greeting"] + os.environ.get("SUFFIX", ""))
one.setName("one")
one.setServiceParent(application)
"""
)


def write_tac(folder: Path) -> None:
    (folder / "app.tac").write_text(TAC)
    (folder / "parts.py").write_text(HEAD + TOLD)


def test_a_tac_is_run(tmp_path: Path) -> None:
    """It reads its options and the environment, and SIGTERM stops it in order."""
    write_tac(tmp_path)
    with Running("app.tac", "--greeting", "hi", cwd=tmp_path, program=PLAIT_RUN, SUFFIX="!") as running:
        running.expect("ready in")
        running.expect("hi! starts")
        running.send(signal.SIGTERM)
        assert running.wait() == 0
        assert "hi! stops" in running.lines
        assert running.lines.count("read") == 1


def test_a_tac_is_reloaded(tmp_path: Path) -> None:
    """SIGHUP runs it anew: where it makes the same nothing happens, else the new takes over after the old."""
    write_tac(tmp_path)
    with Running("app.tac", cwd=tmp_path, program=PLAIT_RUN) as running:
        running.expect("ready in")
        running.send(signal.SIGHUP)
        running.expect("nothing")
        (tmp_path / "app.tac").write_text(TAC.replace('"hello"', '"other"'))
        running.send(signal.SIGHUP)
        running.expect("other starts")
        lines = [line for line in running.lines if line.startswith(("hello", "other"))]
        assert lines == ["hello privileged", "hello starts", "hello stops", "other privileged", "other starts"]
        running.send(signal.SIGTERM)
        assert running.wait() == 0, running.output
        assert running.lines.count("other stops") == 1


def test_a_tac_is_checked_and_shows_its_options(tmp_path: Path) -> None:
    """The other commands take it as well."""
    write_tac(tmp_path)
    checked = plait("check", "app.tac", cwd=tmp_path)
    assert "application tac 2.0" in checked.stdout
    assert "  one  " in checked.stdout
    shown = plait("options", "app.tac", "--greeting", "hi", cwd=tmp_path)
    assert ["greeting", "hi", "--greeting"] in [line.split() for line in shown.stdout.splitlines()]
    wrong = plait("run", "app.tac", "--nonsense", cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "read\n")
    assert "--nonsense" in wrong.stderr


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("", 2, "has no `application`"),
        ("1/0", 3, "ZeroDivisionError"),
        ("application = 5", 3, "not a service"),
    ],
)
def test_a_tac_that_cannot_be_run(text: str, code: int, said: str, tmp_path: Path) -> None:
    """A line says why."""
    (tmp_path / "app.tac").write_text(text)
    done = plait("run", "app.tac", cwd=tmp_path)
    assert done.returncode == code
    assert said in done.stderr


# -- files without an application, and modules ------------------------------------------------------------------------


def test_a_file_without_an_application_is_served_until_it_stops(tmp_path: Path) -> None:
    """Its calls are made, and SIGTERM fires its shutdown."""
    (tmp_path / "program.py").write_text(
        HEAD
        + """
reactor.callWhenRunning(print, "running", flush=True)
reactor.addSystemEventTrigger("during", "shutdown", print, "shutdown", flush=True)
reactor.run()
"""
    )
    with Running("program.py", cwd=tmp_path, program=PLAIT_RUN) as running:
        running.expect("running")
        said = running.expect("reactor.run()")
        assert "line 7 of" in said
        running.send(signal.SIGTERM)
        assert running.wait() == 0
        assert "shutdown" in running.lines


def test_a_module_that_calls_run(tmp_path: Path) -> None:
    """A module is a target as a file is; in a package it is imported under its own name."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "serve.py").write_text(
        HEAD + TOLD + "app = service.Application('module')\napp.setService(Told(__name__))\n"
        "reactor.callLater(0.05, reactor.stop)\nreactor.run()\n"
    )
    done = plait("run", "package.serve", cwd=tmp_path)
    names = ["package.serve privileged", "package.serve starts", "package.serve stops"]
    assert (done.stdout.splitlines(), done.returncode) == (names, 0), done.stderr


def test_the_state_of_a_classic_application_is_seen(tmp_path: Path) -> None:
    """What happens to classic services is in the log as of any other: by path, with their incarnation."""
    write_tac(tmp_path)
    with Running("--log-format", "json", "app.tac", cwd=tmp_path, program=PLAIT_RUN) as running:
        running.expect("ready in")
        record = json.loads(running.expect('"one running"'))
        assert (record["service"], record["incarnation"]) == ("one", 1)
        running.send(signal.SIGTERM)
        assert running.wait() == 0


def test_a_second_signal_forces(tmp_path: Path) -> None:
    """Under `plait run` a service that would not stop does not hold up the process for ever."""
    (tmp_path / "app.tac").write_text(
        HEAD
        + """
class Never(service.Service):
    def stopService(self):
        print("asked", flush=True)
        return defer.Deferred()
application = service.Application("never")
Never().setServiceParent(application)
"""
    )
    with Running("app.tac", cwd=tmp_path, program=PLAIT_RUN) as running:
        running.expect("ready in")
        running.send(signal.SIGTERM)
        running.expect("asked")
        os.kill(running.pid, signal.SIGTERM)
        assert running.wait() == 128 + signal.SIGTERM


REACT = """
from plait.classic.internet import task


def main(reactor, word):
    print(word, reactor.running, flush=True)
    return task.deferLater(reactor, 0.05, {end})


task.react(main, ["ready"])
"""


@pytest.mark.parametrize(("end", "code"), [("print, 'done'", 0), ("int, 'x'", 1)])
def test_a_main_for_react(tmp_path: Path, end: str, code: int) -> None:
    """By itself it is the program, which ends and fails with it; Plait serves it as an application's one service."""
    (tmp_path / "program.py").write_text(REACT.replace("{end}", end))
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout.splitlines()[0]) == (code, "ready False"), done.stderr
    done = plait("run", "program.py", cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[0]) == (70 if code else 0, "ready True"), done.stderr
    assert "line 10 of" in done.stderr
    assert "task.react(): Plait runs the loop instead, and serves 'react'" in done.stderr
    assert ("done" in done.stdout) is (code == 0)
    assert ("invalid literal for int()" in done.stderr) is (code != 0)
