"""The kinds of value that options add to Python's own: `Secret`, `Duration`, `Size`.

A `Secret` shows `****` wherever it is printed. `Duration` and `Size` are a plain float and a plain int for
the program and for a type checker; only where options are read do they also take text with units. What
`format_duration` and `format_size` write, `parse_duration` and `parse_size` read back to the same number.
"""

from __future__ import annotations

import enum
import math
import re
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MASK = "****"


class Secret:
    """A text that is never shown: `str()`, `repr()` and `format()` give `****`, `reveal()` gives the text.

    Two secrets are equal if their texts are. Raises TypeError if it is made from anything but a str.
    """

    __slots__ = ("_text",)
    _text: str

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"a Secret is made from text, not from {type(text).__name__}")
        object.__setattr__(self, "_text", text)

    def reveal(self) -> str:
        """The text itself; hand it to what needs it and store it nowhere else."""
        return self._text

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Secret cannot be changed; make another")

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, (self._text,)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> Any:
        """How a pydantic model reads a field of this type; called by pydantic only."""
        from pydantic_core import core_schema

        made = core_schema.no_info_after_validator_function(cls, core_schema.str_schema())
        return core_schema.union_schema([core_schema.is_instance_schema(cls), made])


class Unit(enum.Enum):
    """What a number counts; stands in the metadata of `Duration` and `Size`."""

    SECONDS = "a duration such as 250ms, 30s, 5m or 1h30m, or a number of seconds"
    BYTES = "a size such as 64KiB or 10MB, or a number of bytes"

    @property
    def parse(self) -> Callable[[str], float]:
        return parse_duration if self is Unit.SECONDS else parse_size

    def format(self, value: float) -> str:
        return format_duration(value) if self is Unit.SECONDS else format_size(int(value))

    def __get_pydantic_core_schema__(self, source: object, handler: Callable[[object], Any]) -> Any:
        """Lets a pydantic model read text with units; called by pydantic only."""
        from pydantic_core import core_schema

        def number(value: object) -> object:
            return self.parse(value) if isinstance(value, str) else value

        return core_schema.no_info_before_validator_function(number, handler(source))


Duration = Annotated[float, Unit.SECONDS]
"""Annotation: seconds as a float, read from "30s", "5m", "1h30m", "250ms" or a number; never negative."""

Size = Annotated[int, Unit.BYTES]
"""Annotation: bytes as an int, read from "64KiB", "10MB" or a number; never negative."""


_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
_PLAIN = re.compile(_NUMBER, re.IGNORECASE | re.ASCII)
_DURATION = re.compile(
    "".join(rf"(?:({_NUMBER}){unit})?" for unit in ("d", "h", "m(?!s)", "s", "ms", "us")),
    re.IGNORECASE | re.ASCII,
)
_BYTES = {"": 1, "b": 1} | {
    prefix + suffix: step**power
    for suffix, step in (("b", 1000), ("ib", 1024))
    for power, prefix in enumerate("kmgtp", start=1)
}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", re.IGNORECASE | re.ASCII)


def parse_duration(text: str) -> float:
    """Seconds, from units d, h, m, s, ms, us in this order ("1h30m"), or from a plain number of seconds.

    Raises ValueError saying what was expected.
    """
    text = text.strip()
    if _PLAIN.fullmatch(text):
        seconds = float(text)
    elif text and (match := _DURATION.fullmatch(text)):
        parts = zip(match.groups(), _SECONDS.values(), strict=True)
        seconds = math.fsum(_scaled(count, factor) for count, factor in parts if count)
    else:
        raise ValueError(f"expected {Unit.SECONDS.value}")
    if not math.isfinite(seconds):
        raise ValueError("expected a duration that is not infinite")
    return seconds


def _scaled(count: str, factor: float) -> float:
    # Dividing by a whole number rounds once: 250 / 1000 is 0.25 to the last bit, 3 * 1e-3 is not 0.003.
    return float(count) * factor if factor >= 1 else float(count) / round(1 / factor)


def format_duration(seconds: float) -> str:
    """The shortest text of units that `parse_duration` reads back to exactly this number."""
    if seconds == int(seconds) and seconds < 1e15:
        return _whole(int(seconds))
    if seconds < 1 and (milliseconds := round(seconds * 1000)) and milliseconds / 1000 == seconds:
        return f"{milliseconds}ms"
    return f"{seconds!r}s"


def _whole(seconds: int) -> str:
    parts = []
    for unit in ("d", "h", "m", "s"):
        count, seconds = divmod(seconds, int(_SECONDS[unit]))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_size(text: str) -> int:
    """Bytes, from a number and a unit: B, kB, MB, GB, TB, PB (powers of 1000) or KiB, MiB… (powers of 1024).

    Case does not matter. Raises ValueError saying what was expected, also for half a byte.
    """
    match = _SIZE.fullmatch(text.strip())
    factor = _BYTES.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"expected {Unit.BYTES.value}")
    count, _, fraction = match[1].partition(".")
    size: int
    size, rest = divmod(int(count + fraction) * factor, int("1" + "0" * len(fraction)))
    if rest:
        raise ValueError("expected a whole number of bytes")
    return size


def format_size(size: int) -> str:
    """The shortest text with a unit that `parse_size` reads back to exactly this number."""
    for suffix, step in (("iB", 1024), ("B", 1000)):
        for power, prefix in ((4, "T"), (3, "G"), (2, "M"), (1, "K" if step == 1024 else "k")):
            if size and size % step**power == 0:
                return f"{size // step**power}{prefix}{suffix}"
    return str(size)
