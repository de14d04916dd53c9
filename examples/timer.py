"""A timer: calls a function again and again, without drift, one call at a time.

    plait run examples/timer.py

What the function raises is the failure of the service, never a timer that silently stopped.
"""

from __future__ import annotations

import logging
import shutil

from plait import Application, Timer

log = logging.getLogger("example")


def look_at_disk() -> None:
    """A coroutine function would do as well."""
    usage = shutil.disk_usage("/")
    log.info("%d%% of the disk is free", 100 * usage.free // usage.total)


def make_app() -> Application:
    """Every 2 seconds, and once at the start."""
    app = Application("disk")
    app.add(Timer(2.0, look_at_disk, at_start=True), name="look")
    return app
