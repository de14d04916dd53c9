"""Running an application in a test: by a Runner, as in production, around a body.

Rules: environment and command line are the test's alone, nothing of the machine's gets in. A failure of the
application cancels the body and goes before what the body made of that. At the end it is stopped, within its own
deadline; a service that failed and was not expected to, and what would not stop, fail the test by name.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from os import PathLike

from plait._kernel.application import Application
from plait._kernel.events import Event, ServiceStuck, Sink, StateChanged
from plait._kernel.service import Service
from plait._kernel.states import AT_REST, State
from plait.errors import Leaked, RunFailed
from plait.process.reload import Plan
from plait.process.runner import Runner
from plait.testing.faults import Faults
from plait.testing.recorder import Recorder

SLACK = 5.0
"""Seconds after its own deadline in which an application has stopped, or the test is told that it does not."""


class _Runner(Runner):
    """Every generation takes the faults on its paths, before it starts."""

    faults: Faults

    def _prepare(self, application: Application) -> tuple[Sink, ...]:
        self.faults.join(application)
        return super()._prepare(application)


class Running:
    """An application that runs in a test; made by `running`.

    `recorder` has the events of all its generations, `faults` puts faults on its services, `runner` is what runs it.
    `environ` is the environment its options come from: change it, then `reload`.
    """

    def __init__(
        self, runner: _Runner, environ: dict[str, str], recorder: Recorder, may_fail: Collection[str] = ()
    ) -> None:
        runner.subscribe(recorder)
        self.runner = runner
        self.environ = environ
        self.recorder = recorder
        self.faults = runner.faults
        self.may_fail = set(may_fail)
        """Paths of services whose failures are expected; add to it as you please."""
        self._witness = _Witness()
        runner.subscribe(self._witness)
        self._has_cancelled = False
        """The body, since the application failed."""
        self._body: asyncio.Task[object] | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def app(self) -> Application:
        """The generation that serves now."""
        return self.runner.application

    def __getitem__(self, path: str) -> Service:
        """The service at `path` in the generation that serves now."""
        return self.app[path]

    async def reload(self, *, dry_run: bool = False) -> Plan:
        """As SIGHUP does, from `environ` and the files as they are now; what was done. ReloadFailed: nothing was."""
        return await self.runner.reload(dry_run=dry_run)

    async def stop(self) -> None:
        """As SIGTERM does; return when it has stopped. What went wrong is raised at the end of the body."""
        await self.runner.stop()

    async def ended(self) -> None:
        """Until the application has ended, by itself or because it was stopped; raises nothing that it failed of."""
        assert self._serving is not None
        await asyncio.wait([self._serving])

    # -- around the body ---------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        """Until it is ready. Raises what `Runner.serve` does if it does not get there."""
        serving = self._serving = asyncio.create_task(self.runner.serve(), name=f"serving {self.app.name}")
        ready = asyncio.create_task(self.app.wait_ready(), name=f"waiting for {self.app.name}")
        try:
            await asyncio.wait([serving, ready], return_when=asyncio.FIRST_COMPLETED)
            if ready.done() and ready.exception() is not None:
                await asyncio.wait([serving])
        except asyncio.CancelledError:
            serving.cancel()
            raise
        finally:
            ready.cancel()
            await asyncio.wait([ready, *([serving] if serving.cancelling() else [])])
        if serving.done():
            serving.result()
        self._body = asyncio.current_task()
        serving.add_done_callback(self._over)

    def _over(self, serving: asyncio.Task[None]) -> None:
        body, self._body = self._body, None
        if body is not None and not serving.cancelled() and serving.exception() is not None:
            self._has_cancelled = True
            body.cancel()

    async def _end(self, error: BaseException | None) -> None:
        """The body is over, with `error`: stop, and raise what went wrong, unless that is for the body to raise."""
        self._body = None
        if self._has_cancelled and await _taken_back(error):
            error = None
        failed = await self._stopped()
        if failed is None:
            return
        if error is None:
            raise failed
        if self._has_cancelled and isinstance(error, Exception) and isinstance(failed, ExceptionGroup):
            raise failed.derive([*failed.exceptions, error])
        error.add_note(f"and then: {failed}")

    async def _stopped(self) -> Exception | None:
        """Stop it; what went wrong, of all that was not expected."""
        assert self._serving is not None
        if not self._serving.done():
            limit = self.app.shutdown_delay + self.app.shutdown_timeout + SLACK
            stopping = asyncio.create_task(self.runner.stop(), name=f"stopping {self.app.name}")
            try:
                await asyncio.wait([self._serving], timeout=limit)
            except asyncio.CancelledError:
                self._serving.cancel()
                await asyncio.wait([self._serving], timeout=limit)
                raise
            finally:
                stopping.cancel()
            if not self._serving.done():
                self._serving.cancel()
                return RunFailed(f"it did not stop within {limit:g} s", [Leaked(_still_there(self.app))])
        return self._verdict(None if self._serving.cancelled() else self._serving.exception())

    def _verdict(self, failure: BaseException | None) -> Exception | None:
        """What went wrong, where `serve` raised `failure`."""
        failures, stuck = self._witness.unexpected(self.may_fail | self.faults.paths)
        if isinstance(failure, Exception) and (self._has_cancelled or not self._witness.knows(failure)):
            for one in stuck:
                failure.add_note(f"left behind: {one}")
            return failure
        if stuck:
            failures.append(Leaked(stuck))
        text = f"application {self.app.name!r} did what the test did not expect"
        return RunFailed(text, failures) if failures else None


class _Witness:
    """Remembers who failed and what would not stop, whatever the test does with its recorder."""

    def __init__(self) -> None:
        self._failed: list[StateChanged] = []
        self._stuck: list[ServiceStuck] = []
        self._known: set[int] = set()
        """The exceptions, by identity, that were expected; the groups above a service fail of the same."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, StateChanged) and event.new is State.FAILED:
            self._failed.append(event)
        elif isinstance(event, ServiceStuck):
            self._stuck.append(event)

    def unexpected(self, expected: set[str]) -> tuple[list[Exception], list[str]]:
        """What services failed of, and what was left behind, but for those whose paths are expected."""
        self._known = {id(leaf) for event in self._failed if event.path in expected for leaf in leaves(event.error)}
        errors = {id(event.error): event.error for event in self._failed}
        failures = [error for error in errors.values() if isinstance(error, Exception) and not self.knows(error)]
        return failures, [f"{event.path}: {event.what}" for event in self._stuck if event.path not in expected]

    def knows(self, error: Exception) -> bool:
        """Whether it was expected, or is a group of what was."""
        return all(id(leaf) in self._known for leaf in leaves(error))


def leaves(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, or those in a group, however deep."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from leaves(one)
    elif error is not None:
        yield error


async def _taken_back(error: BaseException | None) -> bool:
    """Take back our own cancellation of this task; whether there was no other."""
    if not isinstance(error, asyncio.CancelledError):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)  # the body was over before it could come there
    task = asyncio.current_task()
    assert task is not None
    return not task.uncancel() and (error is None or isinstance(error, asyncio.CancelledError))


def _still_there(app: Application) -> list[str]:
    return [f"{one.path}: {one.state.value}" for one in app.snapshot().walk() if one.state not in AT_REST]


@contextlib.asynccontextmanager
async def running(
    target: str | Service | Callable[..., object],
    argv: Sequence[str] = (),
    *,
    environ: Mapping[str, str] | None = None,
    config: str | PathLike[str] | None = None,
    env_file: str | PathLike[str] | None = None,
    sets: Sequence[str] = (),
    state_dir: str | PathLike[str] | None = None,
    may_fail: Collection[str] = (),
    recorder: Recorder | None = None,
    faults: Faults | None = None,
) -> AsyncIterator[Running]:
    """Run an application around a body: `async with running(make_app, argv=["--listen", "tcp://127.0.0.1:0"]) as run:`.

    `target` is an application or another service, a factory, or a text as `plait run` takes it; `argv`, `environ`,
    `config`, `env_file`, `sets` and `state_dir` are as for Runner, but the environment is empty if it is left out. The
    body begins when all is ready, or never: what a start failed of is raised. An application that fails cancels the
    body, and ApplicationFailed is raised. At the end it is stopped; then RunFailed, an ExceptionGroup, says which
    services had failed, if only to be restarted, and what would not stop: all but the paths in `may_fail` and those
    with a fault on them. A body that raised keeps its exception, which is given a note. `recorder` and `faults`: those
    to use.
    """
    own_faults = Faults()
    environ = dict(environ or {})
    runner = _Runner(target, argv, environ=environ, config=config, env_file=env_file, sets=sets, state_dir=state_dir)
    runner.faults = own_faults if faults is None else faults
    recorder = Recorder() if recorder is None else recorder
    runner.build()
    run = Running(runner, environ, recorder, may_fail)
    try:
        await run._start()
        try:
            yield run
        except BaseException as error:
            await run._end(error)
            raise
        else:
            await run._end(None)
    finally:
        own_faults.restore()
