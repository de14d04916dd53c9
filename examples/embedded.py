"""Embedded: an application inside another program, or a test. It runs as long as the body of `async with`.

    python examples/embedded.py

The body asks a running echo server something, adds a second service while it runs, and removes it. A failure of a
service would cancel the body, and leave the `async with` as an ExceptionGroup.
"""

from __future__ import annotations

import asyncio

from echo import EchoOptions, make_app
from plait import Timer
from plait.net import Server


async def main() -> None:
    """Port 0: any that is free."""
    async with make_app(EchoOptions(listen="tcp://127.0.0.1:0")) as app:
        server = app["echo"]
        assert isinstance(server, Server)
        at = server.endpoints[0]
        reader, writer = await asyncio.open_connection(at.host, at.port)
        writer.write(b"hello\n")
        print("answered", await reader.readline())
        writer.close()
        await writer.wait_closed()

        ticking = app.add(Timer(0.1, lambda: print("tick")), name="ticking")
        await ticking.start()
        await asyncio.sleep(0.25)
        await app.remove("ticking")
    print("stopped:", app.state.value)


if __name__ == "__main__":
    asyncio.run(main())
