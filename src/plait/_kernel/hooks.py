"""What the author of a service may write, and how the kernel sees at a glance what was written.

Rules: a hook counts if its class overrides it; the kernel asks `Shape`, once per class, and never calls a hook
that is not there. A service whose shape needs no task has none.
"""

from __future__ import annotations

from typing import Any

from plait._kernel.health import Health


class Hooks:
    """The hooks of a service, all optional. Plait calls them; nobody else should."""

    __slots__ = ()

    async def on_start(self) -> None:
        """Get ready. When it returns the service is ready; when it raises the start failed.

        Open things with `await self.enter(...)`: they are closed in reverse order when this incarnation ends,
        whatever ended it. Bounded by `start_timeout`; cancelled when the start is rolled back.
        """

    async def run(self) -> None:
        """Do the work. Returning ends this incarnation cleanly; raising is its failure.

        Runs in the task that ran `on_start`. It is cancelled to stop, after `on_drain`; one that has read
        `self.stopping` is first given `drain_timeout` to return by itself.
        """

    async def on_drain(self) -> None:
        """Take no new work and finish the current. Called beside `run` in a requested stop only.

        Bounded by `drain_timeout`, then cancelled; what it raises is reported and stopping goes on.
        """

    async def on_stop(self) -> None:
        """Give back what `on_start` took. Called if, and only if, `on_start` returned, also after a failure.

        Bounded, together with everything after the drain, by `stop_timeout`.
        """

    async def on_pause(self) -> None:
        """Stop taking work, and keep what is open. Called beside `run`; bounded by `pause_timeout`.

        Raising, or taking too long, is this incarnation's failure. Called between `on_start` and readiness instead,
        in that task, where the service starts paused.
        """

    async def on_resume(self) -> None:
        """Take work again. Called beside `run`; bounded by `pause_timeout`, and as `on_pause` if it fails."""

    async def on_reload(self, *args: Any, **kwargs: Any) -> None:
        """Take the constructor's arguments anew, all of them, while running. Bounded by `start_timeout`.

        A class that cannot take all names those it can in `live_parameters`. A subclass with a constructor of its own
        needs an on_reload of its own.

        If it raises, the reload fails: it is called again with the arguments that were in force.
        """

    async def check(self) -> Health | None:
        """Say how healthy the service is: raise if it is not, return `degraded("why")` if it is in part.

        Called beside `run`, when the service gets ready and then every `check_period` seconds; bounded by
        `check_timeout`. Nothing is restarted because of it.
        """


HOOKS = tuple(name for name in vars(Hooks) if not name.startswith("_"))


class Shape:
    """Which hooks a class has, as attributes, and whether it says itself when it is ready; one object per class."""

    __slots__ = ("check", "drain", "group", "live", "manual", "pause", "reload", "run", "start", "stop", "task")

    def __init__(self, cls: type[Hooks], *, group: bool, manual: bool = False) -> None:
        self.start = cls.on_start is not Hooks.on_start
        self.run = cls.run is not Hooks.run
        self.stop = cls.on_stop is not Hooks.on_stop
        self.drain = cls.on_drain is not Hooks.on_drain
        self.pause = cls.on_pause is not Hooks.on_pause and cls.on_resume is not Hooks.on_resume
        self.reload = _reloads(cls)
        self.live = _live(cls)
        self.check = cls.check is not Hooks.check
        self.manual = manual
        self.group = group
        self.task = self.start or self.run or self.stop


def _reloads(cls: type[Hooks]) -> bool:
    """Whether its on_reload was written for its constructor, not for that of a base, which takes other arguments."""
    if cls.on_reload is Hooks.on_reload:
        return False
    return "on_reload" in vars(next(base for base in cls.__mro__ if vars(base).keys() & {"on_reload", "__init__"}))


def _live(cls: type[Hooks]) -> tuple[str, ...] | None:
    """What its on_reload takes, if that is said; what a base says is of the on_reload there."""
    own = next(base for base in cls.__mro__ if vars(base).keys() & {"on_reload", "live_parameters"})
    live: tuple[str, ...] | None = vars(own).get("live_parameters")
    return live
