"""How an error is told in a line.

Rules: telling never fails, for it happens where services fail: an error whose message cannot be had is told without,
and one that goes on for pages is cut. Its traceback, where one is shown, has all of it.
"""

from __future__ import annotations

MOST = 500
"""Characters of a message that are told."""


def error_text(error: BaseException) -> str:
    """Its type and message."""
    kind, said = type(error).__name__, message_text(error)
    return f"{kind}: {said}" if said else kind


def message_text(error: BaseException) -> str:
    """Its message; may be empty."""
    try:
        said = str(error).strip()
    except Exception as reason:  # noqa: BLE001  # a __str__ is anybody's code
        return f"(its message cannot be had: __str__ raised {type(reason).__name__})"
    return said if len(said) <= MOST else f"{said[:MOST]}… ({len(said):,} characters)"
