"""Plait's Server with the same raw asyncio.Protocol, or, if a second argument says `stream`, a coroutine handler."""

from __future__ import annotations

import asyncio
import sys

import uvloop
from uvloop_echo import Echo

from plait import Application
from plait.net import Server


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, as the README's example does."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def main(port: str, kind: str) -> None:
    """Serve until the process is ended."""
    app = Application("echo")
    app.add(Server(f"tcp://127.0.0.1:{port}?backlog=1024", echo if kind == "stream" else Echo), name="echo")
    await app.serve()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], sys.argv[2]))
