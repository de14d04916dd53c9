"""The reactor: Twisted's interfaces to the event loop, on an asyncio or uvloop loop.

Rules: there is one. It goes by the loop that runs when it is used; what is asked of it before there is a loop waits
for one. `run` makes a loop of its own (uvloop's, if it is installed), which lives until the shutdown is over, across
`crash` and `iterate`. In a loop that somebody else runs, `run` raises `ReactorAlreadyRunning`, and `stop` asks the
host, which has put itself at `_host`: the loop is never stopped. Without a host there is nothing to stop. What a
callback raises is logged, and ends nothing.

    idle ──run──→ running ──stop──→ stopping (before, waited for) ──→ over (during, after); not restartable
      ↑              │
      └───crash──────┘
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import signal
import socket
import threading
from asyncio import _get_running_loop
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from zope.interface import implementer

from plait.classic import _run
from plait.classic.internet import _resolver, defer, error, interfaces, main, process, tcp, udp, unix
from plait.classic.internet._default import default_reactor
from plait.classic.internet._delayed import DelayedCall, DelayedCalls
from plait.classic.internet._events import SystemEvent
from plait.classic.internet._files import Files
from plait.classic.python import log
from plait.classic.python.failure import Failure
from plait.classic.python.threadpool import ThreadPool
from plait.process.loops import LOOPS

SIGNALS = ("SIGINT", "SIGTERM", "SIGBREAK")


class Host(Protocol):
    """Who serves the program instead of `reactor.run()`: the runner of a Plait application."""

    def stop(self) -> None:
        """The program has called `reactor.stop()`."""


def install() -> None:
    """What programs call on the module of the reactor they want, before they import it: there is this one."""
    default_reactor()


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, if it is installed."""
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return LOOPS["asyncio"]()
    return LOOPS["uvloop"]()


@implementer(
    interfaces.IReactorCore,
    interfaces.IReactorTime,
    interfaces.IReactorThreads,
    interfaces.IReactorFDSet,
    interfaces.IReactorTCP,
    interfaces.IReactorSSL,
    interfaces.IReactorUNIX,
    interfaces.IReactorUNIXDatagram,
    interfaces.IReactorUDP,
    interfaces.IReactorMulticast,
    interfaces.IReactorSocket,
    interfaces.IReactorProcess,
    interfaces.IReactorPluggableResolver,
    interfaces.IReactorPluggableNameResolver,
    interfaces.IReactorDaemonize,
)
class Reactor:
    """See the module's rules."""

    installed = True
    usingThreads = True

    def __init__(self) -> None:
        self._host: Host | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._own_loop: asyncio.AbstractEventLoop | None = None
        self._waiting_for_loop: list[Callable[[], None]] = []
        self.running = False
        """Whether it runs: from startup's second phase to shutdown's."""
        self._started = False
        """Whether it was asked to run, by `run` or by a host."""
        self._stopping = False
        self._was_stopped = False
        self._events: dict[str, SystemEvent] = {}
        self._calls = DelayedCalls(_call_failed)
        self.seconds = self._seconds
        self._files = Files()
        self._open: dict[Any, None] = {}
        """Connections on the loop's own transports, which the shutdown ends."""
        self._from_threads: deque[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = deque()
        self._is_woken = False
        self.threadpool: ThreadPool | None = None
        self.threadpoolShutdownID: Any = None
        self._signals: list[int] = []
        self.resolver: Any = _resolver.ThreadedResolver(self)
        self._name_resolver: Any = _resolver.GAIResolver(self)
        self._add_own_triggers()

    def _add_own_triggers(self) -> None:
        self._has_own_triggers = True
        self.addSystemEventTrigger("during", "shutdown", self._over)
        self.addSystemEventTrigger("during", "shutdown", self.disconnectAll)

    # -- the loop -----------------------------------------------------------------------------------------------------

    def _bind(self) -> None:
        """Go by the loop that runs, if one does, from now on."""
        loop = _get_running_loop()
        if loop is None or loop is self._loop:
            return
        old, self._loop = self._loop, loop
        if old is not None and old.is_closed():
            self._calls.clear()
            self._files.remove_all()
            self._open.clear()
        self._calls.bind(loop)
        self._files.bind(loop)
        waiting, self._waiting_for_loop = self._waiting_for_loop, []
        for call in waiting:
            loop.call_soon(_guarded, call)
        if self._from_threads:
            self._wake()

    def _with_loop(self, call: Callable[[], None]) -> None:
        """Call this as soon as there is a loop: now, if there is."""
        if _get_running_loop() is not self._loop:
            self._bind()
        loop = self._loop
        if loop is None or loop.is_closed():
            self._waiting_for_loop.append(call)
        elif loop is _get_running_loop():
            call()
        else:  # our own, between two runs
            loop.call_soon(_guarded, call)

    def _adopt(self, sock: Any, connection: Any) -> None:
        """Give a connected socket to a connection, which is told with connection_made, soon.

        The loop's coroutine makes the transport in its first step, and has nothing to do but wait for that in its
        second: it needs no task.
        """
        coro = self._running_loop().connect_accepted_socket(lambda: connection, sock)
        try:
            waiter = coro.send(None)
        except StopIteration:
            return
        except Exception as raised:
            sock.close()
            connection._adoption_failed(raised)
            return
        waiter._asyncio_future_blocking = False
        waiter.add_done_callback(partial(_end_adoption, coro, sock, connection))

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        self._bind()
        assert self._loop is not None
        return self._loop

    # -- run and stop -------------------------------------------------------------------------------------------------

    @property
    def _stopped(self) -> bool:
        return not self._started or self._stopping

    def run(self, installSignalHandlers: bool = True) -> None:
        """Fire startup, and serve until the shutdown is over.

        `ReactorAlreadyRunning` where a loop runs already, `ReactorNotRestartable` once it has been stopped. Under
        `plait run` it is noted, and returns at once.
        """
        if _run.note():
            return
        if _get_running_loop() not in (None, self._own_loop):
            raise error.ReactorAlreadyRunning(
                "an event loop runs in this thread, and the reactor goes by it: there is nothing to run"
            )
        self.startRunning(installSignalHandlers)
        self.mainLoop()
        _run.end()

    def startRunning(self, installSignalHandlers: bool = True) -> None:
        """The first half of `run`: what runs now is called running, and startup is fired with the loop's first turn."""
        if self._started:
            raise error.ReactorAlreadyRunning()
        if self._was_stopped:
            raise error.ReactorNotRestartable()
        loop = self._get_own_loop()
        self._started = True
        self._stopping = False
        loop.call_soon(self._begin, installSignalHandlers)

    def mainLoop(self) -> None:
        """The second half: serve until the shutdown is over."""
        loop = self._get_own_loop()
        try:
            loop.run_forever()
        finally:
            self._restore_signals()
            self._started = self.running = False
            if self._was_stopped:
                self._close_own_loop()

    def _begin(self, installSignalHandlers: bool) -> None:
        self._bind()
        self._fire_startup(installSignalHandlers)

    def _fire_startup(self, installSignalHandlers: bool) -> None:
        """It is called running from the second phase on, of whose triggers this is the first."""
        event = self._events.setdefault("startup", SystemEvent())
        event.during.insert(0, (self._up, (installSignalHandlers,), {}))
        event.fireEvent()

    def _up(self, installSignalHandlers: bool) -> None:
        if self._started:  # else it has crashed meanwhile
            self.running = True
            self._install_signals(installSignalHandlers)

    def _get_own_loop(self) -> asyncio.AbstractEventLoop:
        if self._own_loop is None:
            self._own_loop = new_loop()
            asyncio.set_event_loop(self._own_loop)
            atexit.register(self._close_own_loop)
        return self._own_loop

    def _close_own_loop(self) -> None:
        loop, self._own_loop = self._own_loop, None
        if loop is None or loop.is_closed() or loop.is_running():
            return
        atexit.unregister(self._close_own_loop)
        loop.run_until_complete(_end_tasks())
        asyncio.set_event_loop(None)
        loop.close()

    def stop(self) -> None:
        """Begin the shutdown. `ReactorNotRunning` if it does not run, or is stopping already."""
        if self._host is not None:
            self._host.stop()
            return
        if self._stopped:
            raise error.ReactorNotRunning("the reactor does not run, so it cannot be stopped")
        self._stopping = True
        self._was_stopped = True
        self._running_loop().call_soon(self.fireSystemEvent, "shutdown")

    def crash(self) -> None:
        """Leave `run` at the end of this turn of the loop; no event is fired, and `run` can be called again."""
        self._started = self.running = False
        if self._own_loop is not None and self._own_loop.is_running():
            self._own_loop.stop()

    def _over(self) -> None:
        """What was asked to stop has stopped; "after" is fired, and then the loop is left."""
        self._started = self.running = False
        self._stopping = False
        self._has_own_triggers = False
        if self._own_loop is not None and self._own_loop.is_running():
            self._own_loop.call_soon(self._own_loop.stop)

    def iterate(self, delay: float = 0.0) -> None:
        """Serve for `delay` seconds, outside of `run`; with 0, do what can be done at once."""
        if _get_running_loop() is not None:
            raise error.ReactorAlreadyRunning("the event loop cannot run within itself")
        loop = self._get_own_loop()
        loop.call_soon(self._bind)
        if delay > 0:
            loop.call_later(delay, loop.stop)
        else:
            loop.call_soon(loop.call_soon, loop.stop)
        loop.run_forever()

    async def _serve_hosted(self) -> None:
        """For the host: the loop runs now. Fire startup."""
        self._bind()
        self._started = True
        self._stopping = False
        if not self._has_own_triggers:  # this process has been a host before
            self._add_own_triggers()
        self._fire_startup(False)

    def _stop_hosted(self) -> asyncio.Future[None]:
        """For the host: fire shutdown; done when it is over."""
        over = self._running_loop().create_future()
        self._stopping = True
        self.addSystemEventTrigger("after", "shutdown", _finish, over)
        self.fireSystemEvent("shutdown")
        return over

    # -- signals ------------------------------------------------------------------------------------------------------

    def _install_signals(self, wanted: bool) -> None:
        if not wanted or threading.current_thread() is not threading.main_thread():
            return
        loop = self._running_loop()
        for name in SIGNALS:
            number = getattr(signal, name, None)
            if number is None or (name == "SIGINT" and signal.getsignal(number) is not signal.default_int_handler):
                continue
            loop.add_signal_handler(number, self._signalled, name)
            self._signals.append(number)

    def _signalled(self, name: str) -> None:
        log.msg(f"Received {name}, shutting down.")
        if not self._stopped:
            self.stop()

    def _restore_signals(self) -> None:
        loop = self._own_loop
        for number in self._signals:
            if loop is not None:
                with contextlib.suppress(ValueError):
                    loop.remove_signal_handler(number)
        self._signals.clear()

    def sigInt(self, *_: Any) -> None:
        """What SIGINT does."""
        self.callFromThread(self._signalled, "SIGINT")

    def sigTerm(self, *_: Any) -> None:
        """What SIGTERM does."""
        self.callFromThread(self._signalled, "SIGTERM")

    # -- events -------------------------------------------------------------------------------------------------------

    def addSystemEventTrigger(
        self, phase: str, eventType: str, callable: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Call this in a phase ("before", "during", "after") of an event; what it returns is for its removal.

        Deferreds that triggers of "before" return are waited for.
        """
        _must_be_callable(callable)
        event = self._events.setdefault(eventType, SystemEvent())
        return eventType, event.addTrigger(phase, callable, *args, **kwargs)

    def removeSystemEventTrigger(self, triggerID: Any) -> None:
        """Forget a trigger. ValueError if there is none."""
        eventType, trigger = triggerID
        self._events[eventType].removeTrigger(trigger)

    def fireSystemEvent(self, eventType: str) -> None:
        """Call the triggers of an event."""
        event = self._events.get(eventType)
        if event is not None:
            event.fireEvent()

    def callWhenRunning(self, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call this once the reactor runs: now, if it does. None, or what removes the trigger."""
        _must_be_callable(callable)
        if self.running or (self._host is None and _get_running_loop() is not None):
            callable(*args, **kwargs)
            return None
        return self.addSystemEventTrigger("after", "startup", callable, *args, **kwargs)

    def disconnectAll(self) -> None:
        """Close everything that is open; each is told with `ConnectionLost`."""
        for selectable in [*self.removeAll(), *self._open]:
            try:
                selectable.connectionLost(Failure(main.CONNECTION_LOST))
            except BaseException:
                log.err()

    # -- time ---------------------------------------------------------------------------------------------------------

    seconds: Callable[[], float]
    """Seconds since the epoch, by a clock that only goes forward; on a virtual loop, by its own."""

    def _seconds(self) -> float:
        if _get_running_loop() is not self._loop:
            self._bind()
        return self._calls.seconds()

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any) -> DelayedCall:
        """Call this in `delay` seconds; calls are made in the order of their times, then in that of these calls."""
        if not delay >= 0:
            raise AssertionError(f"a call can be put off, not brought forward: {delay} seconds")
        if not hasattr(callable, "__call__"):  # noqa: B004
            _must_be_callable(callable)
        if _get_running_loop() is not self._loop:
            self._bind()
        seconds = self.seconds
        return self._calls.call(seconds() + delay, callable, args, kw, seconds)

    def getDelayedCalls(self) -> Sequence[DelayedCall]:
        """Those that are to come, the earliest first."""
        return self._calls.pending()

    def timeout(self) -> float | None:
        """Seconds until the earliest of them; None if there is none."""
        return self._calls.timeout()

    def runUntilCurrent(self) -> None:
        """Make the calls that are due."""
        self._run_from_threads()

    # -- threads ------------------------------------------------------------------------------------------------------

    def callFromThread(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call this in the loop, soon, and in the order of these calls. For any thread."""
        _must_be_callable(f)
        self._from_threads.append((f, args, kwargs))
        if not self._is_woken:
            self._wake()

    def _wake(self) -> None:
        loop = _get_running_loop() if self._loop is None or self._loop.is_closed() else self._loop
        if loop is None or loop.is_closed():
            return  # it will look when it is bound
        self._is_woken = True
        loop.call_soon_threadsafe(self._run_from_threads)

    wakeUp = _wake

    def _run_from_threads(self) -> None:
        self._is_woken = False
        for _ in range(len(self._from_threads)):  # those that these ask for come in the next turn
            f, args, kwargs = self._from_threads.popleft()
            try:
                f(*args, **kwargs)
            except BaseException:
                log.err()
        self._calls.run_due()

    def getThreadPool(self) -> ThreadPool:
        """The pool, which works once the reactor runs, and is stopped with it."""
        self._bind()  # what a thread hands back is for this loop
        if self.threadpool is None:
            self.threadpool = ThreadPool(0, 10, "plait.classic.internet.reactor")
            self.callWhenRunning(self._start_thread_pool)
            self.threadpoolShutdownID = self.addSystemEventTrigger("during", "shutdown", self._stopThreadPool)
        return self.threadpool

    def _start_thread_pool(self) -> None:
        if self.threadpool is not None and not self.threadpool.started:
            self.threadpool.start()

    def _stopThreadPool(self) -> None:
        pool, self.threadpool = self.threadpool, None
        if self.threadpoolShutdownID is not None:
            with contextlib.suppress(ValueError):  # it is being called
                self.removeSystemEventTrigger(self.threadpoolShutdownID)
            self.threadpoolShutdownID = None
        if pool is not None:
            pool.stop()

    def callInThread(self, _callable: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call this in a thread of the pool; what it raises is logged."""
        self.getThreadPool().callInThread(_callable, *args, **kwargs)

    def suggestThreadPoolSize(self, size: int) -> None:
        """Let the pool have up to this many threads."""
        self.getThreadPool().adjustPoolsize(maxthreads=size)

    # -- descriptors --------------------------------------------------------------------------------------------------

    def addReader(self, reader: Any) -> None:
        """Call its doRead whenever there is something to read."""
        if _get_running_loop() is not self._loop:
            self._bind()
        self._files.add_reader(reader)

    def addWriter(self, writer: Any) -> None:
        """Call its doWrite whenever it can be written to."""
        if _get_running_loop() is not self._loop:
            self._bind()
        self._files.add_writer(writer)

    def removeReader(self, reader: Any) -> None:
        """Watch it for reading no more."""
        self._files.remove_reader(reader)

    def removeWriter(self, writer: Any) -> None:
        """Watch it for writing no more."""
        self._files.remove_writer(writer)

    def removeAll(self) -> list[Any]:
        """Watch none any more; those that were watched."""
        return self._files.remove_all()

    def getReaders(self) -> list[Any]:
        """Those that are watched for reading, connections included."""
        return [*self._files.readers.watched, *(connection for connection in self._open if connection.reading)]

    def getWriters(self) -> list[Any]:
        """Those that are watched for writing."""
        return list(self._files.writers.watched)

    # -- listening and connecting -------------------------------------------------------------------------------------

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> tcp.Port:
        """Listen on a TCP port, 0 for any free one. `CannotListenError`."""
        listening = tcp.Port(port, factory, backlog, interface, self)
        listening.startListening()
        return listening

    def connectTCP(
        self, host: Any, port: int | str, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> tcp.Connector:
        """Connect by TCP, within `timeout` seconds; the factory hears of it."""
        connector = tcp.Connector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> tcp.Port:
        """Listen on a TCP port for TLS."""
        from plait.classic.protocols import tls

        listening = self.listenTCP(
            port, tls.TLSMemoryBIOFactory(contextFactory, False, factory, self), backlog, interface
        )
        listening._type = "TLS"
        return listening

    def connectSSL(
        self, host: Any, port: int, factory: Any, contextFactory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> tcp.Connector:
        """Connect by TLS, within `timeout` seconds; the factory hears of it."""
        from plait.classic.protocols import tls

        wrapped = tls.TLSMemoryBIOFactory(contextFactory, True, factory, self)
        return self.connectTCP(host, port, wrapped, timeout, bindAddress)

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: bool = False
    ) -> unix.Port:
        """Listen at a path. `CannotListenError`."""
        listening = unix.Port(address, factory, backlog, mode, self, wantPID)
        listening.startListening()
        return listening

    def connectUNIX(self, address: Any, factory: Any, timeout: float = 30, checkPID: bool = False) -> unix.Connector:
        """Connect to a path, within `timeout` seconds; the factory hears of it."""
        connector = unix.Connector(address, factory, timeout, self, checkPID)
        connector.connect()
        return connector

    def listenUNIXDatagram(
        self, address: Any, protocol: Any, maxPacketSize: int = 8192, mode: int = 0o666
    ) -> unix.DatagramPort:
        """Receive datagrams at a path. `CannotListenError`."""
        listening = unix.DatagramPort(address, protocol, maxPacketSize, mode, self)
        listening.startListening()
        return listening

    def connectUNIXDatagram(
        self, address: Any, protocol: Any, maxPacketSize: int = 8192, mode: int = 0o666, bindAddress: Any = None
    ) -> unix.ConnectedDatagramPort:
        """Exchange datagrams with one other socket."""
        port = unix.ConnectedDatagramPort(address, protocol, maxPacketSize, mode, bindAddress, self)
        port.startListening()
        return port

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192) -> udp.Port:
        """Send and receive datagrams by a UDP port, 0 for any free one. `CannotListenError`."""
        listening = udp.Port(port, protocol, interface, maxPacketSize, self)
        listening.startListening()
        return listening

    def listenMulticast(
        self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192, listenMultiple: bool = False
    ) -> udp.MulticastPort:
        """As listenUDP, for groups; with listenMultiple several sockets share the port."""
        listening = udp.MulticastPort(port, protocol, interface, maxPacketSize, self, listenMultiple)
        listening.startListening()
        return listening

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        """Listen on a duplicate of a socket that listens. `UnsupportedAddressFamily`."""
        adopt: dict[int, Any] = {
            socket.AF_INET: tcp.adopt_port,
            socket.AF_INET6: tcp.adopt_port,
            socket.AF_UNIX: unix.adopt_port,
        }
        return _of_family(adopt, addressFamily)(self, fileDescriptor, addressFamily, factory)

    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        """Speak over a duplicate of a connected socket. `UnsupportedAddressFamily`."""
        adopt: dict[int, Any] = {
            socket.AF_INET: tcp.adopt_connection,
            socket.AF_INET6: tcp.adopt_connection,
            socket.AF_UNIX: unix.adopt_connection,
        }
        return _of_family(adopt, addressFamily)(self, fileDescriptor, addressFamily, factory)

    def adoptDatagramPort(
        self, fileDescriptor: int, addressFamily: int, protocol: Any, maxPacketSize: int = 8192
    ) -> udp.Port:
        """Use a duplicate of a bound datagram socket. `UnsupportedAddressFamily`."""
        return udp.adopt_port(self, fileDescriptor, addressFamily, protocol, maxPacketSize)

    # -- processes, names ---------------------------------------------------------------------------------------------

    def spawnProcess(
        self,
        processProtocol: Any,
        executable: Any,
        args: Sequence[Any] = (),
        env: Any = {},  # noqa: B006
        path: Any = None,
        uid: int | None = None,
        gid: int | None = None,
        usePTY: Any = False,
        childFDs: Any = None,
    ) -> Any:
        """Start a program, and tell this protocol of its output and end; its transport."""
        return process.spawn(self, processProtocol, executable, args, env, path, uid, gid, usePTY, childFDs)

    def resolve(self, name: str, timeout: Sequence[int] = (1, 3, 11, 45)) -> defer.Deferred[str]:
        """A Deferred of a name's IPv4 address; it fails with `DNSLookupError`."""
        return _resolver.resolve(self.resolver, name, timeout)

    def installResolver(self, resolver: Any) -> Any:
        """Look names up by this `IResolverSimple`; the one before it."""
        previous, self.resolver = self.resolver, resolver
        self._name_resolver = _resolver.SimpleResolverComplexifier(resolver)
        return previous

    @property
    def nameResolver(self) -> Any:
        """The `IHostnameResolver` in use."""
        return self._name_resolver

    def installNameResolver(self, resolver: Any) -> Any:
        """Look names up by this `IHostnameResolver`; the one before it."""
        previous, self._name_resolver = self._name_resolver, resolver
        self.resolver = _resolver.ComplexResolverSimplifier(resolver)
        return previous

    # -- the background -----------------------------------------------------------------------------------------------

    def beforeDaemonize(self) -> None:
        """The process is about to fork: nothing need be done before there is a loop."""

    def afterDaemonize(self) -> None:
        """This is the child."""


def _of_family(known: dict[int, Any], addressFamily: int) -> Any:
    if addressFamily not in known:
        raise error.UnsupportedAddressFamily(addressFamily)
    return known[addressFamily]


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _end_adoption(coro: Any, sock: Any, connection: Any, _: Any) -> None:
    try:
        coro.send(None)
    except StopIteration:
        pass
    except Exception as raised:
        sock.close()
        connection._adoption_failed(raised)


def _must_be_callable(what: Any) -> None:
    if not callable(what):
        raise AssertionError(f"{what!r} is not callable")


def _guarded(call: Callable[[], None]) -> None:
    try:
        call()
    except BaseException:
        log.err()


def _call_failed(_: DelayedCall) -> None:
    log.err()


async def _end_tasks() -> None:
    """Cancel what still runs on a loop of our own."""
    mine = asyncio.current_task()
    others = {task for task in asyncio.all_tasks() if task is not mine}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=1.0)
    await asyncio.get_running_loop().shutdown_asyncgens()
