"""What operators can tell a running application over its control socket.

Rules: a socket that cannot be had is one warning, never a failed start. Whoever gives a command hears of its end:
`stop` is answered when the application has stopped, with what the process will exit with, `reload` when the next
generation serves, or has failed. Who goes away meanwhile takes nothing back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from plait.control.server import Call, Server
from plait.errors import CommandFailed, ControlError, LifecycleError, ReloadFailed
from plait.process.exits import OK, exit_code, summary
from plait.process.reload import Plan

log = logging.getLogger("plait")


class Controlled:
    """The control socket of one runner.

    `reload` does one, as its argument says a dry one; `waits_for` says in words what that would wait for. `stop` begins
    the stop of the application, and gives the seconds that this may take.
    """

    def __init__(
        self,
        folder: Path,
        *,
        reload: Callable[[bool], Awaitable[Plan]],
        waits_for: Callable[[], str],
        stop: Callable[[], float],
    ) -> None:
        self._folder = folder
        self._reload_it = reload
        self._waits_for = waits_for
        self._stop_it = stop
        self._server = Server({"reload": self._reload, "stop": self._stop})
        self._stop_within: float | None = None
        self._ended: asyncio.Future[dict[str, Any]] | None = None
        self.rename = self._server.rename
        self.unlink = self._server.unlink

    async def open(self, name: str) -> None:
        """Listen, if that can be."""
        self._ended = asyncio.get_running_loop().create_future()
        try:
            await self._server.open(self._folder, name)
        except (OSError, ControlError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            log.warning("no control socket: %s; plait stop and plait reload will not find this application", why)

    async def close(self, error: BaseException | None, left_behind: list[str]) -> None:
        """The application has ended, of this error; whoever waits for that is told."""
        if self._ended is not None:
            stopped = error is None or isinstance(error, asyncio.CancelledError)
            self._ended.set_result(
                {
                    "code": OK if stopped or error is None else exit_code(error),
                    "text": "" if stopped or error is None else summary(error),
                    "left_behind": left_behind,
                }
            )
        await self._server.close()

    async def _stop(self, call: Call) -> dict[str, Any]:
        assert self._ended is not None
        if self._stop_within is None:
            log.info("control: %s says stop", call.peer)
            self._stop_within = self._stop_it()
        call.say("stopping", within=self._stop_within)
        return await asyncio.shield(self._ended)

    async def _reload(self, call: Call) -> dict[str, Any]:
        dry_run = call.arguments.get("dry_run") is True
        if not dry_run:
            log.info("control: %s says reload", call.peer)
            if other := self._waits_for():
                call.say(f"waiting for the end of {other}")
        try:
            plan = await self._reload_it(dry_run)
        except ReloadFailed as error:
            raise CommandFailed(str(error), exit_code(error.__cause__ or error)) from error
        except LifecycleError as error:
            raise CommandFailed(str(error)) from error
        return {"kind": plan.kind, "changes": plan.changes, "text": str(plan)}
