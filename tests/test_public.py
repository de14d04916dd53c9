"""The public names: about twenty, each documented, each in exactly one place, and cheap to import."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import plait


@pytest.mark.parametrize("name", plait.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    """With a docstring of its own."""
    value = getattr(plait, name)
    if name != "__version__":
        assert value.__doc__, name
        assert not value.__doc__.startswith(f"{name}("), f"{name} has only the docstring dataclass made"


def test_there_are_about_twenty() -> None:
    """More would be a sign that something is not where it belongs."""
    assert 15 <= len(plait.__all__) <= 25


def test_dir_and_a_wrong_name() -> None:
    """What dir() shows is what there is."""
    assert set(plait.__all__) <= set(dir(plait))
    with pytest.raises(AttributeError, match="no attribute 'Aplication'"):
        plait.Aplication  # noqa: B018


def test_each_is_defined_where_it_is_said_to_be() -> None:
    """`__module__` agrees with the table of homes, so no name is public twice."""
    for name, home in plait._HOMES.items():
        value = getattr(plait, name)
        module = getattr(value, "__module__", None)
        if isinstance(module, str) and isinstance(value, type):
            assert module.startswith("plait")
            assert getattr(importlib.import_module(module), name) is value, (name, home)


def test_importing_plait_imports_nothing_else() -> None:
    """Not asyncio, not msgspec, not even its own errors."""
    code = "import sys; before = set(sys.modules); import plait; print(sorted(set(sys.modules) - before))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    new = set(eval(printed.stdout))
    assert not new & {"asyncio", "msgspec", "click", "uvloop", "plait._kernel", "plait.options"}, new
