"""Where the collector keeps messages: one SQLite file, which several processes may use at once.

Rules: SQLite blocks, so every call runs in a thread, on that thread's own connection. The file is made, switched to
WAL and left under a lock on a file beside it, since SQLite does not wait for others there and fails with "database is
locked". Whoever writes says so first (BEGIN IMMEDIATE), so that busy_timeout applies.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

from plait import Duration, Policy, Service
from syslog_messages import Message

SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY,
    received REAL NOT NULL, time REAL NOT NULL, facility INTEGER NOT NULL, severity INTEGER NOT NULL,
    host TEXT NOT NULL, app TEXT NOT NULL, procid TEXT NOT NULL, msgid TEXT NOT NULL,
    data TEXT NOT NULL, text TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS message_host ON message (host);
CREATE INDEX IF NOT EXISTS message_received ON message (received);
"""
COLUMNS = "received, time, facility, severity, host, app, procid, msgid, data, text"
INSERT = f"INSERT INTO message ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
DELETE = "DELETE FROM message WHERE id IN (SELECT id FROM message WHERE received < ? LIMIT ?)"


class Store(Service):
    """Messages in a SQLite file at `database`. A call that finds it locked for `busy_timeout` seconds raises."""

    policy = Policy(stop_timeout=5.0)

    def __init__(self, database: Path, busy_timeout: Duration = 5.0) -> None:
        self._database = database
        self._busy_timeout = busy_timeout

    async def on_start(self) -> None:
        self._connections: list[sqlite3.Connection] = []
        self._of_thread = threading.local()
        await self.enter(self._closing())
        await self.run_in_thread(self._make)

    @asynccontextmanager
    async def _closing(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self.run_in_thread(self._close)

    # -- what others ask of it -----------------------------------------------------------------------------------------

    async def insert(self, messages: list[Message]) -> None:
        """Store all of `messages` and empty the list, or do neither.

        Both happen in the thread, so that whoever is cancelled while waiting still knows what became of them.
        """
        await self.run_in_thread(self._insert, messages)

    async def delete_before(self, moment: float, limit: int) -> int:
        """Delete at most `limit` messages received before `moment`, and return how many it were."""
        return await self.run_in_thread(self._delete_before, moment, limit)

    async def newest(self, count: int) -> list[Message]:
        """The last `count` messages, oldest first; as of the other questions."""
        return await self.run_in_thread(self._select, "true", (), count)

    async def from_host(self, host: str, count: int) -> list[Message]:
        """Those of one host."""
        return await self.run_in_thread(self._select, "host = ?", (host,), count)

    async def containing(self, text: str, count: int) -> list[Message]:
        """Those whose text contains `text`."""
        return await self.run_in_thread(self._select, "instr(text, ?)", (text,), count)

    async def at_least(self, severity: int, count: int) -> list[Message]:
        """Those at least this severe; 0 is the most severe."""
        return await self.run_in_thread(self._select, "severity <= ?", (severity,), count)

    async def count_by_severity(self) -> dict[int, int]:
        """How many messages there are of each severity that occurs."""
        return await self.run_in_thread(self._count_by_severity)

    # -- in a thread ---------------------------------------------------------------------------------------------------

    def _make(self) -> None:
        with self._alone():
            connection = self._connection()
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(SCHEMA)

    def _close(self) -> None:
        if not self._connections:
            return  # not even the first could be opened
        with self._alone():  # the last one to close removes the WAL
            for connection in self._connections:
                connection.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with open(f"{self._database}.lock", "a") as side_file:
            fcntl.flock(side_file, fcntl.LOCK_EX)  # closing the file releases it
            yield

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._of_thread, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self._database,
                timeout=self._busy_timeout,
                isolation_level=None,  # transactions begin where we say so
                check_same_thread=False,  # used by one thread, closed by another
            )
            self._of_thread.connection = connection
            self._connections.append(connection)
            connection.execute("PRAGMA synchronous = NORMAL")  # WAL: safe when a process dies, fast
        return connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:  # commits, or rolls back
            connection.execute("BEGIN IMMEDIATE")
            yield connection

    def _insert(self, messages: list[Message]) -> None:
        with self._writing() as connection:
            connection.executemany(INSERT, map(_row, messages))
        messages.clear()

    def _delete_before(self, moment: float, limit: int) -> int:
        with self._writing() as connection:
            return connection.execute(DELETE, (moment, limit)).rowcount

    def _select(self, condition: str, values: Sequence[str | int], count: int) -> list[Message]:
        query = f"SELECT {COLUMNS} FROM message WHERE {condition} ORDER BY id DESC LIMIT ?"
        rows = self._connection().execute(query, (*values, count)).fetchall()
        return [_message(row) for row in reversed(rows)]

    def _count_by_severity(self) -> dict[int, int]:
        return dict(self._connection().execute("SELECT severity, count(*) FROM message GROUP BY severity"))


_VALUES = attrgetter("received", "time", "facility", "severity", "host", "app", "procid", "msgid")


def _row(message: Message) -> tuple[object, ...]:
    return (*_VALUES(message), json.dumps(message.data, ensure_ascii=False), message.text)


def _message(row: tuple[Any, ...]) -> Message:
    values = list(row)
    values[-2] = json.loads(values[-2])
    return Message(*values)
