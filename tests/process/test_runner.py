"""Runner, as another program or a test uses it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from plait import Application, Options, Runner, Service
from plait.errors import (
    ApplicationFailed,
    InvalidTree,
    LifecycleError,
    OptionsError,
    PlaitError,
    StartFailed,
    TargetFailed,
    TargetNotFound,
    UsageError,
)
from plait.process.exits import exit_code, lines_of
from plait.process.settings import settle


class DemoOptions(Options):
    """A demonstration."""

    word: str = "hello"


class Job(Service):
    """Ends by itself."""

    def __init__(self, word: str) -> None:
        self.word = word

    async def run(self) -> None:
        if self.word == "fail":
            raise ValueError("as told")


class Waits(Service):
    """Stops when it is told to."""

    async def run(self) -> None:
        await self.stopping


def make_app(options: DemoOptions) -> Application:
    app = Application("demo")
    app.add(Job(options.word), name="job", restart="never")
    return app


def waits() -> Application:
    app = Application("waits")
    app.add(Waits(), name="it")
    return app


def test_a_factory_is_a_target() -> None:
    """A program gives the factory itself, and the options' sources, and gets at the parts one by one."""
    runner = Runner(make_app, ["--word", "hi"], environ={})
    assert runner.options.options.word == "hi"
    assert runner.build()["job"].word == "hi"  # type: ignore[attr-defined]
    assert Runner(make_app, environ={"DEMO_WORD": "env"}).options.options.word == "env"
    assert Runner(make_app, environ={}, sets=["word=set"]).options.options.word == "set"


def test_a_text_is_a_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on the command line; nothing is imported before `load`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    (tmp_path / "runner_target.py").write_text("from plait import Service\nclass It(Service): ...\napp = It()\n")
    runner = Runner("runner_target.py", environ={})
    with pytest.raises(LifecycleError, match="has built no application yet"):
        _ = runner.application
    assert [service.name for service in runner.build()] == ["it"]
    assert runner.application.name == "it"


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_run_gives_everything_back(loop: str) -> None:
    """After `run` the signal handlers, the wake-up descriptor, the threads and the loggers are as before."""

    def present() -> dict[str, Any]:
        fd = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(fd)
        handlers = {one: signal.getsignal(one) for one in signal.valid_signals()}
        root = logging.getLogger()
        return {"fd": fd, "handlers": handlers, "threads": threading.enumerate(), "log": [*root.handlers, root.level]}

    from plait.observe.logs import Logs

    assert Runner(make_app, environ={}, loop=loop).run() == 0  # a loop may open something of its own, once
    before, files = present(), len(os.listdir("/proc/self/fd"))
    assert Runner(make_app, environ={}, loop=loop, logs=Logs("critical")).run() == 0
    assert present() == before
    assert len(os.listdir("/proc/self/fd")) == files


def test_run_in_another_thread() -> None:
    """Outside the main thread it runs as well, and leaves signals alone."""
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(Runner(make_app, environ={}).run()))
    thread.start()
    thread.join(20)
    assert codes == [0]


def test_run_says_what_failed(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """`run` raises nothing: wrong options are told on stderr, a failure is in the log, and the code says which."""
    assert Runner(make_app, ["--wrod", "x"], environ={}).run() == 2
    assert "did you mean '--word'?" in capsys.readouterr().err
    assert Runner(make_app, ["--word", "fail"], environ={}).run() == 70
    assert "application 'demo' failed: service 'job': ValueError: as told" in caplog.messages


async def test_serve_on_the_callers_loop() -> None:
    """`serve` raises what went wrong, and touches no signal."""
    before = signal.getsignal(signal.SIGTERM)
    runner = Runner(make_app, environ={"DEMO_WORD": "fail"})
    with pytest.raises(ApplicationFailed, match="as told"):
        await runner.serve()
    assert signal.getsignal(signal.SIGTERM) is before


async def test_cancelling_serve_stops_in_order() -> None:
    """As Application.serve does."""
    runner = Runner(waits, environ={})
    task = asyncio.create_task(runner.serve())
    await asyncio.sleep(0)
    await runner.application.wait_ready()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert runner.application.state.value == "stopped"


async def test_generations_share_their_sockets() -> None:
    """All applications that one runner makes have one registry of sockets."""
    from plait.net.sockets import Registry

    runner = Runner(make_app, environ={})
    registries = []
    for _ in range(2):
        application = runner.build()
        await runner.serve()
        registries.append(application.resource(Registry))
    assert registries[0] is registries[1]


def test_check_touches_nothing() -> None:
    """`check` builds, and finds what could not start."""

    def needs() -> Application:
        app = Application("demo")
        app.add(Service(), name="a", needs=["b"])
        return app

    assert Runner(make_app, environ={}).check().state.value == "new"
    with pytest.raises(InvalidTree, match="'b'"):
        Runner(needs, environ={}).check()
    with pytest.raises(InvalidTree, match="no services"):
        Runner(Application("empty"), environ={}).check()


def test_an_unknown_loop_is_refused() -> None:
    """With the names there are."""
    with pytest.raises(UsageError, match="'trio' is none of uvloop, asyncio"):
        Runner(make_app, loop="trio")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError(""), 2),
        (TargetNotFound(""), 2),
        (OptionsError([]), 2),
        (TargetFailed(""), 3),
        (InvalidTree(""), 3),
        (StartFailed("", [ValueError()]), 3),
        (ApplicationFailed("", [ValueError()]), 70),
        (PlaitError(""), 70),
        (ZeroDivisionError(), 70),
        (SystemExit(0), 70),
    ],
)
def test_exit_codes(error: BaseException, code: int) -> None:
    """The design's codes, for every kind of error."""
    assert exit_code(error) == code


def test_lines_of_an_error() -> None:
    """A line for each line of its message; the type only of errors that are not Plait's own."""
    assert lines_of(UsageError("one\ntwo")) == "plait: error: one\nplait: error: two\n"
    assert lines_of(ZeroDivisionError("x")) == "plait: error: ZeroDivisionError: x\n"


def test_settings_command_line_over_file_over_default(tmp_path: Path) -> None:
    """`[plait]` of the file given with --config, or of a target that is a TOML file."""
    file = tmp_path / "c.toml"
    file.write_text('[plait]\nloop = "asyncio"\nlog_level = "debug"\n')
    for target, argv in (("app.py", ["--config", str(file)]), (str(file), [])):
        settings = settle({"loop": None, "log_level": "error"}, target, argv)
        assert (settings.loop, settings.log_level, settings.log_format) == ("asyncio", "error", "auto")
    file.write_text("[plait]\nlop = 1\nlog_file = 1\n")
    with pytest.raises(OptionsError, match=r"did you mean 'loop'.*\n.*log_file = 1: expected text"):
        settle({}, str(file), [])


async def test_a_sink_need_not_be_hashable() -> None:
    """A dataclass with a __call__, say, before serve and during it."""

    @dataclass
    class Sink:
        seen: int = 0

        def __call__(self, event: object) -> None:
            self.seen += 1

    early, late = Sink(), Sink()
    runner = Runner(waits, environ={})
    unsubscribe = runner.subscribe(early)
    serving = asyncio.create_task(runner.serve())
    await asyncio.sleep(0.01)
    runner.subscribe(late)
    unsubscribe()
    seen = early.seen
    await runner.stop()
    await serving
    assert early.seen == seen > 0
    assert late.seen > 2
