"""Events: ordered, replayed to who comes late, and out of reach of bad sinks."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from dataclasses import is_dataclass
from pathlib import Path
from typing import assert_never, get_args

import pytest

from diary import Diary, Writer
from lives import Boom, Life, Pausable, Told, advance, serving, settle, virtual
from plait import Application, Group, Service, State, events


def line(event: events.Event) -> str:
    """An event in a word; it handles every kind, or does not type-check."""
    match event:
        case events.ServiceAdded():
            return f"{event.path} added"
        case events.ServiceRemoved():
            return f"{event.path} removed"
        case events.StateChanged():
            return f"{event.path} {event.new.value}"
        case events.IntentChanged():
            return f"{event.path} shall be {event.new.value} {event.pause_mode or ''}".rstrip()
        case events.NotStarted():
            return f"{event.path} not started: {event.reason}"
        case events.NotPaused():
            return f"{event.path} not paused"
        case events.RestartScheduled():
            return f"{event.path} restarts {event.failures}"
        case events.Parked():
            return f"{event.path} parked: {event.reason}"
        case events.GaveUp():
            return f"{event.path} gave up for {event.culprit}"
        case events.HealthChanged():
            return f"{event.path} {event.new.value}: {event.reason}".rstrip(": ")
        case events.Listening():
            return f"{event.path} on {event.endpoint}"
        case events.ServiceStuck():
            return f"{event.path} stuck"
        case events.ReloadEnded():
            return f"reload {event.outcome}"
        case events.EventsDropped():
            return f"{event.count} dropped"
        case _:
            assert_never(event)


KINDS = get_args(events.Event)


def test_a_sink_that_forgets_a_kind_does_not_type_check(tmp_path: Path) -> None:
    """One that handles all of them does; without any one of them mypy names it at assert_never."""
    lines = ["from typing import assert_never", "from plait import events"]
    places: dict[int, str] = {}
    for forgotten in (None, *KINDS):
        lines += [f"def without_{forgotten.__name__ if forgotten else 'none'}(event: events.Event) -> None:"]
        lines += ["    match event:"]
        for kind in KINDS:
            if kind is not forgotten:
                lines += [f"        case events.{kind.__name__}(): return"]
        lines += ["        case _: assert_never(event)"]
        if forgotten is not None:
            places[len(lines)] = forgotten.__name__
    (tmp_path / "sink.py").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "sink.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    found = re.findall(r'sink.py:(\d+): error: Argument 1 to "assert_never" has incompatible type "(\w+)"', done.stdout)
    assert {int(place): kind for place, kind in found} == places, done.stdout + done.stderr
    assert f"Found {len(KINDS)} errors in 1 file" in done.stdout


def test_every_event_is_frozen_and_in_the_sealed_union() -> None:
    """Each public class of the module but the two names for them, documented, with a time."""
    public = [getattr(events, name) for name in events.__all__ if name not in ("Event", "Sink")]
    assert set(public) == set(KINDS)
    for kind in KINDS:
        assert kind.__doc__
        assert is_dataclass(kind)
        assert kind.__dataclass_params__.frozen
        assert "time" in kind.__slots__
        assert kind is events.EventsDropped or {"path", "generation"} <= set(kind.__slots__)


@virtual
async def test_the_story_of_a_restart_in_order() -> None:
    """Cause before consequence, from the failure to the recovery."""
    app = Application("shop", strategy="rest_for_one")
    db = app.add(Life(), name="db")
    app.add(Life(), name="web", needs=["db"])
    told = Told(app)
    async with serving(app):
        before = len(told.all)
        db.fail()
        await advance(1)
        assert [line(event) for event in told.all[before:]] == [
            "db stopping",
            "web degraded: db is stopping",
            "/ degraded: db: stopping; web: db is stopping",
            "db failed", "db backoff", "db restarts 1", "web stopping",
            "/ unready: db: waits to be started again after Boom; web: stopping",
            "web stopped", "web backoff", "web restarts 0",
            "db starting", "db running",
            "/ degraded: web: waits to be started again",
            "web starting", "web running",
            "/ ready",
        ]  # fmt: skip
        error = next(event.error for event in told.of(events.StateChanged, "db") if event.new is State.FAILED)
        assert isinstance(error, Boom)
        assert error.__notes__ == ["this ended service 'db', incarnation 1"]
        assert [event.incarnation for event in told.of(events.StateChanged, "db")] == [1, 1, 1, 1, 1, 2, 2]


@virtual
async def test_the_story_of_a_group_that_gives_up_in_order() -> None:
    """Who, why, what stops, and what its own group makes of it."""
    app = Application("shop")
    group = app.add(Group(), name="group")
    life = group.add(Life(), name="life", restart="never", significant=True)
    group.add(Life(), name="other")
    told = Told(app)
    async with serving(app):
        before = len(told.all)
        life.fail()
        await settle()
        story = [line(event) for event in told.all[before:] if not isinstance(event, events.HealthChanged)]
        assert story == [
            "group/life stopping", "group/life failed", "group gave up for group/life", "group stopping",
            "group/other stopping", "group/other stopped", "group failed", "group backoff", "group restarts 1",
        ]  # fmt: skip


@virtual
async def test_the_story_of_a_pause_in_order() -> None:
    """The intent first, then each in its turn."""
    app = Application("shop")
    group = app.add(Group(), name="group")
    group.add(Pausable(), name="db")
    group.add(Life(), name="web", needs=["db"])
    told = Told(app)
    async with serving(app):
        before = len(told.all)
        await group.pause(mode="hold")
        story = [line(event) for event in told.all[before:] if not isinstance(event, events.HealthChanged)]
        assert story == [
            "group shall be paused hold", "group pausing", "group/web not paused", "group/db pausing",
            "group/db paused", "group paused",
        ]  # fmt: skip


@virtual
async def test_a_late_sink_is_told_all_of_the_present() -> None:
    """Intents, states, what waits and for how long, what is parked or could not pause, and who is not ready."""
    app = Application("shop")
    parked = app.add(Life(), name="parked", on_exhausted="park")
    waiting = app.add(Life(), name="waiting")
    down = app.add(Life(), name="down")
    app.add(Life(), name="new", needs=["down"])
    failing = app.add(Life(), name="failing", needs=["down"])
    held = app.add(Group(), name="held")
    held.add(Pausable(), name="able")
    held.add(Life(), name="unable")
    user = app.add(Life(), name="user", needs=["down"])
    early = Told(app)
    async with app:
        await settle()
        late_new = app.add(Life(), name="late")
        await down.stop()
        parked.refuses = Boom("no disk")
        parked.fail()
        await advance(10_000)
        failing.fail()
        waiting.fail()
        await held.pause(mode="refuse")
        await settle()
        due = waiting._record.care.due
        late = Told(app)
        assert [line(event) for event in late.all] == [
            "/ added", "/ running",
            "parked added", "parked failed",
            "parked parked: service 'parked' failed 16 times in a row: Boom: no disk",
            "waiting added", "waiting backoff", "waiting restarts 1",
            "down added", "down shall be down", "down stopped",
            "new added", "new running",
            "failing added", "failing backoff", "failing restarts 0",
            "held added", "held shall be paused refuse", "held paused",
            "held/able added", "held/able paused",
            "held/unable added", "held/unable running", "held/unable not paused",
            "user added", "user running",
            "late added",
            *[line(event) for event in late.all if isinstance(event, events.HealthChanged)],
        ]  # fmt: skip
        (restart,) = late.of(events.RestartScheduled, "waiting")
        assert restart.delay == pytest.approx(due - asyncio.get_running_loop().time())
        assert late.of(events.RestartScheduled, "failing")[0].delay is None
        assert late.of(events.RestartScheduled, "failing")[0].reason.endswith(
            "waits for service 'down', which is stopped"
        )
        health = {event.path: event.reason for event in late.of(events.HealthChanged)}
        assert health.keys() == {"/", "new", "user"}
        assert health["user"] == "down is stopped"
        assert (late_new.state, user.state) == (State.NEW, State.RUNNING)
        count = len(early.all)
        Told(app)
        assert len(early.all) == count  # who was there already is told nothing twice


@virtual
async def test_a_late_sink_is_told_who_has_not_started_and_why() -> None:
    """As it was told when that was found."""
    app = Application("shop")
    down = app.add(Life(), name="down")
    app.add(Life(), name="web", needs=["down"])
    await down.stop()
    early = Told(app)
    async with app:
        late = Told(app)
        for told in (early, late):
            (event,) = told.of(events.NotStarted)
            assert (event.path, event.reason) == ("web", "it needs service 'down', which is down")
        (snapshot,) = [one for one in app.snapshot().services if one.name == "web"]
        assert snapshot.reason == "it needs service 'down', which is down"


async def test_a_sink_sees_the_present_then_everything_in_order(diary: Diary) -> None:
    """From the tree as it was made to its end."""
    app = Application("shop")
    app.add(Writer(diary), name="db")
    seen: list[str] = []
    unsubscribe = app.subscribe(lambda event: seen.append(line(event)))
    async with app:
        await app.add(Service(), name="late").start()
        await app.remove("late")
        await asyncio.sleep(0)
    unsubscribe()
    async with app:
        pass
    assert seen == [
        "/ added", "db added", "/ starting", "db starting", "db running", "/ running", "late added", "late starting",
        "late running", "late stopping", "late stopped", "/ degraded: late: down", "late removed", "/ ready",
        "/ stopping", "db stopping", "db stopped",
        "/ stopped",
    ]  # fmt: skip


async def test_a_late_sink_sees_the_present_state() -> None:
    """As if it had just come about, endpoints included."""

    class Listener(Service):
        async def on_start(self) -> None:
            self._announce("tcp://127.0.0.1:1")

    app = Application("shop")
    app.add(Listener(), name="web")
    async with app:
        seen: list[str] = []
        app.subscribe(lambda event: seen.append(line(event)))
        assert seen == ["/ added", "/ running", "web added", "web running", "web on tcp://127.0.0.1:1"]
        assert app.snapshot().services[0].endpoints == ("tcp://127.0.0.1:1",)
    assert app.snapshot().services[0].endpoints == ()


async def test_a_sink_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the next sink sees all the same."""
    app = Application("shop")
    seen: list[str] = []

    def bad(event: events.Event) -> None:
        raise RuntimeError("sink is full")

    app.subscribe(bad)
    app.subscribe(lambda event: seen.append(line(event)))
    async with app:
        pass
    assert seen[-1] == "/ stopped"
    assert "sink is full" in caplog.text


async def test_a_sink_that_causes_events_does_not_disturb_their_order() -> None:
    """Another sink sees the cause before what it caused."""
    app = Application("shop")
    service = app.add(Service(), name="db")
    seen: list[str] = []

    def meddling(event: events.Event) -> None:
        if line(event) == "db running" and "late" not in app:
            app.add(Service(), name="late")

    app.subscribe(meddling)
    app.subscribe(lambda event: seen.append(line(event)))
    async with app:
        assert service.state is State.RUNNING
    assert seen.index("db running") < seen.index("late added") < seen.index("/ running")


async def test_events_can_be_iterated_until_the_end() -> None:
    """And a reader that comes late has missed nothing that still holds."""
    app = Application("shop")
    app.add(Service(), name="db")

    async def read() -> list[str]:
        return [line(event) async for event in app.events()]

    reading = asyncio.create_task(read())
    await asyncio.sleep(0)
    async with app:
        pass
    seen = await asyncio.wait_for(reading, 5)
    assert seen[:2] == ["/ added", "db added"]
    assert seen[-1] == "/ stopped"


async def test_a_slow_reader_loses_the_oldest_and_is_told_how_many() -> None:
    """Memory stays bounded."""
    app = Application("shop")
    app.add(Service(), name="db")
    reader = app.events(limit=3)
    assert line(await anext(reader)) == "/ added"
    async with app:
        pass
    assert line(await anext(reader)) == "6 dropped"
    assert [line(event) async for event in reader] == ["db stopping", "db stopped", "/ stopped"]


async def test_waiting_for_ready_and_stopped() -> None:
    """wait_ready says so if that will never be."""
    app = Application("shop")
    app.add(Service(), name="db")
    ready, stopped = asyncio.create_task(app.wait_ready()), asyncio.create_task(app.wait_stopped())
    await asyncio.sleep(0)
    assert not ready.done()
    async with app:
        await asyncio.wait_for(ready, 5)
        assert not stopped.done()
    await asyncio.wait_for(stopped, 5)


async def test_an_error_is_in_the_event_and_in_the_snapshot(diary: Diary) -> None:
    """As the exception, and as text."""
    app = Application("shop")
    app.add(Writer(diary, on_start=OSError("no disk")), name="db")
    errors: list[BaseException | None] = []
    app.subscribe(lambda e: errors.append(e.error) if isinstance(e, events.StateChanged) and e.error else None)
    with pytest.raises(ExceptionGroup):
        await app.serve()
    assert str(errors[0]) == "no disk"
    assert app.snapshot().services[0].error == "OSError: no disk"
