"""Messages as frames of bounded size, for packets and for streams.

Rules:
- A message is a tagged `msgspec.Struct`. It travels as one or several frames of at most `MAX_FRAME` bytes, each of them
  the msgpack of `[number, last, part]`. Frames of several messages may be interleaved: a short one need not wait for
  the end of a long one; the frames of one keep their order.
- On a socket that keeps packets whole (SOCK_SEQPACKET) a frame is a packet. On a stream each is led by its length, four
  bytes, big-endian.
- Whoever receives is bounded: by the size of a frame, of a message, and by how many messages are unfinished at once.
  What is beyond that, or is no message of the types agreed on, is a ProtocolError; the connection is of no use then.
- The first message of each side is a Hello with the version of the protocol. A side speaks its own version and the one
  before, and the lower of the two is spoken. Fields that are unknown are ignored, messages that are unknown are not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import msgspec

from plait.errors import ProtocolError

VERSION = 1
"""Of the protocol, which is counted on by itself; it is not Plait's."""
SPOKEN = frozenset(version for version in (VERSION, VERSION - 1) if version > 0)

MAX_FRAME = 64 * 1024
MAX_MESSAGE = 16 * 1024 * 1024
MAX_UNFINISHED = 16
HEADER = 4
"""Bytes of the length that leads a frame on a stream."""

_PART = MAX_FRAME - 32
"""What is left of a frame when its own few bytes are taken off."""


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """Who speaks: the version of the protocol and of Plait, the process's number, and what it calls itself."""

    protocol: int
    plait: str
    pid: int
    name: str = ""

    @classmethod
    def ours(cls, name: str = "") -> Hello:
        """This process's."""
        from plait import __version__

        return cls(VERSION, __version__, os.getpid(), name)


def agreed(theirs: Hello) -> int:
    """The version that both sides speak. ProtocolError if there is none."""
    version = min(theirs.protocol, VERSION)
    if version not in SPOKEN:
        spoken = " and ".join(map(str, sorted(SPOKEN)))
        raise ProtocolError(
            f"process {theirs.pid} speaks protocol {theirs.protocol} (plait {theirs.plait}), this one {spoken}; "
            "use the same version of plait for both"
        )
    return version


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """A part of a message. `number` is the message's, counted by who sends it."""

    number: int
    last: bool
    part: bytes


M = TypeVar("M", bound=msgspec.Struct)


class Frames(Generic[M]):
    """One side of one connection: messages to frames, and frames to messages of `types`, a union of tagged structs."""

    def __init__(self, types: Any) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._messages: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(types)
        self._frames = msgspec.msgpack.Decoder(Frame)
        self._sent = 0
        self._unfinished: dict[int, bytearray] = {}

    def pack(self, message: M) -> list[bytes]:
        """The frames of a message, at least one. ProtocolError if it is larger than a message may be."""
        body = self._encoder.encode(message)
        if len(body) > MAX_MESSAGE:
            raise ProtocolError(f"a message of {len(body)} bytes is too large; the most is {MAX_MESSAGE}")
        self._sent += 1
        starts = range(0, len(body), _PART)
        return [self._frame(body[start : start + _PART], last=start == starts[-1]) for start in starts]

    def _frame(self, part: bytes, *, last: bool) -> bytes:
        return self._encoder.encode(Frame(self._sent, last, part))

    def unpack(self, frame: bytes) -> M | None:
        """The message that this frame completes, or None. ProtocolError."""
        if len(frame) > MAX_FRAME:
            raise ProtocolError(f"a frame of {len(frame)} bytes is too large; the most is {MAX_FRAME}")
        try:
            one = self._frames.decode(frame)
            body = self._joined(one)
            return None if body is None else self._messages.decode(body)
        except msgspec.DecodeError as error:
            raise ProtocolError(f"what came is no message of this protocol: {error}") from error

    def _joined(self, one: Frame) -> bytes | bytearray | None:
        begun = self._unfinished.pop(one.number, None)
        if begun is None and one.last:
            return one.part
        whole = begun if begun is not None else bytearray()
        whole += one.part
        if len(whole) > MAX_MESSAGE:
            raise ProtocolError(f"a message is larger than {MAX_MESSAGE} bytes")
        if one.last:
            return whole
        if len(self._unfinished) == MAX_UNFINISHED:
            raise ProtocolError(f"more than {MAX_UNFINISHED} messages were begun and not finished")
        self._unfinished[one.number] = whole
        return None


def on_stream(frame: bytes) -> bytes:
    """A frame as it goes over a stream."""
    return len(frame).to_bytes(HEADER, "big") + frame


class Stream:
    """Cuts what comes over a stream into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that are complete now. ProtocolError as soon as one is announced that is too large."""
        self._buffer += data
        while len(self._buffer) >= HEADER:
            length = int.from_bytes(self._buffer[:HEADER], "big")
            if length > MAX_FRAME:
                raise ProtocolError(f"a frame of {length} bytes is too large; the most is {MAX_FRAME}")
            if len(self._buffer) < HEADER + length:
                return
            frame = bytes(self._buffer[HEADER : HEADER + length])
            del self._buffer[: HEADER + length]
            yield frame
