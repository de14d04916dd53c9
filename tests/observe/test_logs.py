"""Where log lines go and what they look like."""

from __future__ import annotations

import json
import logging
import os
import pty
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plait.errors import UsageError
from plait.observe.formats import ConsoleFormatter, JsonFormatter
from plait.observe.logs import LineHandler, Logs, LogSetup
from plait.observe.tracebacks import render


def _record(message: str = "hello", *args: object, name: str = "library", **extra: Any) -> logging.LogRecord:
    return logging.getLogger(name).makeRecord(name, logging.INFO, "f.py", 1, message, args, None, extra=extra)


def _json(record: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(record)
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    return found


def test_json_has_what_was_said_and_by_whom() -> None:
    """Time in UTC with milliseconds, level, logger, message, and every extra field."""
    record = _record("%d of %s", 3, "four", service="db", incarnation=2, rows=[1, 2])
    record.created = 1700000000.1239
    assert _json(record) == {
        "time": "2023-11-14T22:13:20.123Z",
        "level": "info",
        "logger": "library",
        "message": "3 of four",
        "service": "db",
        "incarnation": 2,
        "rows": [1, 2],
    }


def test_json_of_an_error() -> None:
    """The error in words and its traceback, on the same line."""
    try:
        raise ValueError("bad\nthing")
    except ValueError as error:
        record = logging.getLogger("x").makeRecord(
            "x", logging.ERROR, "f", 1, "failed", (), (ValueError, error, error.__traceback__)
        )
    found = _json(record)
    assert found["error"] == "ValueError: bad / thing"
    assert "test_json_of_an_error" in found["traceback"]


class _Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


@pytest.mark.parametrize(
    "value",
    [float("nan"), {1, 2}, {(1, 2): 3}, b"\xff", object(), "\udcff", _Unspeakable()],
    ids=lambda v: type(v).__name__,
)
def test_json_is_json_whatever_the_fields_are(value: object) -> None:
    """What JSON cannot hold is shown in words."""
    assert _json(_record(field=value))["message"] == "hello"


def test_json_of_itself_in_itself() -> None:
    """A value that holds itself is no reason to lose the line."""
    value: list[Any] = []
    value.append(value)
    assert _json(_record(field=value))["message"] == "hello"


def test_extra_fields_do_not_hide_ours() -> None:
    """An extra field called `level` leaves the level as it is."""
    assert _json(_record(level="mine"))["level"] == "info"


def test_the_speaker_on_a_terminal() -> None:
    """A service speaks by its path, a library by its logger, and Plait names its subject itself."""
    console = ConsoleFormatter()
    assert console.format(_record(name="plait.service", service="back/db")).endswith("info     back/db: hello")
    assert console.format(_record(name="aiohttp.access")).endswith("info     aiohttp.access: hello")
    assert console.format(_record(name="plait.kernel")).endswith("info     hello")


def _setup(logs: Logs, environ: dict[str, str]) -> str:
    """What one line looks like on a terminal."""
    ours, theirs = pty.openpty()
    stderr = os.dup(2)
    os.dup2(theirs, 2)
    try:
        setup = LogSetup(logs, environ)
        logging.getLogger("plait").info("hello")
        setup.close()
        return os.read(ours, 4096).decode()
    finally:
        os.dup2(stderr, 2)
        for fd in (ours, theirs, stderr):
            os.close(fd)


def test_on_a_terminal_lines_are_for_people() -> None:
    """In colour, unless NO_COLOR says not to; JSON there too when asked for."""
    assert "\x1b[32minfo" in _setup(Logs(), {})
    assert "\x1b" not in _setup(Logs(), {"NO_COLOR": "1"})
    assert "\x1b" not in _setup(Logs(), {"TERM": "dumb"})
    assert json.loads(_setup(Logs(format="json"), {}))["message"] == "hello"


def test_a_line_is_one_write(tmp_path: Path) -> None:
    """Two writers of one file never mix their lines, however long."""
    handlers = [LineHandler.of(str(tmp_path / "log")) for _ in range(2)]
    texts = ["a" * 30000, "b" * 30000]

    def write(handler: LineHandler, text: str) -> None:
        for _ in range(50):
            handler.handle(_record(text))

    threads = [threading.Thread(target=write, args=pair) for pair in zip(handlers, texts, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for handler in handlers:
        handler.close()
    assert set((tmp_path / "log").read_text().splitlines()) == set(texts)


@pytest.fixture
def _impatient() -> Iterator[None]:
    """Threads that change places as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_impatient")
def test_no_line_is_lost_while_the_file_is_reopened(tmp_path: Path) -> None:
    """Lines written all the while are in one of the files, each once and in order."""
    path = tmp_path / "log"
    handler = LineHandler.of(str(path))
    done = threading.Event()

    def write() -> None:
        for number in range(3000):
            handler.handle(_record(str(number)))
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    files = []
    while not done.is_set():
        files.append(tmp_path / f"log.{len(files)}")
        path.rename(files[-1])
        handler.reopen()
    thread.join()
    handler.close()
    lines = [line for file in [*files, path] for line in file.read_text().splitlines()]
    assert sum(bool(file.read_text()) for file in [*files, path]) > 1
    assert lines == [str(number) for number in range(3000)]


def test_a_line_that_is_being_written_is_finished_first(tmp_path: Path) -> None:
    """`reopen` closes no file under a line."""
    handler = LineHandler.of(str(tmp_path / "log"))
    assert handler.lock is not None
    thread = threading.Thread(target=handler.reopen)
    with handler.lock:  # as `handle` has it while it writes
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
    thread.join(10)
    assert not thread.is_alive()
    handler.close()


def test_a_full_pipe_that_does_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line waits a while for a reader of a descriptor that somebody made non-blocking, and is then dropped."""
    monkeypatch.setattr("plait.observe.logs.STALLED_TIMEOUT", 0.01)
    read, write = os.pipe()
    os.set_blocking(write, False)
    handler = LineHandler(write)
    for _ in range(200):
        handler.handle(_record("x" * 1000))
    os.close(read)
    handler.handle(_record("nobody reads"))
    os.close(write)
    handler.handle(_record("closed"))


def test_a_full_disk_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A file that cannot be written is said on stderr, once."""
    handler = LineHandler.of("/dev/full")
    handler.handle(_record())
    handler.handle(_record())
    handler.close()
    assert capsys.readouterr().err == "plait: log file '/dev/full' cannot be written: No space left on device\n"


def test_what_logs_may_be() -> None:
    """Unknown levels and formats, and files that cannot be opened, are errors of usage."""
    with pytest.raises(UsageError, match="'loud' is none of debug"):
        Logs(level="loud")
    with pytest.raises(UsageError, match="'xml' is none of auto"):
        Logs(format="xml")
    with pytest.raises(UsageError, match="cannot be opened: Is a directory"):
        LogSetup(Logs(file="/"))


def test_tracebacks_show_the_users_frames() -> None:
    """Frames of Plait are left out, also those of causes; an error of Plait's own has none left; `full` has all."""
    from plait import Application

    with pytest.raises(ValueError, match="no name for a service") as caught:
        Application("not a name")
    error = caught.value
    assert "application.py" not in render(error)
    assert "test_tracebacks_show" in render(error)
    assert "application.py" in render(error, full=True)
    error.__traceback__ = error.__traceback__.tb_next if error.__traceback__ else None
    assert render(error) == ""
