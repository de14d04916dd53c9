"""The built-in plugin `echo`: `plait run echo` listens, and sends back what it is sent."""

from __future__ import annotations

import asyncio
from typing import Annotated, cast

from plait._kernel.application import Application
from plait.net.server import Server
from plait.options import Meta, Options


class EchoOptions(Options, env="ECHO_"):
    """Send back what clients send."""

    listen: Annotated[str, Meta(description="endpoint to listen on")] = "tcp://127.0.0.1:8007"


class Echo(asyncio.Protocol):
    """Sends back what it is sent, and reads no faster than its client does."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, to answer by."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self.transport.write(data)

    def pause_writing(self) -> None:
        """The client does not keep up: read nothing more."""
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """It does again."""
        self.transport.resume_reading()

    def drain(self) -> None:
        """Everything that came was answered as it came, so the connection can end."""
        self.transport.close()


def make_app(options: EchoOptions) -> Application:
    """Send back what clients send."""
    app = Application("echo")
    app.add(Server(options.listen, Echo), name="echo")
    return app
