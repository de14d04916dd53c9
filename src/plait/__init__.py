"""Plait composes network services into one application, and operates it.

Every public name is imported on first use (PEP 562), so that `import plait` costs next to nothing and an
application pays only for what it uses. Servers and clients are in `plait.net`, errors in `plait.errors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait._lazy import importer

if TYPE_CHECKING:
    from plait._kernel import events as events
    from plait._kernel.application import Application as Application
    from plait._kernel.generator import service as service
    from plait._kernel.group import Group as Group
    from plait._kernel.health import Health as Health
    from plait._kernel.health import degraded as degraded
    from plait._kernel.policy import Policy as Policy
    from plait._kernel.service import Service as Service
    from plait._kernel.snapshot import Snapshot as Snapshot
    from plait._kernel.states import Intent as Intent
    from plait._kernel.states import State as State
    from plait.errors import PlaitError as PlaitError
    from plait.options import Duration as Duration
    from plait.options import Meta as Meta
    from plait.options import Options as Options
    from plait.options import Secret as Secret
    from plait.options import Size as Size
    from plait.process.reload import Plan as Plan
    from plait.process.runner import Runner as Runner
    from plait.timers import Cron as Cron
    from plait.timers import Timer as Timer

__version__ = "0.1.0"

_HOMES = {
    "Application": "plait._kernel.application",
    "Cron": "plait.timers",
    "Duration": "plait.options",
    "Group": "plait._kernel.group",
    "Health": "plait._kernel.health",
    "Intent": "plait._kernel.states",
    "Meta": "plait.options",
    "Options": "plait.options",
    "Plan": "plait.process.reload",
    "PlaitError": "plait.errors",
    "Policy": "plait._kernel.policy",
    "Runner": "plait.process.runner",
    "Secret": "plait.options",
    "Service": "plait._kernel.service",
    "Size": "plait.options",
    "Snapshot": "plait._kernel.snapshot",
    "State": "plait._kernel.states",
    "Timer": "plait.timers",
    "degraded": "plait._kernel.health",
    "events": "plait._kernel.events",
    "service": "plait._kernel.generator",
}

__all__ = [*_HOMES, "__version__"]
__getattr__ = importer(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
