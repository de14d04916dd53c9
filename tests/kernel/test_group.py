"""Groups: add, find, remove, and the names that are Plait's own."""

from __future__ import annotations

import logging

import pytest

from diary import Diary, Writer
from plait import Application, Group, Service, State
from plait.errors import InvalidTree, LifecycleError


def test_a_name_is_the_class_in_snake_case_unless_given() -> None:
    """HTTPServer is http_server."""

    class HTTPServer2(Service):
        pass

    app = Application("shop")
    assert app.add(HTTPServer2()).name == "http_server2"
    assert app.add(HTTPServer2(), name="web").path == "web"
    assert app.add(Group(), name="back").add(Service(), name="db").path == "back/db"
    assert app.name == "shop"
    assert Application().name == "application"


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("a/b", ValueError, "no name for a service"),
        ("", ValueError, "no name for a service"),
        ("a b", ValueError, "no name for a service"),
        (7, ValueError, "no name for a service"),
        ("db", InvalidTree, "application 'shop' has a service 'db' already"),
    ],
)
def test_a_wrong_name_is_refused(name: str, error: type[Exception], message: str) -> None:
    """And nothing is registered."""
    app = Application("shop")
    app.add(Service(), name="db")
    with pytest.raises(error, match=message):
        app.add(Service(), name=name)
    assert [service.name for service in app] == ["db"]


def test_what_is_no_service_is_refused() -> None:
    """A class, another object, an application, a service that is elsewhere, a group in itself."""
    app, group, service = Application("shop"), Group(), Service()
    app.add(service, name="db")
    with pytest.raises(TypeError, match="takes a service, not the class Service; call it first"):
        app.add(Service)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="takes a Service, not 'db'"):
        app.add("db")  # type: ignore[type-var]
    with pytest.raises(InvalidTree, match="is an application"):
        app.add(Application("other"))
    with pytest.raises(InvalidTree, match="service 'db' is in application 'shop' already"):
        group.add(service)
    with pytest.raises(InvalidTree, match="would hold itself"):
        group.add(group)


def test_needs_of_a_wrong_type_are_refused() -> None:
    """One text is not a list of texts."""
    app = Application("shop")
    with pytest.raises(TypeError, match=r"write needs=\['db'\]"):
        app.add(Service(), needs="db")
    with pytest.raises(TypeError, match="needs holds 7"):
        app.add(Service(), needs=[7])  # type: ignore[list-item]
    assert list(app) == []


async def test_a_need_that_was_never_added_is_named() -> None:
    """The object exists, and is in no group."""
    app = Application("shop")
    app.add(Service(), name="web", needs=[Service()])
    with pytest.raises(InvalidTree, match="in no group of this application"):
        await app.serve()


def test_lookup_by_path() -> None:
    """A wrong one names the nearest."""
    app = Application("shop")
    db = app.add(Group(), name="back").add(Service(), name="db")
    assert app["back/db"] is db
    assert "back/db" in app
    assert "db" not in app
    with pytest.raises(KeyError, match="did you mean 'back/db'"):
        app["back/dbx"]


async def test_a_service_added_to_a_running_group_stays_new_until_started(diary: Diary) -> None:
    """Then it starts after what it needs, which runs already."""
    app = Application("shop")
    app.add(Writer(diary), name="db")
    async with app:
        late = app.add(Writer(diary), name="late", needs=["db"])
        assert late.state is State.NEW
        await late.start()
        assert late.state is State.RUNNING
    assert diary[-2:] == ["late on_stop", "db on_stop"]


async def test_starting_a_running_group_starts_what_was_added_to_it(diary: Diary) -> None:
    """And leaves alone what runs."""
    app = Application("shop")
    back = app.add(Group(), name="back")
    back.add(Writer(diary), name="one")
    async with app:
        back.add(Writer(diary), name="two")
        await back.start()
        assert diary == ["one on_start", "two on_start"]


async def test_a_service_whose_need_is_down_cannot_be_started_by_itself(diary: Diary) -> None:
    """It says what to start first."""
    app = Application("shop")
    app.add(Writer(diary), name="db")
    web = app.add(Writer(diary), name="web", needs=["db"])
    async with app:
        await web.stop()
        await app["db"].stop()
        with pytest.raises(LifecycleError, match="service 'web' needs service 'db', which is stopped; start that"):
            await web.start()


async def test_a_service_added_with_a_wrong_need_is_found_out_when_it_starts() -> None:
    """And harms nobody else."""
    app = Application("shop")
    app.add(Service(), name="db")
    async with app:
        late = app.add(Service(), name="late", needs=["nobody"])
        with pytest.raises(InvalidTree, match="'nobody'"):
            await late.start()
        assert app.state is State.RUNNING


async def test_remove_drains_stops_and_forgets(diary: Diary) -> None:
    """The name is free again, and so is the service."""
    app = Application("shop")
    service = app.add(Writer(diary), name="db")
    app.add(Service(), name="other")
    async with app:
        await app.remove("db")
        assert "db" not in app
        assert diary == ["db on_start", "db on_stop"]
        await app.add(service, name="db").start()
        assert service.state is State.RUNNING


async def test_remove_refuses_while_another_needs_it(diary: Diary) -> None:
    """Unless told to remove those first."""
    app = Application("shop")
    back = app.add(Group(), name="back")
    back.add(Writer(diary), name="db")
    app.add(Writer(diary), name="api", needs=["/back/db"])
    app.add(Writer(diary), name="web", needs=["api"])
    async with app:
        with pytest.raises(LifecycleError, match="needed by service 'web', service 'api'; remove those first"):
            await app.remove("back")
        assert len(list(app)) == 3
        diary.clear()
        await app.remove("back", dependents=True)
        assert diary == ["web on_stop", "api on_stop", "db on_stop"]
        assert list(app) == []


async def test_remove_of_what_is_not_there_says_what_is() -> None:
    """By name."""
    app = Application("shop")
    app.add(Service(), name="db")
    with pytest.raises(LifecycleError, match="application 'shop' has no service 'dv'; it has db"):
        await app.remove("dv")


# -- the names that are Plait's own ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["start", "stop", "name", "state", "log", "spawn", "ready", "application"])
def test_overriding_a_public_name_is_refused_when_the_class_is_made(name: str) -> None:
    """With the cure, where there is one."""
    with pytest.raises(TypeError, match=f"overrides {name!r}, which Service keeps for itself"):
        type("Mine", (Service,), {name: lambda self: None})


def test_a_group_has_no_run() -> None:
    """Nor may an application be given another serve."""
    with pytest.raises(TypeError, match="overrides 'run', which Group keeps"):
        type("Mine", (Group,), {"run": lambda self: None})
    with pytest.raises(TypeError, match="overrides 'serve', which Application keeps"):
        type("Mine", (Application,), {"serve": lambda self: None})


@pytest.mark.parametrize("name", ["start", "stop", "name", "state", "log", "stopping", "on_start", "run"])
def test_assigning_a_reserved_attribute_is_refused(name: str) -> None:
    """`self.stop = asyncio.Event()` is a natural mistake, and would silently shadow the method."""
    with pytest.raises(TypeError, match=rf"assigns to self\.{name}"):
        setattr(Service(), name, object())


def test_no_upcall_is_needed() -> None:
    """Neither in a service nor in a group nor in an application."""

    class Mine(Application):
        def __init__(self) -> None:
            self.mine = True

    app = Mine()
    assert (app.name, app.shutdown_timeout, app.strategy) == ("mine", 25.0, "one_for_one")
    assert app.add(Service(), name="db").path == "db"


async def test_the_log_carries_the_path_and_the_incarnation(caplog: pytest.LogCaptureFixture) -> None:
    """So that every sink can show them."""

    class Talking(Service):
        async def on_start(self) -> None:
            self.log.info("hello %s", "there", extra={"mine": 1})

    app = Application("shop")
    app.add(Group(), name="back").add(Talking(), name="talking")
    with caplog.at_level(logging.INFO):
        async with app:
            pass
    (record,) = [record for record in caplog.records if record.getMessage() == "hello there"]
    assert (record.service, record.incarnation, record.mine) == ("back/talking", 1, 1)  # type: ignore[attr-defined]
