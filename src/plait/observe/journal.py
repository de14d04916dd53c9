"""Logs to systemd's journal, with fields: its native protocol.

Rules: a record is one entry, a traceback part of its message. What the record carries beside its text becomes fields:
`service` and `incarnation` as PLAIT_SERVICE and PLAIT_INCARNATION, and what is passed as `extra` by its name in upper
case. An entry that is longer than a datagram is handed over as a file in memory.
Source: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
"""

from __future__ import annotations

import array
import errno
import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping

from plait._kernel.words import error_text
from plait.observe.datagrams import STDERR, DatagramHandler
from plait.observe.formats import extras
from plait.observe.syslog import severity

JOURNAL = "/run/systemd/journal/socket"

_OURS = frozenset(["MESSAGE", "PRIORITY", "LOGGER", "THREAD", "ERROR", "CODE_FILE", "CODE_LINE", "CODE_FUNC"])
_SEALS = 0x1 | 0x2 | 0x4 | 0x8
"""F_SEAL_SEAL, SHRINK, GROW and WRITE: the journal takes no file that could still change."""


def stderr_is_journal(environ: Mapping[str, str]) -> bool:
    """Whether systemd has connected stderr with the journal, systemd.exec(5), $JOURNAL_STREAM."""
    try:
        found = os.fstat(STDERR)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class JournalHandler(DatagramHandler):
    """Sends to the journal of this machine; `tag` is its SYSLOG_IDENTIFIER. UsageError if there is none."""

    def __init__(self, tag: str = "plait", address: str = JOURNAL) -> None:
        super().__init__(address, "systemd's journal")
        self._tag = tag

    def datagrams(self, record: logging.LogRecord) -> Iterator[bytes]:
        """One entry."""
        fields = {
            "MESSAGE": self.format(record),
            "PRIORITY": severity(record.levelno),
            "SYSLOG_IDENTIFIER": self._tag,
            "LOGGER": record.name,
            "THREAD": record.threadName,
            "CODE_FILE": record.pathname,
            "CODE_LINE": record.lineno,
            "CODE_FUNC": record.funcName,
        }
        if record.exc_info and record.exc_info[1] is not None:
            fields["ERROR"] = error_text(record.exc_info[1])
        fields |= {_field(name): value for name, value in extras(record).items()}
        yield b"".join(_encoded(name, value) for name, value in fields.items() if value is not None)

    def _transmit(self, sock: socket.socket, datagram: bytes) -> None:
        try:
            sock.send(datagram)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            _send_as_file(sock, datagram)


def _field(name: str) -> str:
    """A name that the journal takes, and that is none of ours."""
    known = re.sub(r"[^A-Z0-9_]", "_", name.upper()).lstrip("_0123456789")[:50] or "FIELD"
    if known in ("SERVICE", "INCARNATION"):
        return f"PLAIT_{known}"
    return f"EXTRA_{known}" if known in _OURS or known.startswith("SYSLOG_") else known


def _encoded(name: str, value: object) -> bytes:
    """With its length before it where it has several lines."""
    data = str(value).encode("utf-8", "backslashreplace")
    if b"\n" in data:
        return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
    return name.encode() + b"=" + data + b"\n"


def _send_as_file(sock: socket.socket, datagram: bytes) -> None:
    import fcntl  # not on Windows, where logs are imported as well

    fd = os.memfd_create("plait-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(datagram)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        sock.sendmsg([b""], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    finally:
        os.close(fd)
