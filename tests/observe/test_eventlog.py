"""Events as log lines."""

from __future__ import annotations

import logging

import pytest

from plait import Application, Group, Service
from plait._kernel.events import EventsDropped, ServiceStuck, StateChanged
from plait._kernel.states import State
from plait.errors import ApplicationFailed
from plait.observe.eventlog import LEVELS, EventLog


class Listens(Service):
    """Says that it listens."""

    async def on_start(self) -> None:
        self._announce("tcp://127.0.0.1:8007")


class Fails(Service):
    """Fails when it is told to."""

    async def run(self) -> None:
        raise ValueError("broken")


def _lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.message) for record in caplog.records if record.name == "plait"]


async def test_a_run_in_lines(caplog: pytest.LogCaptureFixture) -> None:
    """What has arrived is information, with the service's path; what is on its way is for debugging."""
    caplog.set_level(logging.DEBUG)
    app = Application("demo")
    back = Group()
    app.add(back, name="back")
    back.add(Listens(), name="web")
    app.subscribe(EventLog(app))
    async with app:
        pass
    lines = _lines(caplog)
    info = [text for level, text in lines if level == "INFO"]
    assert info[:2] == ["back/web running", "back running"]
    assert info[2].endswith("listening on tcp://127.0.0.1:8007 (back/web)")
    assert info[3:] == ["back/web stopped", "back stopped"]
    assert ("DEBUG", "back/web starting") in lines
    assert ("DEBUG", "back/web listening on tcp://127.0.0.1:8007") in lines
    assert [record.service for record in caplog.records if record.message == "back/web running"] == ["back/web"]


async def test_listening_later_is_information(caplog: pytest.LogCaptureFixture) -> None:
    """A service added to a running application says where it listens, since no line about readiness does."""
    caplog.set_level(logging.INFO)
    app = Application("demo")
    app.subscribe(EventLog(app))
    async with app:
        await app.add(Listens(), name="late").start()
    assert ("INFO", "late listening on tcp://127.0.0.1:8007") in _lines(caplog)


async def test_a_failure_has_its_traceback_once(caplog: pytest.LogCaptureFixture) -> None:
    """The service that failed says why, with the traceback; the groups above it do not repeat it."""
    app = Application("demo")
    group = Group()
    app.add(group, name="group", significant=True, restart="never")
    group.add(Fails(), name="it", significant=True, restart="never")
    app.subscribe(EventLog(app))
    with pytest.raises(ApplicationFailed):
        await app.serve()
    assert ("ERROR", "group/it failed: ValueError: broken") in _lines(caplog)
    assert len([record for record in caplog.records if record.exc_info]) == 1


def test_a_group_that_fails_of_its_service_does_not_repeat_the_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """Both lines name the error; the first has the traceback."""
    sink, error = EventLog(Application("demo")), ValueError("broken")
    for path in ("group/it", "group"):
        sink(StateChanged(time=0, path=path, incarnation=1, old=State.STOPPING, new=State.FAILED, error=error))
    assert [text for _, text in _lines(caplog)] == [
        "group/it failed: ValueError: broken",
        "group failed: ValueError: broken",
    ]
    assert [bool(record.exc_info) for record in caplog.records] == [True, False]


def test_what_does_not_happen_every_day(caplog: pytest.LogCaptureFixture) -> None:
    """A service that would not stop is an error, and lost events are a warning."""
    sink = EventLog(Application("demo"))
    sink(ServiceStuck(time=0, path="db", incarnation=1, what="its task at f.py:3"))
    sink(EventsDropped(time=0, count=3))
    assert _lines(caplog) == [
        ("ERROR", "db would not stop, and was left behind: its task at f.py:3"),
        ("WARNING", "a reader of events was too slow, and lost 3 of them"),
    ]


def test_every_state_has_a_level() -> None:
    """A new state cannot be forgotten here."""
    assert set(LEVELS) == set(State)
