"""What tests of services and applications need. Each name is imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait._lazy import importer

if TYPE_CHECKING:
    from plait.testing.virtual import VirtualLoop as VirtualLoop
    from plait.testing.virtual import advance as advance
    from plait.testing.virtual import settle as settle

_HOMES = {
    "VirtualLoop": "plait.testing.virtual",
    "advance": "plait.testing.virtual",
    "settle": "plait.testing.virtual",
}

__all__ = list(_HOMES)
__getattr__ = importer(__name__, _HOMES)
