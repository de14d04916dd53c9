"""A handler of log records that sends each as datagrams to a unix socket: the common part of syslog and the journal.

Rules: nothing here blocks for long. A reader that is slow is waited for a second, once; until it takes a line again,
those that it has no room for are dropped at once, and counted. One that is away is looked for again with each line, as
it may be started anew at any time; its lines go to stderr. What was dropped is said when lines can be sent again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
from collections.abc import Iterable

from plait.errors import UsageError

STALLED_TIMEOUT = 1.0
"""Seconds that a line waits for a slow reader, when the lines before had no need to."""
SEND_BUFFER = 8 * 2**20
"""Bytes asked for, so that a long line still goes into one datagram; the system may give less."""

STDERR = 2


class DatagramHandler(logging.Handler):
    """Connects when it is made. UsageError, naming `what`, if nobody is there."""

    def __init__(self, address: str, what: str) -> None:
        super().__init__()
        self.address = address
        self.lost = 0
        """How many records were dropped since that was last said."""
        self._what = what
        self._stalled = False
        self._socket: socket.socket | None = None
        try:
            self._socket = self._connected()
        except OSError as error:
            raise UsageError(f"{what} is not there: {address}: {error.strerror}; start it, or log elsewhere") from error

    def datagrams(self, record: logging.LogRecord) -> Iterable[bytes]:
        """The record as it is sent; for subclasses to say."""
        raise NotImplementedError

    def emit(self, record: logging.LogRecord) -> None:
        """Send it, or count it as lost."""
        try:
            if self.lost and self._send_all(self._of_the_lost()):
                self.lost = 0
            if not self._send_all(record):
                self.lost += 1
        except Exception:  # noqa: BLE001  # a log line must never end what it tells about
            self.handleError(record)

    def _of_the_lost(self) -> logging.LogRecord:
        text = f"{self.lost} log records were lost: {self._what} did not take them"
        return logging.makeLogRecord({"name": "plait", "levelno": 30, "levelname": "WARNING", "msg": text})

    def _send_all(self, record: logging.LogRecord) -> bool:
        sent = [self._send(one) for one in self.datagrams(record)]
        return all(sent)

    def _send(self, datagram: bytes) -> bool:
        for _ in range(2):  # a reader that was started anew since has another socket
            try:
                self._socket = self._socket or self._connected()
                self._transmit(self._socket, datagram)
                self._stalled = False
                return True
            except BlockingIOError:
                return self._send_late(datagram)
            except OSError:
                self._disconnect()
        with contextlib.suppress(OSError):
            os.write(STDERR, datagram + b"\n")
        return False

    def _send_late(self, datagram: bytes) -> bool:
        if self._stalled or self._socket is None:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        poll.poll(STALLED_TIMEOUT * 1000)
        try:
            self._transmit(self._socket, datagram)
            return True
        except OSError:
            self._stalled = True
            return False

    def _transmit(self, sock: socket.socket, datagram: bytes) -> None:
        """One datagram. OSError says why not."""
        sock.send(datagram)

    def _connected(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            sock.connect(self.address)
        except BaseException:
            sock.close()
            raise
        return sock

    def _disconnect(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    def close(self) -> None:
        """Close the socket."""
        self._disconnect()
        super().close()
