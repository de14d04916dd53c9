"""What docs/options.md and docs/compose.md show is true."""

import re
import sys
from pathlib import Path

import pytest

from plait.errors import OptionsError
from plait.options import Inputs, Options, resolve
from plait.plugins import load

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found


def test_the_python_of_the_options_page_runs() -> None:
    """Its blocks, one after another, with the assertions in them."""
    names: dict[str, object] = {"__name__": "docs_options"}
    sys.modules["docs_options"] = type(sys)("docs_options")
    try:
        for code in blocks("options.md", "python"):
            exec(compile(code, "options.md", "exec"), names)
        shop: type = names["ShopOptions"]  # type: ignore[assignment]
        toml = blocks("options.md", "toml")[0].encode()
        options = resolve(shop, environ={}, config="shop.toml", read=lambda path: toml).options
        assert (options.mode, options.hosts, options.db.pool_size) == ("fast", ["a.example", "b.example"], 10)
    finally:
        del sys.modules["docs_options"]


def test_the_errors_of_the_options_page_are_the_ones_shown() -> None:
    """Word for word."""
    from typing import Annotated

    from plait import Meta

    class DbOptions(Options):
        pool_size: int = 5

    class ShopOptions(Options):
        port: Annotated[int, Meta(ge=1, le=65535)]
        dsn: str
        db: DbOptions

    with pytest.raises(OptionsError) as caught:
        resolve(
            ShopOptions, ["--port", "http"], environ={}, config="shop.toml", read=lambda path: b"[db]\npool_sise = 1"
        )
    assert sorted(str(one) for one in caught.value.problems) == sorted(blocks("options.md", "text")[0].splitlines())


def test_the_files_of_the_compose_page_can_be_built(folder: Path) -> None:
    """With the module that the page shows beside them."""
    (folder / "myshop").mkdir()
    (folder / "myshop/__init__.py").write_text("")
    code = blocks("compose.md", "python")[0]
    (folder / "myshop/web.py").write_text(code)
    (folder / "myshop/db.py").write_text(code)
    built = []
    for number, text in enumerate(blocks("compose.md", "toml")[:-1]):
        (folder / f"app{number}.toml").write_text(text)
        target = load(f"app{number}.toml")
        built.append(target.build(target.resolve(Inputs(environ={})).options))
    paths = [{one.path for one in app.snapshot().walk()} for app in built]
    assert paths[0] >= {"/", "db", "echo"}
    assert paths[1:] == [{"/", "db", "web"}, {"/", "back", "back/db", "web"}]


def test_the_errors_of_the_compose_page_are_the_ones_shown(folder: Path) -> None:
    """Word for word."""
    (folder / "parts.py").write_text(blocks("compose.md", "python")[0])
    (folder / "app.toml").write_text(
        "[services.echo]\nuse = 'parts:Database'\nrestrat = 'always'\noptions = { dsn = 'x' }\n"
        "[services.db]\nuse = 'parts:Database'\noptions = { dns = 'x' }\n"
    )
    with pytest.raises(OptionsError) as caught:
        load("app.toml").resolve(Inputs(environ={}))
    assert [str(one) for one in caught.value.problems] == blocks("compose.md", "text")[0].splitlines()
