"""Addresses: where a transport's ends are.

Rules: two addresses of one kind are equal when their parts are; they hash by them, are never changed, and provide
`IAddress`.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar, Literal

from zope.interface import implementer

from plait.classic.internet import interfaces


class _Address:
    """Compares, hashes and shows itself by its parts."""

    _PARTS: ClassVar[tuple[str, ...]] = ()
    __slots__ = ()

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, part) for part in self._PARTS)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self).__name__, *self._values()))

    def __repr__(self) -> str:
        parts = ", ".join(f"{part}={getattr(self, part)!r}" for part in self._PARTS)
        return f"{type(self).__name__}({parts})"


@implementer(interfaces.IAddress)
class IPv4Address(_Address):
    """An IPv4 host, a dotted quad in text, and a port; `type` is "TCP" or "UDP"."""

    _PARTS = ("type", "host", "port")
    __slots__ = _PARTS

    def __init__(self, type: Literal["TCP", "UDP"], host: str, port: int) -> None:
        if type not in ("TCP", "UDP"):
            raise ValueError(f"an address's type is 'TCP' or 'UDP', not {type!r}")
        self.type = type
        self.host = host
        self.port = port


@implementer(interfaces.IAddress)
class IPv6Address(_Address):
    """An IPv6 host in text, a port, the flow's label and the scope of a link-local address; `type` as of IPv4."""

    _PARTS = ("type", "host", "port", "flowInfo", "scopeID")
    __slots__ = _PARTS

    def __init__(
        self, type: Literal["TCP", "UDP"], host: str, port: int, flowInfo: int = 0, scopeID: str | int = 0
    ) -> None:
        if type not in ("TCP", "UDP"):
            raise ValueError(f"an address's type is 'TCP' or 'UDP', not {type!r}")
        self.type = type
        self.host = host
        self.port = port
        self.flowInfo = flowInfo
        self.scopeID = scopeID


@implementer(interfaces.IAddress)
class HostnameAddress(_Address):
    """A host by its name, in bytes, and a port: what was asked for before it is looked up."""

    _PARTS = ("hostname", "port")
    __slots__ = _PARTS

    def __init__(self, hostname: bytes, port: int) -> None:
        self.hostname = hostname
        self.port = port


@implementer(interfaces.IAddress)
class UNIXAddress(_Address):
    """The path of a UNIX socket, in bytes (text is encoded as file names are), or None for an unnamed one.

    Two paths that lead to the same file are equal.
    """

    _PARTS = ("name",)
    __slots__ = _PARTS

    def __init__(self, name: bytes | str | None) -> None:
        self.name = os.fsencode(name) if name is not None else None

    def __repr__(self) -> str:
        shown = os.fsdecode(self.name) if self.name is not None else None
        return f"UNIXAddress({shown!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, UNIXAddress):
            return NotImplemented
        if self.name == other.name:
            return True
        mine, others = _identity(self.name), _identity(other.name)
        return mine is not None and mine == others

    def __hash__(self) -> int:
        return hash(_identity(self.name) or self.name)


@implementer(interfaces.IAddress)
class _ProcessAddress:
    """A process has no address: this stands where one is asked for."""


def _identity(name: bytes | None) -> tuple[int, int] | None:
    """Device and inode of the file at a path, or None where there is none."""
    if not name or name.startswith(b"\0"):
        return None
    try:
        status = os.stat(name)
    except OSError:
        return None
    return status.st_dev, status.st_ino


__all__ = ["HostnameAddress", "IPv4Address", "IPv6Address", "UNIXAddress"]
