"""The reactor as a program runs it: `reactor.run()` in processes of their own, on both loops; and within a loop."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from wires import fired
from zope.interface import providedBy
from zope.interface.verify import verifyObject

from plait.classic.internet import abstract, base, defer, error, interfaces, reactor, task, threads
from plait.classic.internet._resolver import FirstOneWins
from plait.classic.internet.main import installReactor

LOOPS = {
    "asyncio": "import asyncio, plait.classic.internet._reactor as r; r.new_loop = asyncio.new_event_loop\n",
    "uvloop": "",
}


@pytest.fixture(params=LOOPS)
def program(request: Any) -> Any:
    """Runs a program on a loop: what it printed, once it has ended with exit code 0."""

    def run(code: str, send: signal.Signals | None = None) -> list[str]:
        source = LOOPS[request.param] + "from plait.classic.internet import reactor\n" + textwrap.dedent(code)
        command = [sys.executable, "-X", "dev", "-W", "error", "-u", "-c", source]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            first = []
            if send is not None:
                first.append(process.stdout.readline().strip())
                process.send_signal(send)
            out, err = process.communicate(timeout=30)
            assert (process.returncode, err) == (0, "")
            return [*first, *out.split("\n")[:-1]]

    return run


def test_there_is_one_reactor_and_it_provides_the_interfaces() -> None:
    """By either way of importing it, and by its name in sys.modules."""
    import plait.classic.internet.reactor

    assert plait.classic.internet.reactor is reactor
    assert sys.modules["plait.classic.internet.reactor"] is reactor
    for interface in providedBy(reactor):
        verifyObject(interface, reactor, tentative=True)
    assert interfaces.IReactorTCP.providedBy(reactor)

    with pytest.raises(error.ReactorAlreadyInstalledError):
        installReactor(object())


def test_startup_and_shutdown_go_through_their_phases(program: Any) -> None:
    """The Deferreds, futures and coroutines of "before" are waited for; a trigger that raises stops no other; what
    waits for the reactor is called at its start."""
    printed = program(
        """
        import asyncio, logging
        from plait.classic.internet import task
        logging.getLogger().addHandler(logging.NullHandler())
        async def coroutine():
            await asyncio.sleep(0.02)
            print("coroutine")
        def shutdown(phase, what, *more):
            reactor.addSystemEventTrigger(phase, "shutdown", *what)
        reactor.callWhenRunning(print, "running")
        reactor.addSystemEventTrigger("before", "startup", print, "startup")
        shutdown("after", (print, "after"))
        shutdown("during", (print, "during"))
        shutdown("before", (lambda: 1 / 0,))
        shutdown("before", (lambda: task.deferLater(reactor, 0.05, print, "deferred"),))
        shutdown("before", (coroutine,))
        removed = reactor.addSystemEventTrigger("before", "shutdown", print, "never")
        reactor.removeSystemEventTrigger(removed)
        reactor.callLater(0.01, reactor.stop)
        reactor.run()
        print("ended", reactor.running)
        """
    )
    assert printed == ["startup", "running", "coroutine", "deferred", "during", "after", "ended False"]


def test_it_runs_from_the_second_phase_of_startup(program: Any) -> None:
    """Before that it is not called running, and waits for Deferreds; after its shutdown it cannot be run again, not
    even from within."""
    printed = program(
        """
        from plait.classic.internet import error, task
        def tell(phase): print(phase, reactor.running)
        def again():
            try: reactor.run()
            except (error.ReactorAlreadyRunning, error.ReactorNotRestartable) as raised: print(type(raised).__name__)
        for phase in ("before", "during", "after"):
            reactor.addSystemEventTrigger(phase, "startup", tell, phase)
        reactor.addSystemEventTrigger("before", "startup", lambda: task.deferLater(reactor, 0.01, tell, "waited for"))
        reactor.callWhenRunning(tell, "called")
        reactor.callWhenRunning(again)
        reactor.callWhenRunning(reactor.stop)
        reactor.addSystemEventTrigger("after", "shutdown", again)
        reactor.run()
        """
    )
    phases = ["before False", "waited for False", "during True", "after True", "called True"]
    assert printed == [*phases, "ReactorAlreadyRunning", "ReactorNotRestartable"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_reactor(program: Any, number: signal.Signals) -> None:
    """In order, with exit code 0; ports are closed and connections told."""
    printed = program(
        """
        import logging
        from plait.classic.internet import protocol
        logging.getLogger().addHandler(logging.NullHandler())
        class Server(protocol.Protocol):
            def connectionMade(self): print("ready")
            def connectionLost(self, reason): print("lost", reason.type.__name__)
        factory = protocol.Factory.forProtocol(Server)
        factory.stopFactory = lambda: print("factory stopped")
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        client = protocol.ClientFactory.forProtocol(protocol.Protocol)
        reactor.connectTCP("127.0.0.1", port.getHost().port, client)
        reactor.run()
        print("ended")
        """,
        number,
    )
    assert sorted(printed) == ["ended", "factory stopped", "lost ConnectionLost", "ready"]
    assert printed[-1] == "ended"


def test_a_reactor_runs_once_but_for_crashes(program: Any) -> None:
    """crash leaves run at once and fires nothing; stop ends it for good."""
    printed = program(
        """
        from plait.classic.internet import error
        reactor.addSystemEventTrigger("during", "shutdown", print, "shutdown")
        for turn in (1, 2):
            reactor.callLater(0, reactor.crash)
            reactor.run()
            print("crashed", reactor.running)
        reactor.callLater(0, reactor.stop)
        def twice():
            try: reactor.stop()
            except error.ReactorNotRunning: print("stopping already")
        reactor.callLater(0, twice)
        reactor.run()
        try: reactor.run()
        except error.ReactorNotRestartable: print("not restartable")
        try: reactor.stop()
        except error.ReactorNotRunning: print("not running")
        """
    )
    assert printed == [
        "crashed False",
        "crashed False",
        "stopping already",
        "shutdown",
        "not restartable",
        "not running",
    ]


def test_iterate_does_what_is_due(program: Any) -> None:
    """Without run; what listens and connects goes on from one to the next."""
    printed = program(
        """
        made = []
        reactor.callLater(0, made.append, 1)
        reactor.callFromThread(made.append, 2)
        reactor.iterate()
        print(sorted(made))
        reactor.callLater(0.01, made.append, 3)
        reactor.iterate(0.05)
        print(len(made))
        """
    )
    assert printed == ["[1, 2]", "3"]


def test_threads_and_the_loop_call_each_other(program: Any) -> None:
    """callFromThread keeps the order, blockingCallFromThread waits, and the pool ends with the reactor."""
    printed = program(
        """
        import threading
        from plait.classic.internet import defer, task, threads
        main = threading.current_thread()
        order = []
        def work():
            assert threading.current_thread() is not main
            for number in range(100):
                reactor.callFromThread(order.append, number)
            print(threads.blockingCallFromThread(reactor, task.deferLater, reactor, 0.01, lambda: "waited"))
            try: threads.blockingCallFromThread(reactor, defer.fail, KeyError("k"))
            except KeyError: print("failed")
            return "done"
        def finished(result):
            assert threading.current_thread() is main
            print(result, order == list(range(100)))
            reactor.stop()
        reactor.suggestThreadPoolSize(3)
        threads.deferToThread(work).addCallback(finished)
        reactor.run()
        print([thread.name for thread in threading.enumerate() if "Pool" in thread.name])
        """
    )
    assert printed == ["waited", "failed", "done True", "[]"]


def test_react_ends_the_program_with_its_code(program: Any) -> None:
    """0 for what succeeds, 1 for what fails, its own for a SystemExit."""
    printed = program(
        """
        from plait.classic.internet import task
        async def main(reactor, *args):
            await task.deferLater(reactor, 0.01)
            print(*args)
            raise SystemExit(7)
        try: task.react(main, ["an", "argument"])
        except SystemExit as ended: print(ended.code)
        """
    )
    assert printed == ["an argument", "7"]


# -- in a loop that somebody else runs ----------------------------------------------------------------------------


async def test_run_is_refused_in_a_loop_and_stop_stops_no_loop() -> None:
    """Nobody here has anything that reactor.stop could stop."""
    with pytest.raises(error.ReactorAlreadyRunning):
        reactor.run()
    with pytest.raises(error.ReactorAlreadyRunning):
        reactor.iterate()
    with pytest.raises(error.ReactorNotRunning):
        reactor.stop()
    await asyncio.sleep(0)


async def test_a_host_is_asked_instead() -> None:
    """What serves the program runs and stops it; its start and end fire the events."""
    asked: list[str] = []

    class Host:
        def run(self) -> None:
            asked.append("run")

        def stop(self) -> None:
            asked.append("stop")

    reactor._host = Host()
    try:
        reactor.addSystemEventTrigger("after", "startup", asked.append, "started")
        reactor.addSystemEventTrigger(
            "before", "shutdown", lambda: task.deferLater(reactor, 0.01, asked.append, "waited for")
        )
        await reactor._serve_hosted()
        assert reactor.running
        reactor.stop()
        await reactor._stop_hosted()
        assert not reactor.running
    finally:
        reactor._host = None
    assert asked == ["started", "stop", "waited for"]


async def test_a_loop_that_is_new_is_used_and_the_calls_of_one_that_is_closed_are_gone() -> None:
    """Each test here runs in a loop of its own, on the one reactor."""
    loop = asyncio.new_event_loop()

    def elsewhere() -> None:
        async def main() -> None:
            reactor.callLater(60, lambda: None)

        loop.run_until_complete(main())
        loop.close()

    await asyncio.to_thread(elsewhere)
    assert reactor.getDelayedCalls() != []
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    reactor.callLater(0, done.set_result, None)
    await asyncio.wait_for(done, 5)
    assert reactor.getDelayedCalls() == []


async def test_results_of_threads_arrive_in_the_loop() -> None:
    """And what a thread raises is the Deferred's failure; one that was cancelled stays so."""
    assert await fired(threads.deferToThread(lambda: 42)) == 42
    with pytest.raises(ZeroDivisionError):
        await fired(threads.deferToThread(lambda: 1 / 0))
    cancelled = threads.deferToThread(lambda: 1)
    cancelled.cancel()
    with pytest.raises(defer.CancelledError):
        await fired(cancelled)
    reactor._stopThreadPool()


async def test_names_are_looked_up_by_whatever_is_installed() -> None:
    """An address is its own name, an international name is asked for in ASCII; a resolver can be replaced, and put
    back."""
    assert await fired(reactor.resolve("127.0.0.1")) == "127.0.0.1"
    assert await fired(reactor.resolve("localhost")) == "127.0.0.1"
    with pytest.raises(error.DNSLookupError):
        await fired(reactor.resolve("no.such.host.invalid"))

    asked = []

    class Fixed:
        def getHostByName(self, name: str, timeout: Any = ()) -> Any:
            asked.append(name)
            return defer.succeed("192.0.2.1")

    names, before = reactor.nameResolver, reactor.installResolver(Fixed())
    try:
        assert await fired(reactor.resolve("anything")) == "192.0.2.1"
        for name in ("bücher.example", "b" * 70 + "ü.example"):
            found: defer.Deferred[str] = defer.Deferred()
            reactor.nameResolver.resolveHostName(FirstOneWins(found), name)
            if len(name) < 64:
                assert await fired(found) == "192.0.2.1"
            else:
                with pytest.raises(error.DNSLookupError):
                    await fired(found)
        assert asked == ["anything", "xn--bcher-kva.example"]
        assert await fired(base.BlockingResolver().getHostByName("localhost")) == "127.0.0.1"
        with pytest.raises(error.DNSLookupError):
            await fired(base.BlockingResolver().getHostByName("no.such.host.invalid"))
    finally:
        reactor.installResolver(before)
        reactor.installNameResolver(names)
        reactor.resolver = before
    reactor._stopThreadPool()


async def test_a_descriptor_that_somebody_has_closed_is_watched_no_more() -> None:
    """It is told so when there would be something to do, and never asked to do it."""
    here, there = socket.socketpair()
    ended: defer.Deferred[Any] = defer.Deferred()

    class Reads(abstract.FileDescriptor):
        def fileno(self) -> int:
            return self.number

        def doRead(self) -> None:
            self.number = -1
            here.recv(1)
            there.send(b"more")

        def connectionLost(self, reason: Any) -> None:
            ended.callback(reason.value)

        number = here.fileno()

    with here, there:
        reads = Reads(reactor)
        reactor.addReader(reads)
        there.send(b"x")
        assert isinstance(await fired(ended), error.ConnectionFdescWentAway)
        assert reads not in reactor.getReaders()
        assert here.recv(10) == b"more"


def test_what_has_no_number_is_kept_in_the_connect_error() -> None:
    """As it is, so that who catches it can ask it."""
    cause = Exception("on purpose")
    assert error.getConnectError(cause).args == (cause,)
