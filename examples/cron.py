"""Cron: calls a function at the times of a cron expression, in a time zone; daylight saving is seen to.

    plait run examples/cron.py

With six fields the first is seconds, so that this one need not be waited for.
"""

from __future__ import annotations

import logging

from plait import Application, Cron

log = logging.getLogger("example")


async def report() -> None:
    """Called at each of the times."""
    log.info("reporting")


def make_app() -> Application:
    """Two of them; the second is for those who wait."""
    app = Application("reports")
    app.add(Cron("30 6 * * MON-FRI", report, tz="Europe/Berlin"), name="workdays")
    app.add(Cron("*/5 * * * * *", report), name="often")
    return app
