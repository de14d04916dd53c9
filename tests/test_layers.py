"""The layers: lower never imports higher, and no module imports itself by a detour."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import plait

ROOT = Path(plait.__file__).parent

LAYERS = [
    {"_lazy", "errors", "options"},
    {"_kernel"},
    {"plugins", "timers"},
    {"net", "observe"},
    {"control"},
    {"process"},
    {"testing", "classic"},
    {"cli", "__main__"},
]
"""Lowest first. `plait` itself, which imports every public name on use, stands outside."""


def modules() -> dict[str, Path]:
    """Every module of the package, by its dotted name below `plait`."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path) -> Iterator[str]:
    """The modules below `plait` that a module imports anywhere, in functions and for type checking as well."""
    known = modules()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "plait":
            base = node.module.partition(".")[2]
            for alias in node.names:
                inner = f"{base}.{alias.name}".strip(".")
                yield inner if inner in known else base
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("plait."):
                    yield alias.name.partition(".")[2]
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{name} has a relative import"


def layer(module: str) -> int:
    """The number of a module's layer."""
    top = module.partition(".")[0]
    return next(number for number, names in enumerate(LAYERS) if top in names)


@pytest.mark.parametrize("name", sorted(set(modules()) - {""}))
def test_a_module_imports_only_its_own_layer_and_those_below(name: str) -> None:
    """Imports inside functions and under TYPE_CHECKING count."""
    for imported in imports(name, modules()[name]):
        if imported:
            assert layer(imported) <= layer(name), f"plait.{name} imports plait.{imported}"


@pytest.mark.parametrize("name", sorted(name for name in modules() if name and not name.startswith("testing")))
def test_nothing_imports_what_is_for_tests(name: str) -> None:
    """`plait.testing` stands beside the command line, and no program pays for it."""
    assert not [imported for imported in imports(name, modules()[name]) if imported.startswith("testing")]


@pytest.mark.parametrize("name", sorted(name for name in modules() if name and not name.startswith("classic")))
def test_nothing_imports_classic(name: str) -> None:
    """`plait.classic` is for those who ask for it; the loader of a `.tac` is imported by name, on use."""
    assert not [imported for imported in imports(name, modules()[name]) if imported.startswith("classic")]


def test_there_is_no_import_cycle() -> None:
    """Not even for type checking. A package's __init__ counts as a module."""
    graph = {name: {i for i in imports(name, path) if i and i != name} for name, path in modules().items() if name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_no_module_calls_sys_exit_outside_cli() -> None:
    """A library that ends the process takes it from its user."""
    for name, path in modules().items():
        if not name.startswith("cli") and name != "__main__":
            assert "sys.exit" not in path.read_text(), name
