"""Programs of plait.classic as targets: a .tac, and a file that calls `reactor.run()` itself.

Rules: a .tac has an `application`. Of a file that asked to run the reactor Plait serves what that would have served:
its make_app, app or application, else the application that has seen `setService`, else an empty one, until
`reactor.stop()`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from plait._kernel.service import makes_service
from plait.classic.application import service
from plait.classic.persisted import sob
from plait.errors import UsageError
from plait.plugins.lookup import DEFAULT_ATTRIBUTES, Loading

log = logging.getLogger("plait.classic")


def factory_of(path: Path) -> Callable[[], object]:
    """What runs this .tac and gives its application."""

    def application() -> object:
        try:
            return sob.loadValueFromFile(path, "application")
        except KeyError as error:
            if error.args != ("application",):
                raise
            raise UsageError(f"{str(path)!r} has no `application`; name it so: Plait serves that") from None

    return application


def application_of(asked: tuple[ModuleType, Loading]) -> object:
    """What a module that called `reactor.run()` would have served, which is said."""
    module, loading = asked
    for name in DEFAULT_ATTRIBUTES:
        thing = getattr(module, name, None)
        if makes_service(type(thing)):
            return _said(loading, thing, name)
    for application in loading.applications:
        return _said(loading, application, application.name)
    empty = service.Application(module.__name__.rpartition(".")[2])
    log.info("%s: Plait runs the loop instead, until reactor.stop()", loading.asked_to_run)
    return empty


def _said(loading: Loading, thing: object, name: str) -> object:
    shown = getattr(thing, "name", None) or name
    log.info("%s: Plait runs the loop instead, and serves %r", loading.asked_to_run, shown)
    return thing
