"""What is said on a control connection.

    client ──Hello──→ server      at once, else the server closes
    client ←──Hello── server      or a Failure of number 0, if they share no version
    client ──Request n──→ server  any number, up to a bound at once
    client ←──Note n───── server  while it is done; dropped and counted where the client does not read
    client ←──Answer n─── server  or Failure n: the end of it

Rule: who closes the connection takes nothing back of what was begun; only the wait ends.
"""

from __future__ import annotations

from typing import Any

import msgspec

from plait.control.frames import Hello


class Request(msgspec.Struct, frozen=True, tag="request"):
    """Do this. `number` is the client's own, above zero."""

    number: int
    command: str
    arguments: dict[str, Any] = {}


class Note(msgspec.Struct, frozen=True, tag="note"):
    """What goes on. With `within` the end is to be expected in so many seconds. `dropped` notes were lost before it."""

    number: int
    text: str
    within: float | None = None
    dropped: int = 0


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """It was done, with this result."""

    number: int
    result: Any = None


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """It was not done: lines for people, and the exit code for a command line."""

    number: int
    text: str
    code: int = 70


ToServer = Hello | Request
ToClient = Hello | Note | Answer | Failure
