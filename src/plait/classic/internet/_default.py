"""The reactor, for those who were given none.

Rules: it is looked up when it is first needed, by its name: what the reactor itself is made of uses this too, and
must not import it, and a program may have installed another one before.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from plait.classic import internet


def default_reactor() -> Any:
    """What `from plait.classic.internet import reactor` gives."""
    return vars(internet).get("reactor") or import_module("plait.classic.internet.reactor")
