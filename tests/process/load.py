"""Clients that put an application under load, and count what it owes them.

A request has failed if it was sent before the end of the connection had reached the client, and got no full answer.
A server may say of an answer that it is the last one of its connection, as HTTP does with `Connection: close`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

Address = tuple[str, int]


@dataclass
class Score:
    """What the clients saw: `answered` by kind of client, `failed` in words, `served` by the answer's first word."""

    answered: Counter[str] = field(default_factory=Counter)
    served: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    def take(self, kind: str, number: int, line: bytes) -> bool:
        """One answer: whether more may be asked on this connection."""
        words = line.decode().split()
        if words[1:2] != [str(number)] or not line.endswith(b"\n"):
            self.failed.append(f"{kind}: {line!r} in answer to {number}")
            return False
        self.answered[kind] += 1
        self.served[words[0]] += 1
        return words[2:] != ["last"]


class Load:
    """Some clients of each kind against one address, until `stop`; every request is a line, its answer another."""

    def __init__(self, address: Address, score: Score, *, seed: int) -> None:
        self._address = address
        self._score = score
        self._random = random.Random(seed)
        self._is_over = False

    def stop(self) -> None:
        """Each client ends after the request it is at."""
        self._is_over = True

    async def keep_alive(self) -> None:
        """Many requests on one connection, with hardly a pause; a new connection where the server has ended it."""
        while not self._is_over:
            await self._session("keep-alive", requests=1_000_000, pause=lambda: self._random.choice([0, 0, 0.01, 0.05]))

    async def new_connections(self) -> None:
        """One request a connection."""
        while not self._is_over:
            await self._session("new", requests=1, pause=lambda: 0)
            await asyncio.sleep(0.005)

    async def slow_sender(self) -> None:
        """A request in two halves, with up to a second between them."""
        while not self._is_over:
            await self._session("slow", requests=1, pause=lambda: 0, half=lambda: self._random.uniform(0, 1))

    async def _session(
        self, kind: str, *, requests: int, pause: Callable[[], float], half: Callable[[], float] | None = None
    ) -> None:
        try:
            reader, writer = await asyncio.open_connection(*self._address)
        except OSError as error:
            self._score.failed.append(f"{kind}: cannot connect: {error}")
            await asyncio.sleep(0.01)
            return
        try:
            for _ in range(requests):
                await asyncio.sleep(pause())
                if reader.at_eof() or self._is_over or not await self._request(kind, reader, writer, half):
                    return
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _request(
        self,
        kind: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        half: Callable[[], float] | None,
    ) -> bool:
        number = self._random.randrange(10**6)
        text = b"%d\n" % number
        try:
            if half is not None:
                writer.write(text[:1])
                await asyncio.sleep(half())
                text = text[1:]
            writer.write(text)
            line = await reader.readline()
        except OSError as error:
            self._score.failed.append(f"{kind}: {error}")
            return False
        return self._score.take(kind, number, line)


@contextlib.asynccontextmanager
async def under_load(addresses: list[Address], *, each: int = 3, seed: int = 1) -> AsyncIterator[Score]:
    """A body while `each` clients of every kind ask every address; what they saw."""
    score = Score()
    loads = [Load(address, score, seed=seed + number) for number, address in enumerate(addresses)]
    async with asyncio.TaskGroup() as group:
        kinds: list[Callable[[Load], Awaitable[None]]] = [Load.keep_alive, Load.new_connections, Load.slow_sender]
        for load in loads:
            for kind in kinds:
                for _ in range(each):
                    group.create_task(kind(load))  # type: ignore[arg-type]
        try:
            yield score
        finally:
            for load in loads:
                load.stop()
