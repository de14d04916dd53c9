"""A server made of an asyncio.Protocol: callbacks, no task for each connection, and so the fastest kind.

    plait run examples/server_protocol.py
    bash -c "(echo hello >&3; head -1 <&3) 3<>/dev/tcp/127.0.0.1/8010"

It answers each line with the line reversed. `drain` is called when the server stops, at a moment at which nothing that
was sent is unread; what the protocol owes by then, here the rest of a line, it still answers.
"""

from __future__ import annotations

import asyncio
from typing import cast

from plait import Application, Options
from plait.net import Server


class ReverseOptions(Options):
    """Answer each line with the line reversed."""

    listen: str = "tcp://127.0.0.1:8010"
    most: int = 1000


class Reverse(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # no isinstance: uvloop's are classes of their own
        self.rest = b""
        self.is_ending = False

    def data_received(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        self.transport.writelines(line[::-1] + b"\n" for line in lines)
        self.end_between_lines()

    def drain(self) -> None:
        """End, now or when the line that has begun is answered."""
        self.is_ending = True
        self.end_between_lines()

    def end_between_lines(self) -> None:
        """What was answered is still sent."""
        if self.is_ending and not self.rest:
            self.transport.close()


def make_app(options: ReverseOptions) -> Application:
    """At most so many connections are open at once; further ones wait in the queue of the socket."""
    app = Application("reverse")
    app.add(Server(options.listen, Reverse, max_connections=options.most), name="reverse")
    return app
