"""Clients that behave badly, at the control socket of a real application: it goes on, and answers the next one."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from plait.control.frames import MAX_FRAME, VERSION, Frames, Hello, Stream, on_stream
from plait.control.messages import Answer, Failure, Request, ToClient, ToServer
from running import Running, plait, until

APP = """
from plait import Service

class Part(Service):
    pass
"""

FILE = """
[plait]
log_format = "console"
loop = "{loop}"
[application]
name = "parts"
[services.part]
use = "parts_of_it:Part"
"""


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "parts_of_it.py").write_text(APP)
    return folder


@pytest.fixture(params=["asyncio", "uvloop"])
def app(cwd: Path, request: pytest.FixtureRequest) -> Iterator[Running]:
    """Whatever a client did, the next is answered, and the application stops in order."""
    (cwd / "app.toml").write_text(FILE.format(loop=request.param))
    with Running("app.toml", cwd=cwd) as running:
        running.expect("ready in")
        yield running
        assert plait("reload", cwd=cwd).stdout == "nothing is different\n"
        assert plait("stop", cwd=cwd).returncode == 0
        assert running.wait() == 0
        assert "Traceback" not in running.output


class Peer:
    """A client that says whatever it likes."""

    def __init__(self, cwd: Path, app: Running, *, greet: bool = True) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        with Folder(cwd.parent / f"{cwd.name}-home" / "plait") as folder:
            self.socket.connect(f"{folder}/parts-{app.pid}.sock")
        self._frames: Frames[msgspec.Struct] = Frames(ToClient)
        self._stream = Stream()
        self._came: list[msgspec.Struct] = []
        if greet:
            self.greet()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def greet(self) -> None:
        try:
            self.say(Hello.ours())
            assert isinstance(self.hear(), Hello)
        except BaseException:
            self.socket.close()
            raise

    def say(self, message: msgspec.Struct) -> None:
        self.socket.sendall(b"".join(map(on_stream, self._frames.pack(message))))

    def hear(self) -> msgspec.Struct | None:
        """What comes next; None for the end."""
        while not self._came:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            found = (self._frames.unpack(frame) for frame in self._stream.feed(data))
            self._came += [message for message in found if message is not None]
        return self._came.pop(0)


class Folder:
    """A short name for a folder, as the address of a socket has room for 107 bytes."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_PATH)

    def __enter__(self) -> str:
        return f"/proc/self/fd/{self._fd}"

    def __exit__(self, *error: object) -> None:
        os.close(self._fd)


def told_and_let_go(peer: Peer) -> str:
    """The reason that it is told, after which the connection ends."""
    failure = peer.hear()
    assert isinstance(failure, Failure)
    assert failure.number == 0
    assert peer.hear() is None
    return failure.text


def say_for_ever(peer: Peer, data: bytes) -> None:
    """Until that ends with an error; a side that takes 20 s of it is no better than one that never ends it."""
    over = time.monotonic() + 20
    while time.monotonic() < over:
        peer.socket.sendall(data)


@pytest.mark.parametrize("greet", [True, False], ids=["greeted", "at once"])
def test_garbage(cwd: Path, app: Running, greet: bool) -> None:
    """A frame of garbage, an HTTP request, random bytes: each ends its own connection."""
    for garbage in (on_stream(b"\xff" * 100), b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 4096):
        with Peer(cwd, app, greet=greet) as peer:
            peer.socket.sendall(garbage)
            assert told_and_let_go(peer)
    dice = random.Random(6)
    for _ in range(50):
        with Peer(cwd, app, greet=greet) as peer:
            peer.socket.sendall(dice.randbytes(dice.randrange(1, 500)))


def test_an_oversized_frame(cwd: Path, app: Running) -> None:
    """Refused when it is announced, before any of it has come; one of the full size is not."""
    with Peer(cwd, app) as peer:
        peer.socket.sendall((MAX_FRAME + 1).to_bytes(4, "big"))
        assert str(MAX_FRAME + 1) in told_and_let_go(peer)
    with Peer(cwd, app) as peer:
        peer.say(Request(1, "reload", {"dry_run": True, "ballast": "x" * 5 * MAX_FRAME}))
        assert isinstance(peer.hear(), Answer)


def test_an_endless_message(cwd: Path, app: Running) -> None:
    """Frames that never end a message are kept up to a bound."""
    with Peer(cwd, app) as peer:
        frame = on_stream(msgspec.msgpack.encode([1, False, b"x" * 60_000]))
        with pytest.raises(ConnectionError):
            say_for_ever(peer, frame)
    assert peak_memory(app) < 150


@pytest.mark.slow
def test_half_a_frame(cwd: Path, app: Running) -> None:
    """Whoever has not said hello within 5 s is let go of; half a frame is no hello, and neither is nothing."""
    whole = on_stream(Frames[msgspec.Struct](ToServer).pack(Hello.ours())[0])
    with Peer(cwd, app, greet=False) as half, Peer(cwd, app, greet=False) as silent, Peer(cwd, app) as greeted:
        since = time.monotonic()
        half.socket.sendall(whole[: len(whole) // 2])
        greeted.socket.sendall(on_stream(Frames[msgspec.Struct](ToServer).pack(Request(1, "x"))[0])[:9])
        assert half.hear() is None
        assert silent.hear() is None
        assert 4 < time.monotonic() - since < 8
        app.expect_nth(2, "has not said what it speaks")
        greeted.socket.sendall(on_stream(Frames[msgspec.Struct](ToServer).pack(Request(1, "x"))[0])[9:])
        assert isinstance(greeted.hear(), Failure)


def test_byte_by_byte(cwd: Path, app: Running) -> None:
    """A frame may come in as many pieces as it has bytes."""
    with Peer(cwd, app) as peer:
        for byte in on_stream(Frames[msgspec.Struct](ToServer).pack(Request(1, "reload", {"dry_run": True}))[0]):
            peer.socket.sendall(bytes([byte]))
            time.sleep(0.002)  # else several are read at once
        assert isinstance(peer.hear(), Answer)


@pytest.mark.slow
def test_one_that_asks_and_never_reads(cwd: Path, app: Running) -> None:
    """It is not listened to either while answers wait for it, so nothing grows; and it is let go of."""
    asked = on_stream(Frames[msgspec.Struct](ToServer).pack(Request(1, "dance"))[0]) * 1000
    before = peak_memory(app)
    with Peer(cwd, app) as peer, pytest.raises(ConnectionError):
        say_for_ever(peer, asked)
    assert peak_memory(app) - before < 20
    app.expect("has not taken what it was sent within 10 s")


def test_one_that_reads_late(cwd: Path, app: Running) -> None:
    """Every request is answered in the end, though more were asked than fit."""
    with Peer(cwd, app) as peer:
        asked = b"".join(
            on_stream(Frames[msgspec.Struct](ToServer).pack(Request(n, "dance"))[0]) for n in range(1, 9001)
        )
        peer.socket.setblocking(False)
        heard, sent = 0, 0
        deadline = time.monotonic() + 20
        time_to_read = time.monotonic() + 1
        while heard < 9000 and time.monotonic() < deadline:
            try:
                sent += peer.socket.send(asked[sent : sent + 65536]) if sent < len(asked) else 0
            except BlockingIOError:
                pass
            if time.monotonic() < time_to_read:
                continue
            try:
                assert isinstance(peer.hear(), Failure)
                heard += 1
            except BlockingIOError:
                time.sleep(0.001)
        assert heard == 9000


def test_a_version_of_tomorrow(cwd: Path, app: Running) -> None:
    """It is told which one is spoken here; which of the two can speak the other's, is the newer one's business."""
    with Peer(cwd, app, greet=False) as peer:
        peer.say(Hello(0, "0.0.1", 1))
        assert f"this one {VERSION}" in told_and_let_go(peer)
    with Peer(cwd, app, greet=False) as peer:
        peer.say(Hello(VERSION + 1, "99", 1))
        hello = peer.hear()
        assert isinstance(hello, Hello)
        assert (hello.protocol, hello.pid, hello.name) == (VERSION, app.pid, "parts")


def test_one_that_goes_away(cwd: Path, app: Running) -> None:
    """Before, in the middle of, and after a request; no descriptor is left."""
    Peer(cwd, app).socket.close()  # with the first, uvloop opens a descriptor that it keeps
    time.sleep(0.2)
    open_before = len(os.listdir(f"/proc/{app.pid}/fd"))
    whole = on_stream(Frames[msgspec.Struct](ToServer).pack(Request(1, "reload"))[0])
    for length in (0, 1, len(whole) - 1, len(whole)):
        for _ in range(20):
            with Peer(cwd, app) as peer:
                peer.socket.sendall(whole[:length])
    until(lambda: len(os.listdir(f"/proc/{app.pid}/fd")) <= open_before, "the connections' end")


def test_many_connections(cwd: Path, app: Running) -> None:
    """The 65th is turned away; when one has gone there is room."""
    peers = [Peer(cwd, app, greet=False) for _ in range(64)]
    try:
        for peer in peers:
            peer.greet()
        with Peer(cwd, app, greet=False) as one_more:
            assert one_more.hear() is None
        app.expect("64 connections are open")
        done = plait("reload", cwd=cwd)
        assert done.returncode == 70
        assert done.stderr.startswith("plait: error: parts")
    finally:
        for peer in peers:
            peer.socket.close()
    time.sleep(0.2)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user(cwd: Path, app: Running) -> None:
    """Turned away, even where the folder and the socket have been opened to all; nothing is done for it."""
    folder = cwd.parent / f"{cwd.name}-home" / "plait"
    path = folder / f"parts-{app.pid}.sock"
    program = (
        "import os, socket, sys\n"
        "os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
        "peer = socket.socket(socket.AF_UNIX)\n"
        "try:\n"
        "    peer.connect(f'/proc/self/fd/{sys.argv[1]}/{sys.argv[2]}')\n"
        "except PermissionError:\n"
        "    sys.exit('not permitted')\n"
        "try:\n"
        "    peer.sendall(bytes.fromhex(sys.argv[3]))\n"
        "    print('heard', len(peer.recv(100)))\n"
        "except (ConnectionResetError, BrokenPipeError):\n"
        "    print('heard', 0)\n"
    )
    said = Frames[msgspec.Struct](ToServer)
    words = b"".join(on_stream(said.pack(one)[0]) for one in (Hello.ours(), Request(1, "stop")))
    fd = os.open(folder, os.O_PATH)

    def stranger() -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", program, str(fd), path.name, words.hex()]
        return subprocess.run(argv, pass_fds=[fd], capture_output=True, text=True, timeout=20)

    try:
        assert "not permitted" in stranger().stderr  # the folder's rights, and the socket's
        folder.chmod(0o711)
        assert "not permitted" in stranger().stderr  # the socket's
        path.chmod(0o666)
        assert stranger().stdout == "heard 0\n"
        app.expect("of user 65534 is not heard")
        assert "stopping" not in app.output
    finally:
        os.close(fd)
        folder.chmod(0o700)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_loop_goes_on(cwd: Path, loop: str) -> None:
    """While the worst of clients are there, a stop is heard, and nobody delays the end of it."""
    (cwd / "app.toml").write_text(FILE.format(loop=loop))
    asked = on_stream(Frames[msgspec.Struct](ToServer).pack(Request(1, "dance"))[0]) * 10_000
    with Running("app.toml", cwd=cwd) as app:
        app.expect("ready in")
        silent = [Peer(cwd, app, greet=False) for _ in range(20)]
        with Peer(cwd, app) as greedy:
            greedy.socket.settimeout(0.5)
            with pytest.raises(TimeoutError):
                say_for_ever(greedy, asked)
            since = time.monotonic()
            assert plait("stop", cwd=cwd).returncode == 0
            assert app.wait() == 0
            assert time.monotonic() - since < 5
        for peer in silent:
            assert peer.hear() is None
            peer.socket.close()


def peak_memory(app: Running) -> float:
    """MiB."""
    line = next(line for line in Path(f"/proc/{app.pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
