"""The built-in plugin: it sends back what it is sent."""

from __future__ import annotations

from plait.net import Server
from plait.net.echo import EchoOptions, make_app
from test_server import close, connect


async def test_it_echoes() -> None:
    """Whatever comes, as it comes."""
    app = make_app(EchoOptions(listen="tcp://127.0.0.1:0"))
    async with app:
        server = app["echo"]
        assert isinstance(server, Server)
        reader, writer = await connect(server)
        sent = bytes(range(256)) * 1000
        writer.write(sent)
        assert await reader.readexactly(len(sent)) == sent
        await close(writer)
