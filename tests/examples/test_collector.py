"""The collector as its users have it: the real `logger`, real processes, and a stop at the worst moment."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from programs import DEADLINE, Application, ask, wait_until

ANY_PORT = ("--udp=udp://127.0.0.1:0", "--tcp=tcp://127.0.0.1:0", "--query=tcp://127.0.0.1:0")
ANY_PORT_IN_FILE = [
    f"--set=services.{name}.options.listen={scheme}://127.0.0.1:0"
    for name, scheme in (("udp", "udp"), ("tcp", "tcp"), ("query", "tcp"))
]


def collector(folder: Path, *options: str, loop: str = "uvloop") -> Application:
    """A collector on free ports."""
    return Application("collector.py", *ANY_PORT, "--database=test.db", *options, cwd=folder, loop=loop)


def collector_of_file(folder: Path) -> Application:
    """The one composed by file."""
    return Application("collector.toml", *ANY_PORT_IN_FILE, cwd=folder, env={"COLLECTOR_DATABASE": "test.db"})


def stored(folder: Path) -> list[str]:
    """The texts in the database, in the order of arrival; read without the collector."""
    with closing(sqlite3.connect(folder / "test.db")) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM message ORDER BY id")]


def count(query: tuple[str, int]) -> int:
    """How many messages the collector says it has."""
    return int(ask(query, "count")[0][0])


# -- the real logger ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def logger() -> str:
    """The path of util-linux's logger."""
    path = shutil.which("logger")
    if path is None:
        pytest.skip("no logger here; it is in Debian's package bsdutils, of util-linux")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    if "util-linux" not in version:
        pytest.skip(f"{path} is not the logger of util-linux")
    return path


TRANSPORTS = {"udp": [["-d"]], "tcp": [["-T"], ["-T", "--octet-count"]]}
FORMATS: list[list[str]] = [[], ["--rfc3164"], ["--rfc5424"]]


def test_the_real_logger_is_heard_over_both_transports_in_all_its_formats(tmp_path: Path, logger: str) -> None:
    """Each combination of its flags is sent once, and read back whole over the query port."""
    with collector(tmp_path) as running:
        at = running.wait_ready()
        sent = []
        for transport, flags in [(transport, flags) for transport, many in TRANSPORTS.items() for flags in many]:
            for style in FORMATS:
                text = f"hello {' '.join([*flags, *style])}"
                host, port = at[transport]
                what = [*flags, *style, "-t", "test", "--id=42", "-p", "daemon.err", "--", text]
                subprocess.run([logger, "-n", host, "-P", str(port), *what], check=True)
                sent.append(text)
        wait_until(lambda: count(at["query"]) == len(sent), "all messages are stored")
        (lines,) = ask(at["query"], "last 100")
        assert sorted(line.split(": ", 1)[1] for line in lines) == sorted(sent)
        pattern = (
            rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{{3}} {re.escape(os.uname().nodename)} test\[42\] daemon\.err: "
        )
        assert [line for line in lines if not re.match(pattern, line)] == []
        assert running.stop() == 0


def test_structured_data_of_the_real_logger_can_be_asked_for_in_sql(tmp_path: Path, logger: str) -> None:
    """SQLite's own JSON functions read it."""
    with collector(tmp_path) as running:
        host, port = running.wait_ready()["tcp"]
        data = ["--msgid", "LOGIN", "--sd-id", "shop@32473", "--sd-param", 'user="ada"', "--sd-param", 'from="earth"']
        subprocess.run([logger, "-n", host, "-P", str(port), "-T", *data, "in"], check=True)
        assert running.stop() == 0
    with closing(sqlite3.connect(tmp_path / "test.db")) as connection:
        columns = """msgid, data ->> '$."shop@32473".user[0]', data ->> '$."shop@32473".from[0]'"""
        assert connection.execute(f"SELECT {columns} FROM message").fetchall() == [("LOGIN", "ada", "earth")]


def test_what_the_collector_says_to_type_works(tmp_path: Path, logger: str) -> None:
    """The commands in its log, run by a shell as they stand: two messages sent, and read back."""
    with collector(tmp_path) as running:
        query = running.wait_ready()["query"]
        for transport in "UDP", "TCP":
            command = running.wait_for(rf"to send over {transport}: (logger .*)")[1]
            subprocess.run(["bash", "-c", command], check=True)
        wait_until(lambda: count(query) == 2, "both are stored")
        command = running.wait_for(r"to ask: nc .* or, in bash: (.*)")[1]
        answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=DEADLINE)
        assert answer.stdout.count(": hello\n") == 2
        assert running.stop() == 0


# -- questions ---------------------------------------------------------------------------------------------------------

MESSAGES = b"""\
<11>1 2026-01-02T03:04:05.5Z alpha shop 7 - [a@1 k="v"] disk failed
<14>1 2026-01-02T03:04:06Z beta - - - - all is \xe2\x9c\x93
<8>1 2026-01-02T03:04:07Z alpha shop - - - over
33 <13>1 - gamma x - - - two\nlines\x1b]
"""
QUESTIONS = [
    *("count", "last 2", "host alpha", "host nobody", "grep is", "grep %", "severity err", "severity debug"),
    *("last", "last ten", "last 99999999999999999999", "severity bad", "what is this", "help", "", "grep"),
]


@pytest.fixture(params=["code", "file"])
def answers(request: pytest.FixtureRequest, tmp_path: Path) -> list[list[str]]:
    """What a collector that was sent MESSAGES answers to QUESTIONS."""
    make = {"code": collector, "file": collector_of_file}[request.param]
    with make(tmp_path) as running:
        at = running.wait_ready()
        with socket.create_connection(at["tcp"]) as connection:
            connection.sendall(MESSAGES)
        wait_until(lambda: count(at["query"]) == 4, "all messages are stored")
        said = ask(at["query"], *QUESTIONS)
        assert running.stop() == 0
    return [[re.sub(r"^\S+ \S+ (?=alpha|beta|gamma)", "", line) for line in answer] for answer in said]


FIRST = "alpha shop[7] user.err: disk failed"
SECOND = "beta - user.info: all is ✓"
THIRD = "alpha shop user.emerg: over"
FOURTH = r"gamma x user.notice: two\nlines\x1b]"


def test_the_query_port_answers(answers: list[list[str]]) -> None:
    """Each question, and each wrong one, whether the collector was composed by code or by file."""
    said = dict(zip([question for question in QUESTIONS if question], answers, strict=True))
    assert said["count"] == ["4"]
    assert said["last 2"] == [THIRD, FOURTH]
    assert said["host alpha"] == [FIRST, THIRD]
    assert said["host nobody"] == said["grep %"] == ["nothing"]
    assert said["grep is"] == [FIRST, SECOND]
    assert said["severity err"] == [FIRST, THIRD]
    assert said["severity debug"] == said["last 99999999999999999999"] == [FIRST, SECOND, THIRD, FOURTH]
    assert said["last"] == said["last ten"] == ["last: say how many, as in: last 10"]
    assert said["severity bad"] == ["severity: say which of emerg, alert, crit, err, warning, notice, info, debug"]
    assert said["what is this"][0] == "unknown command 'what'; there are:"
    assert said["what is this"][1:] == said["help"]
    assert [line.split()[0] for line in said["help"]] == [
        "last",
        "host",
        "grep",
        "severity",
        "count",
        "stats",
        "help",
        "quit",
    ]
    assert said["grep"] == [FIRST, SECOND, THIRD, FOURTH]


def test_old_messages_go(tmp_path: Path) -> None:
    """What is older than the retention is deleted at the start."""
    with collector(tmp_path) as first:
        with socket.create_connection(first.wait_ready()["tcp"]) as connection:
            connection.sendall(b"one\ntwo\nthree\n")
        assert first.stop() == 0
    assert stored(tmp_path) == ["one", "two", "three"]
    with collector(tmp_path, "--retention=1ms") as second:
        assert second.wait_for(r"deleted (\d+) messages")[1] == "3"
        assert second.stop() == 0
    assert stored(tmp_path) == []


# -- a stop at the worst moment ----------------------------------------------------------------------------------------

DATAGRAMS = 100
CONNECTIONS = 20
LINES = 200


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_lies_in_the_sockets_at_sigterm_is_stored(tmp_path: Path, loop: str) -> None:
    """The process is frozen, everything is sent, SIGTERM, and it goes on: the first it sees is the stop.

    Some connections are older than that, some wait to be accepted; some were closed by the sender, some stay open;
    each ends with a line that has no end.
    """
    with collector(tmp_path, "--batch-size=50", loop=loop) as running, ExitStack() as stack:
        at = running.wait_ready()
        connections = []
        for _ in range(CONNECTIONS // 2):
            connections.append(connection := stack.enter_context(socket.create_connection(at["tcp"])))
            connection.sendall(b"first\n")
        wait_until(lambda: count(at["query"]) == CONNECTIONS // 2, "older connections were heard")

        running.signal(signal.SIGSTOP)
        connections += [stack.enter_context(socket.create_connection(at["tcp"])) for _ in range(CONNECTIONS // 2)]
        for number, connection in enumerate(connections):
            lines = [f"tcp {number} {line}" for line in range(LINES)]
            connection.sendall("\n".join(lines).encode())
            if number % 2:
                connection.close()
        with socket.socket(type=socket.SOCK_DGRAM) as sender:
            for number in range(DATAGRAMS):
                sender.sendto(f"udp {number}".encode(), at["udp"])
        assert lost_datagrams(at["udp"][1]) == 0, "the test sends more than the socket holds"
        running.signal(signal.SIGTERM)
        running.signal(signal.SIGCONT)
        assert running.wait() == 0
    texts = [text for text in stored(tmp_path) if text != "first"]
    assert [text for text in texts if text.startswith("udp")] == [f"udp {number}" for number in range(DATAGRAMS)]
    for number in range(CONNECTIONS):
        mine = [text for text in texts if text.startswith(f"tcp {number} ")]
        assert mine == [f"tcp {number} {line}" for line in range(LINES)]


def lost_datagrams(port: int) -> int:
    """How many the kernel dropped because the socket's buffer was full."""
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port:
            return int(fields[-1])
    raise AssertionError(f"no socket on port {port}")


class Sender(threading.Thread):
    """Sends numbered lines over TCP, a few thousand a second, until the other side closes."""

    def __init__(self, number: int, address: tuple[str, int]) -> None:
        super().__init__()
        self.number = number
        self.sent = 0
        self._connection = socket.create_connection(address, DEADLINE)

    def run(self) -> None:
        with self._connection as connection:
            try:
                while True:
                    for _ in range(10):
                        connection.sendall(b"<13>line %d %d\n" % (self.number, self.sent))
                        self.sent += 1
                    time.sleep(0.002)
            except ConnectionError:
                pass


def test_sigterm_under_load_loses_no_line_that_was_sent_before_it(tmp_path: Path) -> None:
    """Senders go on throughout; of each, the database holds the first lines, without a gap or a repetition."""
    with collector(tmp_path) as running:
        at = running.wait_ready()
        senders = [Sender(number, at["tcp"]) for number in range(4)]
        for sender in senders:
            sender.start()
        wait_until(lambda: count(at["query"]) > 1000, "the load has begun")
        before = [sender.sent for sender in senders]
        assert running.stop() == 0
        for sender in senders:
            sender.join(DEADLINE)
    texts = stored(tmp_path)
    for sender in senders:
        mine = [text for text in texts if text.startswith(f"line {sender.number} ")]
        assert mine == [f"line {sender.number} {line}" for line in range(len(mine))]
        assert len(mine) >= before[sender.number]


@pytest.mark.parametrize("attempt", range(10))
def test_two_collectors_may_share_a_new_database(tmp_path: Path, attempt: int) -> None:
    """Started in one moment on a file that is not there: both run, both store, both end well."""
    with collector(tmp_path) as one, collector(tmp_path) as other:
        for number, running in enumerate((one, other)):
            with socket.create_connection(running.wait_ready()["tcp"]) as connection:
                connection.sendall(b"from %d" % number)
        assert [one.stop(), other.stop()] == [0, 0]
    assert sorted(stored(tmp_path)) == ["from 0", "from 1"]


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path) -> Iterator[None]:
    """Whatever a test does, the collector leaves its database and the lock beside it, and nothing else."""
    yield
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"test.db", "test.db.lock"}
