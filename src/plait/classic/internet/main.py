"""The two reasons for which most connections end, and what remains of installing a reactor."""

from __future__ import annotations

import sys
from typing import Any

from plait.classic import internet
from plait.classic.internet import error

CONNECTION_DONE = error.ConnectionDone("Connection done")
CONNECTION_LOST = error.ConnectionLost("Connection lost")


def installReactor(reactor: Any = None) -> None:
    """Make this object what `from plait.classic.internet import reactor` gives.

    `ReactorAlreadyInstalledError` if that has been imported: a process has one, and it is there from then on.
    """
    if hasattr(internet, "reactor"):
        raise error.ReactorAlreadyInstalledError("reactor already installed")
    sys.modules[f"{internet.__name__}.reactor"] = reactor
    internet.reactor = reactor  # type: ignore[attr-defined]


__all__ = ["CONNECTION_DONE", "CONNECTION_LOST", "installReactor"]
