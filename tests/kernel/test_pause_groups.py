"""Pausing and resuming groups and applications: who follows, in which order, and who is left out."""

from __future__ import annotations

import asyncio
import random

import pytest

from lives import Boom, Life, Pausable, Told, Worker, advance, serving, settle, states, virtual
from plait import Application, Group, Intent, State, events
from plait.errors import LifecycleError, PauseFailed


@pytest.fixture(autouse=True)
def _same_dice() -> None:
    random.seed(4)


class Hooked(Group):
    """A group with both hooks, and a diary."""

    def __init__(self, diary: list[str]) -> None:
        super().__init__()
        self.diary = diary
        self.fails: str | None = None

    async def on_pause(self) -> None:
        self.diary.append(f"{self.name} pauses")
        if self.fails == "pause":
            raise Boom(self.name)

    async def on_resume(self) -> None:
        self.diary.append(f"{self.name} resumes")
        if self.fails == "resume":
            raise Boom(self.name)


def tree(diary: list[str]) -> Application:
    """db ← api ← web in a group with hooks, and beside it what needs the group."""
    app = Application("shop")
    group = app.add(Hooked(diary), name="g")
    group.add(Pausable(diary), name="db")
    group.add(Pausable(diary), name="api", needs=["db"])
    group.add(Pausable(diary), name="web", needs=["api"])
    app.add(Pausable(diary), name="beside", needs=["g"])
    return app


def slowly(app: Application, seconds: float) -> None:
    """Each pause and resume takes so long."""
    for name in ("db", "api", "web"):
        service = app[f"g/{name}"]
        assert isinstance(service, Pausable)
        service.pauses = service.resumes = seconds


@virtual
async def test_a_group_pauses_in_reverse_and_resumes_in_order() -> None:
    """One after the other where they need each other; its own hook is the last of the pause and the first to resume."""
    diary: list[str] = []
    app = tree(diary)
    told = Told(app)
    async with serving(app):
        slowly(app, 1.0)
        diary.clear()
        assert await app["g"].pause() == ()
        assert diary == ["web pauses", "api pauses", "db pauses", "g pauses"]
        assert asyncio.get_running_loop().time() == 3.0
        assert states(app) == {"g/db": "paused", "g/api": "paused", "g/web": "paused", "beside": "running"}
        assert app["g"].state is State.PAUSED
        diary.clear()
        await app["g"].resume()
        assert diary == ["g resumes", "db resumes", "api resumes", "web resumes"]
        assert asyncio.get_running_loop().time() == 6.0
    assert told.moves("g")[2:6] == ["pausing", "paused", "resuming", "running"]
    assert [(event.path, event.new) for event in told.of(events.IntentChanged)] == [
        ("g", Intent.PAUSED), ("g", Intent.UP),
    ]  # fmt: skip


@virtual
async def test_branches_pause_in_parallel() -> None:
    """Nothing orders them."""
    app = Application("shop")
    group = app.add(Group(), name="group")
    for number in range(5):
        group.add(Pausable(), name=f"life{number}").pauses = 2.0
    async with serving(app):
        await group.pause()
        assert asyncio.get_running_loop().time() == 2.0


@virtual
async def test_a_pause_does_not_reach_dependents() -> None:
    """They turn degraded, and ready again."""
    diary: list[str] = []
    app = tree(diary)
    async with serving(app):
        await app["g"].pause()
        assert app["beside"].state is State.RUNNING
        assert str(app["beside"].health) == "degraded: g is paused"
        await app["g"].resume()
        assert str(app["beside"].health) == "ready"


@virtual
async def test_who_cannot_pause_goes_on_and_is_reported() -> None:
    """In the result, and as an event with the cure; the group is paused all the same."""
    app = Application("shop")
    group = app.add(Group(), name="group")
    group.add(Worker(), name="worker")
    group.add(Life(), name="life")
    inner = group.add(Group(), name="inner")
    inner.add(Life(), name="other")
    inner.add(Pausable(), name="able")
    told = Told(app)
    async with serving(app):
        assert await group.pause() == ("group/life", "group/inner/other")
        assert states(app) == {
            "group/worker": "paused", "group/life": "running", "group/inner/other": "running",
            "group/inner/able": "paused",
        }  # fmt: skip
        assert (group.state, inner.state) == (State.PAUSED, State.PAUSED)
        assert [(event.path, event.reason) for event in told.of(events.NotPaused)] == [
            (
                path,
                f"service {path!r} cannot pause; give it on_pause and on_resume, or await self.unpaused() in its run",
            )
            for path in ("group/life", "group/inner/other")
        ]
        await group.resume()
        assert set(states(app).values()) == {"running"}


@virtual
async def test_an_application_can_be_paused() -> None:
    """It is not ready then, and does not end, whatever ends in it."""
    app = Application("shop")
    app.add(Pausable(), name="life")
    worker = app.add(Worker(), name="worker")
    job = app.add(Life(), name="job")
    async with serving(app) as task:
        assert await app.pause() == ("job",)
        assert app.state is State.PAUSED
        assert str(app.health) == "unready: paused"
        await advance(5)
        assert worker.done == 1  # what it had in hand
        job.finish()
        await advance(5)
        assert not task.done()
        await app.resume()
        assert str(app.health) == "ready"
        await advance(5)
        assert worker.done == 6


@virtual
async def test_an_application_that_is_paused_has_not_ended() -> None:
    """It ends when it is resumed and nothing is left."""
    app = Application("shop")
    job = app.add(Life(), name="job")
    async with serving(app) as task:
        await app.pause()
        job.finish()
        await advance(100)
        assert not task.done()
        await app.resume()
        await settle()
        assert task.done()


@virtual
async def test_one_paused_by_itself_stays_so_when_its_group_is_resumed() -> None:
    """Its intent is its own."""
    diary: list[str] = []
    app = tree(diary)
    async with serving(app):
        await app["g/api"].pause(mode="refuse")
        await app["g"].pause(mode="hold")
        diary.clear()
        await app["g"].resume()
        assert states(app) == {"g/db": "running", "g/api": "paused", "g/web": "running", "beside": "running"}
        assert diary == ["g resumes", "db resumes", "web resumes"]
        assert app.snapshot().services[0].services[1].pause_mode == "refuse"
        await app["g/api"].resume()
        assert set(states(app).values()) == {"running"}


@virtual
async def test_resuming_one_in_a_paused_group_is_refused() -> None:
    """Its group is what was paused; nothing is changed, and it follows that."""
    diary: list[str] = []
    app = tree(diary)
    async with serving(app):
        await app["g/api"].pause()
        await app["g"].pause()
        for path in ("g/api", "g/db"):
            with pytest.raises(LifecycleError, match="is paused with group 'g'; resume that"):
                await app[path].resume()
        assert app["g/api"].intent is Intent.PAUSED
        await app.pause()
        with pytest.raises(LifecycleError, match="is paused with application 'shop'; resume that"):
            await app["g"].resume()
        assert app["g"].intent is Intent.PAUSED
        await app.resume()
        assert app["g"].state is State.PAUSED


@virtual
async def test_a_mode_reaches_all_in_a_group_that_know_it() -> None:
    """A service's own goes before its group's."""
    diary: list[str] = []
    app = tree(diary)
    async with serving(app):
        await app["g/web"].pause(mode="hold")
        await app["g"].pause(mode="refuse")
        assert [line for line in diary if "pauses" in line] == [
            "web pauses hold", "api pauses refuse", "db pauses refuse", "g pauses",
        ]  # fmt: skip
        with pytest.raises(ValueError, match="it knows hold, refuse"):
            await app["g"].pause(mode="hode")


@virtual
async def test_a_group_paused_before_the_start_comes_up_paused() -> None:
    """All in it that can; what needs it starts. One that cannot is reported."""
    diary: list[str] = []
    app = tree(diary)
    app["g"].add(Life(), name="unable")  # type: ignore[attr-defined]
    await app["g"].pause()
    told = Told(app)
    async with serving(app):
        assert states(app) == {
            "g/db": "paused", "g/api": "paused", "g/web": "paused", "g/unable": "running", "beside": "running",
        }  # fmt: skip
        assert app["g"].state is State.PAUSED
        assert "g pauses" in diary
        assert [event.path for event in told.of(events.NotPaused)] == ["g/unable"]
        await app["g"].resume()
        assert set(states(app).values()) == {"running"}


@virtual
async def test_a_plain_group_paused_before_the_start_never_was_running() -> None:
    """STARTING leads to PAUSED."""
    app = Application("shop")
    group = app.add(Group(), name="group")
    group.add(Worker(), name="worker")
    group.add(Life(), name="unable")
    await group.pause()
    told = Told(app)
    async with serving(app):
        assert told.moves("group") == ["starting", "paused"]
        assert states(app) == {"group/worker": "paused", "group/unable": "running"}
        assert [event.path for event in told.of(events.NotPaused)] == ["group/unable"]


@virtual
async def test_what_starts_in_a_paused_group_starts_paused() -> None:
    """A new service, one that comes back after a failure, one that an operator starts; one that cannot is reported."""
    app = Application("shop")
    group = app.add(Group(), name="group")
    failing = group.add(Pausable(), name="failing")
    down = group.add(Pausable(), name="down")
    unable = group.add(Life(), name="unable")
    told = Told(app)
    async with serving(app):
        await down.stop()
        assert await group.pause() == ("group/unable",)
        late = group.add(Worker(), name="late")
        await late.start()
        await down.start()
        failing.fail()
        unable.fail()
        await advance(1)
        assert states(app) == {
            "group/failing": "paused", "group/down": "paused", "group/unable": "running", "group/late": "paused",
        }  # fmt: skip
        assert [event.path for event in told.of(events.NotPaused)] == ["group/unable", "group/unable"]
        assert {one.intent for one in (failing, down, unable, late)} == {Intent.UP}
        await group.resume()
        assert set(states(app).values()) == {"running"}


@virtual
async def test_a_group_that_is_restarted_comes_back_paused_with_all_in_it() -> None:
    """By an operator, and after a failure of its own."""
    diary: list[str] = []
    app = tree(diary)
    group = app["g"]
    async with serving(app):
        await group.pause()
        await group.restart()
        assert [app[path].state for path in ("g", "g/db", "g/api", "g/web")] == [State.PAUSED] * 4
        group.spawn(_raise(Boom("own")))
        await advance(1)
        assert [app[path].state for path in ("g", "g/db", "g/api", "g/web")] == [State.PAUSED] * 4
        assert group._record.incarnation == 3


async def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("where", ["a service", "the group"])
@pytest.mark.parametrize("what", ["pause", "resume"])
@virtual
async def test_one_that_fails_of_it_does_not_keep_the_others(where: str, what: str) -> None:
    """They go on; who asked is told of it, and what failed comes back as it is wanted."""
    diary: list[str] = []
    app = tree(diary)
    group, api = app["g"], app["g/api"]
    assert isinstance(group, Hooked)
    assert isinstance(api, Pausable)
    async with serving(app):
        if what == "resume":
            await group.pause()
        if where == "a service":
            api.pauses = api.resumes = Boom("api")
        else:
            group.fails = what
        with pytest.raises(PauseFailed, match=f"group 'g' did not {what} cleanly") as caught:
            await getattr(group, what)()
        assert [str(error) for error in caught.value.exceptions] == ["api" if where == "a service" else "g"]
        api.pauses, api.resumes, group.fails = 0.0, 0.0, None
        await advance(2)
        wanted = State.PAUSED if what == "pause" else State.RUNNING
        assert [app[path].state for path in ("g", "g/db", "g/api", "g/web")] == [wanted] * 4


@virtual
async def test_pausing_a_group_in_which_one_waits_or_is_down() -> None:
    """They come back paused; nobody waits for them."""
    app = Application("shop")
    group = app.add(Group(), name="group")
    waiting = group.add(Pausable(), name="waiting")
    down = group.add(Pausable(), name="down")
    app.add(Life(), name="other")
    async with serving(app):
        waiting.fail()
        await down.stop()
        await settle()
        assert await group.pause() == ()
        assert states(app) == {"group/waiting": "backoff", "group/down": "stopped", "other": "running"}
        await advance(1)
        assert waiting.state is State.PAUSED
        assert down.intent is Intent.DOWN


@virtual
async def test_pausing_a_group_in_which_one_is_starting() -> None:
    """It comes up paused, while the others have paused already."""
    app = Application("shop")
    group = app.add(Group(), name="group")
    group.add(Pausable(), name="life")
    async with serving(app):
        late = group.add(Pausable(starts=5.0), name="late")
        starting = asyncio.create_task(late.start())
        await settle()
        await group.pause()
        assert states(app) == {"group/life": "paused", "group/late": "starting"}
        await starting
        await settle()
        assert late.state is State.PAUSED


@virtual
async def test_one_that_begins_to_pause_before_its_turn_has_come_is_waited_for() -> None:
    """Its run asks while the group is on its way: its hook is called once, and the group is paused after it."""

    class Asking(Pausable):
        async def run(self) -> None:
            await asyncio.sleep(1.5)
            await self.unpaused()
            await super().run()

    diary: list[str] = []
    app = Application("shop")
    group = app.add(Hooked(diary), name="g")
    asking = group.add(Asking(diary), name="asking")
    group.add(Pausable(diary), name="user", needs=["asking"]).pauses = 2.0
    async with serving(app):
        asking.pauses = 3.0
        await advance(1)
        await group.pause()
        assert diary[-3:] == ["user pauses", "asking pauses", "g pauses"]
        assert asyncio.get_running_loop().time() == 4.5


@pytest.mark.parametrize("when", [0.5, 1.5, 2.5, 3.5])
@virtual
async def test_a_resume_that_overtakes_a_pause(when: float) -> None:
    """At each step of the pause: all run in the end, and both callers return."""
    diary: list[str] = []
    app = tree(diary)
    async with serving(app):
        slowly(app, 1.0)
        pausing = asyncio.create_task(app["g"].pause())
        await advance(when)
        await app["g"].resume()
        await pausing
        assert [app[path].state for path in ("g", "g/db", "g/api", "g/web")] == [State.RUNNING] * 4


@pytest.mark.parametrize("when", [0.5, 1.5, 2.5, 3.5])
@virtual
async def test_a_pause_that_overtakes_a_resume(when: float) -> None:
    """At each step of the resume: all are paused in the end."""
    diary: list[str] = []
    app = tree(diary)
    async with serving(app):
        await app["g"].pause()
        slowly(app, 1.0)
        resuming = asyncio.create_task(app["g"].resume())
        await advance(when)
        await app["g"].pause()
        await resuming
        assert [app[path].state for path in ("g", "g/db", "g/api", "g/web")] == [State.PAUSED] * 4


@pytest.mark.parametrize("when", [0.5, 1.5, 2.5])
@pytest.mark.parametrize("verb", ["pause", "resume"])
@virtual
async def test_one_service_is_commanded_while_its_group_is_on_its_way(when: float, verb: str) -> None:
    """What is wanted of each counts, whoever moves it."""
    diary: list[str] = []
    app = tree(diary)
    async with serving(app):
        if verb == "resume":
            await app["g"].pause()
        slowly(app, 1.0)
        moving = asyncio.create_task(getattr(app["g"], verb)())
        await advance(when)
        diary.clear()
        await app["g/api"].pause()
        await moving
        if verb == "resume" and when == 0.5:
            assert "api resumes" not in diary  # its turn had not come
        assert app["g/api"].state is State.PAUSED
        others = {app[path].state for path in ("g", "g/db", "g/web")}
        assert others == {State.PAUSED if verb == "pause" else State.RUNNING}
        await app["g"].resume()
        assert app["g/api"].state is State.PAUSED


@pytest.mark.parametrize("when", [0.5, 1.5, 2.5])
@pytest.mark.parametrize("command", ["stop", "restart", "remove"])
@pytest.mark.parametrize("verb", ["pause", "resume"])
@virtual
async def test_a_service_leaves_while_its_group_is_on_its_way(when: float, command: str, verb: str) -> None:
    """The others arrive all the same; one that comes back is as the group is."""
    diary: list[str] = []
    app = tree(diary)
    group = app["g"]
    assert isinstance(group, Hooked)
    async with serving(app):
        if verb == "resume":
            await group.pause()
        slowly(app, 1.0)
        moving = asyncio.create_task(getattr(group, verb)())
        await advance(when)
        if command == "remove":
            await group.remove("api", dependents=True)
        else:
            await getattr(app["g/api"], command)()
        await moving
        await advance(5)
        wanted = State.PAUSED if verb == "pause" else State.RUNNING
        assert {app[path].state for path in ("g", "g/db")} == {wanted}
        if command == "restart":
            assert app["g/api"].state is wanted
        if command == "stop":
            assert app["g/api"].state is State.STOPPED
        assert not app._root_engine.operations


@pytest.mark.parametrize("when", [0.5, 1.5, 2.5, 3.5])
@pytest.mark.parametrize("verb", ["pause", "resume"])
@virtual
async def test_the_application_stops_while_a_group_is_on_its_way(when: float, verb: str) -> None:
    """In order and quietly; who waited for the pause returns."""
    diary: list[str] = []
    app = tree(diary)
    async with serving(app) as task:
        if verb == "resume":
            await app["g"].pause()
        slowly(app, 1.0)
        moving = asyncio.create_task(getattr(app["g"], verb)())
        await advance(when)
        diary.clear()
        await app.stop()
        await moving
        await task
        assert [line for line in diary if line.endswith("stopped")] == [
            "beside stopped", "web stopped", "api stopped", "db stopped",
        ]  # fmt: skip
        assert len(app._root_engine.deadlines) == 0
        assert not app._root_engine.operations
