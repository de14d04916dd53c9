"""The chat of examples/classic, which is written for Twisted: the same program on Twisted and on plait.classic."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from running import TIMEOUT, Running, environment, until

EXAMPLE = Path(__file__).parents[2] / "examples" / "classic"

TWISTED = pytest.mark.skipif(find_spec("twisted") is None, reason="needs Twisted: pip install -e '.[dev]'")
PYTHON = (sys.executable, "-u")
TWISTD = (*PYTHON, "-c", "from twisted.scripts.twistd import run; run()", "--pidfile=", "-noy")
PLAIT_RUN = (*PYTHON, "-m", "plait", "run")


@pytest.fixture(params=["plait", pytest.param("twisted", marks=TWISTED)])
def on(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What the program, which is in tmp_path, runs on."""
    for source in EXAMPLE.iterdir():
        if source.suffix in (".py", ".tac"):
            shutil.copy(source, tmp_path)
    if request.param == "twisted":
        for file in tmp_path.iterdir():
            file.write_text(re.sub(r"\bplait\.classic\.", "twisted.", file.read_text()))
    on: str = request.param
    return on


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        number: int = one.getsockname()[1]
        return number


class Guest:
    """One who chats."""

    def __init__(self, port: int) -> None:
        made: list[socket.socket] = []

        def connected() -> bool:
            try:
                made.append(socket.create_connection(("127.0.0.1", port), TIMEOUT))
            except ConnectionRefusedError:
                return False
            return True

        until(connected, f"somebody listens on {port}")
        self.socket = made[0]
        self.file = self.socket.makefile("rwb")

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()
        self.socket.close()

    def say(self, text: str) -> None:
        self.file.write(text.encode() + b"\n")
        self.file.flush()

    def hear(self, pattern: str) -> str:
        """The next line, which must look so; "" is the end."""
        line: str = self.file.readline().decode()
        assert re.fullmatch(pattern, line.rstrip("\n")), line
        return line.rstrip("\n")

    def hear_until(self, pattern: str) -> str:
        """The next line that looks so."""
        while line := self.file.readline().decode().rstrip("\n"):
            if re.fullmatch(pattern, line):
                return line
        raise AssertionError(f"no line looks like {pattern}")

    def hear_end(self) -> None:
        """Whatever comes, to the end of the connection."""
        while self.file.readline():
            pass


def chat(port: int) -> Guest:
    """What is said, and heard; one of them stays."""
    ann = Guest(port)
    ann.hear(r"\* welcome; .*")
    ann.say("/nick ann")
    ann.hear_until(r"\* guest\d is ann now")
    while "bot" not in (ann.say("/who") or ann.hear_until(r"\* here: .*")):
        pass
    with Guest(port) as ben:
        ann.hear_until(r"\* guest3 has come")
        ben.hear(r"\* welcome; .*")
        ben.say("/nick ann")
        ben.hear(r"\* ann is taken")
        ben.say("/nick ben")
        ben.hear(r"\* guest3 is ben now")
        ann.hear(r"\* guest3 is ben now")
        ben.say("hello")
        ann.hear("ben: hello")
        ann.say("!count")
        ann.hear("ann: !count")
        ann.hear(r"bot: \d+ lines")
        ann.say("/nope")
        ann.hear(r"\* no command /nope")
        ann.say("/last 1 2 3")
        ann.hear(r"\* /last takes other words")
        ann.say("/last 2")
        ann.hear("ann: !count")
        ann.hear(r"bot: \d+ lines")
        ben.say("/quit")
        ben.hear_until(r"\* bye")
        ben.hear("")
        ann.hear(r"\* ben has gone")
    return ann


@pytest.mark.parametrize("how", ["main.py", "chat.tac"])
def test_it_chats_and_stops(how: str, on: str, tmp_path: Path) -> None:
    """It says the same, word for word, and stops in order at SIGTERM: its guests hear of it, and it exits with 0."""
    port = free_port()
    if how == "main.py":
        program, argv, env = PYTHON, ["--port", str(port), "--announce=3600"], {}
    else:
        program, argv = (TWISTD if on == "twisted" else PLAIT_RUN), []
        env = {"CHAT_PORT": str(port), "CHAT_ANNOUNCE": "3600"}
    with Running(how, *argv, cwd=tmp_path, program=program, **env) as running:
        running.expect("chat starts")
        with chat(port) as ann:
            running.send(signal.SIGTERM)
            ann.hear(r"\* the chat closes")
            ann.hear_end()
        by_signal = program is TWISTD  # which ends itself by the signal that it was sent
        assert running.wait() == (-signal.SIGTERM if by_signal else 0), running.output
        for line in ("chat starts", "chat has stopped"):
            assert running.output.count(line) == 1, running.output


def test_its_timer_announces(on: str, tmp_path: Path) -> None:
    """How many there are, again and again."""
    port = free_port()
    argv = ["main.py", "-p", str(port), "-a", "0.05", "--no-bot"]
    with Running(*argv, cwd=tmp_path, program=PYTHON) as running, Guest(port) as ann:
        for _ in range(3):
            ann.hear_until(r"\* 1 are here")
        running.send(signal.SIGINT)
        assert running.wait() == 0, running.output


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["--help"], 0, r"-p, --port= +The port to listen on\. \[default: 6022\]"),
        (["--port", "x"], 1, "Parameter type enforcement failed: invalid literal for int"),
        (["--port", "70000"], 1, "Port number not in range: 70000"),
        (["-a", "0"], 1, "--announce takes more than 0 seconds"),
        (["--nope"], 1, "option --nope not recognized"),
        (["word"], 1, "Wrong number of arguments"),
    ],
)
def test_its_command_line(argv: list[str], code: int, said: str, on: str, tmp_path: Path) -> None:
    """Options are parsed, refused and shown alike."""
    env = environment(tmp_path.parent / f"{tmp_path.name}-home")
    done = subprocess.run(
        [*PYTHON, "main.py", *argv], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.returncode == code
    assert re.search(said, done.stdout + done.stderr)
