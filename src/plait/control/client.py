"""The client's side of control, for a command line: it waits in the calling thread, and needs no event loop.

Rules: whoever has the connection may wait as long as it likes for a command to end, but a process that does not even
say hello is given up on after a deadline: it is there, and silent. Closing the connection takes nothing back.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from plait.control.folder import Place, connected, places
from plait.control.frames import Frames, Hello, Stream, agreed, on_stream
from plait.control.messages import Answer, Failure, Note, Request, ToClient
from plait.errors import CommandFailed, ControlError, NoAnswer, NotRunning, ProtocolError

HELLO_TIMEOUT = 5.0
MARGIN = 10.0
"""How much longer than a process says that something takes it is waited for."""
_CREDENTIALS = struct.Struct("iII")


class Client:
    """A connection to one application, from `find` until `close`; also a context manager."""

    def __init__(self, place: Place, sock: socket.socket) -> None:
        self.place = place
        self._socket = sock
        self._process = _opened(_pid(sock, place))
        self._frames: Frames[Any] = Frames(ToClient)
        self._stream = Stream()
        self._came: list[Any] = []
        self._last = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; legal twice."""
        self._socket.close()
        if self._process >= 0:
            os.close(self._process)
            self._process = -1

    def greet(self, timeout: float = HELLO_TIMEOUT) -> Hello:
        """Agree on what is spoken; who answers. NoAnswer if it is silent, ProtocolError if there is no agreement."""
        deadline = time.monotonic() + timeout
        self._send(Hello.ours(), deadline)
        came = self._next(deadline)
        if isinstance(came, Failure):
            raise ProtocolError(came.text)
        if not isinstance(came, Hello):
            raise ProtocolError(f"{self.place} did not begin with a hello")
        agreed(came)
        return came

    def call(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        on_note: Callable[[Note], None] | None = None,
    ) -> Any:
        """The result of a command. CommandFailed if it failed, NoAnswer after `timeout` seconds, None for ever.

        `on_note` is called with what is said meanwhile; a note that tells within how many seconds the end is to be
        expected sets the deadline anew. ControlError if the process ends, or closes, before it answers.
        """
        self._last += 1
        deadline = None if timeout is None else time.monotonic() + timeout
        self._send(Request(self._last, command, dict(arguments or {})), deadline)
        while True:
            came = self._next(deadline)
            if isinstance(came, Failure) and came.number == 0:
                raise ProtocolError(came.text)
            if getattr(came, "number", None) != self._last:
                continue  # of a call that was given up on
            if isinstance(came, Failure):
                raise CommandFailed(came.text, came.code)
            if isinstance(came, Answer):
                return came.result
            if came.within is not None:
                deadline = time.monotonic() + came.within + MARGIN
            if on_note is not None:
                on_note(came)

    def signal(self, number: int) -> None:
        """Send the process a signal, and no other that has got its number since.

        ProcessLookupError if it has ended; ControlError if it cannot be seen from here.
        """
        if self._process < 0:
            raise ControlError(f"{self.place} has ended, or is in a container and cannot be seen from here")
        signal.pidfd_send_signal(self._process, number)

    def wait_ended(self, timeout: float | None) -> bool:
        """Whether the process has ended, within so many seconds."""
        watched = self._process if self._process >= 0 else self._socket.fileno()
        poll = select.poll()
        poll.register(watched, select.POLLIN if self._process >= 0 else select.POLLHUP)
        return bool(poll.poll(None if timeout is None else max(0, int(timeout * 1000))))

    # -- the wire ----------------------------------------------------------------------------------------------------

    def _send(self, message: Hello | Request, deadline: float | None) -> None:
        self._socket.settimeout(_left(deadline))
        try:
            for frame in self._frames.pack(message):
                self._socket.sendall(on_stream(frame))
        except TimeoutError as error:
            raise self._silent() from error
        except BrokenPipeError:
            pass  # it has closed; what it said before that is still to be read
        except OSError as error:
            raise self._gone() from error

    def _next(self, deadline: float | None) -> Any:
        while not self._came:
            data = self._received(deadline)
            for frame in self._stream.feed(data):
                message = self._frames.unpack(frame)
                if message is not None:
                    self._came.append(message)
        return self._came.pop(0)

    def _received(self, deadline: float | None) -> bytes:
        try:
            self._socket.settimeout(_left(deadline))
            data = self._socket.recv(65536)
        except TimeoutError as error:
            raise self._silent() from error
        except OSError as error:
            raise self._gone() from error
        if not data:
            raise self._gone()
        return data

    def _silent(self) -> NoAnswer:
        return NoAnswer(f"{self.place} does not answer: its loop is held up, or the process is stopped")

    def _gone(self) -> ControlError:
        return ControlError(f"{self.place} ended, or closed its control socket, before it answered")


def find(folder: Path, named: str | None = None) -> Client:
    """A connection to the application of that name or process number, or to the only one there is.

    NotRunning if there is none, or several. The connection is not greeted yet.
    """
    there = places(folder)
    asked = [place for place in there if named is None or place.answers_to(named)]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client) for place in asked if (client := _connected(place)) is not None]
        if len(clients) == 1:
            stack.pop_all()
            return clients[0]
        found = [client.place for client in clients]
    raise NotRunning(_several(named, found) if found else _none(folder, named, there))


def _connected(place: Place) -> Client | None:
    """None if its process has ended without removing its socket."""
    try:
        return Client(place, connected(place, HELLO_TIMEOUT))
    except (ConnectionRefusedError, FileNotFoundError):
        return None
    except (BlockingIOError, TimeoutError) as error:
        raise NoAnswer(f"{place} does not answer, and many wait for it; see what it is doing, or kill it") from error
    except OSError as error:
        raise ControlError(f"{place} cannot be reached at {str(place.path)!r}: {error.strerror}") from error


def _several(named: str | None, found: list[Place]) -> str:
    what = "are running" if named is None else f"are named {named!r}"
    return f"{len(found)} applications {what}: {', '.join(map(str, found))}; give the process number of one"


def _none(folder: Path, named: str | None, there: list[Place]) -> str:
    others = [place for place in there if _answers(place)] if named is not None else []
    if others:
        return f"no running application has the name or number {named!r}; running there: {', '.join(map(str, others))}"
    return f"no application is running whose control socket is in {str(folder)!r}; --runtime-dir names another folder"


def _answers(place: Place) -> bool:
    try:
        connected(place, HELLO_TIMEOUT).close()
    except OSError as error:
        return isinstance(error, BlockingIOError | TimeoutError)
    return True


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.001, deadline - time.monotonic())


def _pid(sock: socket.socket, place: Place) -> int:
    """Who listens, by its number as seen from here; 0 where it cannot be seen, as it is in a container."""
    if not hasattr(socket, "SO_PEERCRED"):
        return place.pid
    return int(_CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0])


def _opened(pid: int) -> int:
    """A descriptor of that process, which stays its own when it has ended; -1 if there is none."""
    if not hasattr(os, "pidfd_open"):
        return -1
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1
