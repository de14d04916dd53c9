"""Processes that the classic reactor starts."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import warnings
from typing import Any

import pytest
from wires import fired
from zope.interface.verify import verifyObject

from plait.classic.internet import defer, error, interfaces, protocol, reactor, utils


class Watch(protocol.ProcessProtocol):
    """Keeps what a process writes, and tells of its beginning and end."""

    def __init__(self) -> None:
        self.data: dict[int, bytes] = {}
        self.closed: list[int] = []
        self.exited: list[Any] = []
        self.ended: defer.Deferred[Any] = defer.Deferred()
        self.wrote: defer.Deferred[None] = defer.Deferred()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self.data[childFD] = self.data.get(childFD, b"") + data
        if not self.wrote.called:
            self.wrote.callback(None)

    def childConnectionLost(self, childFD: int) -> None:
        self.closed.append(childFD)

    def processExited(self, reason: Any) -> None:
        self.exited.append(reason.value)

    def processEnded(self, reason: Any) -> None:
        self.ended.callback(reason.value)


def spawn(watch: Watch, code: str, **how: Any) -> Any:
    """Python runs this code."""
    return reactor.spawnProcess(watch, sys.executable, [sys.executable, "-u", "-c", code], **{"env": None, **how})


async def test_input_output_and_exit_code() -> None:
    """Each descriptor by its number; the end comes once all are closed."""
    watch = Watch()
    process = spawn(watch, "import sys; sys.stderr.write('e'); sys.stdout.write(sys.stdin.read()[::-1]); sys.exit(3)")
    verifyObject(interfaces.IProcessTransport, process)
    process.write(b"abc")
    process.closeStdin()
    ended = await fired(watch.ended)
    assert isinstance(ended, error.ProcessTerminated)
    assert (ended.exitCode, ended.signal, os.WEXITSTATUS(ended.status)) == (3, None, 3)
    assert watch.data == {1: b"cba", 2: b"e"}
    assert sorted(watch.closed) == [0, 1, 2]
    assert len(watch.exited) == 1
    assert process.pid is None
    with pytest.raises(error.ProcessExitedAlready):
        process.signalProcess("TERM")


async def test_much_input_is_written_as_the_process_reads_it() -> None:
    """Four megabytes through a pipe."""
    watch = Watch()
    process = spawn(watch, "import sys; print(len(sys.stdin.buffer.read()))")
    process.write(b"x" * 4_000_000)
    process.closeStdin()
    assert isinstance(await fired(watch.ended), error.ProcessDone)
    assert watch.data[1] == b"4000000\n"


async def test_a_signal_is_told_of_and_ignored_ones_are_not_inherited() -> None:
    """Also SIGUSR1, which this process ignores."""
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        watch = Watch()
        process = spawn(watch, "import sys; print('ready'); sys.stdin.read()")
        await fired(watch.wrote)
        process.signalProcess("USR1")
        ended = await fired(watch.ended)
        assert (ended.exitCode, ended.signal) == (None, signal.SIGUSR1)
        with pytest.raises(error.ProcessExitedAlready):
            process.signalProcess(9)
    finally:
        signal.signal(signal.SIGUSR1, before)


async def test_a_process_gets_the_descriptors_it_is_given_and_no_others() -> None:
    """Pipes of any number either way, and a descriptor of ours under another number."""
    reading, writing = os.pipe()
    stray = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(stray, True)
    watch = Watch()
    code = (
        "import os; os.write(9, b'nine'); os.write(4, os.read(3, 10)); print(sorted(map(int, os.listdir('/dev/fd'))))"
    )
    process = spawn(watch, code, childFDs={0: "w", 1: "r", 2: "r", 3: "w", 4: "r", 9: writing})
    os.close(writing)
    process.writeToChild(3, b"three")
    assert isinstance(await fired(watch.ended), error.ProcessDone), watch.data
    assert watch.data[4] == b"three"
    assert os.read(reading, 10) == b"nine"
    assert set(eval(watch.data[1])) <= {0, 1, 2, 3, 4, 5, 9}
    os.close(reading)
    os.close(stray)


async def test_a_process_on_a_terminal() -> None:
    """Its output comes as from descriptor 1; it sees a terminal, in a session of its own."""
    watch = Watch()
    spawn(watch, "import os, sys; print(sys.stdout.isatty(), os.getsid(0) == os.getpid())", usePTY=True)
    assert isinstance(await fired(watch.ended), error.ProcessDone)
    assert watch.data[1].strip() == b"True True"


async def test_what_cannot_be_run_ends_with_a_line_and_exit_code_1() -> None:
    """As from a shell; nothing is raised. What no process can be given is."""
    out, err, code = await fired(utils.getProcessOutputAndValue("/no/such/program"))
    assert (out, code) == (b"", 1)
    assert b"/no/such/program" in err
    with pytest.raises(TypeError):
        reactor.spawnProcess(Watch(), sys.executable, ["a\0b"])
    with pytest.raises(ValueError, match="childFDs"):
        spawn(Watch(), "", usePTY=True, childFDs={})


async def test_the_environment_and_the_folder_are_the_given_ones(tmp_path: Any) -> None:
    """An empty environment is empty; None is our own."""
    code = "import os; print(sorted(set(os.environ) - {'LC_CTYPE'}), os.getcwd())"
    output = await fired(utils.getProcessOutput(sys.executable, ["-c", code], {"A": "1"}, str(tmp_path)))
    assert output.decode().split("\n")[0] == f"['A'] {tmp_path}"
    assert b"PATH" in await fired(utils.getProcessOutput("/usr/bin/env", env=None))


async def test_output_where_none_is_expected_is_an_error() -> None:
    """The failure has what was written; errortoo takes it as output; a signal is a failure of all three."""
    shell = ("/bin/sh", ["-c", "echo oops >&2"])
    with pytest.raises(OSError, match="oops"):
        await fired(utils.getProcessOutput(*shell))
    assert await fired(utils.getProcessOutput(*shell, errortoo=True)) == b"oops\n"
    assert await fired(utils.getProcessValue("/bin/sh", ["-c", "exit 5"])) == 5
    failed: list[Any] = []
    utils.getProcessOutputAndValue("/bin/sh", ["-c", "echo out; kill -9 $$"]).addErrback(
        lambda failure: failed.append(failure.value)
    )
    while not failed:
        await asyncio.sleep(0.005)
    assert failed == [(b"out\n", b"", 9)]


def test_warnings_are_filtered_out_until_a_deferred_fires() -> None:
    """Whoever ends first takes its own filters away, and nobody else's."""
    before = list(warnings.filters)
    first: defer.Deferred[str] = defer.Deferred()
    second: defer.Deferred[str] = defer.Deferred()
    quiet = utils.suppressWarnings(lambda: first, (("ignore", "one"), {}))()
    utils.runWithWarningsSuppressed([(("ignore", "two"), {})], lambda: second)
    first.callback("done")
    assert quiet.result == "done"
    with pytest.warns(UserWarning, match="one"):
        warnings.warn("one", stacklevel=1)
    warnings.warn("two", stacklevel=1)
    second.callback("done")
    assert list(warnings.filters) == before
    with pytest.raises(ZeroDivisionError):
        utils.runWithWarningsSuppressed([(("ignore", "one"), {})], lambda: 1 / 0)
    assert list(warnings.filters) == before


async def test_a_process_ends_where_the_system_has_no_descriptor_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread waits for it instead."""

    def none_left(_: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", none_left)
    watch = Watch()
    process = spawn(watch, "raise SystemExit(3)")
    assert (await fired(watch.ended)).exitCode == 3
    assert process.pid is None
