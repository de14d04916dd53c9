"""Listening sockets in systemd's descriptor store, where they outlive the process that made them.

Rules: a socket is put there when it is bound, and removed when it is closed in order. So the process that is started
after one that was killed finds its sockets, with all who have connected meanwhile in their queues: nobody is refused.
It takes FileDescriptorStoreMax= in the unit, of which systemd tells by $FDSTORE since its version 254; before that,
the unit says so itself: Environment=FDSTORE=16.
"""

from __future__ import annotations

import hashlib
import os
import socket
from urllib.parse import quote

from plait.net import inherited
from plait.process.notify import Notifier

PREFIX = "plait."
"""What the names of our sockets in the store begin with."""
LONGEST = 255


class Store:
    """The store of this process's unit; `take`, `keep` and `drop` are what a registry of sockets calls."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._found = {name: fd for name, fd in inherited.passed() if name.startswith(PREFIX)}

    def take(self, name: str) -> socket.socket | None:
        """The socket that an earlier process had under this name; each once."""
        fd = self._found.pop(_stored(name), None)
        return socket.socket(fileno=fd) if fd is not None else None

    def keep(self, name: str, sock: socket.socket) -> None:
        """Put it there."""
        self._notifier.send([sock.fileno()], FDSTORE=1, FDNAME=_stored(name))

    def drop(self, name: str) -> None:
        """Remove it."""
        self._notifier.send(FDSTOREREMOVE=1, FDNAME=_stored(name))

    def drop_strangers(self) -> None:
        """Remove what was found and that nobody has taken: an address that is not listened on any more."""
        while self._found:
            name, fd = self._found.popitem()
            os.close(fd)
            self._notifier.send(FDSTOREREMOVE=1, FDNAME=name)


def _stored(name: str) -> str:
    """As systemd takes names: no colon, no space, at most 255 characters."""
    text = PREFIX + quote(name, safe="/[]@,~")
    if len(text) <= LONGEST:
        return text
    return text[: LONGEST - 32] + hashlib.sha256(text.encode()).hexdigest()[:32]
