"""Services around what a reactor, an endpoint or a clock gives.

Rules: a server or client takes the arguments of the reactor's listenX or connectX, and calls that when it starts. In
Plait's kernel (see `_adapter`) these services fail when what they stand for fails: a server that cannot listen does not
start, a timer whose call raises is started anew; they tell where they listen, and can pause: a server then listens no
more, a client makes no connection, a timer no call, and what is open goes on.
"""

from __future__ import annotations

from typing import Any, ClassVar

from plait.classic.application import service
from plait.classic.application._client import ClientService, backoffPolicy
from plait.classic.internet import protocol, task
from plait.classic.internet._default import default_reactor
from plait.classic.internet.defer import CancelledError, Deferred, succeed
from plait.classic.python import log
from plait.classic.python.failure import Failure

__all__ = [
    "ClientService",
    "CooperatorService",
    "MulticastServer",
    "SSLClient",
    "SSLServer",
    "StreamServerEndpointService",
    "TCPClient",
    "TCPServer",
    "TCPServerFactory",
    "TimerService",
    "UDPServer",
    "UNIXClient",
    "UNIXDatagramClient",
    "UNIXDatagramServer",
    "UNIXServer",
    "backoffPolicy",
]


def _maybeGlobalReactor(maybeReactor: Any) -> Any:
    """This reactor, or the one there is."""
    return maybeReactor if maybeReactor is not None else default_reactor()


class _VolatileDataService(service.Service):
    """A service with attributes that are not kept where it is copied or stored."""

    volatile: ClassVar[list[str]] = []

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name not in self.volatile}


class _AbstractServer(_VolatileDataService):
    """Listens while it runs."""

    volatile: ClassVar[list[str]] = ["_port", "_again"]
    method = ""
    reactor: Any = None
    privileged: Any = None

    _port: Any = None
    _again: Any = None
    """Where it listened before it was paused."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        if "reactor" in kwargs:
            self.reactor = kwargs.pop("reactor")
        self.kwargs = kwargs

    def privilegedStartService(self) -> None:
        """Listen."""
        super().privilegedStartService()
        self._port = self._getPort()
        self._announce(self._port)

    def startService(self) -> None:
        """Listen, if it does not yet."""
        super().startService()
        if self._port is None:
            self._port = self._getPort()
            self._announce(self._port)

    def stopService(self) -> Any:
        """Listen no more; fires when that is so."""
        super().stopService()
        self._again = None
        return self._give_back()

    def _give_back(self) -> Any:
        """Close the port; also where it was taken, and the start has failed then."""
        port, self._port = self._port, None
        return port.stopListening() if port is not None else None

    def pauseService(self) -> Any:
        """Listen no more for now; connections go on."""
        if self._port is None:
            return None
        self._again = self._port.getHost()
        if self._kernel is not None:
            self._kernel._retract()
        return self._give_back()

    def resumeService(self) -> None:
        """Listen again where it did."""
        if self._port is None:
            self._port = self._getPort()
            self._announce(self._port)

    def _getPort(self) -> Any:
        listen = getattr(_maybeGlobalReactor(self.reactor), f"listen{self.method}")
        args, kwargs = self.args, self.kwargs
        if (port := getattr(self._again, "port", None)) is not None:
            args, kwargs = ((port, *args[1:]), kwargs) if args else (args, {**kwargs, "port": port})
        return listen(*args, **kwargs)


class _Factory:
    """Lets a server stand for its factory, as the handbook has it: given to the reactor, it binds nothing itself."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def _factory(self) -> Any:
        return self.kwargs["factory"] if "factory" in self.kwargs else self.args[1]

    def doStart(self) -> None:
        """That of its factory."""
        self._factory.doStart()

    def doStop(self) -> None:
        """That of its factory."""
        self._factory.doStop()

    def buildProtocol(self, addr: Any) -> Any:
        """That of its factory."""
        return self._factory.buildProtocol(addr)

    def logPrefix(self) -> str:
        """That of its factory."""
        prefix = getattr(self._factory, "logPrefix", None)
        return prefix() if prefix is not None else type(self._factory).__name__


class _AbstractClient(_VolatileDataService):
    """Connects when it starts."""

    volatile: ClassVar[list[str]] = ["_connection"]
    method = ""
    reactor: Any = None

    _connection: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        if "reactor" in kwargs:
            self.reactor = kwargs.pop("reactor")
        self.kwargs = kwargs

    def startService(self) -> None:
        """Connect."""
        super().startService()
        self._connection = self._getConnection()

    def stopService(self) -> None:
        """Close the connection, or give the attempt up."""
        super().stopService()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def pauseService(self) -> None:
        """Give an attempt up; a connection that is there goes on."""
        if self._is("connecting"):
            self._connection.stopConnecting()

    def resumeService(self) -> None:
        """Connect again, if there is no connection."""
        if self._connection is None:
            self._connection = self._getConnection()
        elif self._is("disconnected"):
            self._connection.connect()

    def _is(self, state: str) -> bool:
        return getattr(self._connection, "state", None) == state

    def _getConnection(self) -> Any:
        connect = getattr(_maybeGlobalReactor(self.reactor), f"connect{self.method}")
        return connect(*self.args, **self.kwargs)


class TCPServer(_Factory, _AbstractServer):
    """reactor.listenTCP(port, factory, …) while it runs."""

    method = "TCP"


class UNIXServer(_Factory, _AbstractServer):
    """reactor.listenUNIX(address, factory, …) while it runs."""

    method = "UNIX"


class SSLServer(_Factory, _AbstractServer):
    """reactor.listenSSL(port, factory, contextFactory, …) while it runs."""

    method = "SSL"


class UDPServer(_AbstractServer):
    """reactor.listenUDP(port, protocol, …) while it runs."""

    method = "UDP"


class MulticastServer(_AbstractServer):
    """reactor.listenMulticast(port, protocol, …) while it runs."""

    method = "Multicast"


class UNIXDatagramServer(_AbstractServer):
    """reactor.listenUNIXDatagram(address, protocol, …) while it runs."""

    method = "UNIXDatagram"


class TCPClient(_AbstractClient):
    """reactor.connectTCP(host, port, factory, …) when it starts."""

    method = "TCP"


class UNIXClient(_AbstractClient):
    """reactor.connectUNIX(address, factory, …) when it starts."""

    method = "UNIX"


class SSLClient(_AbstractClient):
    """reactor.connectSSL(host, port, factory, contextFactory, …) when it starts."""

    method = "SSL"


class UNIXDatagramClient(_AbstractClient):
    """reactor.connectUNIXDatagram(address, protocol, …) when it starts."""

    method = "UNIXDatagram"


class TCPServerFactory(protocol.ServerFactory[Any]):
    """The handbook's base for a factory of a TCPServer: set `protocol`, or override buildProtocol."""


class TimerService(_VolatileDataService):
    """Calls `callable` when it starts, and then every `step` seconds; see task.LoopingCall."""

    volatile: ClassVar[list[str]] = ["_loop", "_loopFinished"]
    clock: Any = None

    def __init__(self, step: float, callable: Any, *args: Any, **kwargs: Any) -> None:
        self.step = step
        self.call = (callable, args, kwargs)

    def startService(self) -> None:
        """Make the first call, and go on."""
        super().startService()
        self._begin(now=True)

    def _begin(self, *, now: bool) -> None:
        callable, args, kwargs = self.call
        self._loop = task.LoopingCall(callable, *args, **kwargs)
        self._loop.clock = _maybeGlobalReactor(self.clock)
        self._loopFinished = self._loop.start(self.step, now=now)
        self._loopFinished.addErrback(lambda why: self._failed(why))

    def _failed(self, why: Failure) -> None:
        """A call failed, so there will be no other; in the kernel the service has failed with it."""
        self._loop.running = False
        if self._kernel is not None:
            self._kernel.fail(why.value)
        else:
            log.err(why)

    def stopService(self) -> Any:
        """Make no call any more; fires when the one that is under way is over."""
        return self._end().addCallback(lambda _: super(TimerService, self).stopService())

    def _end(self) -> Deferred[Any]:
        loop = getattr(self, "_loop", None)
        if loop is None:
            return succeed(None)
        if loop.running:
            loop.stop()
        return self._loopFinished.addCallback(lambda _: None)

    def pauseService(self) -> Any:
        """Make no call for now."""
        return self._end()

    def resumeService(self) -> None:
        """Make calls again, the first one `step` seconds from now."""
        self._begin(now=False)


class CooperatorService(service.Service):
    """Runs iterators side by side, a step of each at a time; see task.Cooperator."""

    def __init__(self) -> None:
        self.coop = task.Cooperator(started=False)

    def coiterate(self, iterator: Any) -> Any:
        """Run this one too; fires at its end."""
        return self.coop.coiterate(iterator)

    def startService(self) -> None:
        """Run what was given."""
        super().startService()
        self.coop.start()

    def stopService(self) -> None:
        """Run nothing any more."""
        super().stopService()
        self.coop.stop()


class StreamServerEndpointService(service.Service):
    """Listens at a server endpoint while it runs."""

    _raiseSynchronously: Any = False
    _waitingForPort: Any = None

    def __init__(self, endpoint: Any, factory: Any) -> None:
        self.endpoint = endpoint
        self.factory = factory

    def privilegedStartService(self) -> Any:
        """Listen. What fails is logged, or raised if that is at once and `_raiseSynchronously`; the kernel is told."""
        super().privilegedStartService()
        return self._listen()

    def startService(self) -> Any:
        """Listen, if it does not yet."""
        super().startService()
        return self._listen() if self._waitingForPort is None else None

    def _listen(self) -> Any:
        waiting = self._waitingForPort = self.endpoint.listen(self.factory)
        heard: Deferred[None] = Deferred()
        raised: list[Failure] = []
        is_now = True

        def listening(port: Any) -> Any:
            self._announce(port)
            heard.callback(None)
            return port

        def failed(failure: Failure) -> None:
            if failure.check(CancelledError):
                pass  # it stops
            elif self._kernel is not None:
                self._kernel.fail(failure.value)
            elif self._raiseSynchronously and is_now:
                raised.append(failure)
            else:
                log.err(failure)
            heard.callback(None)

        waiting.addCallbacks(listening, failed)
        is_now = False
        if raised:
            raised[0].raiseException()
        return heard if self._kernel is not None else None

    def stopService(self) -> Any:
        """Listen no more; fires when that is so."""
        return self._give_back().addBoth(self._stopped)

    def _stopped(self, passed: Any) -> Any:
        super().stopService()
        return passed

    def _give_back(self) -> Deferred[Any]:
        """Close the port, or give up listening; also where the start has failed then."""
        waiting, self._waitingForPort = self._waitingForPort, None
        if waiting is None:
            return succeed(None)
        waiting.cancel()
        closed: Deferred[Any] = waiting.addCallback(lambda port: port.stopListening() if port is not None else None)
        return closed

    def pauseService(self) -> Any:
        """Listen no more for now; connections go on."""
        if self._kernel is not None:
            self._kernel._retract()
        return self._give_back()

    def resumeService(self) -> Any:
        """Listen again."""
        return self._listen() if self._waitingForPort is None else None
