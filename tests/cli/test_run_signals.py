"""Signals to a real process: whatever it is doing, it ends, in order if it can."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from running import Running, until

APP = '''
import asyncio, ctypes, multiprocessing, os, signal, socket, sys, threading, time
from plait import Application, Service

class Db(Service):
    async def on_start(self): ...
    async def on_stop(self): self.log.info("db was closed")

class Slow(Service):
    async def on_start(self):
        self.log.info("on_start begins")
        await asyncio.sleep(1000)

class Blocked(Service):
    """Blocks the loop for good, in C that releases the GIL."""
    async def run(self):
        await asyncio.sleep(0.05)
        self.log.info("blocking")
        time.sleep(1000)

class Busy(Service):
    """Blocks the loop for a while."""
    async def run(self):
        await asyncio.sleep(0.05)
        self.log.info("blocking")
        time.sleep(2.5)

class Held(Service):
    """Takes the GIL after the first signal, and never gives it back."""
    async def run(self):
        self.log.info("running")
        await self.stopping
        ctypes.PyDLL(None).pause()

class Stubborn(Service):
    async def on_stop(self):
        self.log.info("on_stop begins")
        while True:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                pass

class SlowStop(Service):
    async def on_stop(self):
        self.log.info("on_stop begins")
        await asyncio.sleep(1000)

class TakesSignals(Service):
    """Code that hears signals by the loop, as libraries do."""
    async def run(self):
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, lambda: self.log.info("WINCH was heard"))
        if hasattr(signal, "SIGURG"):
            signal.signal(signal.SIGURG, lambda *_: self.log.info("URG was heard"))
        self.log.info("listening for signals")
        await asyncio.Event().wait()

class Forks(Service):
    async def run(self):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
        child.start()
        child.terminate()
        await asyncio.to_thread(child.join)
        self.log.info("child ended with %s", child.exitcode)
        await asyncio.Event().wait()

class Raises(Service):
    """sys.exit in a callback of the loop, which asyncio lets out of it."""
    async def run(self):
        asyncio.get_running_loop().call_soon(sys.exit, 5)
        await asyncio.Event().wait()

class Holds(Service):
    """Beside a Server on a unix socket, does not stop."""
    async def on_stop(self):
        self.log.info("on_stop begins")
        time.sleep(1000)

def holds_sockets() -> Application:
    from plait.net import Server
    app = Application("app", shutdown_timeout=0.5)
    server = app.add(Server("unix://" + os.path.abspath("app.sock"), asyncio.Protocol), name="server")
    app.add(Holds(), name="it", needs=["server"])
    return app

def of(service, **settings):
    def make() -> Application:
        app = Application("app", **settings)
        app.add(Db(), name="db")
        app.add(service(), name="it", needs=["db"])
        return app
    return make

idle, slow, busy, takes_signals, forks, raises = map(of, (Service, Slow, Busy, TakesSignals, Forks, Raises))
blocked = of(Blocked, shutdown_timeout=0.5)
held = of(Held, shutdown_timeout=0.5)
stubborn = of(Stubborn, shutdown_timeout=0.5)
slow_stop = of(SlowStop)
'''

STOPS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    folder = tmp_path / "cwd"
    folder.mkdir()
    (folder / "app.py").write_text(APP)
    return folder


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.mark.parametrize("one", STOPS)
def test_stop_during_start_is_quiet(cwd: Path, loop: str, one: signal.Signals) -> None:
    """What had started is stopped, nothing is an error, and the exit code is 0."""
    with Running("--loop", loop, "app.py:slow", cwd=cwd) as app:
        app.expect("on_start begins")
        app.send(one)
        assert app.wait() == 0
    assert "db was closed" in app.output
    assert {record["level"] for record in app.records} == {"info"}


@pytest.mark.parametrize("one", STOPS)
def test_stop_while_importing(cwd: Path, one: signal.Signals) -> None:
    """A target that hangs while it is imported is interrupted, its own `finally` runs, and the exit code is 0."""
    (cwd / "hangs.py").write_text(
        "import time, sys\n"
        "try:\n    print('importing', flush=True)\n    time.sleep(1000)\n"
        "finally:\n    print('cleaned up', flush=True)\n"
    )
    with Running("hangs.py", cwd=cwd) as app:
        app.expect("importing")
        app.send(one)
        assert app.wait() == 0
    assert "cleaned up" in app.output
    assert "stopped before it had started" in app.lines[-1]


def test_a_signal_swallowed_while_importing_is_not_forgotten(cwd: Path) -> None:
    """Code that swallows the interruption is loaded, and then stopped before anything starts."""
    (cwd / "swallows.py").write_text(
        "import time\nfrom plait import Application, Service\n"
        "try:\n    print('importing', flush=True)\n    time.sleep(1000)\nexcept BaseException:\n    pass\n"
        "app = Application('app')\napp.add(Service(), name='it')\n"
    )
    with Running("swallows.py", cwd=cwd) as app:
        app.expect("importing")
        app.send(signal.SIGTERM)
        assert app.wait() == 0
    assert "SIGTERM: stopping" in app.output


def test_stop_once_the_blocked_loop_goes_on(cwd: Path, loop: str) -> None:
    """A loop that is blocked for a while stops in order as soon as it can; people are told what it is at."""
    with Running("--loop", loop, "app.py:busy", cwd=cwd) as app:
        app.expect("blocking")
        app.send(signal.SIGTERM)
        assert app.wait() == 0
    assert "the loop does not answer; it is at" in app.output
    assert "db was closed" in app.output


def test_a_loop_blocked_for_good_ends_with_70(cwd: Path, loop: str) -> None:
    """Past shutdown_timeout the watchdog shows every stack, says who had not stopped, and ends the process."""
    with Running("--loop", loop, "app.py:blocked", cwd=cwd) as app:
        app.expect("blocking")
        app.send(signal.SIGTERM)
        assert app.wait() == 70
    last = app.records[-1]
    assert last["level"] == "critical"
    assert "did not stop within 0.5 s; service 'db' is running, service 'it' is running" in last["message"]
    assert "time.sleep(1000)" in last["message"]


def test_where_the_gil_is_held_every_stack_is_shown(cwd: Path) -> None:
    """With the GIL held no thread of Python's runs; faulthandler shows the stacks, and ends the process."""
    with Running("app.py:held", cwd=cwd) as app:
        app.expect("running")
        app.send(signal.SIGTERM)
        assert app.wait() == 1
    assert "Timeout (0:00:04" in app.output
    assert "in run" in app.output


@pytest.mark.parametrize("one", STOPS)
@pytest.mark.parametrize("target", ["blocked", "slow_stop"])
def test_a_second_signal_forces(cwd: Path, one: signal.Signals, target: str) -> None:
    """Whether the loop is blocked or a service takes its time, the second signal ends the process: 128 + n."""
    with Running(f"app.py:{target}", cwd=cwd) as app:
        app.expect("blocking" if target == "blocked" else "ready in")
        began = time.monotonic()
        app.send(one)
        if target == "slow_stop":
            app.expect("on_stop begins")
        else:
            _until_taken(app.pid, one)
        app.send(signal.SIGTERM)
        assert app.wait() == 128 + signal.SIGTERM
        assert time.monotonic() - began < 2
    assert "SIGTERM again: forced to end" in app.records[-1]["message"]
    assert "service 'it' is" in app.records[-1]["message"]


def _until_taken(pid: int, one: signal.Signals) -> None:
    """Until the process has taken the first signal: two that wait at once would be one."""

    def taken() -> bool:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("ShdPnd:"):
                return not int(line.split()[1], 16) & (1 << (one - 1))
        return True

    until(taken, "the first signal taken")
    time.sleep(0.05)


@pytest.mark.parametrize("twice", [True, False], ids=["second signal", "deadline"])
def test_a_forced_end_leaves_no_unix_socket(cwd: Path, twice: bool) -> None:
    """Forced by a signal or by the deadline, the files of unix sockets go with the process."""
    with Running("app.py:holds_sockets", cwd=cwd) as app:
        app.expect("ready in")
        assert (cwd / "app.sock").is_socket()
        app.send(signal.SIGTERM)
        app.expect("on_stop begins")
        if twice:
            app.send(signal.SIGINT)
        assert app.wait() == (128 + signal.SIGINT if twice else 70)
    assert not (cwd / "app.sock").exists()


def test_what_does_not_stop_in_time_is_70(cwd: Path, loop: str) -> None:
    """A service that swallows its cancellation is left behind, named with the line it is at, and the code is 70."""
    with Running("--loop", loop, "app.py:stubborn", cwd=cwd) as app:
        app.expect("ready in")
        app.send(signal.SIGTERM)
        assert app.wait() == 70
    assert "it would not stop, and was left behind: its task at" in app.output
    assert "db was closed" in app.output


def test_signals_of_others_are_heard_by_them(cwd: Path, loop: str) -> None:
    """Handlers of the loop's and of Python's, set by the application's own code, work as without Plait."""
    with Running("--loop", loop, "app.py:takes_signals", cwd=cwd) as app:
        app.expect("listening for signals")
        app.send(signal.SIGWINCH)
        app.expect("WINCH was heard")
        app.send(signal.SIGURG)
        app.expect("URG was heard")
        app.send(signal.SIGHUP)
        app.expect("SIGHUP")
        app.send(signal.SIGTERM)
        assert app.wait() == 0
    assert app.output.count("SIGTERM") == 1


def test_signals_to_a_forked_child_are_its_own(cwd: Path) -> None:
    """A TERM to a forked child ends the child, and does not reach the application by the socket they share."""
    with Running("app.py:forks", cwd=cwd) as app:
        app.expect("child ended with -15")
        assert "SIGTERM" not in app.output
        app.send(signal.SIGTERM)
        assert app.wait() == 0


def test_exit_in_a_callback_stops_in_order(cwd: Path, loop: str) -> None:
    """sys.exit in a callback ends the loop; what runs is stopped in order, and it counts as a failure."""
    with Running("--loop", loop, "app.py:raises", cwd=cwd) as app:
        assert app.wait() == 70
    assert "db was closed" in app.output
    assert app.records[-1]["message"] == "SystemExit: 5"


def test_an_idle_application_wakes_zero_times(cwd: Path, loop: str) -> None:
    """No thread of an idle application runs at all: none has a context switch in a second."""
    with Running("--loop", loop, "app.py:idle", cwd=cwd) as app:
        app.expect("ready in")
        until(lambda: _asleep(app.pid), "the process at rest")
        before = _switches(app.pid)
        time.sleep(1)
        assert _switches(app.pid) == before
        app.send(signal.SIGTERM)
        assert app.wait() == 0


def _asleep(pid: int) -> bool:
    before = _switches(pid)
    time.sleep(0.2)
    return _switches(pid) == before


def _switches(pid: int) -> dict[str, str]:
    found = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        for line in Path(f"/proc/{pid}/task/{thread}/status").read_text().splitlines():
            if "ctxt_switches" in line:
                found[f"{thread} {line.split(':')[0]}"] = line.split()[1]
    return found
