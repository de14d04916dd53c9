"""A syslog collector: receives messages over UDP and TCP, stores them in SQLite, and answers questions.

    plait run examples/collector.py
    logger -n 127.0.0.1 -P 5514 -d "hello"          over UDP; -T instead of -d for TCP
    nc 127.0.0.1 5516                               then: last 10, help, quit

Two listeners, `udp` and `tcp`, put messages into the queue of `writer`, which hands them in batches to `store`. `query`
reads from `store`, `retention` deletes from it. Each needs what it works with, so it starts after that and stops
before it: by the time `writer` stops, nobody can add to its queue, and what is in it is stored.

An accepted message is not lost by stopping: the listeners read what the sockets hold, the writer empties its queue. And
nothing here assumes one process: several collectors may share a database. The policies of the classes share out the
25 seconds that a whole stop may take (`shutdown_timeout`), most of it to those that have something to finish.
"""

from __future__ import annotations

import asyncio
import os
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from sqlite3 import OperationalError
from typing import Annotated, Any

from message_store import Store
from plait import Application, Duration, Meta, Options, Policy, Service, Timer
from plait.net import Datagram, DatagramServer, Server
from syslog_messages import FACILITIES, SEVERITIES, Frames, Message, parse

Positive = Annotated[int, Meta(ge=1)]


class CollectorOptions(Options):
    """Collect syslog messages into a database."""

    udp: Annotated[str, Meta(description="endpoint for messages over UDP")] = "udp://127.0.0.1:5514"
    tcp: Annotated[str, Meta(description="endpoint for messages over TCP")] = "tcp://127.0.0.1:5514"
    query: Annotated[str, Meta(description="endpoint that answers questions")] = "tcp://127.0.0.1:5516"
    # Beside whoever starts it: seen at once, deleted with a word, and no rights needed. Git ignores *.db.
    database: Annotated[Path, Meta(description="SQLite file, made if there is none")] = Path("collector.db")
    batch_size: Annotated[Positive, Meta(description="messages stored at once, at most")] = 500
    flush_period: Annotated[Duration, Meta(description="how long a message waits for its batch")] = 0.2
    retention: Annotated[Duration, Meta(description="how long messages are kept")] = 30 * 24 * 3600.0


def make_app(options: CollectorOptions) -> Application:
    """The composition: each service, and what it needs."""
    app = Application("collector", version="1.0")
    store = app.add(Store(options.database), name="store")
    writer = app.add(Writer(store, options.batch_size, options.flush_period), name="writer", needs=[store])
    udp = app.add(Udp(options.udp, writer), name="udp", needs=[writer])
    tcp = app.add(Tcp(options.tcp, writer), name="tcp", needs=[writer])
    query = app.add(Query(options.query, store, writer), name="query", needs=[store, writer])
    app.add(Retention(store, options.retention), name="retention", needs=[store])
    app.add(Hints(udp, tcp, query), name="hints", needs=[udp, tcp, query])
    return app


class Writer(Service):
    """Stores messages in batches of `batch_size`, or of what has come in `flush_period` seconds.

    Up to `capacity` messages wait in its queue. The queue and the batch belong to the service, not to one of its
    lives: what could not be stored is stored by the next.
    """

    policy = Policy(drain_timeout=0.1, stop_timeout=8.0)

    def __init__(
        self, store: Store, batch_size: Positive = 500, flush_period: Duration = 0.2, capacity: Positive = 10_000
    ) -> None:
        self._store = store
        self._batch_size = batch_size
        self._flush_period = flush_period
        self._queue = asyncio.Queue[Message](capacity)
        self._turn = asyncio.Lock()
        self._batch: list[Message] = []
        self._received = 0
        self._dropped = 0

    def counts(self) -> dict[str, int]:
        """How many messages were received, wait to be stored, and were dropped."""
        return {"received": self._received, "waiting": self._waiting(), "dropped": self._dropped}

    def _waiting(self) -> int:
        return self._queue.qsize() + len(self._batch)

    async def put(self, messages: Iterable[Message]) -> None:
        """Take `messages`, waiting for room in the queue. Those who wait take turns, or one could starve the others."""
        async with self._turn:
            for message in messages:
                await self._queue.put(message)
                self._received += 1

    def put_nowait(self, message: Message) -> None:
        """Take `message`, or drop and count it if the queue is full."""
        try:
            self._queue.put_nowait(message)
            self._received += 1
        except asyncio.QueueFull:
            self._dropped += 1

    async def run(self) -> None:
        told = self._dropped
        while True:
            await self._fill_batch()
            await self._store.insert(self._batch)
            if self._dropped > told:
                self.log.warning("the queue was full: dropped %d messages that came over UDP", self._dropped - told)
                told = self._dropped

    async def _fill_batch(self) -> None:
        if not self._batch:
            self._batch.append(await self._queue.get())
        try:
            async with asyncio.timeout(self._flush_period):
                while len(self._batch) < self._batch_size:
                    self._batch.append(await self._queue.get())
        except TimeoutError:
            pass  # then it is what has come so far

    async def on_stop(self) -> None:
        while self._waiting():
            while len(self._batch) < self._batch_size and not self._queue.empty():
                self._batch.append(self._queue.get_nowait())
            await self._store.insert(self._batch)


class Udp(DatagramServer):
    """Receives messages over UDP, one a datagram. Nobody waits there, so what finds the queue full is dropped."""

    policy = Policy(drain_timeout=7.0, stop_timeout=1.0)

    def __init__(self, listen: str, writer: Writer) -> None:
        super().__init__(listen, self.take)
        self._into = writer

    def take(self, datagram: Datagram) -> None:
        """Parse one datagram and queue it."""
        if datagram.data:
            self._into.put_nowait(parse(datagram.data, host_of(datagram.peer), time.time()))


class Tcp(Server):
    """Receives messages over TCP. While the queue is full it reads nothing, and senders wait."""

    policy = Policy(drain_timeout=7.0, stop_timeout=1.0)

    def __init__(self, listen: str, writer: Writer) -> None:
        super().__init__(listen, self.receive)
        self._into = writer

    async def receive(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection, to its end."""
        sender, frames = host_of(writer.get_extra_info("peername")), Frames()
        while data := await reader.read(65536):
            await self._into.put(parse(frame, sender, time.time()) for frame in frames.feed(data))
        await self._into.put(parse(frame, sender, time.time()) for frame in frames.rest())


def host_of(peer: Any) -> str:
    """The host of a socket address; unix sockets have none."""
    return str(peer[0]) if peer else "localhost"


class Retention(Timer):
    """Deletes messages older than `retention` seconds, every `period` seconds."""

    BATCH = 1000
    """Messages deleted at once: the database is locked for the others meanwhile."""

    def __init__(self, store: Store, retention: Duration, period: Duration = 60.0) -> None:
        super().__init__(period, self._delete_old, at_start=True)
        self._store = store
        self._retention = retention

    async def _delete_old(self) -> None:
        moment, deleted = time.time() - self._retention, 0
        try:
            while count := await self._store.delete_before(moment, self.BATCH):
                deleted += count
        except OperationalError as error:  # locked for long, or the disk is full: nothing to fail of
            self.log.warning("could not delete old messages: %s; trying again in %g s", error, self.every)
        if deleted:
            self.log.info("deleted %d messages older than %g s", deleted, self._retention)


class Query(Server):
    """Answers questions: a line each, answered with lines of text and an empty one."""

    policy = Policy(drain_timeout=2.0, stop_timeout=1.0)

    SHOWN = 100
    """Messages in one answer, unless a number is asked for."""
    MOST = 10_000
    """Messages in one answer, whatever is asked for."""

    def __init__(self, listen: str, store: Store, writer: Writer) -> None:
        super().__init__(listen, self.converse)
        self._store = store
        self._writer = writer

    async def converse(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection, to its end."""
        while line := await reader.readline():
            command, _, argument = line.decode("utf-8", "replace").strip().partition(" ")
            if command == "quit":
                return
            if command:
                answer = await self._answer(command, argument.strip())
                writer.write("".join(f"{text}\n" for text in [*answer, ""]).encode())
                await writer.drain()

    async def _answer(self, command: str, argument: str) -> list[str]:
        if command not in COMMANDS:
            return [f"unknown command {command!r}; there are:", *await self._help("")]
        try:
            return await COMMANDS[command].answer(self, argument)
        except ValueError as error:
            return [f"{command}: {error}"]

    async def _help(self, _: str) -> list[str]:
        return [f"{command.example:<16}{command.says}" for command in COMMANDS.values()]

    async def _last(self, argument: str) -> list[str]:
        if not argument.isdecimal():
            raise ValueError("say how many, as in: last 10")
        return _lines(await self._store.newest(min(int(argument), self.MOST)))

    async def _host(self, argument: str) -> list[str]:
        return _lines(await self._store.from_host(argument, self.SHOWN))

    async def _grep(self, argument: str) -> list[str]:
        return _lines(await self._store.containing(argument, self.SHOWN))

    async def _severity(self, argument: str) -> list[str]:
        if argument not in SEVERITIES:
            raise ValueError(f"say which of {', '.join(SEVERITIES)}")
        return _lines(await self._store.at_least(SEVERITIES.index(argument), self.SHOWN))

    async def _count(self, _: str) -> list[str]:
        return [str(sum((await self._store.count_by_severity()).values()))]

    async def _stats(self, _: str) -> list[str]:
        stored = await self._store.count_by_severity()
        return [
            f"stored {sum(stored.values())}",
            *(f"stored {SEVERITIES[severity]} {count}" for severity, count in stored.items()),
            *(f"{name} {count} in process {os.getpid()}" for name, count in self._writer.counts().items()),
        ]


@dataclass(frozen=True)
class Command:
    """What can be asked of Query, and which of its methods answers."""

    example: str
    says: str
    answer: Callable[[Query, str], Awaitable[list[str]]]


COMMANDS = {
    "last": Command("last 10", "the newest messages", Query._last),
    "host": Command("host NAME", "the newest of one host", Query._host),
    "grep": Command("grep TEXT", "the newest with this in their text", Query._grep),
    "severity": Command("severity err", "the newest that are at least this severe", Query._severity),
    "count": Command("count", "how many messages there are", Query._count),
    "stats": Command("stats", "how many of each severity, and how this process fares", Query._stats),
    "help": Command("help", "this", Query._help),
    "quit": Command("quit", "ends the conversation", Query._help),
}

_ESCAPES = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160))}


def _lines(messages: list[Message]) -> list[str]:
    return [_line(message) for message in messages] or ["nothing"]


def _line(message: Message) -> str:
    """One line, whatever the message holds; times are local."""
    moment = datetime.fromtimestamp(message.time).isoformat(" ", "milliseconds")
    source = message.app + (f"[{message.procid}]" if message.procid else "")
    priority = f"{FACILITIES[message.facility]}.{SEVERITIES[message.severity]}"
    return f"{moment} {message.host} {source or '-'} {priority}: {message.text}".translate(_ESCAPES)


class Hints(Service):
    """Says, once all listen, what to type."""

    policy = Policy(stop_timeout=1.0)

    def __init__(self, udp: Udp, tcp: Tcp, query: Query) -> None:
        self._udp, self._tcp, self._query = udp, tcp, query

    async def on_start(self) -> None:
        for at in self._udp.endpoints:
            self.log.info('to send over UDP: logger -n %s -P %d -d "hello"', at.host, at.port)
        for at in self._tcp.endpoints:
            self.log.info('to send over TCP: logger -n %s -P %d -T "hello"', at.host, at.port)
        for at in self._query.endpoints:
            self.log.info("to ask: nc %s %d   or, in bash: %s", at.host, at.port, IN_BASH.format(at=at))


IN_BASH = r"""(printf 'last 10\nquit\n' >&3; cat <&3) 3<>/dev/tcp/{at.host}/{at.port}"""
