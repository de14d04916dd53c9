"""Logs to syslog and to the journal: what is sent, and what becomes of it when nobody takes it."""

from __future__ import annotations

import array
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from plait.errors import UsageError
from plait.observe.datagrams import DatagramHandler
from plait.observe.formats import TextFormatter
from plait.observe.journal import JournalHandler, stderr_is_journal
from plait.observe.logs import Logs, LogSetup, Syslog
from plait.observe.syslog import SyslogHandler


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[socket.socket]:
    """A daemon that takes datagrams, at `log` in the test's folder."""
    with listening(tmp_path) as sock:
        yield sock


def listening(folder: Path) -> socket.socket:
    """The daemon's socket."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(folder / "log"))
    sock.settimeout(5)
    return sock


def record(text: str = "hello", level: int = logging.INFO, **more: Any) -> logging.LogRecord:
    """A record."""
    return logging.makeLogRecord({"name": "plait", "msg": text, "levelno": level, "levelname": "INFO", **more})


def made(kind: type[DatagramHandler], folder: Path, **more: Any) -> DatagramHandler:
    """A handler that sends to that daemon."""
    handler = kind(address=str(folder / "log"), **more)
    handler.setFormatter(TextFormatter())
    return handler


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 135), (logging.INFO, 134), (logging.WARNING, 132), (logging.ERROR, 131), (logging.CRITICAL, 130)],
)
def test_a_line_of_syslog(reader: socket.socket, tmp_path: Path, level: int, priority: int) -> None:
    """As the C library writes it: local0 is 16, times 8, plus the severity; time, tag and PID."""
    handler = made(SyslogHandler, tmp_path, facility="local0", tag="shop")
    handler.emit(record(level=level, created=time.mktime((2026, 3, 1, 14, 2, 11, 0, 0, -1))))
    handler.close()
    assert reader.recv(9999).decode() == f"<{priority}>Mar  1 14:02:11 shop[{os.getpid()}]: hello"


def test_lines_of_syslog(reader: socket.socket, tmp_path: Path) -> None:
    """Each line of a record is a message; one that is too long is cut, and nothing of it is lost."""
    handler = made(SyslogHandler, tmp_path)
    handler.emit(record("one\ntwo\n" + "x" * 20_000))
    handler.close()
    texts = [reader.recv(9999).decode().split("]: ")[1] for _ in range(5)]
    assert texts[:2] == ["one", "two"]
    assert "".join(texts[2:]) == "x" * 20_000
    assert max(map(len, texts)) == 8000


def entry(sock: socket.socket) -> dict[str, str]:
    """An entry of the journal, taken apart as its protocol says."""
    data, passed, _, _ = sock.recvmsg(1 << 20, 64)
    if not data:
        ((_, _, fds),) = passed
        (fd,) = array.array("i", fds)
        with open(fd, "rb") as file:
            file.seek(0)
            data = file.read()
    found = {}
    while data:
        line, _, data = data.partition(b"\n")
        if b"=" in line:
            name, _, value = line.partition(b"=")
        else:
            name, size = line, int.from_bytes(data[:8], "little")
            value, data = data[8 : 8 + size], data[9 + size :]
        found[name.decode()] = value.decode()
    return found


def test_an_entry_of_the_journal(reader: socket.socket, tmp_path: Path) -> None:
    """Text, priority and place; what the record carries by its own name, and never in the place of a field of ours."""
    handler = made(JournalHandler, tmp_path)
    try:
        raise RuntimeError("no work")
    except RuntimeError as error:
        failed = (RuntimeError, error, error.__traceback__)
        handler.emit(
            record(
                exc_info=failed, service="db", incarnation=3, priority="high", MESSAGE="x", **{"_pid": 1, "a-b": [2]}
            )
        )
    handler.close()
    found = entry(reader)
    assert found["MESSAGE"].splitlines()[0] == "hello"
    assert "RuntimeError: no work" in found["MESSAGE"].splitlines()[-1]
    assert (found["PRIORITY"], found["PLAIT_SERVICE"], found["PLAIT_INCARNATION"]) == ("6", "db", "3")
    assert (found["EXTRA_PRIORITY"], found["EXTRA_MESSAGE"], found["A_B"]) == ("high", "x", "[2]")
    assert found["ERROR"] == "RuntimeError: no work"
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", name) for name in found)


def test_an_entry_longer_than_a_datagram(reader: socket.socket, tmp_path: Path) -> None:
    """Goes over as a file that can change no more."""
    handler = made(JournalHandler, tmp_path)
    handler.emit(record("x" * 20_000_000))
    handler.close()
    assert entry(reader)["MESSAGE"] == "x" * 20_000_000


def test_stderr_is_the_journals_only_if_it_is(tmp_path: Path) -> None:
    """$JOURNAL_STREAM is inherited by those whose stderr leads elsewhere."""
    found = os.fstat(2)
    assert stderr_is_journal({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
    assert not stderr_is_journal({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + 1}"})
    assert not stderr_is_journal({})


def test_nobody_there_is_an_error_of_who_asked_for_it(tmp_path: Path) -> None:
    """As a log file that cannot be opened is."""
    with pytest.raises(UsageError, match="syslog is not there"):
        made(SyslogHandler, tmp_path)


def test_a_daemon_that_was_started_anew(
    reader: socket.socket, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """While it is away its lines go to stderr, and are counted; the new one gets what comes, and the count."""
    handler = made(SyslogHandler, tmp_path)
    reader.close()
    handler.emit(record("lost 1"))
    (tmp_path / "log").unlink()
    handler.emit(record("lost 2"))
    assert re.findall(r"lost \d", capfd.readouterr().err) == ["lost 1", "lost 2"]
    with listening(tmp_path) as again:
        handler.emit(record("back"))
        assert "2 log records were lost: syslog did not take them" in again.recv(9999).decode()
        assert again.recv(9999).decode().endswith("]: back")
    handler.close()


def test_a_daemon_that_was_started_anew_between_two_lines(reader: socket.socket, tmp_path: Path) -> None:
    """Costs none of them."""
    handler = made(SyslogHandler, tmp_path)
    reader.close()
    (tmp_path / "log").unlink()
    with listening(tmp_path) as again:
        handler.emit(record("at once"))
        assert again.recv(9999).decode().endswith("]: at once")
    assert handler.lost == 0
    handler.close()


def test_a_daemon_that_reads_no_more_costs_one_wait(
    reader: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stalled reader would else hold the loop a second for each line; when it reads again the count is told."""
    waits = 0
    monkeypatch.setattr("plait.observe.datagrams.STALLED_TIMEOUT", 0.05)
    handler = made(SyslogHandler, tmp_path)
    poll = __import__("select").poll

    def counting() -> Any:
        nonlocal waits
        waits += 1
        return poll()

    monkeypatch.setattr("plait.observe.datagrams.select.poll", counting)
    sent = 2000
    for number in range(sent):
        handler.emit(record(f"line {number}"))
    assert waits == 1
    assert handler.lost > 0
    reader.setblocking(False)
    taken = 0
    while True:
        try:
            reader.recv(9999)
            taken += 1
        except BlockingIOError:
            break
    assert taken + handler.lost == sent
    lost = handler.lost
    handler.emit(record("again"))
    assert f"{lost} log records were lost" in reader.recv(9999).decode()
    assert reader.recv(9999).decode().endswith("]: again")
    handler.close()


def test_a_reload_changes_where_logs_go(reader: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a file to syslog and back; if syslog is not there, logs go on where they went, and that is said."""
    monkeypatch.setattr("plait.observe.logs.SyslogHandler", partial(SyslogHandler, address=str(tmp_path / "log")))
    log = logging.getLogger("plait")
    file = tmp_path / "app.log"
    setup = LogSetup(Logs(file=str(file)))
    log.info("one")
    setup.change(Logs(syslog=Syslog(tag="shop")))
    log.info("two")
    setup.change(Logs(file=str(file)))
    log.info("three")
    (tmp_path / "log").unlink()
    setup.change(Logs(syslog=Syslog()))
    log.info("four")
    setup.close()
    assert reader.recv(9999).decode().endswith("]: two")
    text = file.read_text()
    assert [word for word in ("one", "two", "three", "four") if word in text] == ["one", "three", "four"]
    assert "logs go where they went: syslog is not there" in text


def test_what_does_not_fit_together() -> None:
    """Is an error at once."""
    for wrong in ({"file": "x", "syslog": Syslog()}, {"file": "x", "format": "journal"}):
        with pytest.raises(UsageError):
            Logs(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="local9"):
        Syslog("local9")
