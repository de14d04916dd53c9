"""The sockets that systemd passed to this process, by name: sd_listen_fds_with_names(3).

Rules: several sockets may have one name; one without is called "unknown". A process is passed sockets once, when it
begins: `take` keeps what it was told, and removes that from the environment, and the descriptors from its children,
which would otherwise believe it theirs. Who never calls it is told by the environment each time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, MutableMapping

FIRST = 3
"""The first descriptor that is passed."""

Passed = tuple[tuple[str, int], ...]
"""Names and descriptors, in their order."""

_taken: list[Passed] = []


def passed() -> Passed:
    """What this process was passed."""
    return _taken[0] if _taken else _told(os.environ)


def take(environ: MutableMapping[str, str]) -> None:
    """Keep it for `passed`. Called once, early, by who owns the process."""
    found = _told(environ)
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environ.pop(name, None)
    for _, fd in found:
        with contextlib.suppress(OSError):  # it is not open: who listens there is told
            os.set_inheritable(fd, False)
    _taken[:] = [found]


def _told(environ: Mapping[str, str]) -> Passed:
    count = environ.get("LISTEN_FDS", "") if environ.get("LISTEN_PID") == str(os.getpid()) else ""
    if not count.isdecimal():
        return ()
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    names += [""] * int(count)
    return tuple((names[index] or "unknown", FIRST + index) for index in range(int(count)))
