"""What a service may ask of the application it is in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Host(Protocol):
    """The application, seen from a service: `self.application`."""

    @property
    def name(self) -> str:
        """The application's name."""

    async def stop(self) -> None:
        """Stop the whole application in order."""

    def resource(self, kind: Callable[[], T]) -> T:
        """The application's one object of this kind, made by `kind()` when first asked for."""
