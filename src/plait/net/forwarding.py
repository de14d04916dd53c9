"""Transports that are another one in all but a thing or two.

Rule: what is forwarded is the real transport's own bound method, so that a write through one of these costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

_FORWARDED = (
    "abort",
    "can_write_eof",
    "close",
    "get_extra_info",
    "get_protocol",
    "get_write_buffer_limits",
    "get_write_buffer_size",
    "is_closing",
    "is_reading",
    "pause_reading",
    "resume_reading",
    "set_protocol",
    "set_write_buffer_limits",
    "write",
    "write_eof",
    "writelines",
)


class ForwardingTransport(asyncio.Transport):
    """The real transport, but for the methods that a subclass defines itself."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._real = transport
        for name in _FORWARDED:
            if name not in vars(type(self)):
                setattr(self, name, getattr(transport, name))


class EndingTransport(ForwardingTransport):
    """One that asks before it closes. `may_close` is None as long as it may."""

    may_close: Callable[[], bool] | None = None

    def close(self) -> None:
        """Close, if it may; whoever was asked sees to it otherwise."""
        if self.may_close is None or self.may_close():
            self._real.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
