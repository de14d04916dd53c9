"""The file that `plait run` is started with: an echo server beside 100 services that run, in three groups.

Each group has another strategy; one service of each has failed once and was started again, so that supervision has
something to remember.
"""

from __future__ import annotations

import asyncio

from cold_echo import Echo, EchoOptions

from plait import Application, Group, Service
from plait.net import Server

GROUPS = {"one_for_one": 40, "one_for_all": 30, "rest_for_one": 30}


class Waiting(Service):
    """Has a run that waits, for work that does not come."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures

    async def run(self) -> None:
        if self.failures:
            self.failures -= 1
            await asyncio.sleep(0.5)
            raise OSError("once")
        await asyncio.get_running_loop().create_future()


def make_app(options: EchoOptions) -> Application:
    """The server and the groups."""
    app = Application("supervised")
    app.add(Server(options.listen, Echo), name="echo")
    for strategy, count in GROUPS.items():
        group = app.add(Group(strategy=strategy), name=strategy)  # type: ignore[arg-type]
        for number in range(count):
            needs = [f"s{number - 1}"] if number % 10 else []
            group.add(Waiting(failures=int(number == 0)), name=f"s{number}", needs=needs)
    return app
