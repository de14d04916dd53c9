"""Logs to syslog: RFC 3164 messages to /dev/log, as the C library writes them.

Rules: a line is a message, so a traceback is several; one that is longer than syslog daemons take is cut into several.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator

from plait.observe.datagrams import DatagramHandler

DEV_LOG = "/dev/log"
LONGEST = 8000
"""Bytes of text in one message; rsyslog takes 8 KiB unless told otherwise."""

FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("ntp", "audit", "alert", "clock"),
    *(f"local{number}" for number in range(8)),
)
"""By their numbers, RFC 5424, section 6.2.1."""


def severity(level: int) -> int:
    """The severity of syslog and of the journal for a level of logging."""
    return next(number for least, number in ((50, 2), (40, 3), (30, 4), (20, 6), (0, 7)) if level >= least)


class SyslogHandler(DatagramHandler):
    """Sends to the syslog daemon of this machine. UsageError if there is none."""

    def __init__(self, facility: str = "daemon", tag: str = "plait", address: str = DEV_LOG) -> None:
        super().__init__(address, "syslog")
        self._facility = FACILITIES.index(facility)
        self._tag = tag

    def datagrams(self, record: logging.LogRecord) -> Iterator[bytes]:
        """A message for each line."""
        priority = self._facility * 8 + severity(record.levelno)
        when = time.localtime(record.created)
        stamp = f"{time.strftime('%b', when)} {when.tm_mday:2d} {time.strftime('%H:%M:%S', when)}"
        head = f"<{priority}>{stamp} {self._tag}[{os.getpid()}]: ".encode()
        for line in self.format(record).splitlines():
            text = line.encode("utf-8", "backslashreplace")
            for start in range(0, len(text) or 1, LONGEST):
                yield head + text[start : start + LONGEST]
