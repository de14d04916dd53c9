"""An application around a body: started, watched, reloaded, stopped, and judged at the end."""
# ruff: noqa: PT012  # what a body does, and where it ends, is what is tested

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from plait import Application, Group, Options, Service, State
from plait._kernel.events import Listening, ReloadEnded, StateChanged
from plait.errors import (
    ApplicationFailed,
    InjectedFault,
    InvalidTree,
    Leaked,
    OptionsError,
    ReloadFailed,
    RunFailed,
    StartFailed,
    StopTimeout,
)
from plait.net import Server
from plait.testing import Faults, Recorder, Running, advance, running

pytestmark = pytest.mark.usefixtures("no_leaks")
virtual_clock = pytest.mark.virtual_clock


class ShopOptions(Options):
    """A shop."""

    word: str = "hello"
    listen: str = "tcp://127.0.0.1:0"


class Db(Service):
    """Waits until it is stopped."""

    async def run(self) -> None:
        await self.stopping


class Says(Service):
    """Takes another word live."""

    def __init__(self, word: str) -> None:
        self.word = word

    async def on_reload(self, word: str) -> None:
        if word == "bad":
            raise ValueError("a bad word")
        self.word = word


def make_shop(options: ShopOptions) -> Application:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(options.word.encode())

    app = Application("shop")
    app.add(Db(), name="db")
    app.add(Server(options.listen, greet), name="web", needs=["db"])
    return app


def make_live(options: ShopOptions) -> Application:
    app = Application("live")
    app.add(Says(options.word), name="says")
    return app


def make_small() -> Application:
    app = Application("small", shutdown_timeout=8)
    app.add(Db(), name="db", stop_timeout=4)
    app.add(Db(), name="web", needs=["db"], stop_timeout=4)
    return app


def not_cancelled_any_more() -> None:
    """A timeout around the test would else take the cancellation for its own."""
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


def lose(run: Running, path: str) -> None:
    """Make a service fail, and not by a fault."""
    record = run[path]._record
    run[path]._engine().life(record).fail(ValueError("lost"))


async def word_of(run: Running) -> str:
    """What the server says to who connects."""
    endpoint = run.recorder.of(Listening, path="web")[-1].endpoint
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    word = await reader.read()
    writer.close()
    await writer.wait_closed()
    return word.decode()


# -- starting and stopping -------------------------------------------------------------------------------------------


async def test_it_is_ready_in_the_body_and_stopped_after_it() -> None:
    """With the options of its own command line and environment; on asyncio's loop and on uvloop."""
    async with running(make_shop, ["--word", "hi"], environ={"SHOP_LISTEN": "tcp://127.0.0.1:0"}) as run:
        assert {one.state for one in run.app.snapshot().walk()} == {State.RUNNING}
        assert await word_of(run) == "hi"
        assert run["db"] is run.app["db"]
        assert run.recorder.paths(StateChanged, new=State.RUNNING) == ["db", "web", "/"]
    assert run.recorder.paths(StateChanged, new=State.STOPPED) == ["web", "db", "/"]


@virtual_clock
async def test_the_machines_environment_stays_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it is given."""
    monkeypatch.setenv("SHOP_WORD", "from the machine")
    async with running(make_live) as run:
        assert run["says"].word == "hello"  # type: ignore[attr-defined]
    async with running(make_live, environ=os.environ) as run:
        assert run["says"].word == "from the machine"  # type: ignore[attr-defined]


@virtual_clock
async def test_every_kind_of_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An application, a service, a factory, a text; with a file and settings for its options."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    Path("testing_target.py").write_text("from plait import Service\nclass It(Service): ...\napp = It()\n")
    Path("shop.toml").write_text('word = "from the file"\n')
    for target in (make_small(), Db(), make_small, "testing_target.py"):
        async with running(target) as run:  # type: ignore[arg-type]
            assert run.app.state is State.RUNNING
    async with running(make_live, config="shop.toml") as run:
        assert run["says"].word == "from the file"  # type: ignore[attr-defined]
    Path("shop.env").write_text("SHOP_WORD=dotted\n")
    async with running(make_live, env_file="shop.env") as run:
        assert run["says"].word == "dotted"  # type: ignore[attr-defined]
    async with running(make_live, sets=["word=set"]) as run:
        assert run["says"].word == "set"  # type: ignore[attr-defined]


@virtual_clock
async def test_what_keeps_it_from_starting_is_raised() -> None:
    """Wrong options, an empty tree, a service that fails: no body is run, and nothing is left."""
    for target, argv, error in (
        (make_live, ["--wrod", "x"], OptionsError),
        (lambda: Application("empty"), [], InvalidTree),
        (make_small, [], StartFailed),
    ):
        with Faults() as faults:
            if target is make_small:
                faults.fail("web", "on_start")
            with pytest.raises(error):
                async with running(target, argv, faults=faults):  # type: ignore[arg-type]
                    raise AssertionError("the body was run")


@virtual_clock
async def test_one_that_has_ended_by_itself_is_fine() -> None:
    """A job, say: in the body it has ended, or ends."""

    class Job(Service):
        async def run(self) -> None:
            await asyncio.sleep(5)

    async with running(Job()) as run:
        await run.ended()
        assert run.app.state is State.STOPPED
    async with running(Job()) as run:
        await run.stop()
        assert run.app.state is State.STOPPED


@virtual_clock
async def test_cancelled_while_it_starts() -> None:
    """It is stopped in order, and the caller is cancelled."""

    async def test() -> None:
        async with running(make_small, faults=faults):
            raise AssertionError("the body was run")

    with Faults() as faults:
        fault = faults.hang("web", "on_start")
        task = asyncio.create_task(test())
        await fault.struck()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# -- what goes wrong -------------------------------------------------------------------------------------------------


@virtual_clock
async def test_an_application_that_fails_cancels_the_body() -> None:
    """And is what is raised, not the cancellation; the task can go on afterwards."""
    with pytest.raises(ApplicationFailed, match="'db': ValueError: lost") as caught:
        async with running(failing()) as run:
            run.faults.crash("db", ValueError("lost"))
            await asyncio.Event().wait()
    assert len(caught.value.exceptions) == 1
    not_cancelled_any_more()
    await asyncio.sleep(1)


@virtual_clock
async def test_a_body_that_is_over_when_the_application_fails() -> None:
    """Or fails of that: the application's failure goes first, the body's own is beside it."""
    with pytest.raises(ApplicationFailed, match="lost"):
        async with running(failing()) as run:
            run.faults.crash("db", ValueError("lost"))
            await run.ended()
    not_cancelled_any_more()
    await asyncio.sleep(1)
    with pytest.raises(ApplicationFailed, match="lost") as caught:
        async with running(failing()) as run:
            run.faults.crash("db", ValueError("lost"))
            try:
                await asyncio.Event().wait()
            finally:
                raise KeyError("of the body")
    assert [type(error) for error in caught.value.exceptions] == [ValueError, KeyError]
    await asyncio.sleep(1)


@virtual_clock
async def test_a_cancellation_from_outside_stays_one() -> None:
    """A timeout around it all, say, also where the application fails in the same turn; it is stopped in order."""
    for crashes in (False, True):
        recorder = Recorder()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5), running(failing(), recorder=recorder) as run:
                if crashes:
                    asyncio.get_running_loop().call_later(5, run.faults.crash, "db")
                await asyncio.Event().wait()
        assert recorder.states("/")[-1] in (State.STOPPED, State.FAILED)
        await asyncio.sleep(1)


def failing() -> Application:
    """A failure of its service is its own."""
    app = make_small()
    app.add(Group(), name="extra")
    app["db"]._record.policy = app["db"]._record.policy.override({"restart": "never", "significant": True})
    return app


@virtual_clock
async def test_a_service_that_failed_fails_the_test_though_it_was_restarted() -> None:
    """Nobody saw it, since supervision repaired it; the test must."""
    with pytest.raises(RunFailed, match="'small' did what the test did not expect") as caught:
        async with running(make_small) as run:
            lose(run, "db")
            await run.recorder.wait(StateChanged, path="db", new=State.RUNNING, incarnation=2)
    (error,) = caught.value.exceptions
    assert isinstance(error, ValueError)
    assert "service 'db', incarnation 1" in error.__notes__[0]


@virtual_clock
async def test_a_failure_that_was_expected_does_not() -> None:
    """Of a path in `may_fail`, or with a fault on it; only of that."""
    async with running(make_small, may_fail=["web"]) as run:
        run.faults.crash("db")
        lose(run, "web")
        await advance(60)
    recorder = Recorder()
    with pytest.raises(RunFailed):
        async with running(make_small, may_fail=["web"], recorder=recorder) as run:
            lose(run, "db")
            await advance(60)
            recorder.events.clear()
    async with running(make_small, recorder=recorder):
        recorder.events.extend(run.recorder.events)  # what the recorder has of others is no evidence


@virtual_clock
async def test_what_goes_wrong_while_it_stops_is_raised() -> None:
    """An error of on_stop, and what would not stop, by name."""

    class Unclean(Db):
        async def on_stop(self) -> None:
            raise ValueError("unclean")

    with pytest.raises(ApplicationFailed, match="unclean"):
        async with running(Unclean()):
            pass

    class Stubborn(Service):
        async def run(self) -> None:
            while not self.done:  # type: ignore[attr-defined]
                try:
                    await asyncio.sleep(1)
                except asyncio.CancelledError:
                    pass

    stubborn = Stubborn()
    stubborn.done = False  # type: ignore[attr-defined]
    with pytest.raises(ApplicationFailed) as caught:
        async with running(stubborn):
            pass
    assert "left behind: stubborn: its task at" in caught.value.__notes__[0]
    stubborn.done = True  # type: ignore[attr-defined]
    await advance(2)


@virtual_clock
async def test_a_stop_that_was_made_to_fail_is_expected() -> None:
    """A fault on a stop fails no test by itself; it ends within the deadline, and once restored leaves nothing."""
    async with running(make_small) as run:
        run.faults.ignore_cancellation("db", "on_stop")
        run.faults.hang("db", "on_stop")
    (failed,) = run.recorder.of(StateChanged, path="db", new=State.FAILED)
    assert isinstance(failed.error, StopTimeout)
    assert run.app.left_behind != ()


@virtual_clock
async def test_a_body_that_raises_keeps_its_exception() -> None:
    """With a note of what else went wrong; the application is stopped."""
    with pytest.raises(ZeroDivisionError) as caught:
        async with running(make_small) as run:
            lose(run, "db")
            await advance(60)
            raise ZeroDivisionError
    assert "and then: application 'small' did what the test did not expect" in caught.value.__notes__[0]
    assert run.app.state is State.STOPPED


@virtual_clock
async def test_one_that_does_not_stop_at_all_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its deadline: who is still there."""

    async def never(self: Any) -> None: ...

    with pytest.raises(RunFailed, match="it did not stop within 13 s") as caught:
        async with running(make_small) as run:
            monkeypatch.setattr("plait.process.runner.Runner.stop", never)
    (left,) = caught.value.exceptions
    assert isinstance(left, Leaked)
    assert left.left == ("/: running", "db: running", "web: running")
    await run.ended()


# -- reload ----------------------------------------------------------------------------------------------------------


@virtual_clock
async def test_a_live_reload() -> None:
    """`environ` is changed and read again; a dry run says what would be done."""
    async with running(make_live) as run:
        says = run["says"]
        assert (await run.reload()).kind == "nothing"
        run.environ["SHOP_WORD"] = "moin"
        assert (await run.reload(dry_run=True)).kind == "live"
        assert says.word == "hello"  # type: ignore[attr-defined]
        assert (await run.reload()).kind == "live"
        assert says.word == "moin"  # type: ignore[attr-defined]
        run.environ["SHOP_WORD"] = "bad"
        with pytest.raises(ReloadFailed):
            await run.reload()
        assert says.word == "moin"  # type: ignore[attr-defined]


async def test_a_new_generation() -> None:
    """It serves at the same port; `app`, and what is asked of it, is the new one; the recorder has both."""
    async with running(make_shop, environ={"SHOP_WORD": "one"}) as run:
        old = run.app
        assert await word_of(run) == "one"
        run.environ["SHOP_WORD"] = "two"
        assert (await run.reload()).kind == "generation"
        assert run.app is not old
        assert await word_of(run) == "two"
        ended = await run.recorder.wait(ReloadEnded)
        assert (ended.outcome, ended.generation) == ("generation", 2)
        await run.recorder.wait(StateChanged, path="/", generation=1, new=State.STOPPED)


@virtual_clock
async def test_faults_reach_the_next_generation() -> None:
    """By path, before it starts: a reload that fails, with the old generation serving on."""

    def make(options: ShopOptions) -> Application:
        app = Application("app")
        app.add(Db(), name="db")
        app.add(Word(options.word), name="word")
        return app

    class Word(Service):
        def __init__(self, word: str) -> None:
            self.word = word

    async with running(make) as run:
        fault = run.faults.fail("db", "on_start")
        run.environ["SHOP_WORD"] = "two"
        with pytest.raises(ReloadFailed) as caught:
            await run.reload()
        assert fault.strikes == 1
        assert isinstance(caught.value.__cause__, StartFailed)
        assert isinstance(caught.value.__cause__.exceptions[0], InjectedFault)
        assert run["word"].word == "hello"  # type: ignore[attr-defined]
        fault.lift()
        assert (await run.reload()).kind == "generation"
        assert run["word"].word == "two"  # type: ignore[attr-defined]
