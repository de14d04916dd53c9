"""Which options of servers, clients and timers a reload gives them while they run, and which take a new generation."""

from __future__ import annotations

from typing import Any

import pytest

from plait import Application, Cron, Options, Timer
from plait.net import Client, Datagram, DatagramServer, Server
from plait.testing import running
from test_server import close, connect, echo


class AllOptions(Options, env="ALL_"):
    """One of each."""

    listen: str = "tcp://127.0.0.1:0"
    connect: str = "tcp://127.0.0.1:9"
    most: int = 10
    delay: float = 60.0
    every: float = 60.0
    expression: str = "0 0 1 1 *"
    missed: str = "skip"
    mode: str = "hold"


def take(datagram: Datagram) -> None:
    """A datagram."""


def tick() -> None:
    """A moment."""


def make_app(options: AllOptions) -> Application:
    """What they make."""
    missed: Any = options.missed
    mode: Any = options.mode
    app = Application("all")
    app.add(Server(options.listen, echo, max_connections=options.most, pause_mode=mode), name="tcp")
    app.add(DatagramServer("udp://127.0.0.1:0", take, max_tasks=options.most), name="udp")
    app.add(Client(options.connect, max_delay=options.delay), name="client")
    app.add(Timer(options.every, tick, missed=missed), name="timer")
    app.add(Cron(options.expression, tick, missed=missed), name="cron")
    return app


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [("MOST", "20", "live"), ("DELAY", "30", "live"), ("EVERY", "30", "live"), ("EXPRESSION", "0 0 2 1 *", "live"),
     ("MISSED", "all", "live"), ("MODE", "refuse", "live"), ("LISTEN", "tcp://localhost:0", "generation"),
     ("CONNECT", "tcp://127.0.0.1:7", "generation")],
)  # fmt: skip
async def test_what_is_live(name: str, value: str, kind: str) -> None:
    """Where it is, connections stay; where it is not, they end with their generation."""
    async with running(make_app, environ={}) as run:
        server: Any = run["tcp"]
        reader, writer = await connect(server)
        writer.write(b"before\n")
        assert await reader.readline() == b"before\n"
        run.environ[f"ALL_{name}"] = value
        plan = await run.reload()
        assert plan.kind == kind, plan.changes
        if kind == "live":
            writer.write(b"after\n")
            assert await reader.readline() == b"after\n"
        else:
            assert await reader.read() == b""
        await close(writer)


async def test_a_subclass_with_a_constructor_of_its_own_is_not_told() -> None:
    """It would be called with arguments that its base does not know."""

    class Mine(Server):
        def __init__(self, most: int) -> None:
            super().__init__("tcp://127.0.0.1:0", echo, max_connections=most)

    def make(options: AllOptions) -> Application:
        app = Application("mine")
        app.add(Mine(options.most), name="mine")
        return app

    async with running(make, environ={}) as run:
        run.environ["ALL_MOST"] = "20"
        plan = await run.reload()
        assert plan.kind == "generation"
        assert "Mine has no on_reload" in plan.changes[0]
