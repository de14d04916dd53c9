"""What operators want of the services outlives the process, in a folder."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from plait import Application, Intent, Runner, State
from plait.errors import UsageError
from plait.testing import running
from reloading import change, environ, make_app


def kept(folder: Path) -> Any:
    return json.loads((folder / "intents-tree.json").read_text())["intents"]


async def test_a_process_that_starts_again_comes_back_as_it_was_left(tmp_path: Path) -> None:
    """Down is not started, paused comes up paused, the rest is up; the folder is made."""
    services: dict[str, Any] = {"down": {}, "paused": {"kind": "pausable"}, "up": {}}
    folder = tmp_path / "var" / "state"
    async with running(make_app, environ=environ(**services), state_dir=folder) as run:
        await run["down"].stop()
        await run["paused"].pause()
        assert kept(folder) == {"down": {"intent": "down"}, "paused": {"intent": "paused"}}
    async with running(make_app, environ=environ(**services), state_dir=folder) as run:
        assert [run[name].state for name in services] == [State.NEW, State.PAUSED, State.RUNNING]
        await run["down"].start()
        await run["paused"].resume()
    assert kept(folder) == {}


async def test_the_command_has_returned_only_when_it_is_written(tmp_path: Path) -> None:
    """A process that is killed right after it loses nothing: the file was replaced as a whole."""
    async with running(make_app, environ=environ(a={}), state_dir=tmp_path) as run:
        before = os.stat(tmp_path).st_mtime_ns
        await run["a"].stop()
        assert kept(tmp_path) == {"a": {"intent": "down"}}
        assert os.stat(tmp_path).st_mtime_ns > before
        assert os.listdir(tmp_path) == ["intents-tree.json"]


async def test_a_stop_of_the_application_is_no_wish_to_have_it_down(tmp_path: Path) -> None:
    """Nor is a service that was removed."""
    async with running(make_app, environ=environ(a={}, b={}), state_dir=tmp_path) as run:
        await run["a"].stop()
        await run.app.remove("a")
    assert kept(tmp_path) == {}


async def test_the_whole_application_paused(tmp_path: Path) -> None:
    """Its path is "/"."""
    async with running(make_app, environ=environ(a={"kind": "pausable"}), state_dir=tmp_path) as run:
        await run.app.pause()
        assert kept(tmp_path) == {"/": {"intent": "paused"}}
    async with running(make_app, environ=environ(a={"kind": "pausable"}), state_dir=tmp_path) as run:
        assert (run.app.state, run["a"].state) == (State.PAUSED, State.PAUSED)
        assert run.app.intent is Intent.PAUSED


async def test_a_reload_keeps_what_is_there_and_drops_what_is_gone(tmp_path: Path) -> None:
    """Also what is down in the new generation, and what runs only once, which the old one hands over."""
    services: dict[str, Any] = {"a": {}, "gone": {}, "t": {"placement": "one"}}
    async with running(make_app, environ=environ(**services), state_dir=tmp_path) as run:
        await run["a"].stop()
        await run["gone"].stop()
        del services["gone"]
        change(run, **services, more={})
        await run.reload()
        assert kept(tmp_path) == {"a": {"intent": "down"}}


async def test_a_service_that_is_gone_at_the_start_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And dropped with the next change."""
    caplog.set_level(logging.INFO, "plait")
    async with running(make_app, environ=environ(a={}, gone={}), state_dir=tmp_path) as run:
        await run["gone"].stop()
        await run["a"].stop()
    async with running(make_app, environ=environ(a={}), state_dir=tmp_path) as run:
        assert "service 'gone' was to be down, and is gone: that is dropped" in caplog.messages
        assert "service 'a' comes back down, as an operator left it" in caplog.messages
        await run["a"].start()
    assert kept(tmp_path) == {}


@pytest.mark.parametrize(
    "content",
    [
        "not JSON",
        "[]",
        '{"version": 2, "intents": {}}',
        '{"version": 1, "intents": {"a": {"intent": "sideways"}}}',
        '{"version": 1, "intents": {"a": {"intent": "down", "mode": 3}}}',
        '{"version": 1}',
    ],
)
async def test_a_file_that_is_not_ours_is_an_error_with_the_cure(tmp_path: Path, content: str) -> None:
    """Starting what an operator has stopped would be worse; the file is left as it is."""
    file = tmp_path / "intents-tree.json"
    file.write_text(content)
    with pytest.raises(UsageError, match=r"intents-tree\.json is not what Plait wrote.*move it away"):
        await Runner(make_app, environ=environ(a={}), state_dir=tmp_path).serve()
    assert file.read_text() == content


async def test_a_folder_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    """With the system's reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be read"):
        await Runner(make_app, environ=environ(a={}), state_dir=tmp_path / "file" / "below").serve()


async def test_a_file_that_cannot_be_written_is_said_and_the_command_holds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk is full, say: the service is down all the same."""
    async with running(make_app, environ=environ(a={}), state_dir=tmp_path) as run:
        (tmp_path / "intents-tree.new").mkdir()
        await run["a"].stop()
        assert run["a"].state is State.STOPPED
        assert any("cannot be written" in message for message in caplog.messages)


async def test_each_application_has_a_file_of_its_own(tmp_path: Path) -> None:
    """Two in one folder do not mix."""

    def other() -> Application:
        app = Application("other")
        app.add(make_app.__globals__["Thing"](), name="a")
        return app

    async with running(make_app, environ=environ(a={}), state_dir=tmp_path) as run:
        await run["a"].stop()
    async with running(other, state_dir=tmp_path) as run:
        assert run["a"].state is State.RUNNING
