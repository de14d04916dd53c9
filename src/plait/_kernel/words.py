"""How an error is told in a line.

Rules: telling never fails, for it happens where services fail: an error whose message cannot be had is told without,
and one that goes on for pages is cut. A group is told by what is in it. The traceback, where one is shown, has all.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

MOST = 500
"""Characters of a message that are told."""
NAMED = 3
"""How many errors of a group are told."""


def error_text(error: BaseException) -> str:
    """Its type and message; of a group also the errors in it."""
    kind, said = type(error).__name__, message_text(error)
    return f"{kind}: {said}" if said else kind


def message_text(error: BaseException) -> str:
    """Its message, in one line; may be empty."""
    if isinstance(error, BaseExceptionGroup):
        return f"{_line(error.message)}: {_members(error)}"
    try:
        said = str(error)
    except Exception as reason:  # noqa: BLE001  # a __str__ is anybody's code
        return f"(its message cannot be had: __str__ raised {type(reason).__name__})"
    return _line(said)


def _line(said: str) -> str:
    shown = " / ".join(said[: MOST + 1].split("\n")).strip()
    return shown if len(said) <= MOST else f"{shown[:MOST]}… ({len(said):,} characters)"


def _members(group: BaseExceptionGroup[BaseException]) -> str:
    told = "; ".join(map(error_text, islice(_leaves(group), NAMED)))
    more = sum(1 for _ in _leaves(group)) - NAMED
    return f"{told}; and {more} more" if more > 0 else told


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
