"""Runner: from a target to a running application, and to the end of it.

Rules: a runner owns its target, the options it was given, and the application made of them. `load`, `resolve` and
`build` touch nothing but memory and the files they read; `serve` runs the application on the caller's loop and
leaves signals alone; `run` owns the process while it lasts: it makes a loop, hears signals, says what goes on, and
gives everything back.

    target ──load──→ Target ──resolve──→ options ──build──→ Application ──serve──→ events ──→ log
                               ↑                                            │
                               └──────────── reload: a next generation ─────┘
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
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from plait._kernel.application import Application
from plait._kernel.events import Event, Sink
from plait._kernel.graph import check
from plait._kernel.live import take_live
from plait._kernel.service import Service
from plait._kernel.states import AT_REST
from plait.errors import InvalidTree, LifecycleError, PlaitError, ReloadFailed, ServiceCancelled, UsageError
from plait.observe.eventlog import EventLog
from plait.observe.logs import Logs, LogSetup
from plait.options.resolving import Resolved
from plait.options.sources import Inputs
from plait.plugins.factory import factory_of
from plait.plugins.target import Target, load
from plait.process import loops
from plait.process.controlled import Controlled
from plait.process.exits import FAILED, OK, TOLD, exit_code, lines_of, summary
from plait.process.generations import Generations
from plait.process.intents import Intents, may_change
from plait.process.notify import Notices, Notifier, became_ready
from plait.process.reload import Plan, Reading, Reloads, read
from plait.process.signals import STOPPING, Interrupted, Watchdog
from plait.process.store import Store

log = logging.getLogger("plait")

REGISTRY = "plait.net.sockets"
"""The module of listening sockets; an application that has none never imports it."""


class Runner:
    """Runs a target: for the command line, for a test, for another program.

    `target` is a text as `plait run` takes it, or a service, or a factory of one. `argv`, `environ`, `config`,
    `env_file` and `sets` are where its options come from. `loop` is "uvloop" or "asyncio". With `logs`, `run` sets up
    logging and puts it back at its end; without, records go where the program has them go; a function that gives them
    is called again by each reload. `state_dir` is a folder that keeps what operators want of the services. `notifier`
    is how systemd hears of it all, and keeps the listening sockets. `runtime_dir` is a folder for a control socket, by
    which operators find the application; without, it has none.
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
        logs: Logs | Callable[[], Logs] | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        notifier: Notifier | None = None,
        runtime_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if loop not in loops.LOOPS:
            raise UsageError(f"loop {loop!r} is none of {', '.join(loops.LOOPS)}")
        environ = os.environ if environ is None else environ
        self._named = target
        self._inputs = Inputs(argv, environ, config, env_file, sets, runner_flags)
        self._loop = loop
        self._settle: Callable[[], Logs | None] = logs if callable(logs) else lambda: logs
        self._logs = self._settle()
        self._state_dir = state_dir
        self._notifier = notifier or Notifier()
        self._notices = Notices(self._notifier)
        self._store: Store | None = None
        self._runtime_dir = runtime_dir
        self._controlled: Controlled | None = None
        self._watchdog: Watchdog | None = None
        self._target: Target | None = None
        self._resolved: Resolved | None = None
        self._application: Application | None = None
        self.on_crash: Callable[[str, BaseException | None], None] = _unreported
        """Called when the process ends as nobody wanted, exit code 70: with what happened, and the error."""
        self._since = time.monotonic()
        self._left: list[str] = []
        self._registry: Any = None
        self._stop_asked = False
        self._log_setup: LogSetup | None = None
        self._intents: Intents | None = None
        self._sinks: list[Sink] = []
        self._generations: Generations | None = None
        self._reloads = Reloads(self._reload_once)
        self._on_next: Callable[[Application], None] = _nothing
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- making it ---------------------------------------------------------------------------------------------------

    def load(self) -> Target:
        """The target, its module imported; the same one each time. TargetNotFound, TargetFailed or UsageError."""
        if self._target is None:
            named = self._named
            self._target = load(named, inputs=self._inputs) if isinstance(named, str) else _target_of(named)
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
        if not tuple(application) and not application._may_be_empty:
            raise InvalidTree(f"application {application.name!r} has no services; add one")
        check(application._record)
        return application

    @property
    def application(self) -> Application:
        """The one that serves; before that, the one that was built last. LifecycleError before `build`."""
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
        if self._state_dir is not None:
            self._intents = Intents(self._state_dir, application)
            self._intents.apply(application)
        self._generations = Generations(application, self._prepare, self._sinks)
        self._notices.begin()
        if self._runtime_dir is not None:
            self._controlled = self._control_in(self._runtime_dir)
            await self._controlled.open(application.name)
        failure: BaseException | None = None
        try:
            await self._generations.serve()
        except BaseException as error:
            failure = error
            raise
        finally:
            self._notices.end()
            await self._reloads.settled()
            left = self._generations.left_behind
            self._left += left
            self._generations = None
            if self._controlled is not None:
                await self._controlled.close(failure, left)
                self._controlled = None
            if self._tasks:
                await asyncio.wait(self._tasks)

    def _control_in(self, folder: str | os.PathLike[str]) -> Controlled:
        return Controlled(
            Path(folder),
            reload=lambda dry_run: self.reload(dry_run=dry_run),
            waits_for=self._reload_waits_for,
            stop=self._stop_as_told,
        )

    def _stop_as_told(self) -> float:
        """Begin it, by the signal where the watchdog sees to its end; the seconds it may take."""
        if self._watchdog is None:
            self._do(self.stop())
        elif self._watchdog.stop_asked is None:  # a second signal would force it
            signal.raise_signal(signal.SIGTERM)
        return self.application.shutdown_timeout

    def _reload_waits_for(self) -> str:
        if self._reloads.is_busy:
            return "the reload under way"
        return self._generations.unsettled if self._generations is not None else ""

    def _prepare(self, application: Application) -> tuple[Sink, ...]:
        """Each generation, before it starts."""
        self._share_sockets(application)
        is_first = application is self._application
        log_of_it = EventLog(application, since=self._since if is_first else None)
        return log_of_it, self._keep_intents, partial(self._notify, application)

    def _notify(self, application: Application, event: Event) -> None:
        serving = self._generations is not None and self._generations.serving is application
        self._notices.hear(application, event, serving=serving)
        if serving and self._store is not None and became_ready(event):
            self._store.drop_strangers()

    def _keep_intents(self, event: Event) -> None:
        if self._intents is not None and may_change(event):
            self._intents.keep(self.application)

    async def stop(self) -> None:
        """Stop the application in order, as SIGTERM does; return when it has stopped. `serve` tells what went wrong."""
        if self._generations is not None:
            self._notices.stopping(self._generations.serving)
            await self._generations.stop()

    def subscribe(self, sink: Sink) -> Callable[[], None]:
        """Call `sink` with the events of every generation, first the present state; the result unsubscribes it."""
        self._sinks.append(sink)
        for application in self._generations.present if self._generations is not None else ():
            application.subscribe(sink)
        return lambda: self._unsubscribe(sink)

    def _unsubscribe(self, sink: Sink) -> None:
        self._sinks[:] = [other for other in self._sinks if other is not sink]
        for application in self._generations.present if self._generations is not None else ():
            application._root_engine.bus.unsubscribe(sink)

    # -- reloading it ------------------------------------------------------------------------------------------------

    async def reload(self, *, dry_run: bool = False) -> Plan:
        """Read the options anew, and have the application follow them without interruption; what was done.

        If nothing is different, nothing happens. If running services can take it, they are given their arguments;
        else a new generation starts beside the present one, on the same sockets, and takes over when it is ready.
        ReloadFailed if anything is wrong, the cause chained: everything is as it was then. With `dry_run` only the plan
        is made. Calls during a reload become one, which follows it; cancelling a caller ends only its wait.
        LifecycleError if it is not being served.
        """
        self._serving()
        if dry_run:
            return self._failing_as_reload(self._read_anew).plan
        return await self._reloads.ask()

    def _serving(self) -> Generations:
        if self._generations is None or self._generations.is_stopping:
            raise LifecycleError("the runner serves nothing that could be reloaded; that is from serve() to its stop")
        return self._generations

    def _read_anew(self) -> Reading:
        return read(self.load(), self._inputs, self.options, self.application, (self._logs, self._settle()))

    async def _reload_once(self) -> Plan:
        generations = self._serving()
        await generations.settled()  # at most two at a time
        generations = self._serving()
        self._notices.reloading()
        changes: tuple[str, ...] = ()
        try:
            reading = self._read_anew()
            changes = reading.plan.changes
            changes += await self._follow(generations, reading)
        except Exception as error:  # whatever it was, it is told, and everything is as it was
            failed = ReloadFailed(f"reload failed, everything goes on as before: {summary(error)}")
            generations.tell(outcome="failed", changes=changes, error=error)
            raise failed from error
        self._take_logs(reading.logs)
        self._resolved = reading.resolved
        generations.tell(outcome=reading.plan.kind, changes=changes)
        return reading.plan

    async def _follow(self, generations: Generations, reading: Reading) -> tuple[str, ...]:
        """Do what was planned; what else is to be said of it."""
        if reading.application is None or not reading.found:
            return ()
        if reading.plan.kind == "live":
            await take_live(self.application._root_engine, reading.found)
            return ()
        dropped = await generations.switch(reading.application)
        self._application = reading.application
        self._on_next(reading.application)
        if self._controlled is not None:
            self._controlled.rename(reading.application.name)
        return tuple(f"service {path!r} is gone, and with it what an operator wanted of it" for path in dropped)

    def _failing_as_reload(self, read: Callable[[], Reading]) -> Reading:
        try:
            return read()
        except PlaitError as error:
            raise ReloadFailed(f"a reload would fail: {summary(error)}") from error

    def _take_logs(self, logs: Logs | None) -> None:
        if self._log_setup is not None and logs is not None:
            self._log_setup.change(logs)
        self._logs = logs

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
                    self._log_setup = setup
                return self._run(stack)
            except Interrupted:
                log.info("stopped before it had started")
                return OK
            except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever it was is told, and becomes a code
                self._tell(error)
                code = exit_code(error)
                if code == FAILED:
                    self.on_crash(summary(error), error)
                return code

    def _run(self, stack: contextlib.ExitStack) -> int:
        watchdog: Watchdog | None = None
        if threading.current_thread() is threading.main_thread():
            watchdog = Watchdog()
            stack.callback(watchdog.close)
        with watchdog.interruptible() if watchdog is not None else contextlib.nullcontext():
            application = self.build()
        try:
            loops.run(self._loop, lambda: self._main(application, watchdog), self._left)
        except asyncio.CancelledError as error:
            raise ServiceCancelled(
                f"the task that serves application {application.name!r} was cancelled, but not by Plait; find who "
                "calls cancel() on all tasks, and call application.stop() instead"
            ) from error
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
            self._on_next = partial(_watch_over, watchdog)
            watchdog.still_there = self._still_there
            watchdog.last_rites.append(self._remove_sockets)
            watchdog.on_overdue = lambda text: self.on_crash(text, None)
            self._watchdog = watchdog
            watchdog.attach(self._on_signal)
        try:
            await self.serve()
        finally:
            if watchdog is not None:
                watchdog.detach()
                self._watchdog = None
            if self._tasks:
                await asyncio.wait(self._tasks)

    def _ending(self, watchdog: Watchdog | None) -> str:
        asked = self._stop_asked or (watchdog is not None and watchdog.stop_asked is not None)
        return "stopped" if asked else "finished"

    # -- signals -----------------------------------------------------------------------------------------------------

    def _on_signal(self, one: signal.Signals) -> None:
        if one in STOPPING:
            log.info("%s: stopping; at most %g s", one.name, self.application.shutdown_timeout)
            if not self._stop_asked:
                self._stop_asked = True
                self._do(self.stop())
        elif one.name == "SIGHUP":
            log.info("SIGHUP: reloading")
            self._do(self._reload_as_asked())
        elif one is signal.SIGUSR1:
            self._reopen_log()
        else:
            log.warning("%s: %s", one.name, _UNANSWERED.get(one.name, "not known; nothing changes"))

    def _do(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="plait signal")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload_as_asked(self) -> None:
        try:
            await self.reload()
        except ReloadFailed:
            pass  # an event has told of it
        except LifecycleError as error:
            log.warning("SIGHUP: %s", error)

    def _reopen_log(self) -> None:
        if self._log_setup is None:
            log.info("SIGUSR1: the runner has opened no log file; nothing changes")
        else:
            self._log_setup.reopen()

    def streams_to_log(self) -> None:
        """From now on stdout and stderr go where the log goes, for a daemon, which has nobody who looks at them."""
        if self._log_setup is not None:
            self._log_setup.take_streams()

    # -- sockets -----------------------------------------------------------------------------------------------------

    def _share_sockets(self, application: Application) -> None:
        """One registry for all that this runner makes, so that the next generation finds the sockets of this one."""
        net = sys.modules.get(REGISTRY)
        if net is not None:
            if self._registry is None:
                self._store = Store(self._notifier) if self._notifier.keeps else None
                self._registry = net.Registry(self._store)
            application.provide(net.Registry, self._registry)

    def _remove_sockets(self) -> None:
        """A forced end: the files of unix sockets go with the process."""
        if self._controlled is not None:
            self._controlled.unlink()
        if self._registry is not None:
            self._registry.unlink_all()

    def _forget_log(self) -> None:
        self._log_setup = None

    def _still_there(self) -> str:
        """Who has not stopped, in words; read from another thread, for a last message."""
        generations = self._generations
        present = generations.present if generations is not None else ()
        there = [
            f"service {service.path!r} is {service.state.value}"
            for application in present
            for service in application.snapshot().walk()
            if service.state not in AT_REST and not service.services
        ]
        return ", ".join(there) or "every service had stopped"

    # -- what is said ------------------------------------------------------------------------------------------------

    def _tell(self, error: BaseException) -> None:
        """On stderr what concerns who typed the command or wrote the code, in the log what happened to services."""
        told = isinstance(error, TOLD)
        log_is_elsewhere = self._logs is not None and self._logs.is_elsewhere and self._log_setup is not None
        if not told or log_is_elsewhere:
            known = told or isinstance(error, ExceptionGroup)  # each failure was logged where it happened
            log.critical("%s", summary(error), exc_info=None if known else error)
        if told or log_is_elsewhere:
            _to_stderr(lines_of(error, full=log.isEnabledFor(logging.DEBUG)))


def _target_of(thing: Service | Callable[..., object]) -> Target:
    name = thing.name if isinstance(thing, Service) else getattr(thing, "__qualname__", type(thing).__name__)
    return Target(name, name, factory_of(thing, repr(name)))


def _watch_over(watchdog: Watchdog, application: Application) -> None:
    """The next generation has its own time to stop."""
    watchdog.timeout = application.shutdown_timeout


def _nothing(_: Application) -> None:
    pass


def _unreported(_text: str, _error: BaseException | None) -> None:
    pass


_NOT_YET = "this version of Plait does not do that yet; nothing changes"
_UNANSWERED = {
    "SIGUSR2": f"upgrade: {_NOT_YET}",
    "SIGTTIN": f"one more worker: {_NOT_YET}",
    "SIGTTOU": f"one worker less: {_NOT_YET}",
}


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
