"""The main of `task.react`, where a file that calls it is a target of Plait's: the one service of an application.

Rules: it is called once the reactor is up. When it is done the application ends; what it fails of, that fails of.
`reactor.stop()` stops it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from plait._kernel.application import Application
from plait._kernel.service import Service
from plait.classic import _host
from plait.classic._waiting import settled
from plait.classic.internet._default import default_reactor


class Main(Service):
    """`main(reactor, *argv)`, for as long as that takes."""

    def __init__(self, main: Callable[..., Any], argv: tuple[object, ...]) -> None:
        self._main = main
        self._argv = argv

    async def on_start(self) -> None:
        await _host.attach(self._record.top.service)

    async def run(self) -> None:
        await settled(self._main(default_reactor(), *self._argv))


def application(main: Callable[..., Any], argv: tuple[object, ...]) -> Application:
    """What Plait serves in place of a reactor that runs for as long as `main` takes."""
    app = Application("react")
    app.add(Main(main, argv), name="main", restart="never", significant=True)
    return app
