"""The handbook's listings, in tests/classic/listings as they are printed, ported by replacing the prefix alone."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from running import TIMEOUT, Running, environment

LISTINGS = Path(__file__).parent / "listings"

PYTHON = (sys.executable, "-u")
PLAIT_RUN = (sys.executable, "-u", "-m", "plait", "run")
BOTH = pytest.mark.parametrize("program", [PYTHON, PLAIT_RUN], ids=["python", "plait run"])


@pytest.fixture
def port_of(tmp_path: Path) -> Callable[[str], str]:
    """Writes the listing whose name begins so, ported, and gives its file's name."""

    def write(name: str) -> str:
        (source,) = LISTINGS.glob(f"listing-{name}*.py")
        (tmp_path / source.name).write_text(re.sub(r"\btwisted\.", "plait.classic.", source.read_text()))
        return source.name

    return write


def ended(program: tuple[str, ...], *argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The program, run to its end."""
    env = environment(cwd.parent / f"{cwd.name}-home")
    return subprocess.run([*program, *argv], cwd=cwd, env=env, capture_output=True, text=True, timeout=TIMEOUT)


def free_port() -> int:
    """One below those that the system gives to clients: who tries to connect before anybody listens could get it."""
    while True:
        number = random.randrange(20_000, 32_000)
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", number))
            return number


@pytest.mark.parametrize(
    "program",
    [PYTHON, PLAIT_RUN, (*PLAIT_RUN, "--loop", "asyncio")],
    ids=["python", "plait run", "plait run --loop asyncio"],
)
@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("1", ["Operation completed with result: 42"]),
        ("2", ["Received data: Hello, world!"]),
        ("3", ["Service started", "Service stopped"]),
    ],
)
def test_a_listing_ends_by_itself(
    name: str, printed: list[str], program: tuple[str, ...], port_of: Callable[[str], str], tmp_path: Path
) -> None:
    """It prints what the handbook says, each line once and nothing else, and exits with 0."""
    done = ended(program, port_of(name), cwd=tmp_path)
    assert (done.stdout.splitlines(), done.returncode) == (printed, 0), done.stderr


@BOTH
def test_a_listing_that_is_alone_says_nothing_else(
    program: tuple[str, ...], port_of: Callable[[str], str], tmp_path: Path
) -> None:
    """By itself it logs nothing where all goes well; under `plait run` one line says who runs the loop."""
    done = ended(program, port_of("3"), cwd=tmp_path)
    said = [line for line in done.stderr.splitlines() if "reactor.run()" in line]
    if program is PYTHON:
        assert done.stderr == ""
    else:
        assert len(said) == 1
        assert "My Twisted Application" in said[0]


@BOTH
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
@pytest.mark.parametrize("given", ["--port", "--config", "environment"])
def test_the_echo_service(
    given: str, number: signal.Signals, program: tuple[str, ...], port_of: Callable[[str], str], tmp_path: Path
) -> None:
    """It welcomes and echoes at the port it was given, says once that it stops, exits with 0 and frees the port."""
    port, env = free_port(), {}
    argv = ["--port", str(port)]
    if given == "--config":
        (tmp_path / "echo.toml").write_text(f"port = {port}\n")
        argv = ["--config", "echo.toml"]
    elif given == "environment":
        argv, env = [], {"ECHO_PORT": str(port)}
    with Running(port_of("4"), *argv, cwd=tmp_path, program=program, **env) as echo:
        echo.expect(f"Echo service starting on port {port}")
        with connected(port, echo) as client:
            assert read(client, 30) == b"Welcome to the Echo Service!\r\n"
            client.sendall(b"abc\n")
            assert read(client, 4) == b"abc\n"
        echo.send(number)
        assert echo.wait() == 0, echo.output
        assert sum(line.endswith("Echo service stopping") for line in echo.lines) == 1, echo.output
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
        again.listen()


def connected(port: int, echo: Running) -> socket.socket:
    """A connection to it, as soon as it listens."""
    from running import until

    made: list[socket.socket] = []

    def tried() -> bool:
        try:
            made.append(socket.create_connection(("127.0.0.1", port), TIMEOUT))
        except ConnectionRefusedError:
            return False
        return True

    until(tried, f"listening:\n{echo.output}")
    return made[0]


def read(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = client.recv(count - len(data))
        assert more, data
        data += more
    return data


@BOTH
def test_a_port_that_is_none(program: tuple[str, ...], port_of: Callable[[str], str], tmp_path: Path) -> None:
    """One line says what is wrong, and the exit code is 2."""
    done = ended(program, port_of("4"), "--port", "x", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "--port" in line
    assert "'x'" in line


@BOTH
def test_help(program: tuple[str, ...], port_of: Callable[[str], str], tmp_path: Path) -> None:
    """--help shows the option with its default and its variable, starts nothing and exits with 0."""
    done = ended(program, port_of("4"), "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "--port" in done.stdout
    assert "The port to listen on." in done.stdout
    assert "1234" in done.stdout
    assert "ECHO_PORT" in done.stdout
    assert "starting" not in done.stdout


def test_a_listing_that_is_imported_reads_no_command_line(port_of: Callable[[str], str], tmp_path: Path) -> None:
    """The command line of a program that merely imports the module is not the module's."""
    name = port_of("4")
    text = (tmp_path / name).read_text().replace("reactor.run()", "")
    (tmp_path / "listing.py").write_text(text)
    (tmp_path / "program.py").write_text("import listing\nprint(listing.options['port'])\n")
    done = ended(PYTHON, "program.py", "--port", "1", "--verbose", cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("1234\n", 0), done.stderr
