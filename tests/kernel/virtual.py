"""The virtual clock, where the kernel's tests look for it."""

from __future__ import annotations

from plait.testing import VirtualLoop

__all__ = ["VirtualLoop"]
