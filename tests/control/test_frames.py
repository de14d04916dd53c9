"""Frames: messages of any size in parts of bounded size, over packets and over streams."""

from __future__ import annotations

import random
import socket

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.control.frames import (
    MAX_FRAME,
    MAX_MESSAGE,
    MAX_UNFINISHED,
    VERSION,
    Frame,
    Frames,
    Hello,
    Stream,
    agreed,
    on_stream,
)
from plait.errors import ProtocolError


class Text(msgspec.Struct, frozen=True, tag="text"):
    body: bytes


def frames() -> Frames[Hello | Text]:
    return Frames(Hello | Text)


def pair() -> tuple[Frames[Hello | Text], Frames[Hello | Text]]:
    return frames(), frames()


def unpack_all(theirs: Frames[Hello | Text], frames: list[bytes]) -> None:
    for frame in frames:
        theirs.unpack(frame)


@pytest.mark.parametrize("size", [0, 1, MAX_FRAME - 40, MAX_FRAME, 300_000, MAX_MESSAGE - 100])
def test_a_message_of_any_size_travels_in_frames_of_bounded_size(size: int) -> None:
    """Each frame is at most 64 KiB, and the message is whole only with its last one."""
    ours, theirs = pair()
    message = Text(random.Random(size).randbytes(size))
    sent = ours.pack(message)
    assert max(map(len, sent)) <= MAX_FRAME
    assert [theirs.unpack(frame) for frame in sent] == [None] * (len(sent) - 1) + [message]


def test_a_large_message_goes_through_a_socket_that_keeps_packets_whole() -> None:
    """300 kB, which as one packet is refused by the system, arrive over SOCK_SEQPACKET."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right:
        left.setblocking(False)
        with pytest.raises(OSError):  # noqa: PT011  # EMSGSIZE, as the reason for the parts
            left.send(b"x" * 300_000)
        ours, theirs = pair()
        message = Text(b"x" * 300_000)
        came = None
        for frame in ours.pack(message):
            left.send(frame)
            came = theirs.unpack(right.recv(MAX_FRAME))
        assert came == message


def test_a_short_message_overtakes_a_long_one() -> None:
    """Frames of several messages may be interleaved, so a heartbeat need not wait."""
    ours, theirs = pair()
    long, short = Text(b"l" * 200_000), Text(b"s")
    first, *rest = ours.pack(long)
    assert theirs.unpack(first) is None
    assert [theirs.unpack(frame) for frame in ours.pack(short)] == [short]
    assert [theirs.unpack(frame) for frame in rest][-1] == long


@settings(deadline=None, max_examples=50)
@given(st.lists(st.binary(max_size=200_000), max_size=4), st.integers(1, 100_000))
def test_a_stream_may_be_cut_anywhere(bodies: list[bytes], step: int) -> None:
    """What comes out is what went in, whatever the pieces in which it comes."""
    ours, theirs = pair()
    sent = b"".join(on_stream(frame) for body in bodies for frame in ours.pack(Text(body)))
    stream = Stream()
    pieces = [sent[start : start + step] for start in range(0, len(sent), step)]
    came = [theirs.unpack(frame) for piece in pieces for frame in stream.feed(piece)]
    assert [message.body for message in came if isinstance(message, Text)] == bodies


def test_a_frame_that_is_announced_too_large_is_refused_before_it_has_come() -> None:
    """Nobody can make the other side collect more than a frame."""
    with pytest.raises(ProtocolError, match="frame of 65537 bytes is too large"):
        list(Stream().feed((MAX_FRAME + 1).to_bytes(4, "big")))
    with pytest.raises(ProtocolError, match="too large"):
        frames().unpack(b"x" * (MAX_FRAME + 1))


def test_a_message_that_never_ends_is_refused() -> None:
    """The parts of one message are collected up to the largest message."""
    theirs = frames()
    frame = msgspec.msgpack.encode(Frame(1, False, b"x" * 60_000))
    with pytest.raises(ProtocolError, match=f"larger than {MAX_MESSAGE}"):
        unpack_all(theirs, [frame] * (MAX_MESSAGE // 60_000 + 2))
    with pytest.raises(ProtocolError, match="too large"):
        frames().pack(Text(b"x" * (MAX_MESSAGE + 1)))


def test_many_messages_that_are_begun_are_refused() -> None:
    """A peer cannot have us keep the beginnings of ever more messages."""
    begun = [msgspec.msgpack.encode(Frame(number, False, b"x")) for number in range(MAX_UNFINISHED + 1)]
    unpack_all(theirs := frames(), begun[:-1])
    with pytest.raises(ProtocolError, match="begun and not finished"):
        theirs.unpack(begun[-1])


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"GET / HTTP/1.1\r\n",
        msgspec.msgpack.encode([1, True]),
        msgspec.msgpack.encode(Frame(1, True, b"\xc1")),
        msgspec.msgpack.encode(Frame(1, True, msgspec.msgpack.encode({"type": "unknown"}))),
        msgspec.msgpack.encode(Frame(1, True, msgspec.msgpack.encode({"type": "text", "body": 7}))),
    ],
)
def test_what_is_no_message_is_a_protocol_error(frame: bytes) -> None:
    """Whatever it is, one type of error says so."""
    with pytest.raises(ProtocolError, match="no message of this protocol"):
        frames().unpack(frame)


def test_fields_that_are_unknown_are_ignored() -> None:
    """A peer of the next version may say more, as long as it speaks this one."""
    more = msgspec.msgpack.encode({"type": "text", "body": b"x", "colour": "red"})
    assert frames().unpack(msgspec.msgpack.encode(Frame(1, True, more))) == Text(b"x")


def test_the_lower_version_is_spoken_and_a_version_that_nobody_speaks_is_refused() -> None:
    """A peer that is newer speaks ours; one that is too old is told what to do."""
    assert agreed(Hello(VERSION + 5, "9.9", 1)) == VERSION
    assert agreed(Hello.ours()) == VERSION
    with pytest.raises(ProtocolError, match=r"process 7 speaks protocol 0 \(plait 0.0\).*use the same version"):
        agreed(Hello(0, "0.0", 7))
