"""Endpoints, of objects and of texts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wires import Echo, Talk, fired, free_port, serving

from plait.classic.internet import address, defer, endpoints, error, interfaces, reactor, task
from plait.classic.internet.testing import MemoryReactorClock


@pytest.fixture(autouse=True)
def pool() -> Iterator[None]:
    """The pool that looks names up ends with the test."""
    yield
    reactor._stopThreadPool()


async def says_hello(client: Any) -> None:
    """A connection that is echoed, and closed."""
    talk = Talk(b"hello")
    assert await fired(endpoints.connectProtocol(client, talk)) is talk
    assert await fired(talk.heard(5)) == b"hello"
    talk.transport.loseConnection()
    assert isinstance(await fired(talk.lost), error.ConnectionDone)


async def test_tcp_by_text(tmp_path: Path) -> None:
    """IPv4 and IPv6, by position and by name; a client's may be bytes."""
    for server, host in (("tcp:0:interface=127.0.0.1", "127.0.0.1"), (r"tcp6:0:interface=\:\:1", r"\:\:1")):
        port = await fired(endpoints.serverFromString(reactor, server).listen(serving(Echo)))
        number = port.getHost().port
        await says_hello(endpoints.clientFromString(reactor, f"tcp:{host}:{number}"))
        await says_hello(endpoints.clientFromString(reactor, f"tcp:host={host}:port={number}:timeout=5"))
        await says_hello(endpoints.clientFromString(reactor, f"tcp:{host}:{number}".encode()))
        await says_hello(endpoints.HostnameEndpoint(reactor, host.replace("\\", ""), number))
        await fired(port.stopListening())


async def test_unix_by_text(tmp_path: Path) -> None:
    """A path with a colon in it, its mode, and its lock."""
    path = tmp_path / "a:b"
    quoted = endpoints.quoteStringArgument(str(path))
    port = await fired(endpoints.serverFromString(reactor, f"unix:{quoted}:mode=600").listen(serving(Echo)))
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.path.islink(f"{path}.lock")
    await says_hello(endpoints.clientFromString(reactor, f"unix:path={quoted}:lockfile=1"))
    await fired(port.stopListening())


async def test_sockets_that_somebody_else_has_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """By descriptor, once; and as systemd passes them, by place and by name."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        number = sock.getsockname()[1]
        endpoint = endpoints.serverFromString(reactor, f"fd:fileno={os.dup(sock.fileno())}:domain=INET")
    port = await fired(endpoint.listen(serving(Echo)))
    with pytest.raises(error.AlreadyListened):
        await fired(endpoint.listen(serving(Echo)))
    await says_hello(endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", number))
    await fired(port.stopListening())
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "2")
    monkeypatch.setenv("LISTEN_FDNAMES", "web:admin")
    for text in ("systemd:domain=INET:index=1", "systemd:domain=INET:name=admin"):
        assert endpoints.serverFromString(reactor, text).fileno == 4
    for text in ("systemd:domain=INET:index=2", "systemd:domain=INET:name=none", "systemd:domain=INET"):
        with pytest.raises(ValueError, match=r"systemd|exactly one"):
            endpoints.serverFromString(reactor, text)


STDIO = """
import os, sys
from plait.classic.internet import endpoints, error, protocol, reactor

class Loud(protocol.Protocol):
    def connectionMade(self):
        self.transport.write(b"ready;" if os.get_blocking(0) is os.get_blocking(1) is False else b"waits;")
    def dataReceived(self, data):
        self.transport.write(data.upper())
    def connectionLost(self, reason):
        os.write(2, f"{reason.type.__name__} {os.get_blocking(0)} {os.get_blocking(1)}".encode())
        reactor.stop()

factory = protocol.Factory.forProtocol(Loud)
factory.noisy = False
nobody = protocol.Factory()
nobody.buildProtocol = lambda addr: None
endpoint = endpoints.serverFromString(reactor, "stdio:")
endpoint.listen(nobody).addErrback(lambda failure: failure.trap(error.NoProtocol))
endpoint.listen(factory)
reactor.run()
"""


def test_standard_input_and_output_by_text() -> None:
    """A protocol's transport until they are closed; that they do not wait ends with it. A factory may refuse."""
    command = [sys.executable, "-c", STDIO]
    done = subprocess.run(command, input=b"quiet", capture_output=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == (b"ready;QUIET", b"ConnectionDone True True")


async def test_a_process_as_an_endpoint() -> None:
    """Its standard input and output are the stream."""
    code = "import sys; sys.stdout.write(sys.stdin.readline().upper())"
    client = endpoints.ProcessEndpoint(reactor, sys.executable, [sys.executable, "-c", code], None)
    talk = Talk(b"loud\n")
    await fired(endpoints.connectProtocol(client, talk))
    assert await fired(talk.heard(5)) == b"LOUD\n"
    assert isinstance(await fired(talk.lost), error.ConnectionDone)


async def test_what_cannot_be_done_is_the_deferreds_failure() -> None:
    """A port that is taken, one that nobody listens on, a factory that makes no protocol, a name that is none."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(error.CannotListenError):
            await fired(endpoints.TCP4ServerEndpoint(reactor, number, interface="127.0.0.1").listen(serving(Echo)))
        nobody = serving(Echo)
        nobody.buildProtocol = lambda addr: None
        with pytest.raises(error.NoProtocol):
            await fired(endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", number).connect(nobody))
    with pytest.raises(error.ConnectionRefusedError):
        await fired(endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", free_port()).connect(serving(Echo)))
    with pytest.raises(error.DNSLookupError):
        await fired(endpoints.HostnameEndpoint(reactor, "no.such.host.invalid", 1).connect(serving(Echo)))
    with pytest.raises(ValueError, match="invalid hostname"):
        await fired(endpoints.HostnameEndpoint(reactor, "a..b", 1).connect(serving(Echo)))


@pytest.mark.parametrize("text", ["ftl:1", "80", "systemd:domain=CAKE:index=0"])
def test_a_text_that_means_nothing_is_refused(text: str) -> None:
    """With what there is in its place."""
    with pytest.raises(ValueError, match=r"Unknown|Unqualified|CAKE|systemd"):
        endpoints.serverFromString(reactor, text)


class Race:
    """A HostnameEndpoint on a reactor in memory, for a name with these addresses."""

    def __init__(self, *hosts: str) -> None:
        self.reactor = MemoryReactorClock()

        class Finds:
            def resolveHostName(self, receiver: Any, name: str, portNumber: int = 0, **_: Any) -> Any:
                receiver.resolutionBegan(None)
                for host in hosts:
                    receiver.addressResolved(address.IPv4Address("TCP", host, portNumber))
                receiver.resolutionComplete()

        self.reactor.installNameResolver(Finds())
        self.result: list[Any] = []
        endpoint = endpoints.HostnameEndpoint(self.reactor, "example.com", 80)
        self.deferred: defer.Deferred[Any] = endpoint.connect(serving(Talk))
        self.deferred.addBoth(self.result.append)

    @property
    def tried(self) -> list[str]:
        """The hosts, in the order of the attempts."""
        return [attempt[0] for attempt in self.reactor.tcpClients]

    def fail(self, number: int) -> None:
        """Let an attempt fail."""
        factory, connector = self.reactor.tcpClients[number][2], self.reactor.connectors[number]
        factory.clientConnectionFailed(connector, error.ConnectionRefusedError(number))

    def succeed(self, number: int) -> Any:
        """Let an attempt succeed."""
        from plait.classic.internet.testing import StringTransport

        built = self.reactor.tcpClients[number][2].buildProtocol(None)
        built.makeConnection(StringTransport())


def test_attempts_begin_one_after_another_and_the_first_that_succeeds_ends_the_others() -> None:
    """0.3 s apart (RFC 8305), on a clock that stands still meanwhile."""
    race = Race("192.0.2.1", "192.0.2.2", "192.0.2.3")
    assert race.tried == ["192.0.2.1"]
    race.reactor.advance(0.3)
    assert race.tried == ["192.0.2.1", "192.0.2.2"]
    race.succeed(1)
    assert isinstance(race.result[0], Talk)
    assert race.reactor.connectors[0].stoppedConnecting
    race.reactor.advance(10)
    assert len(race.tried) == 2
    assert race.reactor.getDelayedCalls() == []


def test_a_failure_begins_the_next_attempt_at_once_and_the_last_one_is_told() -> None:
    """Without waiting for the delay."""
    race = Race("192.0.2.1", "192.0.2.2")
    race.fail(0)
    assert race.tried == ["192.0.2.1", "192.0.2.2"]
    race.fail(1)
    race.reactor.advance(0.3)
    assert race.result[0].value.osError == 1


def test_cancelling_ends_every_attempt() -> None:
    """With ConnectingCancelledError."""
    race = Race("192.0.2.1", "192.0.2.2")
    race.reactor.advance(0.3)
    race.deferred.cancel()
    assert race.result[0].check(error.ConnectingCancelledError)
    assert all(connector.stoppedConnecting for connector in race.reactor.connectors)
    assert race.reactor.getDelayedCalls() == []


def test_an_endpoint_provides_its_interface() -> None:
    """All of them."""
    for name in endpoints.__all__:
        kind = getattr(endpoints, name)
        if name.endswith("ServerEndpoint"):
            assert interfaces.IStreamServerEndpoint.implementedBy(kind), name
        elif name.endswith(("ClientEndpoint", "HostnameEndpoint", "ProcessEndpoint")):
            assert interfaces.IStreamClientEndpoint.implementedBy(kind), name


def test_a_clock_drives_deferlater() -> None:
    """What a test of one's own would do."""
    clock = task.Clock()
    made: list[int] = []
    task.deferLater(clock, 5, lambda: 7).addCallback(made.append)
    clock.advance(4.9)
    assert made == []
    clock.advance(0.1)
    assert made == [7]
