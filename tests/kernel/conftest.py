"""A diary for each test."""

from __future__ import annotations

import pytest

from diary import Diary


@pytest.fixture
def diary() -> Diary:
    """An empty diary."""
    return []
