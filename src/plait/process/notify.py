"""What systemd is told: sd_notify(3), and the watchdog.

Rules: a message is a datagram to the socket that $NOTIFY_SOCKET names; without it nothing is said. The variables are
taken out of the environment, so that no child speaks in our name. Sending blocks for a second at most, and not again
while nobody takes messages; what cannot be sent is one warning. Systemd is told what it acts on (READY, RELOADING,
STOPPING, MAINPID, the watchdog, more time where a service may take longer than the unit gives), with a status.
The watchdog is fed by a timer of the loop: one that is stuck stops feeding it, as no thread would.
"""

from __future__ import annotations

import array
import asyncio
import logging
import os
import socket
import time
from collections.abc import MutableMapping, Sequence

from plait._kernel.application import Application
from plait._kernel.events import Event, HealthChanged, Listening, ReloadEnded, StateChanged
from plait._kernel.states import READY, State
from plait._kernel.words import error_text

log = logging.getLogger("plait")

SEND_TIMEOUT = 1.0
"""Seconds that a message waits for systemd to have room for it."""
MARGIN = 5.0
"""Seconds more than a service's own deadline that systemd is asked for."""


class Notifier:
    """Speaks to systemd, if that listens: `of` says whether. Values are texts or numbers."""

    def __init__(self, address: str = "", watchdog: float = 0.0, *, keeps: bool = False) -> None:
        self.watchdog = watchdog
        """Seconds within which systemd wants to hear that all is well; 0 where it does not."""
        self.keeps = keeps and bool(address)
        """Whether systemd keeps descriptors for us."""
        self._failed = False
        self._address = "\0" + address[1:] if address.startswith("@") else address

    @classmethod
    def of(cls, environ: MutableMapping[str, str]) -> Notifier:
        """As the environment says; its variables are taken out."""
        address = environ.pop("NOTIFY_SOCKET", "")
        period, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        mine = pid in ("", str(os.getpid()))
        seconds = int(period) / 1e6 if mine and period.isdecimal() else 0.0
        return cls(address, seconds, keeps=environ.pop("FDSTORE", "0") not in ("", "0"))

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._address)

    def send(self, fds: Sequence[int] = (), /, **fields: object) -> None:
        """One message of these fields, in their order, with descriptors for systemd to keep."""
        if not self._address:
            return
        data = "\n".join(f"{name}={_line(value)}" for name, value in fields.items()).encode("utf-8", "replace")
        passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(0.0 if self._failed else SEND_TIMEOUT)
                sock.sendmsg([data], passed, 0, self._address)
            self._failed = False
        except OSError as error:
            if not self._failed:
                self._failed = True
                log.warning("systemd cannot be told of %s: %s", ", ".join(fields), error.strerror or error)


class Notices:
    """Tells systemd of one runner's applications. `begin` and `end` are called on the loop."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._listening: list[str] = []

    def begin(self) -> None:
        """Feed the watchdog from now on."""
        self._stopping = False
        self._listening.clear()
        if self._notifier.watchdog:
            self._feed()

    def _feed(self) -> None:
        """Twice in each period, sd_watchdog_enabled(3)."""
        self._notifier.send(WATCHDOG=1)
        self._timer = asyncio.get_running_loop().call_later(self._notifier.watchdog / 2, self._feed)

    def end(self) -> None:
        """Feed it no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def hear(self, application: Application, event: Event, *, serving: bool) -> None:
        """What happens in one generation; whether that is the one that serves."""
        if not self._notifier.is_heard:
            return
        match event:
            case StateChanged(path="/") if serving:
                self._state(application, event)
            case StateChanged(new=State.STARTING) if event.path != "/":
                self._more_time(application[event.path]._record.policy.start_timeout)
            case Listening() if serving:
                self._listening.append(event.endpoint)
            case HealthChanged(path="/") if serving and not self._stopping:
                self._notifier.send(STATUS=f"{event.new.value}: {event.reason}".rstrip(": "))
            case ReloadEnded():
                self._reloaded(event)
            case _:
                pass

    def _state(self, application: Application, event: StateChanged) -> None:
        if became_ready(event):
            where = f": listening on {', '.join(self._listening)}" if self._listening else ""
            self._notifier.send(READY=1, MAINPID=os.getpid(), STATUS=f"ready{where}")
        elif event.new is State.STOPPING:
            self.stopping(application)
        elif event.new is State.FAILED:
            self._notifier.send(STATUS=f"failed: {error_text(event.error)}" if event.error else "failed")

    def _more_time(self, seconds: float) -> None:
        self._notifier.send(EXTEND_TIMEOUT_USEC=int((seconds + MARGIN) * 1e6))

    def reloading(self) -> None:
        """A reload begins."""
        if not self._stopping:
            self._notifier.send(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000, STATUS="reloading")

    def _reloaded(self, event: ReloadEnded) -> None:
        if self._stopping:
            return
        failed = f"; the last reload failed: {error_text(event.error)}" if event.error is not None else ""
        self._notifier.send(READY=1, STATUS=f"ready, generation {event.generation}{failed}")

    def stopping(self, application: Application) -> None:
        """It was told to stop, or failed."""
        if not self._stopping:
            self._stopping = True
            self._notifier.send(STOPPING=1, STATUS=f"stopping, at most {application.shutdown_timeout:g} s")
            self._more_time(application.shutdown_timeout)


def became_ready(event: Event) -> bool:
    """Whether the application has started; where an operator wants it so, paused."""
    return isinstance(event, StateChanged) and event.path == "/" and event.old is State.STARTING and event.new in READY


def _line(value: object) -> str:
    return " ".join(str(value).splitlines())
