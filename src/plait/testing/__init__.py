"""What tests of services and applications need. Each name is imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait._lazy import importer

if TYPE_CHECKING:
    from plait.testing.applications import Running as Running
    from plait.testing.applications import running as running
    from plait.testing.faults import Fault as Fault
    from plait.testing.faults import Faults as Faults
    from plait.testing.leaks import no_leaks as no_leaks
    from plait.testing.recorder import Recorder as Recorder
    from plait.testing.runs import run as run
    from plait.testing.virtual import VirtualLoop as VirtualLoop
    from plait.testing.virtual import advance as advance
    from plait.testing.virtual import settle as settle

_HOMES = {
    "Fault": "plait.testing.faults",
    "Faults": "plait.testing.faults",
    "Recorder": "plait.testing.recorder",
    "Running": "plait.testing.applications",
    "VirtualLoop": "plait.testing.virtual",
    "advance": "plait.testing.virtual",
    "no_leaks": "plait.testing.leaks",
    "run": "plait.testing.runs",
    "running": "plait.testing.applications",
    "settle": "plait.testing.virtual",
}

__all__ = list(_HOMES)
__getattr__ = importer(__name__, _HOMES)
