"""A client: keeps a connection, and makes it anew when it is lost, later and later while the server is away.

    plait run examples/echo.py                    in another terminal; stop it and start it again
    plait run examples/client.py --connect tcp://127.0.0.1:8007

`Asking` needs the client, and waits for its connection where it wants one.
"""

from __future__ import annotations

import asyncio

from plait import Application, Options, Service
from plait.net import Client


class ClientOptions(Options):
    """Ask a server again and again."""

    connect: str = "tcp://127.0.0.1:8007"
    period: float = 1.0


class Asking(Service):
    """Sends a line every `period` seconds, and logs what comes back."""

    def __init__(self, client: Client, period: float) -> None:
        self.client = client
        self.period = period

    async def run(self) -> None:
        number = 0
        while True:
            reader, writer = await self.client.connected()
            try:
                writer.write(b"question %d\n" % number)
                answer = await reader.readline()
            except ConnectionError as error:
                self.log.warning("no answer to question %d: %s", number, error)
                continue
            if answer:
                self.log.info("answered %s", answer.decode().strip())
                number += 1
            await asyncio.sleep(self.period)


def make_app(options: ClientOptions) -> Application:
    """Give up with `Client(..., attempts=10)`; this one never does."""
    app = Application("client")
    client = app.add(Client(options.connect, max_delay=10.0), name="client")
    app.add(Asking(client, options.period), name="asking", needs=[client])
    return app
