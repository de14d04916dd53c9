"""Names of a package that are imported on first use (PEP 562), so that who uses one does not pay for all.

Rule: a table says where each name lives; a home whose last part is the name itself means that module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def importer(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of `package`. AttributeError for a name that is not in the table."""

    def import_name(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        import sys
        from importlib import import_module

        module = import_module(home)
        value = module if home.endswith(f".{name}") else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    return import_name
