"""What `reactor.run()` is about, apart from the loop.

Rules: called in a file that is being loaded as a target of Plait's, it is noted, and returns at once. Run by itself, it
raises at its end what an application failed of that it served.
"""

from __future__ import annotations

import sys

from plait.errors import UsageError
from plait.plugins import lookup

failed: list[Exception] = []
"""What applications have failed of; see `_host`."""


def note(what: str = "reactor.run()") -> bool:
    """Whether it was called in a file that is being loaded as a target, which is noted."""
    loading = lookup.loading
    if loading is None:
        return False
    if not loading.asked_to_run:
        frame = sys._getframe(2)
        loading.asked_to_run = f"line {frame.f_lineno} of {frame.f_code.co_filename} calls {what}"
    return True


def end() -> None:
    """It is over. An application that could not be served as it wanted ends the program with code 2."""
    causes = failed[:]
    failed.clear()
    if not causes:
        return
    if isinstance(causes[0], UsageError):
        sys.stderr.write("".join(f"plait: error: {line}\n" for line in str(causes[0]).splitlines()))
        raise SystemExit(2)
    raise causes[0]
