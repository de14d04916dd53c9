"""The collector's database: what is stored comes back, others may use the file, and a stop loses nothing."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from message_store import Store
from plait import Application
from plait.errors import StartFailed
from syslog_messages import Message


def message(text: str, *, received: float = 1.0, severity: int = 5, host: str = "h") -> Message:
    """A message that differs from others in what the test is about."""
    return Message(received, received, 1, severity, host, "app", "7", "id", {"a@1": {"k": ["v", "w"]}}, text)


@asynccontextmanager
async def running(path: Path, busy_timeout: float = 5.0) -> AsyncIterator[Store]:
    """A store, in an application of its own."""
    async with Application("test") as app:
        store = app.add(Store(path, busy_timeout))
        await store.start()
        yield store


async def test_what_is_stored_comes_back_equal(tmp_path: Path) -> None:
    """Every field, with newlines, NULs, structured data and text beyond ASCII."""
    sent = [message("plain"), message("a\nb\0c ✓ '\" %"), message("")]
    async with running(tmp_path / "db") as store:
        await store.insert(batch := list(sent))
        assert batch == []
        assert await store.newest(10) == sent
        assert await store.newest(2) == sent[1:]
    async with running(tmp_path / "db") as store:
        assert await store.newest(10) == sent


async def test_each_question_selects_what_it_says(tmp_path: Path) -> None:
    """By host, by text (literally: % and _ mean themselves), by severity; the newest, oldest first."""
    sent = [message("50%", severity=3), message("505", host="g"), message("x_y", severity=0), message("xzy", host="g")]
    async with running(tmp_path / "db") as store:
        await store.insert(list(sent))
        assert await store.from_host("g", 10) == [sent[1], sent[3]]
        assert await store.from_host("g", 1) == [sent[3]]
        assert await store.containing("0%", 10) == [sent[0]]
        assert await store.containing("_", 10) == [sent[2]]
        assert await store.at_least(3, 10) == [sent[0], sent[2]]
        assert await store.count_by_severity() == {0: 1, 3: 1, 5: 2}


async def test_old_messages_are_deleted_a_few_at_a_time(tmp_path: Path) -> None:
    """No more than the limit at once; what is younger stays."""
    async with running(tmp_path / "db") as store:
        await store.insert([message(str(n), received=float(n)) for n in range(10)])
        assert [await store.delete_before(7.0, 4) for _ in range(3)] == [4, 3, 0]
        assert [kept.text for kept in await store.newest(10)] == ["7", "8", "9"]


async def test_hosts_and_ages_are_found_by_index(tmp_path: Path) -> None:
    """SQLite's plan names the indices, and sorts nothing."""
    async with running(tmp_path / "db"):
        with closing(sqlite3.connect(tmp_path / "db")) as connection:
            for condition, index in ("host = 'h' ORDER BY id DESC", "host"), ("received < 1", "received"):
                plan = connection.execute(f"EXPLAIN QUERY PLAN SELECT * FROM message WHERE {condition}").fetchall()
                assert [f"USING INDEX message_{index}" in step[-1] for step in plan] == [True]


async def test_a_batch_that_cannot_be_stored_is_kept(tmp_path: Path) -> None:
    """Another process holds the file for longer than the busy time-out: an error, nothing stored, nothing lost."""
    async with running(tmp_path / "db", busy_timeout=0.05) as store:
        with closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            batch = [message("kept")]
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                await store.insert(batch)
            other.execute("ROLLBACK")
        assert [kept.text for kept in batch] == ["kept"]
        await store.insert(batch)
        assert [kept.text for kept in await store.newest(10)] == ["kept"]


async def test_a_cancelled_insert_is_stored_once(tmp_path: Path) -> None:
    """Whoever is cancelled while the file is locked sees by the list that it was stored after all."""
    async with running(tmp_path / "db") as store:
        with closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            batch = [message("once")]
            inserting = asyncio.create_task(store.insert(batch))
            await asyncio.sleep(0.05)  # the thread is waiting for the lock now
            inserting.cancel()
            other.execute("ROLLBACK")
        with pytest.raises(asyncio.CancelledError):
            await inserting
        assert batch == []
        assert len(await store.newest(10)) == 1


async def test_a_database_that_cannot_be_made_fails_the_start(tmp_path: Path) -> None:
    """The one error is that of the file, with its name."""
    with pytest.raises(StartFailed) as failure:
        async with running(tmp_path / "missing" / "db"):
            pass
    (error,) = failure.value.exceptions
    assert isinstance(error, FileNotFoundError)
    assert "missing/db" in str(error)


async def test_a_stopped_store_leaves_one_clean_file(tmp_path: Path) -> None:
    """All connections are closed, so SQLite has merged the WAL into the database and removed it."""
    async with running(tmp_path / "db") as store:
        await asyncio.gather(*(store.insert([message(str(n))]) for n in range(20)))
        assert (tmp_path / "db-wal").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db", "db.lock"]


PROCESSES = 2
ONE_PROCESS = """
import asyncio, sys, time
from pathlib import Path
from message_store import Store
from plait import Application
from syslog_messages import Message

async def main():
    async with Application("test") as app:
        store = app.add(Store(Path(sys.argv[1])))
        print("imported", flush=True)
        moment = float(sys.stdin.readline())
        while time.time() < moment:
            pass
        await store.start()
        for n in range(20):
            await store.insert([Message(1.0, 1.0, 1, 5, "h", text=str(n))] * 5)

asyncio.run(main())
"""


@pytest.mark.parametrize("attempt", range(10))
def test_processes_that_make_one_file_at_once_all_succeed(tmp_path: Path, attempt: int) -> None:
    """Two, let go in one moment on a file that does not exist, store everything and fail nothing."""
    command = [sys.executable, "-c", ONE_PROCESS, str(tmp_path / "db")]
    folder = Path(__file__).parents[2] / "examples"
    with ExitStack() as stack:
        processes = [
            stack.enter_context(Popen(command, cwd=folder, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True, bufsize=1))
            for _ in range(PROCESSES)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "imported\n"
        moment = time.time() + 0.05
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{moment}\n")
        said = [process.communicate(timeout=60)[1] for process in processes]
    assert said == [""] * PROCESSES
    with closing(sqlite3.connect(tmp_path / "db")) as connection:
        assert connection.execute("SELECT count(*) FROM message").fetchone() == (PROCESSES * 20 * 5,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
