"""Receivers of lines and strings, and the policies around protocols."""

from __future__ import annotations

from typing import Any

import pytest

from plait.classic.internet import error, interfaces, protocol, task
from plait.classic.internet.testing import StringTransport, StringTransportWithDisconnection
from plait.classic.protocols import basic, policies
from plait.classic.python.failure import Failure


def connected(made: Any, transport: Any = None) -> Any:
    """A protocol on a transport that remembers."""
    transport = StringTransport() if transport is None else transport
    transport.protocol = made
    made.makeConnection(transport)
    return made


def fed(made: Any, data: bytes, size: int) -> None:
    """Bytes, so many at a time, as long as the transport would deliver them."""
    for start in range(0, len(data), size):
        if made.transport.disconnecting:
            return
        made.dataReceived(data[start : start + size])


class Lines(basic.LineReceiver):
    """Keeps lines, and changes its mode when told."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.raw = b""

    def lineReceived(self, line: bytes) -> None:
        self.got.append(line)
        if line.startswith(b"raw "):
            self.wanted = int(line[4:])
            self.setRawMode()
        elif line == b"pause":
            self.pauseProducing()
        elif line == b"take":
            self.got.append(("taken", self.clearLineBuffer()))
        elif line == b"bye":
            self.transport.loseConnection()

    def rawDataReceived(self, data: bytes) -> None:
        mine, rest = data[: self.wanted], data[self.wanted :]
        self.raw += mine
        self.wanted -= len(mine)
        if not self.wanted:
            self.setLineMode(rest)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_lines_and_raw_bytes_alternate(size: int) -> None:
    """However the stream is cut."""
    lines = connected(Lines())
    fed(lines, b"one\r\n\r\nraw 5\r\nab\r\ncthree\r\nbye\r\nnever\r\n", size)
    assert lines.got == [b"one", b"", b"raw 5", b"three", b"bye"]
    assert lines.raw == b"ab\r\nc"


def test_a_paused_receiver_delivers_nothing_until_it_is_resumed() -> None:
    """What came in one piece with the line that paused it included."""
    lines = connected(Lines())
    lines.dataReceived(b"a\r\npause\r\nb\r\n")
    assert lines.got == [b"a", b"pause"]
    assert lines.transport.producerState == "paused"
    lines.dataReceived(b"c\r\n")
    lines.resumeProducing()
    assert lines.got == [b"a", b"pause", b"b", b"c"]
    lines.dataReceived(b"take\r\nrest")
    assert lines.got[-1] == ("taken", b"rest")


@pytest.mark.parametrize("kind", [basic.LineReceiver, basic.LineOnlyReceiver])
def test_a_line_that_is_too_long_ends_the_connection(kind: Any) -> None:
    """Before it is kept whole; one of just MAX_LENGTH is a line."""

    class Short(kind):  # type: ignore[misc]
        MAX_LENGTH = 8
        got: Any = ()

        def lineReceived(self, line: bytes) -> None:
            self.got = (*self.got, line)

    lines = connected(Short())
    fed(lines, b"x" * 8 + b"\r\n", 3)
    assert lines.got == (b"x" * 8,)
    assert not lines.transport.disconnecting
    fed(lines, b"x" * 12, 3)
    assert lines.transport.disconnecting


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("kind", "prefix"), [(basic.Int8StringReceiver, 1), (basic.Int16StringReceiver, 2), (basic.Int32StringReceiver, 4)]
)
def test_strings_behind_their_length(kind: Any, prefix: int, size: int) -> None:
    """Both ways; too long for the prefix, or for MAX_LENGTH, is an error."""

    class Strings(kind):  # type: ignore[misc]
        def stringReceived(self, string: bytes) -> None:
            got.append(string)

    got: list[bytes] = []
    strings = connected(Strings())
    for string in (b"", b"a", b"b" * 200):
        strings.sendString(string)
    fed(strings, strings.transport.value(), size)
    assert got == [b"", b"a", b"b" * 200]
    if prefix == 1:
        with pytest.raises(basic.StringTooLongError):
            strings.sendString(b"x" * 256)
    strings.MAX_LENGTH = 10
    strings.dataReceived((11).to_bytes(prefix, "big"))
    assert strings.transport.disconnecting


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_netstrings(size: int) -> None:
    """Both ways."""

    class Strings(basic.NetstringReceiver):
        def stringReceived(self, string: bytes) -> None:
            got.append(string)

    got: list[bytes] = []
    strings = connected(Strings())
    for string in (b"", b"a,", b"b" * 1000):
        strings.sendString(string)
    fed(strings, strings.transport.value(), size)
    assert got == [b"", b"a,", b"b" * 1000]


@pytest.mark.parametrize("wrong", [b"x", b"01:", b"3:abcd", b":", b"100000:", b"99999999999", b"-1:"])
def test_what_is_no_netstring_ends_the_connection(wrong: bytes) -> None:
    """Also when it comes byte by byte."""
    strings = connected(basic.NetstringReceiver())
    fed(strings, wrong, 1)
    assert strings.transport.disconnecting


def test_a_state_chooses_the_method() -> None:
    """proto_STATE returns the next; "done" closes."""

    class Steps(basic.StatefulStringProtocol, basic.Int8StringReceiver):
        def proto_init(self, string: bytes) -> str:
            return "second" if string == b"hello" else "init"

        def proto_second(self, string: bytes) -> str:
            return "done"

    steps = connected(Steps())
    steps.dataReceived(b"\5hello")
    assert steps.state == "second"
    steps.dataReceived(b"\0")
    assert steps.transport.disconnecting


def test_a_file_is_sent_piece_by_piece(tmp_path: Any) -> None:
    """Each through the transform, when the consumer asks; the Deferred fires with the last byte."""
    (tmp_path / "file").write_bytes(b"abc" * 10_000)
    transport = StringTransport()
    done: list[Any] = []
    with open(tmp_path / "file", "rb") as file:
        sender = basic.FileSender()
        sender.beginFileTransfer(file, transport, bytes.upper).addCallback(done.append)
        while transport.producer is not None:
            transport.producer.resumeProducing()
    assert transport.value() == b"ABC" * 10_000
    assert done == [b"C"]


# -- policies -----------------------------------------------------------------------------------------------------


def wrapped(factory: Any, transport: Any = None) -> Any:
    """A wrapper of a factory, connected."""
    return connected(factory.buildProtocol(None), transport or StringTransportWithDisconnection())


def test_a_wrapper_hands_on_both_ways() -> None:
    """And provides what its transport does; what it does not know, its transport does."""
    inner = protocol.ServerFactory.forProtocol(basic.LineOnlyReceiver)
    factory = policies.WrappingFactory(inner)
    wrapper = wrapped(factory)
    assert interfaces.ITransport.providedBy(wrapper)
    assert wrapper.wrappedProtocol.transport is wrapper
    assert list(factory.protocols) == [wrapper]
    wrapper.wrappedProtocol.sendLine(b"x")
    assert wrapper.value() == b"x\r\n"
    wrapper.connectionLost(Failure(error.ConnectionDone()))
    assert not factory.protocols


def test_silence_closes_the_connection() -> None:
    """TimeoutFactory counts both directions; TimeoutMixin what its protocol says."""
    clock = task.Clock()
    factory = policies.TimeoutFactory(protocol.ServerFactory.forProtocol(protocol.Protocol), 10)
    factory.callLater = clock.callLater  # type: ignore[method-assign]
    wrapper = wrapped(factory)
    for _ in range(3):
        clock.advance(9)
        wrapper.dataReceived(b"x")
        clock.advance(9)
        wrapper.write(b"x")
    assert wrapper.transport.connected
    clock.advance(10)
    assert not wrapper.transport.connected
    assert clock.calls == []

    class Own(policies.TimeoutMixin, protocol.Protocol):
        callLater = clock.callLater

    own = connected(Own())
    assert own.setTimeout(5) is None
    clock.advance(4)
    own.resetTimeout()
    clock.advance(4)
    assert not own.transport.disconnecting
    assert own.setTimeout(None) == 5
    own.setTimeout(1)
    clock.advance(1)
    assert own.transport.disconnecting


def test_connections_are_limited() -> None:
    """In all, by peer, and with an overflow protocol; one that ends makes room."""
    plain = protocol.ServerFactory.forProtocol(protocol.Protocol)
    total = policies.LimitTotalConnectionsFactory()
    total.protocol = protocol.Protocol
    total.connectionLimit = 1
    first = wrapped(total)
    assert total.buildProtocol(None) is None
    first.connectionLost(Failure(error.ConnectionDone()))
    assert total.buildProtocol(None) is not None
    by_peer = policies.LimitConnectionsByPeer(plain)
    by_peer.maxConnectionsPerPeer = 2
    by_peer.doStart()
    peer = StringTransport().getPeer()
    assert [by_peer.buildProtocol(peer) is None for _ in range(3)] == [False, False, True]


def test_bytes_are_throttled() -> None:
    """Over a second's limit, reading waits for as long as the surplus would have taken."""
    clock = task.Clock()
    factory = policies.ThrottlingFactory(protocol.ServerFactory.forProtocol(protocol.Protocol), readLimit=100)
    factory.callLater = clock.callLater  # type: ignore[method-assign]
    wrapper = wrapped(factory)
    wrapper.dataReceived(b"x" * 250)
    clock.advance(1)
    assert wrapper.transport.producerState == "paused"
    clock.advance(1.4)
    assert wrapper.transport.producerState == "paused"
    clock.advance(0.1)
    assert wrapper.transport.producerState == "producing"
    wrapper.transport.loseConnection()
    assert clock.calls == []
