"""An application that a test makes of a few words, for reloads: its options say which services there are."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from plait import Application, Options, Service
from plait.testing import Running

diary: list[str] = []
"""What the services of all generations did, in order; a test empties it."""


class TreeOptions(Options):
    """Which services there are: a JSON object of their words by name."""

    services: str = "{}"
    limit: int = 0


class Thing(Service):
    """Writes down what happens to it: `value` says in whose words. It may fail, hang or be slow where it is told to."""

    def __init__(self, value: Any = 0, **words: Any) -> None:
        self.value = value
        self.words = words

    async def at(self, hook: str) -> None:
        diary.append(f"{self.name} {self.value} {hook}")
        await asyncio.sleep(self.words.get(f"{hook}_takes", 0))
        if self.words.get("fails_at") == hook:
            raise ValueError(f"{self.value} as told")

    async def on_start(self) -> None:
        await self.at("start")

    async def on_drain(self) -> None:
        await self.at("drain")

    async def on_stop(self) -> None:
        await self.at("stop")


class Live(Thing):
    """Takes another value while it runs, unless that is a negative one."""

    async def on_reload(self, value: Any = 0, **words: Any) -> None:
        diary.append(f"{self.name} {self.value} takes {value}")
        self.value = value
        if isinstance(value, int) and value < 0:
            raise ValueError(f"{value} is negative")


class Pausable(Thing):
    """Can be paused."""

    async def on_pause(self) -> None:
        diary.append(f"{self.name} {self.value} pause")

    async def on_resume(self) -> None:
        diary.append(f"{self.name} {self.value} resume")


class Job(Thing):
    """Ends by itself after `lasts` seconds."""

    async def run(self) -> None:
        await asyncio.sleep(self.words["lasts"])


KINDS = {"thing": Thing, "live": Live, "pausable": Pausable, "job": Job}
POLICY = ("needs", "placement", "start_timeout", "stop_timeout", "drain_timeout", "on_exhausted", "restart")


def make_app(options: TreeOptions) -> Application:
    """Calls nothing but constructors."""
    app = Application("tree")
    for name, words in json.loads(options.services).items():
        policy = {key: words.pop(key) for key in POLICY if key in words}
        app.add(KINDS[words.pop("kind", "thing")](**words), name=name, **policy)
    return app


def environ(**services: dict[str, Any]) -> dict[str, str]:
    """The environment that asks for these services."""
    return {"TREE_SERVICES": json.dumps(services)}


def change(run: Running, **services: dict[str, Any]) -> None:
    """Ask for other services from now on."""
    run.environ.update(environ(**services))


def did(*hooks: str) -> list[str]:
    """What the diary has of these hooks, and forget the rest."""
    found = [line for line in diary if not hooks or line.split()[-1] in hooks]
    diary.clear()
    return found
