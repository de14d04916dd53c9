"""Syslog messages: cutting a stream into them, and reading one.

Rules: nothing here does I/O, and nothing raises for what a sender sent. What cannot be read as RFC 5424 or
RFC 3164 becomes a message whose text is all of it, so nothing is lost. The collector (collector.py) is built on this.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"),
)
SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")

UNREADABLE = 13
"""The priority of a message that tells none: user.notice (RFC 3164, section 4.3.3)."""

MESSAGE_LIMIT = 64 * 1024
"""Bytes. A line of a stream that is longer is cut here, and a larger octet count is taken for text."""

Data = dict[str, dict[str, list[str]]]
"""Structured data: by element and parameter, its values; a parameter may be given several times."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `received` and `time`, the sender's own, are seconds since the epoch; absent text is ""."""

    received: float
    time: float
    facility: int
    severity: int
    host: str
    app: str = ""
    procid: str = ""
    msgid: str = ""
    data: Data = field(default_factory=dict)
    text: str = ""


# -- reading one -------------------------------------------------------------------------------------------------------


def parse(raw: bytes, sender: str, received: float) -> Message:
    """The message in `raw`, which came from the address `sender` at `received`, in seconds since the epoch.

    Bytes that are no UTF-8 are shown as \\xNN. It never fails: see the module's rules.
    """
    line = raw.rstrip(b"\r\n\0").decode("utf-8", "backslashreplace")
    for read in (_read_5424, _read_3164):
        try:
            message = read(line, sender, received)
        except ValueError:  # the 31st of February, an hour 25
            continue
        if message is not None:
            return message
    return Message(received, received, *divmod(UNREADABLE, 8), sender, text=line)


_PRIORITY = r"<(?P<priority>19[01]|1[0-8]\d|\d{1,2})>"
_PARAMETER = re.compile(r' ([!#-<>-\\^-~]{1,32})="([^"\\\]]*(?:\\.[^"\\\]]*)*)"', re.ASCII | re.DOTALL)
_ELEMENT = re.compile(rf"\[([^ =\]\"]{{1,32}})((?:{_PARAMETER.pattern})*)\]", re.ASCII | re.DOTALL)
_RFC_5424 = re.compile(
    rf"{_PRIORITY}1 (?P<time>-|(?:19|2\d)\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{{1,6}})?(?:Z|[+-]\d\d:\d\d))"
    r" (?P<host>\S{1,255}) (?P<app>\S{1,48}) (?P<procid>\S{1,128}) (?P<msgid>\S{1,32})"
    rf" (?P<data>-|(?:{_ELEMENT.pattern})+)(?: \ufeff?(?P<text>.*))?",
    re.ASCII | re.DOTALL,
)


def _read_5424(line: str, sender: str, received: float) -> Message | None:
    found = _RFC_5424.fullmatch(line)
    if found is None:
        return None
    return Message(
        received,
        datetime.fromisoformat(found["time"]).timestamp() if found["time"] != "-" else received,
        *divmod(int(found["priority"]), 8),
        host=_given(found["host"]) or sender,
        app=_given(found["app"]),
        procid=_given(found["procid"]),
        msgid=_given(found["msgid"]),
        data=_data(found["data"]),
        text=found["text"] or "",
    )


def _given(value: str) -> str:
    """ "-" is RFC 5424's NILVALUE."""
    return "" if value == "-" else value


def _data(text: str) -> Data:
    data: Data = {}
    for element in _ELEMENT.finditer(text):
        parameters = data.setdefault(element[1], {})
        for name, value in _PARAMETER.findall(element[2]):
            parameters.setdefault(name, []).append(re.sub(r'\\(["\\\]])', r"\1", value))
    return data


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# RFC 3164 describes what was in use and demands nothing, so every part after the priority may be missing.
_RFC_3164 = re.compile(
    rf"{_PRIORITY}"
    rf"(?:(?P<month>{'|'.join(_MONTHS)}) (?P<day>[ \d]\d) (?P<clock>\d\d:\d\d:\d\d) (?:(?P<host>[^\s\[]*[^\s:\[]) )?)?"
    r"(?:(?P<app>[^\s:\[]{1,48})(?:\[(?P<procid>[^\]\s]{1,128})\])?: ?)?(?P<text>.*)",
    re.ASCII | re.DOTALL,
)


def _read_3164(line: str, sender: str, received: float) -> Message | None:
    found = _RFC_3164.fullmatch(line)
    if found is None:
        return None
    return Message(
        received,
        _moment(found["month"], found["day"], found["clock"], received) if found["month"] else received,
        *divmod(int(found["priority"]), 8),
        host=found["host"] or sender,
        app=found["app"] or "",
        procid=found["procid"] or "",
        text=found["text"],
    )


def _moment(month: str, day: str, clock: str, received: float) -> float:
    """A time that tells neither year nor zone: local, and the latest year that is not in the future."""
    hour, minute, second = map(int, clock.split(":"))
    this_year = datetime.fromtimestamp(received).year
    for year in (this_year + 1, this_year, this_year - 1):
        try:
            moment = datetime(year, _MONTHS.index(month) + 1, int(day), hour, minute, second).timestamp()
        except ValueError:  # the 29th of February, in a year that has none
            continue
        if moment < received + 24 * 3600:
            return moment
    raise ValueError(f"{month} {day} {clock} is no time")


# -- cutting a stream --------------------------------------------------------------------------------------------------


class Frames:
    """Cuts a TCP stream into messages, by octet counting or at newlines (RFC 6587), decided message by message.

    The result does not depend on how the stream was divided into chunks. Empty lines are left out.
    """

    # A count is told from a line that begins with digits by the "<" of the priority after it.
    _COUNT = re.compile(rb"([1-9]\d{0,6}) (?=<)")
    _MAYBE_A_COUNT = re.compile(rb"[1-9]\d{0,6} ?")

    def __init__(self, limit: int = MESSAGE_LIMIT) -> None:
        self._limit = limit
        self._buffer = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The messages that `chunk` completes."""
        buffer, at = self._buffer + chunk, 0
        frames = []
        while (cut := self._cut(buffer, at)) is not None:
            frame, at = cut
            frames.append(frame)
        self._buffer = buffer[at:]
        return [frame for frame in frames if frame]

    def rest(self) -> list[bytes]:
        """At the end of the stream: what was begun and not completed."""
        rest, self._buffer = self._buffer, b""
        count = self._counted(rest, 0)
        rest = rest[count.end() :] if count is not None else rest.rstrip(b"\r")
        return [rest] if rest else []

    def _cut(self, buffer: bytes, at: int) -> tuple[bytes, int] | None:
        """The message that begins at `at`, and where the next one does; None if there is more to come."""
        count = self._counted(buffer, at)
        if count is not None:
            end = count.end() + int(count[1])
            return (buffer[count.end() : end], end) if end <= len(buffer) else None
        if self._MAYBE_A_COUNT.fullmatch(buffer, at):
            return None
        end = buffer.find(b"\n", at, at + self._limit + 1)
        if end >= 0:
            return buffer[at:end].rstrip(b"\r"), end + 1
        end = at + self._limit
        return (buffer[at:end], end) if end < len(buffer) else None

    def _counted(self, buffer: bytes, at: int) -> re.Match[bytes] | None:
        count = self._COUNT.match(buffer, at)
        return count if count is not None and int(count[1]) <= self._limit else None
