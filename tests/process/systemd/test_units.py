"""Plait as a unit of a real systemd: it is told what goes on, and keeps the sockets."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections.abc import Callable, Iterator

import pytest
from booted import Machine

APP = """
import asyncio, os, subprocess, time
from plait import Application, Options, Service
from plait.net import Server

class ShopOptions(Options):
    listen: str = "tcp://127.0.0.1:8000"
    greeting: str = "hello"
    slow: float = 0.0
    slow_stop: float = 0.0

class Work(Service):
    def __init__(self, options):
        self.options = options
    async def on_start(self):
        await asyncio.sleep(self.options.slow)
        if "FAIL" in os.environ:
            raise RuntimeError("not today")
        self.log.warning("at work", extra={"shift": "night"})
    async def on_stop(self):
        await asyncio.sleep(self.options.slow_stop)

def make_app(options: ShopOptions) -> Application:
    app = Application("shop")
    async def greet(reader, writer):
        line = (await reader.readline()).strip()
        if line == b"block":
            time.sleep(60)
        if line == b"children":
            child = subprocess.run(["/bin/sh", "-c", "env; ls -l /proc/self/fd"], capture_output=True, close_fds=False)
            writer.write(child.stdout)
        else:
            writer.write(f"{options.greeting} {os.getpid()}\\n".encode())
    app.add(Work(options), name="work", start_timeout=options.slow + 10, stop_timeout=options.slow_stop + 10)
    app.add(Server(options.listen, greet), name="web", needs=["work"])
    return app
"""
FOLDER = "/srv/shop"
STORE = "FileDescriptorStoreMax=16\nEnvironment=FDSTORE=16\nRestart=always\nRestartSec=0\n"
ASK = """
import socket, sys, time
end = time.monotonic() + 15
while True:
    try:
        with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 15) as sock:
            sock.sendall(sys.argv[2].encode() + b"\\n")
            print(sock.makefile().read(), end="")
            break
    except ConnectionRefusedError:
        if sys.argv[3] == "no" or time.monotonic() > end:
            raise
        time.sleep(0.02)
"""


@pytest.fixture
def unit(machine: Machine) -> Iterator[Callable[..., str]]:
    """Writes a service of this name, and starts it; all are stopped at the end."""
    machine.write(f"{FOLDER}/app.py", APP)
    started: list[str] = []

    def start(name: str, arguments: str = "app.py", service: str = "", *, begin: bool = True) -> str:
        text = f"""
            [Unit]
            StartLimitIntervalSec=0
            [Service]
            Type=notify
            WorkingDirectory={FOLDER}
            Environment=PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={":".join(p for p in sys.path if p.endswith("src"))}
            ExecStart={sys.executable} -m plait run {arguments}
            ExecReload=/bin/kill -HUP $MAINPID
            KillMode=mixed
        """
        machine.write(f"/etc/systemd/system/{name}.service", textwrap.dedent(text) + textwrap.dedent(service))
        machine.run("systemctl", "daemon-reload")
        started.append(f"{name}.service")
        if begin:
            machine.run("systemctl", "start", name)
        return f"{name}.service"

    yield start
    for one in started:
        machine.run("systemctl", "stop", one.replace(".service", ".socket"), check=False)
        machine.run("systemctl", "stop", one, check=False)
        machine.run("systemctl", "reset-failed", one, check=False)


def ask(machine: Machine, what: str = "hi", port: int = 8000, *, patient: bool = False) -> str:
    """What the shop answers; a patient client tries again while it is refused."""
    return machine.run(sys.executable, "-c", ASK, str(port), what, "yes" if patient else "no").strip()


def test_it_is_active_when_it_is_ready_and_tells_where_it_listens(machine: Machine, unit: Callable[..., str]) -> None:
    """`systemctl start` returns when a client is served, not before; the status says where; the main PID is ours."""
    name = unit("ready", "app.py --slow 0.5")
    assert ask(machine) == f"hello {machine.property(name, 'MainPID')}"
    assert machine.property(name, "StatusText") == "ready: listening on tcp://127.0.0.1:8000"
    assert "Descriptor" not in machine.journal(name)  # a unit without a store is no reason to complain


def test_a_start_may_take_longer_than_the_unit_gives(machine: Machine, unit: Callable[..., str]) -> None:
    """Systemd is asked for as much time as the service has: with TimeoutStartSec=1 a start of 3 s is not killed."""
    name = unit("slow", "app.py --slow 3", "TimeoutStartSec=1\n")
    assert machine.property(name, "ActiveState") == "active"


def test_a_stop_may_take_longer_than_the_unit_gives(machine: Machine, unit: Callable[..., str]) -> None:
    """The same for TimeoutStopSec, and the unit ends well; meanwhile it says that it stops."""
    name = unit("slowstop", "app.py --slow-stop 3", "TimeoutStopSec=1\n")
    machine.run("systemctl", "stop", "--no-block", name)
    machine.until(name, "StatusText", "stopping, at most 25 s")
    machine.until(name, "ActiveState", "inactive")
    assert machine.property(name, "Result") == "success"


def test_a_reload_is_reloading_and_then_active_again(machine: Machine, unit: Callable[..., str]) -> None:
    """The unit is `reloading` until the new generation serves; one that fails leaves it active, and that is said."""
    machine.write(f"{FOLDER}/shop.toml", 'greeting = "good day"\n')
    name = unit("reload", "app.py --config shop.toml")
    machine.write(f"{FOLDER}/shop.toml", 'greeting = "good night"\nslow = 1.5\n')
    machine.run("kill", "-HUP", machine.property(name, "MainPID"))
    machine.until(name, "ActiveState", "reloading")
    assert ask(machine).startswith("good day")
    machine.until(name, "StatusText", "ready, generation 2")
    assert machine.property(name, "ActiveState") == "active"
    assert ask(machine).startswith("good night")
    machine.write(f"{FOLDER}/shop.toml", "greting = 1\n")
    machine.run("kill", "-HUP", machine.property(name, "MainPID"))
    deadline = time.monotonic() + 20
    while "the last reload failed" not in machine.property(name, "StatusText"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert machine.property(name, "ActiveState") == "active"
    assert ask(machine).startswith("good night")


def test_a_start_that_fails_fails_the_unit(machine: Machine, unit: Callable[..., str]) -> None:
    """At once, with Plait's exit code."""
    name = unit("broken", "nothing.py", begin=False)
    machine.run("systemctl", "start", name, check=False)
    assert (machine.property(name, "Result"), machine.property(name, "ExecMainStatus")) == ("exit-code", "2")


def test_a_service_that_does_not_start_fails_the_unit(machine: Machine, unit: Callable[..., str]) -> None:
    """With exit code 3, after what had started was stopped; and a restart is tried, as the unit has it."""
    service = "Environment=FAIL=1\nRestart=on-failure\nRestartSec=0\n"
    name = unit("failing", "app.py", service, begin=False)
    machine.run("systemctl", "start", "--no-block", name)
    deadline = time.monotonic() + 20
    while int(machine.property(name, "NRestarts")) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "status=3" in machine.journal(name)
    machine.run("systemctl", "stop", name)


def test_the_watchdog_ends_a_loop_that_is_stuck_and_no_other(machine: Machine, unit: Callable[..., str]) -> None:
    """With WatchdogSec=1 an idle unit lives on; one whose loop is blocked is aborted and started anew."""
    name = unit("watched", "app.py", "WatchdogSec=1\nRestart=always\nRestartSec=0\nTimeoutAbortSec=5\n")
    first = machine.property(name, "MainPID")
    time.sleep(2.5)  # more than two periods of the watchdog, which is systemd's and has a real clock
    assert (machine.property(name, "MainPID"), machine.property(name, "NRestarts")) == (first, "0")
    machine.run(
        sys.executable, "-c", "import socket; socket.create_connection(('127.0.0.1', 8000)).sendall(b'block\\n')"
    )
    machine.until(name, "NRestarts", "1")
    assert "Watchdog timeout" in machine.journal(name)
    assert ask(machine, patient=True) != f"hello {first}"


def test_sockets_of_a_unit_by_name_and_across_restarts(machine: Machine, unit: Callable[..., str]) -> None:
    """The socket that systemd listens on starts the service; one that connects while it is stopped is served later."""
    machine.write(
        "/etc/systemd/system/passed.socket",
        "[Socket]\nListenStream=127.0.0.1:8001\nFileDescriptorName=web\n[Install]\nWantedBy=sockets.target\n",
    )
    name = unit("passed", "app.py --listen systemd://web", begin=False)
    machine.run("systemctl", "start", "passed.socket")
    assert machine.property(name, "ActiveState") == "inactive"
    first = ask(machine, port=8001)
    assert first == f"hello {machine.property(name, 'MainPID')}"
    machine.run("systemctl", "restart", name)
    assert ask(machine, port=8001) not in ("", first)


def test_children_are_told_nothing_that_is_ours(machine: Machine, unit: Callable[..., str]) -> None:
    """Neither NOTIFY_SOCKET, WATCHDOG_* nor LISTEN_*, nor the socket itself."""
    machine.write("/etc/systemd/system/kids.socket", "[Socket]\nListenStream=127.0.0.1:8002\nFileDescriptorName=web\n")
    unit("kids", "app.py --listen systemd://web", "WatchdogSec=30\n", begin=False)
    machine.run("systemctl", "start", "kids.socket")
    seen = ask(machine, "children", port=8002)
    assert "JOURNAL_STREAM" in seen  # it is the environment of the unit
    assert not [line for line in seen.splitlines() if line.startswith(("NOTIFY_", "WATCHDOG_", "LISTEN_"))]
    assert "3 -> socket" not in seen


def test_the_store_keeps_sockets_of_a_process_that_was_killed(machine: Machine, unit: Callable[..., str]) -> None:
    """Killed ten times, nobody who connects is refused: the impatient client is served by the next process."""
    name = unit("stored", "app.py", STORE)
    assert machine.property(name, "NFileDescriptorStore") == "1"
    pids = {machine.property(name, "MainPID")}
    for _ in range(10):
        machine.run("kill", "-9", machine.property(name, "MainPID"))
        pids.add(ask(machine).removeprefix("hello "))
        assert machine.property(name, "NFileDescriptorStore") == "1"
    assert len(pids) == 11
    machine.run("systemctl", "stop", name)
    assert machine.property(name, "NFileDescriptorStore") == "0"


def test_a_unix_socket_is_kept_too(machine: Machine, unit: Callable[..., str]) -> None:
    """The file stays, and leads to the socket that the next process accepts from; a clean stop removes it."""
    service = f"{STORE}RuntimeDirectory=sock\nRuntimeDirectoryPreserve=restart\n"
    name = unit("unixstored", "app.py --listen unix:///run/sock/s", service)
    first = machine.property(name, "MainPID")
    machine.run("kill", "-9", first)
    code = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/sock/s'); "
        "s.sendall(b'hi\\n'); print(s.makefile().read())"
    )
    assert machine.run(sys.executable, "-c", code).strip() not in ("", f"hello {first}")
    machine.run("systemctl", "stop", name)
    assert "No such file" in machine.run("sh", "-c", "ls /run/sock/s 2>&1", check=False)


def test_what_is_listened_on_no_more_leaves_the_store(machine: Machine, unit: Callable[..., str]) -> None:
    """Killed, and started with another address: the old one is refused, and systemd keeps the new one alone."""
    machine.write(f"{FOLDER}/where.toml", 'listen = "tcp://127.0.0.1:8003"\n')
    name = unit("moved", "app.py --config where.toml", STORE)
    machine.write(f"{FOLDER}/where.toml", 'listen = "tcp://127.0.0.1:8004"\n')
    machine.run("kill", "-9", machine.property(name, "MainPID"))
    assert ask(machine, port=8004, patient=True)
    machine.until(name, "NFileDescriptorStore", "1")
    with pytest.raises(AssertionError, match="ConnectionRefusedError"):
        ask(machine, port=8003)


def test_the_journal_has_fields(machine: Machine, unit: Callable[..., str]) -> None:
    """Priority, service, incarnation, and what code passes as `extra`, each by itself; long entries as well."""
    name = unit("journal")
    lines = machine.journal(name, "-o", "json").splitlines()
    (entry,) = [one for one in map(json.loads, lines) if one["MESSAGE"] == "work: at work"]
    assert (entry["PRIORITY"], entry["PLAIT_SERVICE"], entry["PLAIT_INCARNATION"]) == ("4", "work", "1")
    assert (entry["SHIFT"], entry["LOGGER"], entry["SYSLOG_IDENTIFIER"]) == ("night", "plait.service", "plait")
    assert entry["CODE_FUNC"] == "on_start"
    assert entry["_SYSTEMD_UNIT"] == name


def test_a_daemon_of_type_forking(machine: Machine, unit: Callable[..., str]) -> None:
    """For those who come with such a unit: --daemon and --pidfile give systemd the main PID."""
    service = "Type=forking\nPIDFile=/run/forking.pid\n"
    name = unit("forking", "--daemon --pidfile /run/forking.pid --log-file /run/forking.log app.py", service)
    assert ask(machine) == f"hello {machine.property(name, 'MainPID')}"
