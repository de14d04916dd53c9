"""Events: ordered, replayed to who comes late, and out of reach of bad sinks."""

from __future__ import annotations

import asyncio
from typing import assert_never

import pytest

from diary import Diary, Writer
from plait import Application, Service, State, events


def line(event: events.Event) -> str:
    """An event in a word; it handles every kind, or does not type-check."""
    match event:
        case events.ServiceAdded():
            return f"{event.path} added"
        case events.ServiceRemoved():
            return f"{event.path} removed"
        case events.StateChanged():
            return f"{event.path} {event.new.value}"
        case events.Listening():
            return f"{event.path} on {event.endpoint}"
        case events.ServiceStuck():
            return f"{event.path} stuck"
        case events.EventsDropped():
            return f"{event.count} dropped"
        case _:
            assert_never(event)


async def test_a_sink_sees_the_present_then_everything_in_order(diary: Diary) -> None:
    """From the tree as it was made to its end."""
    app = Application("shop")
    app.add(Writer(diary), name="db")
    seen: list[str] = []
    unsubscribe = app.subscribe(lambda event: seen.append(line(event)))
    async with app:
        await app.add(Service(), name="late").start()
        await app.remove("late")
    unsubscribe()
    async with app:
        pass
    assert seen == [
        "/ added", "db added", "/ starting", "db starting", "db running", "/ running", "late added", "late starting",
        "late running", "late stopping", "late stopped", "late removed", "/ stopping", "db stopping", "db stopped",
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
