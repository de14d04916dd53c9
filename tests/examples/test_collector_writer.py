"""The collector's writer: batches, back-pressure, and what becomes of the queue at the end."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest

from collector import Writer
from message_store import Store
from plait import Application, State
from plait._kernel.events import StateChanged
from plait.testing import Recorder
from syslog_messages import Message


def message(text: object) -> Message:
    """A message told by its text."""
    return Message(1.0, 1.0, 1, 5, "h", text=str(text))


class Recorded(Store):
    """A store that remembers how large the batches were."""

    async def on_start(self) -> None:
        self.sizes: list[int] = []
        await super().on_start()

    async def insert(self, messages: list[Message]) -> None:
        self.sizes.append(len(messages))
        await super().insert(messages)


@asynccontextmanager
async def running(
    folder: Path, *, batch_size: int = 500, flush_period: float = 0.01, capacity: int = 1000
) -> AsyncIterator[tuple[Writer, Recorded]]:
    """A writer and its store."""
    async with Application("test") as app:
        store = app.add(Recorded(folder / "db"), name="store")
        writer = app.add(Writer(store, batch_size, flush_period, capacity), name="writer", needs=[store])
        await store.start()
        await writer.start()
        yield writer, store


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Another process writes, so the writer waits."""
    with closing(sqlite3.connect(folder / "db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def stored(folder: Path) -> list[str]:
    """What a reader of the file finds."""
    with closing(sqlite3.connect(folder / "db")) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM message ORDER BY id")]


async def until_stored(folder: Path, count: int) -> None:
    """Wait until a reader finds so many."""
    async with asyncio.timeout(10):
        while len(stored(folder)) < count:
            await asyncio.sleep(0.005)


async def test_a_full_batch_does_not_wait_for_the_flush_period(tmp_path: Path) -> None:
    """By size: a flush period of an hour is not waited for."""
    async with running(tmp_path, batch_size=4, flush_period=3600.0) as (writer, store):
        for number in range(8):
            writer.put_nowait(message(number))
        await until_stored(tmp_path, 8)
        assert store.sizes == [4, 4]


async def test_a_batch_waits_for_more_only_for_the_flush_period(tmp_path: Path) -> None:
    """By time: what came in it is one batch, what came after it another."""
    async with running(tmp_path, flush_period=0.05) as (writer, store):
        for number in range(3):
            writer.put_nowait(message(number))
        await until_stored(tmp_path, 3)
        writer.put_nowait(message("later"))
        await until_stored(tmp_path, 4)
        assert store.sizes == [3, 1]


async def test_a_stop_stores_the_begun_batch_and_the_queue(tmp_path: Path) -> None:
    """Nothing waits for the flush period then; order is kept."""
    async with running(tmp_path, batch_size=4, flush_period=3600.0) as (writer, _store):
        writer.put_nowait(message("begun"))
        await asyncio.sleep(0)
        with locked(tmp_path):
            for number in range(10):
                writer.put_nowait(message(number))
            await asyncio.sleep(0.02)  # the first batch is being stored
        await writer.stop()
        assert stored(tmp_path) == ["begun", *map(str, range(10))]
        assert writer.counts() == {"received": 11, "waiting": 0, "dropped": 0}


async def test_a_full_queue_makes_tcp_wait_and_drops_and_counts_udp(tmp_path: Path) -> None:
    """`put` returns when there is room again; `put_nowait` never waits."""
    async with running(tmp_path, batch_size=2, capacity=5) as (writer, _store):
        with locked(tmp_path):
            for number in range(2):
                writer.put_nowait(message(number))
            async with asyncio.timeout(10):
                while writer.counts()["waiting"] > 2 or not await batch_is_taken(writer):
                    await asyncio.sleep(0)
            for number in range(2, 7):
                writer.put_nowait(message(number))
            writer.put_nowait(message("dropped"))
            waiting = asyncio.create_task(writer.put([message(7)]))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            assert writer.counts() == {"received": 7, "waiting": 7, "dropped": 1}
        await waiting
        await until_stored(tmp_path, 8)
        assert stored(tmp_path) == [str(number) for number in range(8)]


async def test_senders_that_wait_take_turns(tmp_path: Path) -> None:
    """Two that always have more are served alike, however small the queue."""
    async with running(tmp_path, batch_size=10, capacity=10) as (writer, _store):

        async def send(name: str) -> None:
            for _ in range(20):
                await writer.put(message(name) for _ in range(20))

        senders = [asyncio.create_task(send(name)) for name in "ab"]
        await asyncio.wait(senders, return_when=asyncio.FIRST_COMPLETED)
        await until_stored(tmp_path, 750)
        assert stored(tmp_path)[:200].count("a") == 100
        await asyncio.wait(senders)


async def batch_is_taken(writer: Writer) -> bool:
    """Whether what is waiting is in the batch, and the queue is empty."""
    await asyncio.sleep(0.01)
    return writer._queue.empty()


async def test_what_could_not_be_stored_is_stored_by_the_next_incarnation(tmp_path: Path) -> None:
    """The file is locked, so the writer fails, in run and in on_stop; started again, it has what it had."""
    app = Application("test")
    store = app.add(Store(tmp_path / "db", busy_timeout=0.02), name="store")
    writer = app.add(Writer(store, flush_period=0.01), name="writer", needs=[store])
    recorder = Recorder()
    app.subscribe(recorder)
    async with app:
        with locked(tmp_path):
            writer.put_nowait(message("kept"))
            await recorder.wait(StateChanged, path="writer", new=State.BACKOFF)
        await until_stored(tmp_path, 1)
    assert stored(tmp_path) == ["kept"]


async def test_the_warning_about_dropped_messages_counts_them_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line for each time the queue was full, not one for each message."""
    async with running(tmp_path, capacity=1) as (writer, _store):
        for number in range(4):
            writer.put_nowait(message(number))
        await until_stored(tmp_path, 1)
        writer.put_nowait(message("more"))
        await until_stored(tmp_path, 2)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["the queue was full: dropped 3 messages that came over UDP"]
