"""An echo server beside a database: options, two services, and what the second needs.

    plait run examples/echo.py --listen tcp://127.0.0.1:9000
    plait run examples/echo.py --help

What a client sends comes back, and is counted in the database, here a SQLite file in memory.
"""

from __future__ import annotations

import sqlite3
from asyncio import StreamReader, StreamWriter
from contextlib import closing
from functools import partial
from typing import Annotated

from plait import Application, Meta, Options, Service
from plait.net import Server


class EchoOptions(Options):  # environment: ECHO_LISTEN, ECHO_DATABASE
    """Echo what clients send."""

    listen: Annotated[str, Meta(description="endpoint to listen on")] = "tcp://127.0.0.1:8007"
    database: Annotated[str, Meta(description="SQLite file")] = ":memory:"


class Database(Service):
    """Counts bytes."""

    def __init__(self, database: str) -> None:
        self.database = database

    async def on_start(self) -> None:
        self.connection = await self.enter(closing(sqlite3.connect(self.database)))
        self.connection.execute("CREATE TABLE IF NOT EXISTS echoed (size INTEGER)")

    async def on_stop(self) -> None:
        (total,) = self.connection.execute("SELECT coalesce(sum(size), 0) FROM echoed").fetchone()
        self.log.info("echoed %d bytes", total)

    def count(self, size: int) -> None:
        """Add `size` bytes."""
        with self.connection as connection:
            connection.execute("INSERT INTO echoed VALUES (?)", (size,))


async def echo(database: Database, reader: StreamReader, writer: StreamWriter) -> None:
    """One connection; when it returns, Plait closes it."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
        database.count(len(data))


def make_app(options: EchoOptions) -> Application:
    """The database, and the server that needs it."""
    app = Application("echo", version="1.0")
    database = app.add(Database(options.database), name="db", restart="always")
    app.add(Server(options.listen, partial(echo, database)), name="echo", needs=["db"])
    return app
