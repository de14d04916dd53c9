"""One machine for all tests of systemd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from booted import Machine, NoMachine


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Booted once, switched off at the end; skipped with the reason where it cannot be had."""
    try:
        found = Machine(tmp_path_factory.mktemp("systemd"))
    except NoMachine as why:
        pytest.skip(str(why))
    yield found
    found.close()
