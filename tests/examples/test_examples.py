"""Every small example does what its head says, under `plait run`, and ends with exit code 0."""

from __future__ import annotations

import signal
import socket
import sys
import tempfile
from pathlib import Path

import pytest
from programs import DEADLINE, EXAMPLES, Application, Program, ask_line, message_of, wait_until

HERE = "tcp://127.0.0.1:0"


def test_echo_answers_and_counts(tmp_path: Path) -> None:
    """What is sent comes back; at the stop the database, which stops last, tells how much it was."""
    with Application("echo.py", "--listen", HERE, "--database=echo.db", cwd=tmp_path) as running:
        at = running.wait_ready()["echo"]
        assert ask_line(at, b"hello\n") == b"hello\n"
        assert running.stop() == 0
        assert "echoed 6 bytes" in running.output


def test_a_service_with_a_run_works_until_it_is_stopped(tmp_path: Path) -> None:
    """It logs the load, and on_stop is called after run was cancelled."""
    with Application("service_run.py", cwd=tmp_path) as running:
        running.wait_for(r"^load \d+\.\d\d$")
        assert running.stop() == 0
        assert "the highest load was" in running.output


def test_a_generator_cleans_up_what_it_made(tmp_path: Path) -> None:
    """The folder is there while the application runs, and is removed after the service that needs it has stopped."""
    with Application("service_generator.py", cwd=tmp_path) as running:
        folder = Path(running.wait_for(r"^made (.*)")[1])
        running.wait_for("^ready in")
        assert folder.parent == Path(tempfile.gettempdir())
        assert (folder / "notes").read_text() == "started\n"
        assert running.stop() == 0
        assert running.output.index("holds 8 bytes") < running.output.index(f"removed {folder}")
        assert not folder.exists()


def test_the_protocol_reverses_lines(tmp_path: Path) -> None:
    """A line that comes in pieces is one line; a connection that is open at the stop is ended."""
    with Application("server_protocol.py", "--listen", HERE, cwd=tmp_path) as running:
        at = running.wait_ready()["reverse"]
        with socket.create_connection(at, DEADLINE) as connection:
            connection.sendall(b"he")
            connection.sendall(b"llo\nyou\n")
            with connection.makefile("rb") as answers:
                assert [answers.readline(), answers.readline()] == [b"olleh\n", b"uoy\n"]
                running.signal(signal.SIGTERM)
                assert answers.read() == b""
        assert running.wait() == 0


def test_the_chat_tells_others_what_one_says(tmp_path: Path) -> None:
    """Everybody but the speaker hears it."""
    with Application("server_handler.py", "--listen", HERE, cwd=tmp_path) as running:
        at = running.wait_ready()["chat"]
        with socket.create_connection(at, DEADLINE) as ada, ada.makefile("rb") as ada_hears:
            with socket.create_connection(at, DEADLINE) as bob, bob.makefile("rb") as bob_hears:
                assert ada_hears.readline() == b"one more is here\n"
                ada.sendall(b"hello\n")
                assert bob_hears.readline() == b"hello\n"
            assert ada_hears.readline() == b"one has left\n"
        assert running.stop() == 0


def test_datagrams_are_answered(tmp_path: Path) -> None:
    """In capitals."""
    with Application("server_datagram.py", "--listen", "udp://127.0.0.1:0", cwd=tmp_path) as running:
        (at,) = running.wait_ready().values()
        with socket.socket(type=socket.SOCK_DGRAM) as asking:
            asking.settimeout(DEADLINE)
            asking.sendto(b"hello", at)
            assert asking.recv(100) == b"HELLO"
        assert running.stop() == 0


def test_the_client_connects_again(tmp_path: Path) -> None:
    """Its server goes away and comes back on the same port; it is asked the next question then."""
    with Application("echo.py", "--listen", HERE, cwd=tmp_path) as first:
        host, port = first.wait_ready()["echo"]
        where = f"tcp://{host}:{port}"
        with Application("client.py", "--connect", where, "--period=0.05", cwd=tmp_path) as client:
            client.wait_for("^answered question 0")
            assert first.stop() == 0
            client.wait_for("^the connection to .* is over")
            with Application("echo.py", "--listen", where, cwd=tmp_path) as second:
                second.wait_ready()
                asked = answered(client)
                wait_until(lambda: answered(client) > asked, "it is answered again")
                assert second.stop() == 0
            assert client.stop() == 0


def answered(client: Program) -> int:
    """How many answers the client has logged."""
    return sum(message_of(line).startswith("answered") for line in client.lines)


@pytest.mark.parametrize(("example", "said"), [("timer.py", r"^\d+% of the disk is free"), ("cron.py", "^reporting")])
def test_timers_call(example: str, said: str, tmp_path: Path) -> None:
    """Within the time that their heads promise."""
    with Application(example, cwd=tmp_path) as running:
        running.wait_for(said)
        assert running.stop() == 0


def test_a_group_starts_by_needs_and_stops_in_reverse(tmp_path: Path) -> None:
    """`search` after `database`, `api` after all; backwards at the end."""
    with Application("group.py", cwd=tmp_path) as running:
        running.wait_for("^ready in")
        assert running.stop() == 0
        order = [message_of(line) for line in running.lines]
    started = [order.index(f"{path} running") for path in ("backend/database", "backend/search", "api")]
    stopped = [order.index(f"{path} stopped") for path in ("api", "backend/search", "backend/database")]
    assert started == sorted(started)
    assert stopped == sorted(stopped)
    assert order.index("backend/cache running") < order.index("api running")


def test_jobs_end_by_themselves(tmp_path: Path) -> None:
    """With the right result, and exit code 0, without being told to."""
    with Application("jobs.py", "--numbers", "1001", "--jobs", "4", cwd=tmp_path) as running:
        assert running.wait() == 0
        assert "the sum is 500500" in running.output


def test_an_embedded_application_lives_as_long_as_its_body(tmp_path: Path) -> None:
    """As a plain Python program."""
    with Program(sys.executable, EXAMPLES / "embedded.py", cwd=tmp_path) as running:
        assert running.wait() == 0
        assert running.output.splitlines() == ["answered b'hello\\n'", "tick", "tick", "stopped: stopped"]


def test_every_example_is_in_the_index_and_says_how_it_is_run() -> None:
    """README.md names each file; each file opens with what it shows and the command."""
    index = (EXAMPLES / "README.md").read_text()
    files = sorted(path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".toml"))
    assert [name for name in files if f"]({name})" not in index] == []
    modules = {"syslog_messages.py", "message_store.py"}
    texts = {name: (EXAMPLES / name).read_text() for name in files if name not in modules}
    assert [name for name, text in texts.items() if f"run examples/{name}" not in text and name != "embedded.py"] == []
