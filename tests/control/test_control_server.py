"""The control server and its client, on a real socket, with clients that behave and clients that do not."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from plait.control import client as asking
from plait.control import server as serving
from plait.control.client import Client, find
from plait.control.folder import Place, connected, listening
from plait.control.frames import Frames, Hello, on_stream
from plait.control.messages import Note, Request, ToServer
from plait.control.server import Call, Server
from plait.errors import CommandFailed, ControlError, NoAnswer, ProtocolError


async def echo(call: Call) -> Any:
    call.say("hearing")
    return dict(call.arguments)


async def refuse(call: Call) -> None:
    raise CommandFailed("not today", 3)


async def breaks(call: Call) -> None:
    raise ZeroDivisionError("defect")


class Forever:
    """A command that waits until it is cancelled."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.count = 0

    async def __call__(self, call: Call) -> None:
        self.count += 1
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.count -= 1


@asynccontextmanager
async def served(folder: Path, **commands: Callable[[Call], Awaitable[Any]]) -> AsyncIterator[Server]:
    server = Server({"echo": echo, "refuse": refuse, "breaks": breaks, **commands})
    await server.open(folder, "edge")
    try:
        yield server
    finally:
        await server.close()


def greeted(folder: Path) -> Client:
    client = find(folder)
    client.greet()
    return client


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def raw(server: Server) -> socket.socket:
    assert server.place is not None
    sock = connected(server.place, 5)
    sock.setblocking(False)
    return sock


def packed(*messages: Hello | Request) -> bytes:
    frames: Frames[Hello | Request] = Frames(ToServer)
    return b"".join(on_stream(frame) for message in messages for frame in frames.pack(message))


async def until_closed(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        while True:
            try:
                if not await loop.sock_recv(sock, 65536):
                    return
            except ConnectionResetError:
                return


async def test_a_command_is_answered(tmp_path: Path) -> None:
    """Its notes come before, and who answers is this process."""
    async with served(tmp_path):

        def use() -> None:
            notes: list[Note] = []
            with find(tmp_path) as client:
                hello = client.greet()
                assert (hello.pid, hello.name) == (os.getpid(), "edge")
                large = "x" * 300_000
                assert client.call("echo", {"a": 1, "b": large}, on_note=notes.append) == {"a": 1, "b": large}
                assert [note.text for note in notes] == ["hearing"]
                assert client.call("echo") == {}

        await asyncio.to_thread(use)


async def test_a_command_that_fails_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As it wants to, with its code; a defect is logged with its traceback, and the connection goes on."""
    async with served(tmp_path):

        def use() -> None:
            with greeted(tmp_path) as client:
                with pytest.raises(CommandFailed, match="not today") as refused:
                    client.call("refuse")
                assert refused.value.code == 3
                with pytest.raises(CommandFailed, match="'breaks' failed: ZeroDivisionError: defect"):
                    client.call("breaks")
                with pytest.raises(CommandFailed, match="'halt' is not known here; there are breaks, echo, refuse"):
                    client.call("halt")
                assert client.call("echo", {"still": "there"}) == {"still": "there"}

        await asyncio.to_thread(use)
    assert [record.exc_info is not None for record in caplog.records if record.levelno == logging.ERROR] == [True]


async def test_what_is_said_to_take_longer_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is told when to expect the end waits until then, and a margin more; not for ever."""
    monkeypatch.setattr(asking, "MARGIN", 0.3)
    end = asyncio.Event()

    async def slow(call: Call) -> str:
        call.say("it takes a while", within=20)
        await end.wait()
        return "ended"

    async def too_slow(call: Call) -> None:
        call.say("soon", within=0)
        await asyncio.Event().wait()

    async with served(tmp_path, slow=slow, too_slow=too_slow):
        loop = asyncio.get_running_loop()

        def use() -> None:
            with greeted(tmp_path) as client:
                loop.call_soon_threadsafe(loop.call_later, 0.6, end.set)
                assert client.call("slow", timeout=0.3) == "ended"
                with pytest.raises(NoAnswer):
                    client.call("too_slow", timeout=20)

        await asyncio.wait_for(asyncio.to_thread(use), 10)


async def test_who_goes_away_ends_its_wait(tmp_path: Path) -> None:
    """The task of its command is cancelled, and nothing of it is left."""
    forever = Forever()
    async with served(tmp_path, wait=forever) as server:
        sock = await raw(server)
        sock.send(packed(Hello.ours(), Request(1, "wait")))
        await asyncio.wait_for(forever.begun.wait(), 10)
        sock.close()
        await until(lambda: forever.count == 0 and not server._connections)


async def test_one_that_says_nothing_is_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a deadline, which is off once it has said hello."""
    monkeypatch.setattr(serving, "HELLO_TIMEOUT", 0.05)
    async with served(tmp_path) as server:
        silent, polite = await raw(server), await raw(server)
        polite.send(packed(Hello.ours()))
        await until_closed(silent)
        await asyncio.sleep(0.1)
        assert len(server._connections) == 1
        silent.close()
        polite.close()


async def test_one_that_reads_nothing_loses_notes_and_then_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits for it is bounded; who tells is never held up, and others are served meanwhile."""
    monkeypatch.setattr(serving, "READ_TIMEOUT", 0.3)
    done = asyncio.Event()
    kept: list[int] = []

    async def talk(call: Call) -> None:
        for _ in range(400):
            call.say("x" * 10_000)
            kept.append(call._connection._transport.get_write_buffer_size())
        done.set()
        await asyncio.Event().wait()

    async with served(tmp_path, talk=talk) as server:
        sock = await raw(server)
        sock.send(packed(Hello.ours(), Request(1, "talk")))
        await asyncio.wait_for(done.wait(), 10)
        assert max(kept) <= serving.MAX_KEPT + 20_000

        def other() -> None:
            with greeted(tmp_path) as client:
                assert client.call("echo", {"a": 1}) == {"a": 1}

        await asyncio.to_thread(other)
        await until(lambda: not server._connections)
        sock.close()
    assert "has not taken what it was sent" in caplog.text


async def test_notes_that_were_dropped_are_counted(tmp_path: Path) -> None:
    """The next that goes through says how many."""
    go_on, all_said = asyncio.Event(), threading.Event()

    async def talk(call: Call) -> None:
        for _ in range(400):
            call.say("x" * 10_000)
        all_said.set()
        await go_on.wait()
        call.say("last")

    async with served(tmp_path, talk=talk):
        loop = asyncio.get_running_loop()
        notes: list[Note] = []

        def hear(note: Note) -> None:
            all_said.wait()  # else it may keep up with what it is told
            notes.append(note)
            if len(notes) == 100:  # those that were kept are more
                loop.call_soon_threadsafe(go_on.set)

        def use() -> None:
            with greeted(tmp_path) as client:
                client.call("talk", on_note=hear)

        await asyncio.to_thread(use)
        assert notes[-1].text == "last"
        assert notes[-1].dropped == 400 - (len(notes) - 1) > 0


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        packed(Request(1, "echo")),
        packed(Hello.ours(), Hello.ours()),
        packed(Hello(0, "0.0", 1)),
        on_stream(b"\xc1"),
    ],
    ids=["another protocol", "no hello", "two hellos", "no version in common", "no frame"],
)
async def test_who_breaks_the_protocol_is_told_and_let_go_of(tmp_path: Path, said: bytes) -> None:
    """Whatever comes, it ends that connection alone."""
    async with served(tmp_path) as server:
        sock = await raw(server)
        sock.send(said)
        await until_closed(sock)
        sock.close()
        await asyncio.to_thread(lambda: greeted(tmp_path).close())


async def test_connections_and_calls_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One more is turned away; with one that ends there is room again."""
    monkeypatch.setattr(serving, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(serving, "MAX_CALLS", 3)
    forever = Forever()
    async with served(tmp_path, wait=forever) as server:
        first, second = await raw(server), await raw(server)
        first.send(packed(Hello.ours(), *(Request(number, "wait") for number in range(1, 6))))
        await until(lambda: forever.count == 3 and len(server._connections) == 2)
        third = await raw(server)
        await until_closed(third)
        assert "is turned away" in caplog.text
        assert forever.count == 3
        second.close()
        await until(lambda: len(server._connections) == 1)
        await asyncio.to_thread(lambda: greeted(tmp_path).close())
        first.close()
        third.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to be another user")
async def test_another_user_is_not_heard(caplog: pytest.LogCaptureFixture) -> None:
    """Even one who can open the socket; who connects is known by the system's word."""
    with tempfile.TemporaryDirectory() as folder:
        async with served(Path(folder)) as server:
            assert server.place is not None
            os.chmod(folder, 0o711)
            server.place.path.chmod(0o666)
            os.seteuid(65534)
            try:
                sock = await raw(server)
            finally:
                os.seteuid(0)
            await until_closed(sock)
            sock.close()
    assert "of user 65534 is not heard" in caplog.text


async def test_at_the_end_what_is_under_way_is_answered_or_ended(tmp_path: Path) -> None:
    """One that ends is answered before the connection closes; one that does not is cancelled after a moment."""
    end = asyncio.Event()
    forever = Forever()

    async def wait(call: Call) -> str:
        await end.wait()
        return "ended"

    async with served(tmp_path, wait=wait, forever=forever) as server:

        def use(command: str) -> Any:
            with greeted(tmp_path) as client:
                return client.call(command)

        answered = asyncio.create_task(asyncio.to_thread(use, "wait"))
        ended = asyncio.create_task(asyncio.to_thread(use, "forever"))
        await until(lambda: sum(len(one.calls) for one in server._connections) == 2)
        end.set()
        await server.close()
        assert await answered == "ended"
        with pytest.raises(ControlError, match="before it answered"):
            await ended
    assert list(tmp_path.iterdir()) == []


async def test_it_can_be_found_under_another_name(tmp_path: Path) -> None:
    """An application may be called otherwise after a reload; connections stay."""
    async with served(tmp_path) as server:
        client = await asyncio.to_thread(greeted, tmp_path)
        server.rename("mail")
        assert await asyncio.to_thread(client.call, "echo", {"a": 1}) == {"a": 1}
        client.close()
        with find(tmp_path, "mail"):
            pass


async def test_a_folder_is_gone_with_who_made_it_unless_another_is_there(tmp_path: Path) -> None:
    """Nothing is left in a folder for temporary files; nobody's socket is lost."""
    folder = tmp_path / "run"
    first, second = Server({}), Server({})
    await first.open(folder, "first")
    await second.open(folder, "second")
    await first.close()
    assert [path.name for path in folder.iterdir()] == [f"second-{os.getpid()}.sock"]
    await second.close()
    alone = Server({})
    folder.rmdir()
    await alone.open(folder, "alone")
    await alone.close()
    assert not folder.exists()


async def test_one_that_has_no_descriptor_left_accepts_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It neither spins nor gives up."""
    monkeypatch.setattr(serving, "ACCEPT_DELAY", 0.02)
    async with served(tmp_path) as server:
        real, tries = server._socket, 0

        class Full:
            def accept(self) -> Any:
                nonlocal tries
                tries += 1
                if tries < 3:
                    raise OSError(errno.EMFILE, "Too many open files")
                assert real is not None
                return real.accept()

            def fileno(self) -> int:
                assert real is not None
                return real.fileno()

            def close(self) -> None:
                assert real is not None
                real.close()

        server._socket = Full()  # type: ignore[assignment]
        await asyncio.to_thread(lambda: greeted(tmp_path).close())
    assert caplog.text.count("cannot accept a connection: Too many open files") == 2


def test_a_process_that_is_silent_is_given_up_on(tmp_path: Path) -> None:
    """It listens, and nobody answers."""
    silent = pytest.raises(NoAnswer, match=r"edge \(process \d+\) does not answer: its loop is held up")
    with listening(Place.own(tmp_path, "edge")), find(tmp_path) as client, silent:
        client.greet(timeout=0.05)


def test_a_server_of_no_common_version_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client does not guess at what such a one would mean."""
    with listening(Place.own(tmp_path, "edge")) as sock, find(tmp_path) as client:
        sock.setblocking(True)
        theirs, _ = sock.accept()
        with theirs:
            theirs.send(packed(Hello(0, "0.0", 1)))
            with pytest.raises(ProtocolError, match="use the same version"):
                client.greet()
