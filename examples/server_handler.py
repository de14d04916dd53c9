"""A server made of a coroutine function, called with the reader and the writer of each connection: a chat.

    plait run examples/server_handler.py
    nc 127.0.0.1 8011        in two terminals

Handlers run in tasks of their own. A stop lets each consume what was read, then its reader sees end of file.
"""

from __future__ import annotations

from asyncio import StreamReader, StreamWriter

from plait import Options
from plait.net import Server


class ChatOptions(Options):
    """Let people talk to each other."""

    listen: str = "tcp://127.0.0.1:8011"


class Chat(Server):
    """What one says, all others hear."""

    def __init__(self, listen: str) -> None:
        super().__init__(listen, self.talk)
        self.writers: set[StreamWriter] = set()

    async def talk(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One guest, from arrival to departure."""
        self.tell(b"one more is here\n")
        self.writers.add(writer)
        try:
            while line := await reader.readline():
                self.tell(line, apart=writer)
        finally:
            self.writers.discard(writer)
            self.tell(b"one has left\n")

    def tell(self, line: bytes, apart: StreamWriter | None = None) -> None:
        """Send `line` to everybody but one."""
        for writer in self.writers - {apart}:
            writer.write(line)


def make_app(options: ChatOptions) -> Chat:
    """One service is an application as well."""
    return Chat(options.listen)
