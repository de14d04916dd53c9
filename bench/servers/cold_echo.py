"""The file that `plait run` is started with: an echo server on the port in ECHO_LISTEN."""

from __future__ import annotations

import asyncio

from plait import Application, Options
from plait.net import Server


class EchoOptions(Options):
    """Echo what clients send."""

    listen: str = "tcp://127.0.0.1:8007"


class Echo(asyncio.Protocol):
    """Sends back what it reads."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


def make_app(options: EchoOptions) -> Application:
    """One service, which echoes."""
    app = Application("echo")
    app.add(Server(options.listen, Echo), name="echo")
    return app
