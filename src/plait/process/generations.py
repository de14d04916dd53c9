"""The generations of one runner: the tree that serves, the one that is to take over, and the one that retires.

Rules: at most two are there at a time. When the one that serves has ended, by itself or because it was told to, all
has: its errors are those of the whole. A stop reaches every generation. What one would not stop is kept by name.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable
from typing import Any

from plait._kernel.application import Application
from plait._kernel.commands import start
from plait._kernel.engine import Engine
from plait._kernel.events import ReloadEnded, Sink
from plait._kernel.generations import Switch, retire
from plait._kernel.operations import Stop, wait, wait_out
from plait._kernel.supervision import stop_application
from plait.errors import StartInterrupted, StopFailed

Prepare = Callable[[Application], Iterable[Sink]]
"""Called with each generation before it starts; the sinks it gives are subscribed until that has stopped."""


class Generations:
    """See the module's rules."""

    def __init__(self, first: Application, prepare: Prepare, sinks: Collection[Sink]) -> None:
        self.serving = first
        self.left_behind: list[str] = []
        """What would not stop, of generations that are gone."""
        self._prepare = prepare
        self._sinks = sinks
        """Who hears of every generation."""
        self._watched: dict[Application, tuple[Sink, ...]] = {}
        self._switch: Switch | None = None
        self._next: Application | None = None
        self._switched: asyncio.Future[None] | None = None
        self._started: asyncio.Future[None] | None = None
        self._retiring: Stop | None = None
        self.is_stopping = False

    @property
    def present(self) -> tuple[Application, ...]:
        """All that are there now."""
        return tuple(self._watched)

    # -- from the first start to the last stop -----------------------------------------------------------------------

    async def serve(self) -> None:
        """Start the first, and return when all has ended. Raises as `Application.serve` does; so does cancelling it."""
        first = self.serving
        engine = first._prepare_to_serve()
        self._watch(first)
        self._started = asyncio.get_running_loop().create_future()
        try:
            try:
                with contextlib.suppress(StartInterrupted):
                    await start(first._record)
            finally:
                self._started.set_result(None)
            await self._until_over(engine)
        except asyncio.CancelledError:
            await wait_out(asyncio.ensure_future(self._stop_all()))
            raise
        finally:
            self.is_stopping = True
            for application in self.present:
                self._unwatch(application)
        self.serving._raise_failures(())

    async def _until_over(self, engine: Engine) -> None:
        while True:
            await wait(engine.over)
            if self._switched is not None:
                await wait(self._switched)
            if self.serving._root_engine is engine:
                break
            engine = self.serving._root_engine
        self.is_stopping = True
        await self.settled()

    async def stop(self) -> None:
        """Stop every generation in order, and return when the one that served has stopped."""
        self.is_stopping = True
        if self._switch is not None and self._next is not None:
            self._switch.give_up()
            stop_application(self._next._root_engine, delay=0.0)
        if self._retiring is not None:
            self._retiring.hurry(self.serving.shutdown_timeout)
        with contextlib.suppress(StopFailed):  # `serve` tells
            await self.serving.stop()

    async def _stop_all(self) -> None:
        await self.stop()
        if self._switched is not None:
            await wait(self._switched)
        await self.settled()

    # -- from one to the next ----------------------------------------------------------------------------------------

    async def switch(self, new: Application) -> tuple[str, ...]:
        """Until `new` serves and the present one retires; whose intent was dropped. Raises what `new` failed of."""
        old = self.serving
        self._switch, self._next = Switch(old, new), new
        switched = self._switched = asyncio.get_running_loop().create_future()
        self._watch(new)
        try:
            await self._switch.run()
            self.serving = new
            self._retire(old)
            return tuple(self._switch.dropped)
        except BaseException:
            self._unwatch(new)
            raise
        finally:
            self._switch = self._next = self._switched = None
            switched.set_result(None)

    def _retire(self, old: Application) -> None:
        stop = retire(old)
        if stop is None:
            self._unwatch(old)
        else:
            self._retiring = stop
            stop.done.add_done_callback(lambda _: self._retired(old))

    def _retired(self, old: Application) -> None:
        self._retiring = None
        self._unwatch(old)

    @property
    def unsettled(self) -> str:
        """What `settled` would wait for, in words."""
        if self._started is not None and not self._started.done():
            return "the start"
        return "the retiring generation" if self._retiring is not None else ""

    async def settled(self) -> None:
        """Until the first has started, and none retires any more."""
        if self._started is not None:
            await wait(self._started)
        if self._retiring is not None:
            await wait(self._retiring.done)

    # -- watching them -----------------------------------------------------------------------------------------------

    def tell(self, **fields: Any) -> None:
        """How a reload ended, to the sinks of the generation that serves now."""
        engine = self.serving._root_engine
        engine.emit(ReloadEnded, engine.root, **fields)

    def _watch(self, application: Application) -> None:
        own = self._watched[application] = tuple(self._prepare(application))
        for sink in (*own, *self._sinks):
            application.subscribe(sink)

    def _unwatch(self, application: Application) -> None:
        self.left_behind += application.left_behind
        for sink in (*self._watched.pop(application, ()), *self._sinks):
            application._root_engine.bus.unsubscribe(sink)
