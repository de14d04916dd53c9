"""The recorder: what it keeps, what it answers, and how it waits."""

from __future__ import annotations

import asyncio

import pytest

from plait import Application, Service, State, events
from plait._kernel.events import ReloadEnded, ServiceAdded, StateChanged
from plait.errors import NotSeen
from plait.testing import Recorder, run, settle


class Fails(Service):
    """Fails a second after its start, once."""

    times = 0

    async def run(self) -> None:
        self.times += 1
        if self.times == 1:
            await asyncio.sleep(1)
            raise ZeroDivisionError("as told")
        await asyncio.Event().wait()


def make() -> Application:
    app = Application("shop")
    app.add(Service(), name="db")
    app.add(Fails(), name="web", needs=["db"])
    return app


@pytest.mark.virtual_clock
async def test_it_answers_questions(recorder: Recorder) -> None:
    """The states of a path, events of a kind whose fields are as asked, whose they were, in order."""
    app = make()
    app.subscribe(recorder)
    async with app:
        await recorder.wait(StateChanged, path="web", new=State.RUNNING, incarnation=2)
    assert recorder.paths(StateChanged, new=State.RUNNING) == ["db", "web", "/", "web"]
    assert recorder.states("web") == [
        State.STARTING, State.RUNNING, State.STOPPING, State.FAILED, State.BACKOFF,
        State.STARTING, State.RUNNING, State.STOPPING, State.STOPPED,
    ]  # fmt: skip
    assert [e.new for e in recorder.of(StateChanged, error=ZeroDivisionError)] == [State.FAILED, State.BACKOFF]
    assert recorder.paths(StateChanged, error=lambda error: str(error) == "as told") == ["web", "web"]
    assert recorder.of(ReloadEnded) == []
    assert len(recorder.of(ServiceAdded)) == 3
    assert list(recorder) == recorder.events
    assert len(recorder) == len(recorder.events)


@pytest.mark.virtual_clock
async def test_it_waits_for_what_is_past_and_what_is_to_come(recorder: Recorder) -> None:
    """The first that matches; `after` leaves out what came before."""
    app = make()
    app.subscribe(recorder)
    async with app:
        first = await recorder.wait(StateChanged, path="web", new=State.RUNNING)
        assert first.incarnation == 1
        second = await recorder.wait(StateChanged, path="web", new=State.RUNNING, after=first)
        assert second.incarnation == 2
        newest = recorder.last
        waiting = asyncio.create_task(recorder.wait(StateChanged, path="db", after=newest))
        await settle()
        assert not waiting.done()
        await app["db"].stop()
        assert (await waiting).new is State.STOPPING


@pytest.mark.virtual_clock
async def test_what_did_not_happen_is_told_with_what_did(recorder: Recorder) -> None:
    """After `timeout` seconds of the loop's clock; the question and the events are in the message."""
    app = make()
    app.subscribe(recorder)
    loop = asyncio.get_running_loop()
    async with app:
        begin = loop.time()
        with pytest.raises(NotSeen) as caught:
            await recorder.wait(StateChanged, path="db", new=State.FAILED, timeout=100)
        assert loop.time() == begin + 100
    text = str(caught.value)
    assert text.startswith("StateChanged(path='db', new=State.FAILED) did not happen within 100 s; what did:\n")
    assert "web: running -> stopping, incarnation 1" in text
    assert "web: stopping -> failed, incarnation 1  ZeroDivisionError('as told')" in text
    assert "web: RestartScheduled incarnation=1 failures=1" in text


async def test_a_question_that_nothing_can_answer_is_an_error(recorder: Recorder) -> None:
    """A field the kind has not, with the nearest; an `after` that was not recorded."""
    with pytest.raises(TypeError, match="StateChanged has no field 'pth'; did you mean 'path'"):
        recorder.of(StateChanged, pth="db")
    with pytest.raises(TypeError, match="ServiceAdded has no field 'new'; it has time, path, generation, kind"):
        await recorder.wait(ServiceAdded, new=State.RUNNING)
    other = ServiceAdded(time=0, path="db", kind="")
    with pytest.raises(ValueError, match="has not recorded"):
        await recorder.wait(ServiceAdded, after=other)


async def test_waiting_ends_with_its_caller(recorder: Recorder) -> None:
    """On every loop: a cancelled wait leaves nothing that a later event would find; two may wait for one event."""
    cancelled = asyncio.create_task(recorder.wait(ServiceAdded))
    others = [asyncio.create_task(recorder.wait(ServiceAdded, path="db")) for _ in range(2)]
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    event = ServiceAdded(time=0, path="db", kind="")
    recorder(event)
    assert [await other for other in others] == [event, event]
    recorder(event)
    assert recorder._waiting == []


def test_a_long_story_is_cut() -> None:
    """The newest events are shown, and how many there were before; none is said too."""
    recorder = Recorder()
    assert str(recorder) == "  nothing"
    for number in range(100):
        recorder(ServiceAdded(time=number, path=f"s{number}", kind="k"))
    recorder(events.EventsDropped(time=100.5, count=3))
    lines = str(recorder).splitlines()
    assert lines[0] == "  61 earlier ones"
    assert lines[-2] == "     99.000  s99: ServiceAdded kind='k'"
    assert lines[-1] == "    100.500  EventsDropped count=3"


def test_events_have_the_time_of_the_virtual_clock() -> None:
    """So the story of a test can be read, and asked how long something took."""
    recorder = Recorder()

    async def main() -> None:
        app = make()
        app.subscribe(recorder)
        async with app:
            await recorder.wait(StateChanged, path="web", new=State.RUNNING, incarnation=2)

    run(main())
    (failed,) = recorder.of(StateChanged, path="web", new=State.FAILED)
    assert failed.time - recorder.events[0].time == 1.0
