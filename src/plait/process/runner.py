"""Runner: from a target to a running application, and to the end of it.

Rules: a runner owns its target, the options it was given, and the application made of them. `load`, `resolve` and
`build` touch nothing but memory and the files they read; `serve` runs the application on the caller's loop and
leaves signals alone; `run` owns the process while it lasts: it makes a loop, hears signals, says what goes on, and
gives everything back.

    target ──load──→ Target ──resolve──→ options ──build──→ Application ──serve──→ events ──→ log
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from plait._kernel.application import Application
from plait._kernel.graph import check
from plait._kernel.service import Service
from plait._kernel.states import AT_REST
from plait.errors import InvalidTree, LifecycleError, StopFailed, UsageError
from plait.observe.eventlog import EventLog
from plait.observe.logs import Logs, LogSetup
from plait.options.resolving import Resolved
from plait.options.sources import Inputs
from plait.plugins.factory import factory_of
from plait.plugins.target import Target, load
from plait.process import loops
from plait.process.exits import OK, TOLD, exit_code, lines_of, summary
from plait.process.signals import STOPPING, Interrupted, Watchdog

log = logging.getLogger("plait")

REGISTRY = "plait.net.sockets"
"""The module of listening sockets; an application that has none never imports it."""


class Runner:
    """Runs a target: for the command line, for a test, for another program.

    `target` is a text as `plait run` takes it, or a service, or a factory of one. `argv`, `environ`, `config`,
    `env_file` and `sets` are where its options come from. `loop` is "uvloop" or "asyncio". With `logs`, `run` sets up
    logging and puts it back at its end; without, records go where the program has them go.
    """

    def __init__(
        self,
        target: str | Service | Callable[..., object],
        argv: Sequence[str] = (),
        *,
        environ: Mapping[str, str] | None = None,
        config: str | os.PathLike[str] | None = None,
        env_file: str | os.PathLike[str] | None = None,
        sets: Sequence[str] = (),
        runner_flags: Collection[str] = (),
        loop: str = "uvloop",
        logs: Logs | None = None,
    ) -> None:
        if loop not in loops.LOOPS:
            raise UsageError(f"loop {loop!r} is none of {', '.join(loops.LOOPS)}")
        environ = os.environ if environ is None else environ
        self._named = target
        self._inputs = Inputs(argv, environ, config, env_file, sets, runner_flags)
        self._loop = loop
        self._logs = logs
        self._target: Target | None = None
        self._resolved: Resolved | None = None
        self._application: Application | None = None
        self._since = time.monotonic()
        self._left: list[str] = []
        self._registry: Any = None
        self._stopping: asyncio.Task[None] | None = None
        self._reopen: Callable[[], None] = _no_log_file
        self._has_log = False

    # -- making it ---------------------------------------------------------------------------------------------------

    def load(self) -> Target:
        """The target, its module imported; the same one each time. TargetNotFound, TargetFailed or UsageError."""
        if self._target is None:
            named = self._named
            self._target = load(named) if isinstance(named, str) else _target_of(named)
        return self._target

    def resolve(self) -> Resolved:
        """The options, read anew. OptionsError with everything that is wrong with them."""
        self._resolved = self.load().resolve(self._inputs)
        return self._resolved

    @property
    def options(self) -> Resolved:
        """The options, with the source of each; read when first asked for."""
        return self._resolved or self.resolve()

    def starting_file(self, format: str) -> str:
        """A file to start from, with the values in force: "toml", "json" or "env". UsageError, OptionsError."""
        return self.load().starting_file(format, self._inputs)

    def build(self) -> Application:
        """The application, made of the options in force. UsageError, InvalidTree or TargetFailed."""
        self._application = self.load().build(self.options.options)
        return self._application

    def check(self) -> Application:
        """The application, built and found fit to start; nothing was touched. InvalidTree, or what `build` raises."""
        application = self.build()
        if not tuple(application):
            raise InvalidTree(f"application {application.name!r} has no services; add one")
        check(application._record)
        return application

    @property
    def application(self) -> Application:
        """The one that was built last. LifecycleError before `build`."""
        if self._application is None:
            raise LifecycleError("the runner has built no application yet; call build(), serve() or run()")
        return self._application

    @property
    def left_behind(self) -> tuple[str, ...]:
        """What would not end in the last `run`; a process that must end now has to call `os._exit`."""
        return tuple(self._left)

    # -- running it --------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Build the application, unless that was done, and run it on this loop until it ends; say so in the log.

        Raises what `build` and `Application.serve` raise. Cancelling it stops the application in order. Signals,
        and the setting up of logs, are the caller's.
        """
        application = self._application or self.build()
        for note in self.options.notes:
            log.warning("%s", note)
        self._share_sockets(application)
        unsubscribe = application.subscribe(EventLog(application, since=self._since))
        try:
            await application.serve()
        finally:
            unsubscribe()

    def run(self) -> int:
        """Run it on a loop of its own until it ends; the exit code for the process.

        0 stopped on request, or finished; 2, 3 and 70 for what went wrong, which was said by then. In the main
        thread TERM and INT stop it, and a second one ends the process; so does a stop that takes too long.
        """
        self._since = time.monotonic()
        self._left.clear()
        with contextlib.ExitStack() as stack:
            try:
                if self._logs is not None:
                    setup = LogSetup(self._logs, self._inputs.environ)
                    stack.callback(setup.close)
                    stack.callback(self._forget_log)
                    self._reopen, self._has_log = setup.reopen, True
                return self._run(stack)
            except Interrupted:
                log.info("stopped before it had started")
                return OK
            except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever it was is told, and becomes a code
                self._tell(error)
                return exit_code(error)

    def _run(self, stack: contextlib.ExitStack) -> int:
        watchdog: Watchdog | None = None
        if threading.current_thread() is threading.main_thread():
            watchdog = Watchdog()
            stack.callback(watchdog.close)
        with watchdog.interruptible() if watchdog is not None else contextlib.nullcontext():
            application = self.build()
        try:
            loops.run(self._loop, lambda: self._main(application, watchdog), self._left)
        finally:
            if watchdog is not None:
                watchdog.unlooped()
            if self._left:
                log.warning("left behind: %s", ", ".join(self._left))
        log.info("application %r %s after %s", application.name, self._ending(watchdog), _period(self._since))
        return OK

    async def _main(self, application: Application, watchdog: Watchdog | None) -> None:
        if watchdog is not None:
            watchdog.timeout = application.shutdown_timeout
            watchdog.still_there = lambda: _still_there(application)
            watchdog.last_rites.append(lambda: self._remove_sockets(application))
            watchdog.attach(self._on_signal)
        try:
            await self.serve()
        finally:
            self._left += application.left_behind
            if watchdog is not None:
                watchdog.detach()
            if self._stopping is not None:
                await asyncio.wait([self._stopping])

    def _ending(self, watchdog: Watchdog | None) -> str:
        asked = self._stopping is not None or (watchdog is not None and watchdog.stop_asked is not None)
        return "stopped" if asked else "finished"

    # -- signals -----------------------------------------------------------------------------------------------------

    def _on_signal(self, one: signal.Signals) -> None:
        if one in STOPPING:
            self._stop(one.name)
        elif one is signal.SIGUSR1:
            self._reopen()
        else:
            log.warning("%s: %s", one.name, _UNANSWERED.get(one.name, "not known; nothing changes"))

    def _stop(self, why: str) -> None:
        log.info("%s: stopping; at most %g s", why, self.application.shutdown_timeout)
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(_stop(self.application), name="plait stop")

    # -- sockets -----------------------------------------------------------------------------------------------------

    def _share_sockets(self, application: Application) -> None:
        """One registry for all that this runner makes, so that the next generation finds the sockets of this one."""
        net = sys.modules.get(REGISTRY)
        if net is not None:
            self._registry = self._registry or net.Registry()
            application.provide(net.Registry, self._registry)

    def _remove_sockets(self, application: Application) -> None:
        """A forced end: the files of unix sockets go with the process."""
        net = sys.modules.get(REGISTRY)
        if net is not None:
            application.resource(net.Registry).unlink_all()

    def _forget_log(self) -> None:
        self._reopen, self._has_log = _no_log_file, False

    # -- what is said ------------------------------------------------------------------------------------------------

    def _tell(self, error: BaseException) -> None:
        """On stderr what concerns who typed the command or wrote the code, in the log what happened to services."""
        told = isinstance(error, TOLD)
        log_is_elsewhere = self._logs is not None and self._logs.file is not None and self._has_log
        if not told or log_is_elsewhere:
            known = told or isinstance(error, ExceptionGroup)  # each failure was logged where it happened
            log.critical("%s", summary(error), exc_info=None if known else error)
        if told or log_is_elsewhere:
            _to_stderr(lines_of(error, full=log.isEnabledFor(logging.DEBUG)))


def _target_of(thing: Service | Callable[..., object]) -> Target:
    name = thing.name if isinstance(thing, Service) else getattr(thing, "__qualname__", type(thing).__name__)
    return Target(name, name, factory_of(thing, repr(name)))


async def _stop(application: Application) -> None:
    with contextlib.suppress(StopFailed):  # serve() raises it
        await application.stop()


_NOT_YET = "this version of Plait does not do that yet; nothing changes"
_UNANSWERED = {
    "SIGHUP": f"reload: {_NOT_YET}",
    "SIGUSR2": f"upgrade: {_NOT_YET}",
    "SIGTTIN": f"one more worker: {_NOT_YET}",
    "SIGTTOU": f"one worker less: {_NOT_YET}",
}


def _no_log_file() -> None:
    log.info("SIGUSR1: the runner has opened no log file; nothing changes")


def _still_there(application: Application) -> str:
    """Who has not stopped, in words; read from another thread, for a last message."""
    there = [
        f"service {service.path!r} is {service.state.value}"
        for service in application.snapshot().walk()
        if service.state not in AT_REST and not service.services
    ]
    return ", ".join(there) or "every service had stopped"


def _to_stderr(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


def _period(since: float) -> str:
    seconds = time.monotonic() - since
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = seconds // 60 % 60, seconds // 3600
    return f"{hours:.0f} h {minutes:.0f} min" if hours else f"{minutes:.0f} min {seconds % 60:.0f} s"
