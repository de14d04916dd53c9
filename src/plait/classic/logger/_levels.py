"""How much an event matters."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum


class InvalidLogLevelError(Exception):
    """`level` is none of LogLevel."""

    def __init__(self, level: object) -> None:
        super().__init__(str(level))
        self.level = level


class LogLevel(Enum):
    """For the developer who looks for a fault; for whoever wants to know what goes on; what needs attention; what
    failed; what keeps the program from doing its work. A lower one compares as less.
    """

    debug = 10
    info = 20
    warn = 30
    error = 40
    critical = 50

    @classmethod
    def levelWithName(cls, name: str) -> LogLevel:
        """The level of that name. InvalidLogLevelError if there is none."""
        try:
            return cls[name]
        except KeyError:
            raise InvalidLogLevelError(name) from None

    @classmethod
    def lookupByName(cls, name: str) -> LogLevel:
        """The level of that name. ValueError if there is none."""
        try:
            return cls[name]
        except KeyError:
            raise ValueError(name) from None

    @classmethod
    def iterconstants(cls) -> Iterator[LogLevel]:
        """All levels, from debug to critical."""
        return iter(cls)

    def __lt__(self, other: LogLevel) -> bool:
        return self.value < other.value if isinstance(other, LogLevel) else NotImplemented

    def __le__(self, other: LogLevel) -> bool:
        return self.value <= other.value if isinstance(other, LogLevel) else NotImplemented

    def __gt__(self, other: LogLevel) -> bool:
        return self.value > other.value if isinstance(other, LogLevel) else NotImplemented

    def __ge__(self, other: LogLevel) -> bool:
        return self.value >= other.value if isinstance(other, LogLevel) else NotImplemented

    def __repr__(self) -> str:
        return f"<LogLevel={self.name}>"

    __str__ = __repr__
