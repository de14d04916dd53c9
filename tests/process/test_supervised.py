"""Supervision under `plait run`, end to end: real processes whose services fail, and what the log says of it."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from running import Running, until

APP = '''
import asyncio, time
from plait import Application, Group, Service
from plait.errors import DoNotRestart

class Db(Service):
    async def on_start(self): ...
    async def on_stop(self): self.log.info("db was closed")

class Crashes(Service):
    """Fails in its first incarnations, so many."""
    times = 1
    lived = 0
    async def run(self):
        Crashes.lived += 1
        lived = Crashes.lived
        await self.application.wait_ready()
        await asyncio.sleep(0.02)
        if lived <= self.times:
            raise ConnectionError("the database went away")
        self.log.info("this time it works")
        await asyncio.Event().wait()

class Always(Crashes):
    times = 10**9

class Quits(Service):
    async def run(self):
        await self.application.wait_ready()
        raise DoNotRestart("wrong password")

class Job(Service):
    async def run(self):
        await self.application.wait_ready()

def app(*services, **settings):
    made = Application("shop", **settings)
    made.add(Db(), name="db")
    for number, (service, policy) in enumerate(services):
        made.add(service(), name=f"it{number or ''}", needs=["db"], **policy)
    return made

def hurried(made):
    """Its delays are a hundredth of what they are."""
    from plait._kernel import backoff
    backoff.FIRST, backoff.MOST = 0.005, 0.1
    return made

comes_back = lambda: app((Crashes, {}))
gives_up = lambda: hurried(app((Always, {})))
parks = lambda: hurried(app((Always, {"on_exhausted": "park"})))
quits = lambda: app((Quits, {}))
quits_significant = lambda: app((Quits, {"significant": True}))
returns_always = lambda: hurried(app((Job, {"restart": "always"})))

def group():
    made = hurried(Application("shop"))
    made.add(Db(), name="db")
    group = made.add(Group(strategy="one_for_all"), name="back", on_exhausted="park")
    group.add(Always(), name="it")
    group.add(Db(), name="beside")
    return made

class Lives(Service):
    """Fails again and again after a moment of health, as supervision counts it here."""
    async def on_start(self):
        self.spawn(asyncio.Event().wait())
        self.data = bytearray(100_000)
    async def run(self):
        await self.application.wait_ready()
        await asyncio.sleep(0.004)
        raise ConnectionError("again")

def for_ever():
    from plait._kernel import backoff
    backoff.FIRST, backoff.HEALTHY, backoff.LEAST_ALLOWED = 0.001, 0.0, 10**9
    made = Application("shop")
    made.add(Lives(), name="it")
    return made
'''


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    folder = tmp_path / "cwd"
    folder.mkdir()
    (folder / "app.py").write_text(APP)
    return folder


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def messages(app: Running, *, of: str | None = None) -> list[str]:
    """What was said, of one service."""
    return [record["message"] for record in app.records if of is None or record.get("service") == of]


def test_a_service_that_fails_comes_back(cwd: Path, loop: str) -> None:
    """One line for each step, the traceback once, and its health with them; the others go on."""
    with Running("--loop", loop, "app.py:comes_back", cwd=cwd) as app:
        app.expect("this time it works")
        app.expect("shop ready")
        app.send(signal.SIGTERM)
        assert app.wait() == 0
    failed, again, running, works, stopped = messages(app, of="it")[1:]
    assert failed == "it failed: ConnectionError: the database went away"
    assert re.fullmatch(r"it starts again in (0\.\d+|1) s: ConnectionError: the database went away", again)
    assert (running, works, stopped) == ("it running", "this time it works", "it stopped")
    assert [message for message in messages(app) if message.startswith("shop ")] == [
        "shop degraded: it: waits to be started again after ConnectionError",
        "shop ready",
    ]
    levels = {record["message"]: record["level"] for record in app.records}
    assert (levels[failed], levels[again], levels[running]) == ("error", "warning", "info")
    assert sum("traceback" in record for record in app.records) == 1
    assert [record["incarnation"] for record in app.records if record["message"] == "it running"] == [1, 2]
    assert messages(app).count("db was closed") == 1


def test_one_that_fails_too_often_ends_the_application(cwd: Path, loop: str) -> None:
    """The group gives up and says why; the rest stops in order; the last line names the service, and the code is 70."""
    with Running("--loop", loop, "app.py:gives_up", cwd=cwd) as app:
        assert app.wait() == 70
    last = messages(app)[-4:]
    assert last[0] == (
        "shop gives up: 11 failures in its group in 60 s, the last of service 'it': "
        "ConnectionError: the database went away"
    )
    assert last[1:3] == ["db was closed", "db stopped"]
    assert last[3] == "application 'shop' failed: service 'it': ConnectionError: the database went away"
    assert app.records[-1]["level"] == "critical"
    assert sum("it failed" in message for message in messages(app)) == 11


def test_one_that_is_parked_leaves_the_rest_running(cwd: Path, loop: str) -> None:
    """It waits for an operator, and says so; the application goes on, degraded, and stops cleanly."""
    with Running("--loop", loop, "app.py:parks", cwd=cwd) as app:
        app.expect("it parked until an operator starts it: 11 failures in 60 s, the last of service 'it'")
        app.expect("shop degraded: it: parked after ConnectionError")
        app.send(signal.SIGTERM)
        assert app.wait() == 0
    assert messages(app)[-1].startswith("application 'shop' stopped after ")


def test_a_group_that_gives_up_may_be_parked(cwd: Path, loop: str) -> None:
    """Its own service has used up the restarts of the group, which then uses up its own; nothing else is touched."""
    with Running("--loop", loop, "app.py:group", cwd=cwd) as app:
        app.expect("back parked until an operator starts it")
        app.send(signal.SIGTERM)
        assert app.wait() == 0
    said = messages(app)
    assert any(message.startswith("back gives up: 11 failures in its group") for message in said)
    assert said.count("db running") == 1


@pytest.mark.parametrize(("target", "code"), [("quits", 0), ("quits_significant", 70)])
def test_one_that_asks_not_to_be_started_again(cwd: Path, loop: str, target: str, code: int) -> None:
    """It stays failed; whether that ends its application is for `significant` to say."""
    with Running("--loop", loop, f"app.py:{target}", cwd=cwd) as app:
        app.expect("it failed: DoNotRestart: wrong password")
        if code == 0:
            app.send(signal.SIGTERM)
        assert app.wait() == code
    assert not any("starts again" in message for message in messages(app))
    assert ("application 'shop' failed: service 'it': DoNotRestart: wrong password" in messages(app)) is (code == 70)


def test_one_that_always_returns_is_started_again(cwd: Path, loop: str) -> None:
    """As often as it returns, without a word of failure."""
    with Running("--loop", loop, "app.py:returns_always", cwd=cwd) as app:
        app.expect_nth(3, "it running")
        app.send(signal.SIGTERM)
        assert app.wait() == 0
    assert {record["level"] for record in app.records} <= {"info", "warning"}
    assert any(message.endswith(": its run() returned") for message in messages(app))


def test_memory_is_flat_over_many_restarts(cwd: Path, loop: str) -> None:
    """Of the whole process, logging included: what 600 restarts need was there after 300."""
    with Running("--loop", loop, "app.py:for_ever", cwd=cwd) as app:
        app.expect_nth(300, "it running")
        middle, descriptors = _memory(app.pid), _descriptors(app.pid)
        app.expect_nth(900, "it running")
        assert _memory(app.pid) - middle < 1024 * 1024
        until(lambda: _descriptors(app.pid) <= descriptors, "no more descriptors than before")
        app.send(signal.SIGTERM)
        assert app.wait() == 0


def _memory(pid: int) -> int:
    """Its own memory, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
