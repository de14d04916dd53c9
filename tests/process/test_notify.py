"""What systemd is told, as a socket in its place hears it; the real one is in the folder systemd."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plait import Application, Options, Service
from plait._kernel.events import HealthChanged, StateChanged
from plait._kernel.health import Level
from plait._kernel.states import State
from plait.process.notify import Notices, Notifier
from plait.process.runner import Runner
from plait.process.store import Store


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """Its socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


def heard(sock: socket.socket) -> list[dict[str, str]]:
    """The messages that wait, taken apart."""
    found = []
    while True:
        try:
            text = sock.recv(9999).decode()
        except BlockingIOError:
            return found
        found.append(dict(line.split("=", 1) for line in text.split("\n")))


def test_the_variables_are_taken_out(tmp_path: Path) -> None:
    """So that no child speaks in our name; a watchdog that is another process's is none of ours."""
    environ = {
        "NOTIFY_SOCKET": "/x",
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": str(os.getpid()),
        "FDSTORE": "4",
        "A": "b",
    }
    notifier = Notifier.of(environ)
    assert (notifier.is_heard, notifier.watchdog, notifier.keeps, environ) == (True, 3.0, True, {"A": "b"})
    assert Notifier.of({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}).watchdog == 0
    assert not Notifier.of({"FDSTORE": "4"}).keeps
    assert not Notifier.of({"NOTIFY_SOCKET": "/x"}).keeps


def test_an_address_without_a_file() -> None:
    """systemd's user instances and containers use abstract ones, which begin with @."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        name = f"plait-test-{os.getpid()}"
        sock.bind("\0" + name)
        sock.setblocking(False)
        Notifier(f"@{name}").send(STATUS="two\nlines")
        assert heard(sock) == [{"STATUS": "two lines"}]


def test_nobody_there_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And nothing at all where no socket was named."""
    notifier = Notifier(str(tmp_path / "none"))
    for _ in range(3):
        notifier.send(READY=1)
    Notifier().send(READY=1)
    assert [one.getMessage() for one in caplog.records] == [
        "systemd cannot be told of READY: No such file or directory"
    ]


def test_one_that_reads_no_more_holds_nobody_up_for_long(
    systemd: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for once, however much there is to say."""
    monkeypatch.setattr("plait.process.notify.SEND_TIMEOUT", 0.05)
    notifier = Notifier(str(tmp_path / "notify"))
    before = time.monotonic()
    for _ in range(2000):
        notifier.send(WATCHDOG=1)
    taken = len(heard(systemd))
    assert 0 < taken < 2000
    assert time.monotonic() - before < (2000 - taken) * 0.05 / 2  # waiting for each would take twice that


class Words(Options):
    word: str = "one"
    fails: bool = False


class Part(Service):
    def __init__(self, options: Words) -> None:
        self.word, self.fails = options.word, options.fails

    async def on_start(self) -> None:
        if self.fails:
            raise RuntimeError("not today")

    async def run(self) -> None:
        await self.stopping


def make_app(options: Words) -> Application:
    """One service, with a long time to start."""
    app = Application("shop", shutdown_timeout=20)
    app.add(Part(options), name="part", start_timeout=300)
    return app


async def test_a_life(systemd: socket.socket, tmp_path: Path) -> None:
    """Start, a reload, one that fails, stop: each in the order in which systemd takes it."""
    environ: dict[str, str] = {}
    runner = Runner(make_app, environ=environ, notifier=Notifier(str(tmp_path / "notify")))
    serving = asyncio.create_task(runner.serve())
    await _until_ready(runner)
    more_time, ready = heard(systemd)
    assert more_time == {"EXTEND_TIMEOUT_USEC": "305000000"}
    assert ready == {"READY": "1", "MAINPID": str(os.getpid()), "STATUS": "ready"}
    environ["WORDS_WORD"] = "two"
    before = time.monotonic_ns() // 1000
    await runner.reload()
    said = [one for one in heard(systemd) if "EXTEND_TIMEOUT_USEC" not in one]
    assert [list(one) for one in said] == [["RELOADING", "MONOTONIC_USEC", "STATUS"], ["READY", "STATUS"]]
    assert before <= int(said[0]["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert said[1]["STATUS"] == "ready, generation 2"
    environ["WORDS_FAILS"] = "true"
    with pytest.raises(Exception, match="not today"):
        await runner.reload()
    said = [one for one in heard(systemd) if "EXTEND_TIMEOUT_USEC" not in one]
    assert [next(iter(one)) for one in said] == ["RELOADING", "READY"]
    assert "the last reload failed" in said[1]["STATUS"]
    await runner.stop()
    await serving
    assert heard(systemd) == [
        {"STOPPING": "1", "STATUS": "stopping, at most 20 s"},
        {"EXTEND_TIMEOUT_USEC": "25000000"},
    ]


async def _until_ready(runner: Runner) -> None:
    while True:
        await asyncio.sleep(0)
        if runner._application is not None and runner.application.state.value == "running":
            return


def test_what_counts_is_the_application_that_serves(systemd: socket.socket, tmp_path: Path) -> None:
    """Its health is the status, and a start that ends paused, as an operator wanted it, is one; others are silent."""
    notices, app = Notices(Notifier(str(tmp_path / "notify"))), make_app(Words())
    sick = HealthChanged(time=0, path="/", old=Level.READY, new=Level.DEGRADED, reason="service 'part' is paused")
    paused = StateChanged(time=0, path="/", incarnation=1, old=State.STARTING, new=State.PAUSED)
    stopping = StateChanged(time=0, path="/", incarnation=1, old=State.RUNNING, new=State.STOPPING)
    for event in (sick, paused, stopping):
        notices.hear(app, event, serving=False)
    notices.hear(app, replace(sick, path="part"), serving=True)
    assert heard(systemd) == []
    notices.hear(app, paused, serving=True)
    notices.hear(app, sick, serving=True)
    assert [one["STATUS"] for one in heard(systemd)] == ["ready", "degraded: service 'part' is paused"]


async def test_the_watchdog_is_fed_by_the_loop(systemd: socket.socket, tmp_path: Path) -> None:
    """As long as that runs, and no longer than the application."""
    runner = Runner(make_app, environ={}, notifier=Notifier(str(tmp_path / "notify"), watchdog=0.04))
    serving = asyncio.create_task(runner.serve())
    await _until_ready(runner)
    heard(systemd)
    fed = 0
    while fed < 5:
        await asyncio.sleep(0.01)
        fed += heard(systemd).count({"WATCHDOG": "1"})
    time.sleep(0.2)  # noqa: ASYNC251  # the loop is stuck
    assert heard(systemd) == []
    await runner.stop()
    await serving
    heard(systemd)
    await asyncio.sleep(0.1)
    assert heard(systemd) == []


def test_names_in_the_store(systemd: socket.socket, tmp_path: Path) -> None:
    """Without a colon, at most 255 characters, one for each address."""
    store = Store(Notifier(str(tmp_path / "notify"), keeps=True))
    names = ["10/1/::1/8000", "2/1/127.0.0.1/8000", "1//" + "ü" * 50, "1//" + "ü" * 50 + "x"]
    with socket.socket() as sock:
        for name in names:
            store.keep(name, sock)
    sent: list[Any] = [one["FDNAME"] for one in heard(systemd)]
    assert len(set(sent)) == len(names)
    assert all(len(one) <= 255 and ":" not in one and one.isascii() for one in sent)
