"""The built-in plugin `echo`: `plait run echo` listens, and sends back what it is sent."""

from __future__ import annotations

import asyncio
from typing import Annotated

from plait._kernel.application import Application
from plait.net.server import Server
from plait.options import Meta, Options


class EchoOptions(Options, env="ECHO_"):
    """Send back what clients send."""

    listen: Annotated[str, Meta(description="endpoint to listen on")] = "tcp://127.0.0.1:8007"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, and read no faster than the client does."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


def make_app(options: EchoOptions) -> Application:
    """Send back what clients send."""
    app = Application("echo")
    app.add(Server(options.listen, echo), name="echo")
    return app
