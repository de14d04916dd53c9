"""What operators want of the services, kept in a folder, so that a process that is started again comes back as it was.

Rules: one small JSON file an application, `intents-NAME.json`, written anew whenever an intent changes: a command has
returned only when it is on the disk. It holds the intents other than "up", by path. What is wrong with the file is an
error at the start, since starting what an operator has stopped would be worse. A path that is gone is dropped, and
said.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from plait._kernel.application import Application
from plait._kernel.events import Event, IntentChanged, ReloadEnded, ServiceRemoved
from plait._kernel.generations import at, wishes
from plait._kernel.states import Intent
from plait.errors import UsageError

log = logging.getLogger("plait")

VERSION = 1


class Intents:
    """The file of one application in a folder, which is made if it is not there. UsageError if it cannot be used."""

    def __init__(self, folder: str | os.PathLike[str], application: Application) -> None:
        self.path = Path(folder).absolute() / f"intents-{application.name}.json"
        self._kept = self._read()

    def _read(self) -> dict[str, Any]:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            text = self.path.read_text()
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"state of the services: {self.path} cannot be read: {error}") from error
        try:
            return _checked(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"state of the services: {self.path} is not what Plait wrote ({error}); "
                "move it away to start with everything up"
            ) from error

    def apply(self, application: Application) -> None:
        """Give the services of a tree that has not started what was kept of them."""
        for path, kept in self._kept.items():
            record = at(application._record, path)
            if record is None:
                log.warning("service %r was to be %s, and is gone: that is dropped", path, kept["intent"])
            else:
                record.intent, record.pause_mode = Intent(kept["intent"]), kept.get("mode")
                log.info("service %r comes back %s, as an operator left it", path, kept["intent"])

    def keep(self, application: Application) -> None:
        """Write down what is wanted now, if it is other than what was written last."""
        wanted = {path: _entry(*wish) for path, wish in wishes(application._root_engine).items()}
        if wanted == self._kept:
            return
        try:
            self._write({"version": VERSION, "application": application.name, "intents": wanted})
            self._kept = wanted
        except OSError as error:
            log.error("what operators want of the services cannot be written to %s: %s", self.path, error)

    def _write(self, content: dict[str, Any]) -> None:
        new = self.path.with_suffix(".new")
        with open(new, "w") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.path)
        with suppress(OSError):  # not every file system can
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def may_change(event: Event) -> bool:
    """Whether this event may have changed what is to be kept."""
    return isinstance(event, (IntentChanged, ServiceRemoved, ReloadEnded))


def _entry(intent: Intent, mode: str | None) -> dict[str, Any]:
    return {"intent": intent.value, **({"mode": mode} if mode else {})}


def _checked(content: Any) -> dict[str, Any]:
    if content["version"] != VERSION:
        raise ValueError(f"version {content['version']!r}")
    for path, kept in content["intents"].items():
        Intent(kept["intent"])
        if not isinstance(kept.get("mode"), (str, type(None))):
            raise TypeError(f"the mode of {path!r} is no text")
    found: dict[str, Any] = content["intents"]
    return found
