"""`@service`: a service as one function. Up to the yield it starts, after it, it stops.

    plait run examples/service_generator.py

`scratch` makes a folder and removes it at the end; `notes`, which is given `scratch`, keeps a file in it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

from plait import Application, service

log = logging.getLogger("example")


@service
async def scratch(prefix: str) -> AsyncIterator[Path]:
    """A folder that lives as long as the service; what is yielded is the service's `value`."""
    with TemporaryDirectory(prefix=prefix) as folder:
        log.info("made %s", folder)
        yield Path(folder)
    log.info("removed %s", folder)


def make_app() -> Application:
    """A function made by `@service` is called like a class, and gives a service."""
    app = Application("scratch")
    folder = app.add(scratch("plait-"), name="scratch")

    @service
    async def notes() -> AsyncIterator[None]:
        path = folder.value / "notes"
        path.write_text("started\n")
        yield
        log.info("%s holds %d bytes", path, path.stat().st_size)

    app.add(notes(), name="notes", needs=[folder])
    return app
