"""Errors that are nasty to tell: whatever a hook raises is a failure of its service, told in a line, and no more."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from plait import Application, Service, State
from plait._kernel.states import AT_REST
from plait._kernel.words import MOST, error_text
from plait.observe.eventlog import EventLog
from plait.observe.formats import ConsoleFormatter, JsonFormatter


class Mute(Exception):
    """Cannot be told."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Takes no note."""

    code: int


class Alien(BaseException):
    """No Exception."""


class MuteAlien(Alien):
    """Neither."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


def deeper(level: int = 0) -> int:
    """For ever."""
    return deeper(level + 1) + 1


def raising(error: BaseException) -> Callable[[], Any]:
    def fail() -> None:
        raise error

    return fail


NASTY: dict[str, Callable[[], Any]] = {
    "mute": raising(Mute()),
    "frozen": raising(Frozen(3)),
    "huge": raising(ValueError("x" * 5_000_000)),
    "alien": raising(Alien("from elsewhere")),
    "mute alien": raising(MuteAlien()),
    "generator exit": raising(GeneratorExit()),
    "keyboard": raising(KeyboardInterrupt()),
    "stop iteration": raising(StopIteration(1)),
    "recursion": deeper,
    "group": raising(BaseExceptionGroup("many", [Mute(), MuteAlien()])),
}


def service(hook: str, fail: Callable[[], Any]) -> Service:
    """One that raises in this hook, and lasts otherwise."""

    class Nasty(Service):
        async def on_start(self) -> None:
            if hook == "on_start":
                fail()
            elif hook == "spawned":
                self.spawn(self.spawned())

        async def spawned(self) -> None:
            await asyncio.sleep(0)
            fail()

        async def run(self) -> None:
            if hook == "run":
                await asyncio.sleep(0)
                fail()
            await asyncio.Event().wait()

        async def at(self, here: str) -> None:
            if hook == here:
                fail()

        async def on_drain(self) -> None:
            await self.at("on_drain")

        async def on_stop(self) -> None:
            await self.at("on_stop")

        async def on_pause(self) -> None:
            await self.at("on_pause")

        async def on_resume(self) -> None:
            await self.at("on_resume")

        async def check(self) -> None:
            await self.at("check")

    return Nasty()


HOOKS = ("on_start", "run", "spawned", "on_drain", "on_stop", "on_pause", "on_resume", "check")


@pytest.mark.parametrize("error", NASTY)
@pytest.mark.parametrize("hook", HOOKS)
async def test_a_nasty_error_is_a_failure_like_any_other(
    hook: str, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its service has failed (or, of a check, is unready), the others stop in order, and a line tells of it."""
    caplog.set_level(logging.INFO, "plait")
    app = Application("shop")
    nasty = app.add(service(hook, NASTY[error]), name="nasty", restart="never")
    app.add(Service(), name="other")
    app.subscribe(EventLog(app))
    with suppress(ExceptionGroup):
        async with asyncio.timeout(5):
            await app.start()
            if hook in ("on_pause", "on_resume"):
                with suppress(ExceptionGroup):
                    await nasty.pause()
                    await nasty.resume()
            while hook in ("run", "spawned") and nasty.state is not State.FAILED:
                await asyncio.sleep(0)
            while hook == "check" and nasty.health.level.value != "unready":
                await asyncio.sleep(0)
            await asyncio.sleep(0.01)  # until the change of health is told
            await app.stop()
    assert {told.state for told in app.snapshot().walk()} <= AT_REST
    if hook != "check":
        assert nasty.state is State.FAILED
        assert app.snapshot().services[0].error
    lines = [JsonFormatter().format(record) for record in caplog.records]
    assert any("nasty" in line and ("failed" in line or "unready" in line) for line in lines)
    for record in caplog.records:
        assert "sink" not in record.message
        assert len(ConsoleFormatter().format(record)) < 200_000


def test_a_message_that_cannot_be_had_is_told_without() -> None:
    """And says why there is none."""
    assert error_text(Mute()) == "Mute: (its message cannot be had: __str__ raised RuntimeError)"


def test_a_message_that_goes_on_is_cut() -> None:
    """And says how long it was."""
    told = error_text(ValueError("x" * 1_000_000))
    assert told == f"ValueError: {'x' * MOST}… (1,000,000 characters)"
    assert error_text(ValueError()) == "ValueError"


def test_a_group_is_told_by_what_is_in_it() -> None:
    """The first few of all the errors in it, however deep."""
    inner = ExceptionGroup("inner", [ValueError("two"), Mute()])
    told = error_text(ExceptionGroup("in a TaskGroup", [OSError("one"), inner, KeyError(4), KeyError(5)]))
    mute = "Mute: (its message cannot be had: __str__ raised RuntimeError)"
    assert told == f"ExceptionGroup: in a TaskGroup: OSError: one; ValueError: two; {mute}; and 2 more"


def test_lines_are_told_in_one() -> None:
    """A log is read line by line."""
    assert error_text(ValueError("first\nsecond")) == "ValueError: first / second"
    assert "\n" not in error_text(ValueError("line\n" * 100_000))
