"""The server's side of control: commands that operators give to this process, over a unix socket.

Rules:
- Only this process's user, and root, are heard; others are turned away with a log line.
- Nobody who connects can hold anything up: connections, requests and what is kept for a client that does not read are
  bounded, and whoever says nothing at first, or does not take its answers, is let go of after a deadline.
- A command that is under way is not undone because who gave it has gone; its task is cancelled, which ends a wait.
- At the end, commands that are under way have a moment to be answered. There is no timer where nothing goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, cast

from plait.control import folder as folders
from plait.control.folder import Place
from plait.control.frames import Frames, Hello, Stream, agreed, on_stream
from plait.control.messages import Answer, Failure, Note, Request, ToClient, ToServer
from plait.errors import CommandFailed, ProtocolError

log = logging.getLogger("plait.control")

HELLO_TIMEOUT = 5.0
"""For whoever has connected to say what it speaks."""
READ_TIMEOUT = 10.0
"""For a client to take what it was sent."""
LAST_ANSWERS_TIMEOUT = 1.0
"""For what is under way at the end."""
ACCEPT_DELAY = 1.0
"""Until the next try, where there was no descriptor left to accept with."""
MAX_CONNECTIONS = 64
MAX_CALLS = 16
"""Commands under way, of one connection."""
MAX_KEPT = 1024 * 1024
"""Bytes that wait for a client, beyond which notes are dropped."""

_CREDENTIALS = struct.Struct("iII")


class Call:
    """One command that somebody gave."""

    def __init__(self, connection: Connection, request: Request) -> None:
        self.arguments: Mapping[str, Any] = request.arguments
        self.peer = connection.peer
        """Who gave it, in words."""
        self._connection = connection
        self._number = request.number

    def say(self, text: str, *, within: float | None = None) -> None:
        """A note for who waits, who may give up after `within` seconds; dropped, and counted, if they do not read."""
        self._connection.note(self._number, text, within)


Command = Callable[[Call], Awaitable[Any]]
"""Does it, and gives the result, which msgpack can carry. CommandFailed is told as it is, any other error logged."""


class Server:
    """Serves `commands` by name; opened by `open`, until `close`."""

    def __init__(self, commands: Mapping[str, Command]) -> None:
        self.commands = commands
        self.place: Place | None = None
        """Where it listens."""
        self._made = False
        self._socket: socket.socket | None = None
        self._begun: set[Connection] = set()
        """Accepted, and not open yet."""
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._again: asyncio.TimerHandle | None = None

    async def open(self, folder: Path, name: str) -> None:
        """Listen in this runtime directory, under this name. OSError or ControlError if that cannot be."""
        place = Place.own(folder, name)
        try:
            self._open(place)
        except FileNotFoundError:  # who had made the folder has removed it just now
            self._open(place)
        self.place = place
        self._listen()

    def _open(self, place: Place) -> None:
        self._made = folders.make(place.folder)
        folders.clean(place.folder)
        self._socket = folders.listening(place)

    def rename(self, name: str) -> None:
        """Be found under another name from now on."""
        if self.place is None:
            return
        new = Place.own(self.place.folder, name)
        if new == self.place:
            return
        try:
            os.rename(self.place.path, new.path)
        except OSError as error:
            log.warning("the control socket keeps its name, %s: %s", self.place.path, error.strerror)
        else:
            self.place = new

    def unlink(self) -> None:
        """Remove the socket's file; nobody finds it any more. Legal twice, and in any thread."""
        place, self.place = self.place, None
        if place is not None:
            with contextlib.suppress(OSError):
                place.path.unlink()
            if self._made:
                with contextlib.suppress(OSError):  # not empty
                    place.folder.rmdir()

    async def close(self) -> None:
        """Answer what is under way if that takes but a moment, and end every connection."""
        self.unlink()
        self._stop_listening()
        calls = [task for connection in self._connections for task in connection.calls]
        waited = {*calls, *self._tasks}
        if waited:
            await asyncio.wait(waited, timeout=LAST_ANSWERS_TIMEOUT)
        for task in waited:
            task.cancel()
        endings = [connection.end() for connection in self._connections]
        if endings:
            await asyncio.wait(endings, timeout=LAST_ANSWERS_TIMEOUT)
        for connection in tuple(self._connections):
            connection.abort()
        if rest := [task for task in waited if not task.done()] + [one for one in endings if not one.done()]:
            await asyncio.wait(rest)

    # -- accepting ---------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        self._again = None
        if self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket, self._accept)

    def _stop_listening(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        sock, self._socket = self._socket, None
        if sock is not None:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()

    def _accept(self) -> None:
        assert self._socket is not None
        try:
            sock, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            log.warning("control cannot accept a connection: %s; again in %g s", error.strerror, ACCEPT_DELAY)
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket)
            self._again = loop.call_later(ACCEPT_DELAY, self._listen)
            return
        pid, uid = _peer(sock)
        if uid not in (os.geteuid(), 0):
            log.warning("control: process %s of user %s is not heard", pid, uid)
            sock.close()
        elif len(self._connections) + len(self._begun) >= MAX_CONNECTIONS:
            log.warning("control: %d connections are open, process %s is turned away", MAX_CONNECTIONS, pid)
            sock.close()
        else:
            self._begin(sock, f"process {pid} of user {uid}")

    def _begin(self, sock: socket.socket, peer: str) -> None:
        loop = asyncio.get_running_loop()
        connection = Connection(self, peer)
        self._begun.add(connection)
        task = loop.create_task(loop.connect_accepted_socket(lambda: connection, sock), name="plait control connection")
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._begun.discard(connection))
        task.add_done_callback(self._tasks.discard)

    def add(self, connection: Connection) -> None:
        """It is open."""
        self._begun.discard(connection)
        self._connections.add(connection)

    def drop(self, connection: Connection) -> None:
        """It has ended."""
        self._connections.discard(connection)


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: Server, peer: str) -> None:
        self.peer = peer
        self.calls: set[asyncio.Task[None]] = set()
        self._server = server
        self._frames: Frames[Any] = Frames(ToServer)
        self._stream = Stream()
        self._loop = asyncio.get_running_loop()
        self._lost = self._loop.create_future()
        self._deadline: asyncio.TimerHandle | None = None
        self._greeted = False
        self._dropped: dict[int, int] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._server.add(self)
        self._set_deadline(HELLO_TIMEOUT, "has not said what it speaks")

    def connection_lost(self, _: Exception | None) -> None:
        self._clear_deadline()
        self._server.drop(self)
        for call in self.calls:
            call.cancel()
        self._lost.set_result(None)

    def end(self) -> asyncio.Future[None]:
        """Close it when what was written has been read; done when it has ended."""
        self._transport.close()
        lost: asyncio.Future[None] = self._lost
        return lost

    def abort(self) -> None:
        """End it now."""
        self._transport.abort()

    def _set_deadline(self, seconds: float, what: str) -> None:
        self._clear_deadline()
        self._deadline = self._loop.call_later(seconds, self._expired, f"{what} within {seconds:g} s")

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expired(self, what: str) -> None:
        log.warning("control: %s %s; its connection is closed", self.peer, what)
        self.abort()

    # -- hearing -----------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._stream.feed(data):
                message = self._frames.unpack(frame)
                if message is not None:
                    self._hear(message)
        except ProtocolError as error:
            log.warning("control: %s: %s", self.peer, error)
            self._send(Failure(0, str(error)))
            self._transport.close()
            self._set_deadline(READ_TIMEOUT, "has not taken what it was sent")

    def _hear(self, message: Hello | Request) -> None:
        if self._transport.is_closing():
            return
        if isinstance(message, Hello) is self._greeted:
            raise ProtocolError("a connection begins with one hello, and goes on with requests")
        if isinstance(message, Hello):
            agreed(message)
            self._greeted = True
            self._clear_deadline()
            self._send(Hello.ours(self._server.place.name if self._server.place is not None else ""))
        else:
            self._request(message)

    def _request(self, request: Request) -> None:
        command = self._server.commands.get(request.command)
        if command is None:
            known = ", ".join(sorted(self._server.commands))
            self._send(Failure(request.number, f"command {request.command!r} is not known here; there are {known}"))
        elif len(self.calls) >= MAX_CALLS:
            self._send(Failure(request.number, f"{MAX_CALLS} commands of this connection are under way already"))
        else:
            task = self._loop.create_task(self._do(command, request), name=f"plait control {request.command}")
            self.calls.add(task)
            task.add_done_callback(self.calls.discard)

    async def _do(self, command: Command, request: Request) -> None:
        try:
            result = await command(Call(self, request))
            self._send(Answer(request.number, result))
        except CommandFailed as error:
            self._send(Failure(request.number, str(error), error.code))
        except Exception as error:  # a command that fails is told and logged, and ends nothing else
            log.error("control: command %r failed", request.command, exc_info=error)
            self._send(Failure(request.number, f"command {request.command!r} failed: {type(error).__name__}: {error}"))
        finally:
            self._dropped.pop(request.number, None)

    # -- telling -----------------------------------------------------------------------------------------------------

    def note(self, number: int, text: str, within: float | None) -> None:
        """A note, unless too much waits for the client already."""
        if self._transport.get_write_buffer_size() > MAX_KEPT:
            self._dropped[number] = self._dropped.get(number, 0) + 1
        else:
            self._send(Note(number, text, within, self._dropped.pop(number, 0)))

    def _send(self, message: ToClient) -> None:
        frames = self._frames.pack(message)  # before anything is written, as it may be too large
        if not self._transport.is_closing():
            self._transport.write(b"".join(map(on_stream, frames)))

    def pause_writing(self) -> None:
        self._transport.pause_reading()  # else each request of one who reads nothing would add an answer to what waits
        self._set_deadline(READ_TIMEOUT, "has not taken what it was sent")

    def resume_writing(self) -> None:
        if not self._transport.is_closing():  # the deadline of one that is let go of stays
            self._clear_deadline()
            self._transport.resume_reading()


def _peer(sock: socket.socket) -> tuple[int, int]:
    """Process and user. Where the system does not say, who could open the socket is its user."""
    if not hasattr(socket, "SO_PEERCRED"):
        return 0, os.geteuid()
    pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid
