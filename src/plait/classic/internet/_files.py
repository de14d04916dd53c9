"""The descriptors that a reactor watches.

Rules: a reader's doRead is called when there is something to read, a writer's doWrite when it can be written to. What
they return, or raise, ends the descriptor: it is watched no more, and its connectionLost is called with it. A regular
file, which the system does not watch since it is always ready, is called in every turn of the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from plait.classic.internet import error, interfaces
from plait.classic.python import log
from plait.classic.python.failure import Failure


class _Direction:
    """What is watched for one direction, by descriptor."""

    def __init__(self, add: str, remove: str, act: Callable[[Any], None]) -> None:
        self._add = add
        self._remove = remove
        self._act = act
        self.watched: dict[Any, int] = {}
        self._always: dict[Any, asyncio.Handle] = {}

    def watch(self, loop: asyncio.AbstractEventLoop | None, file: Any) -> None:
        if file in self.watched:
            return
        self.watched[file] = file.fileno()
        if loop is not None:
            self.begin(loop, file)

    def begin(self, loop: asyncio.AbstractEventLoop, file: Any) -> None:
        fd = self.watched[file]
        try:
            getattr(loop, self._add)(fd, self._act, file)
        except PermissionError:  # a regular file
            self._always[file] = loop.call_soon(self._again, loop, file)

    def _again(self, loop: asyncio.AbstractEventLoop, file: Any) -> None:
        self._always[file] = loop.call_soon(self._again, loop, file)
        self._act(file)

    def unwatch(self, loop: asyncio.AbstractEventLoop | None, file: Any) -> None:
        fd = self.watched.pop(file, None)
        if fd is None or loop is None:
            return
        if file in self._always:
            self._always.pop(file).cancel()
        elif not loop.is_closed():
            getattr(loop, self._remove)(fd)


def _gone() -> Failure:
    """Somebody has closed it, and its number may be another's by now."""
    return Failure(error.ConnectionFdescWentAway("its descriptor was closed"))


class Files:
    """Readers and writers."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self.readers = _Direction("add_reader", "remove_reader", self._read)
        self.writers = _Direction("add_writer", "remove_writer", self._write)

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch on this loop from now on."""
        for direction in (self.readers, self.writers):
            for file in list(direction.watched):
                if self._loop is not None:
                    fd = direction.watched[file]
                    direction.unwatch(self._loop, file)
                    direction.watched[file] = fd
                direction.begin(loop, file)
        self._loop = loop

    def add_reader(self, file: Any) -> None:
        """Watch for reading."""
        self.readers.watch(self._loop, file)

    def add_writer(self, file: Any) -> None:
        """Watch for writing."""
        self.writers.watch(self._loop, file)

    def remove_reader(self, file: Any) -> None:
        """No more."""
        self.readers.unwatch(self._loop, file)

    def remove_writer(self, file: Any) -> None:
        """No more."""
        self.writers.unwatch(self._loop, file)

    def remove_all(self, kept: Any = ()) -> list[Any]:
        """Watch none but the kept; those that were watched."""
        files = [file for file in {**self.readers.watched, **self.writers.watched} if file not in kept]
        for file in files:
            self.remove_reader(file)
            self.remove_writer(file)
        return files

    def _read(self, file: Any) -> None:
        try:
            why = file.doRead() if file.fileno() >= 0 else _gone()
        except BaseException as raised:
            log.err()
            why = raised
        if why:
            self._end(file, why, is_read=True)

    def _write(self, file: Any) -> None:
        try:
            why = file.doWrite() if file.fileno() >= 0 else _gone()
        except BaseException as raised:
            log.err()
            why = raised
        if why:
            self._end(file, why, is_read=False)

    def _end(self, file: Any, why: Any, *, is_read: bool) -> None:
        self.remove_reader(file)
        failure = why if isinstance(why, Failure) else Failure(why)
        is_done = failure.check(error.ConnectionDone) is not None
        if is_read and is_done and interfaces.IHalfCloseableDescriptor.providedBy(file):
            file.readConnectionLost(failure)
            return
        self.remove_writer(file)
        file.connectionLost(failure)
