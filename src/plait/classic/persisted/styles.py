"""Ephemeral: an object that keeps nothing of itself in a file."""

from __future__ import annotations

from typing import Any

__all__ = ["Ephemeral"]


class Ephemeral:
    """Mix it in to be stored without any state; what is loaded again is an empty one."""

    def __reduce__(self) -> Any:
        return Ephemeral, ()

    def __getstate__(self) -> Any:
        return None

    def __setstate__(self, state: Any) -> None:
        self.__class__ = Ephemeral
