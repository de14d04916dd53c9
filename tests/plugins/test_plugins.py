"""Targets: what `plait run` can be given, and what is said of what it cannot; plugins of installed packages."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from plait import Application, Service
from plait.errors import InvalidTree, LifecycleError, OptionsError, TargetFailed, TargetNotFound, UsageError
from plait.options import Inputs
from plait.plugins import load
from plait.plugins.factory import factory_of


def write(folder: Path, name: str, code: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(code))
    return path


SHOP = """
    '''A shop.'''
    from __future__ import annotations
    from plait import Application, Options, Service

    class ShopOptions(Options):
        '''Sells things.'''
        port: int = 80

    class Database(Service):
        '''Keeps things.'''

    class Web(Service):
        def __init__(self, db: Database, port: int) -> None: ...

    def make_app(options: ShopOptions) -> Application:
        app = Application("shop", version=str(options.port))
        app.add(Database(), name="db")
        return app

    def plain():
        return Database()

    class Inner:
        make = staticmethod(plain)

    app = Application("instance")
    app.add(Database())
    made = Database()
    number = 5
"""


def build(text: str, *argv: str) -> Application:
    target = load(text)
    return target.build(target.resolve(Inputs(argv, environ={})).options)


# -- what a target may be -----------------------------------------------------------------------------------------


def test_a_module_with_an_attribute(folder: Path) -> None:
    """The attribute is called with the options that its parameter's class resolves to."""
    write(folder, "pkg/__init__.py", "")
    write(folder, "pkg/shop.py", SHOP)
    target = load("pkg.shop:make_app")
    assert (target.name, target.description, target.rebuildable) == ("shop", "Sells things.", True)
    app = build("pkg.shop:make_app", "--port=81")
    assert (app.name, app.version, [service.name for service in app]) == ("shop", "81", ["db"])


def test_a_left_out_attribute_is_make_app_then_app_then_application(folder: Path) -> None:
    """The first of them that is there."""
    names = ["make_app", "app", "application"]
    for missing in range(3):
        code = (
            "from plait import Application, Service\ndef make(name):\n    a = Application(name)\n    a.add(Service())\n"
        )
        code += "    return a\n"
        for name in names[missing:]:
            code += f"def {name}(): return make('{name.replace('_', '-')}')\n"
        write(folder, f"left{missing}.py", code)
        assert build(f"left{missing}").name == names[missing].replace("_", "-")
    write(folder, "none.py", "x = 5")
    with pytest.raises(TargetNotFound, match=r"no make_app, app or application; name the attribute, as none\.py:NAME"):
        load("none.py")


def test_a_file_is_imported_under_its_name(folder: Path) -> None:
    """Its folder is importable, it is imported once, and the names in it are those of its module."""
    write(folder, "deep/neighbour.py", "name = 'neighbour'")
    write(folder, "deep/filed.py", textwrap.dedent(SHOP) + "\nfrom neighbour import name\n")
    app = build("deep/filed.py", "--port=5")
    assert app.version == "5"
    assert type(next(iter(app))).__module__ == "filed"
    assert type(next(iter(build("deep/filed.py:plain")))) is type(next(iter(app)))
    assert str(folder / "deep") in sys.path
    assert str(folder) in sys.path


def test_a_file_whose_name_is_taken_is_run_all_the_same(folder: Path) -> None:
    """A module that has the name keeps it."""
    write(folder, "json.py", SHOP)
    assert build("json.py").name == "shop"
    assert sys.modules["json"] is json


def test_a_file_of_a_package_may_import_its_neighbours(folder: Path) -> None:
    """Relative imports work, as its dotted name would."""
    write(folder, "root/outer/__init__.py", "")
    write(folder, "root/outer/parts.py", "from plait import Service\nclass Part(Service): pass\n")
    write(folder, "root/outer/main.py", "from .parts import Part\ndef make_app(): return Part()\n")
    assert build("root/outer/main.py").name == "part"


def test_a_service_that_is_no_application_is_wrapped(folder: Path) -> None:
    """In an application of its name, from a factory, a class or an instance."""
    write(folder, "shop.py", SHOP)
    for text in ("shop:plain", "shop:Database", "shop:made", "shop:Inner.make"):
        app = build(text)
        assert isinstance(app, Application)
        assert (app.name, [service.name for service in app]) == ("database", ["database"])


def test_an_instance_is_built_once(folder: Path) -> None:
    """It cannot be called again, so a reload would need a restart; a factory gives a second tree."""
    write(folder, "shop.py", SHOP)
    target = load("shop:app")
    assert not target.rebuildable
    assert target.build(None) is sys.modules["shop"].app
    with pytest.raises(LifecycleError, match="restart required"):
        target.build(None)
    target = load("shop")
    options = target.resolve(Inputs(environ={})).options
    assert target.build(options) is not target.build(options)


def test_functions_classes_partials_and_callables_are_factories() -> None:
    """Anything that can be called with nothing, or with options, and optional parameters besides."""
    import functools

    class Maker:
        def __call__(self) -> Service:
            return Service()

    def optional(name: str = "x", *rest: int, **more: int) -> Service:
        return Service()

    for thing in (Maker(), Maker().__call__, optional, functools.partial(optional, name="y"), Service):
        assert isinstance(factory_of(thing, "it").make(None), Service)


def test_an_application_without_options_refuses_them(folder: Path) -> None:
    """In so many words."""
    write(folder, "shop.py", SHOP)
    with pytest.raises(OptionsError, match="this application has no options"):
        build("shop:plain", "--port=5")


def test_a_pydantic_model_may_be_the_options(folder: Path) -> None:
    """As the annotation of a factory's parameter."""
    write(
        folder,
        "modelled.py",
        """
        import pydantic
        from plait import Application, Service
        class ShopOptions(pydantic.BaseModel):
            port: int = 80
        def make_app(options: ShopOptions):
            app = Application("shop", version=str(options.port))
            app.add(Service())
            return app
        """,
    )
    assert build("modelled", "--port=81").version == "81"


# -- what it may not be -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nowhere:app", "there is no module 'nowhere'"),
        ("shop.nowhere:app", "there is no module 'shop.nowhere'"),
        ("no.such.module", "there is no module 'no'"),
        ("shop:make_ap", "'shop' has no attribute 'make_ap'; did you mean 'make_app'?"),
        ("shop:Inner.mke", "did you mean 'make'?"),
        ("shop:make_app()", "leave out the parentheses"),
        ("shop:1x", "no name of an attribute"),
        ("nowhere.py", "there is no file"),
        ("nowhere.py:app", "there is no file"),
        ("nowhere.toml", "there is no file 'nowhere.toml'"),
        ("nowhere.tac", "there is no file 'nowhere.tac'"),
        ("ecko", "there is no plugin 'ecko'"),
        ("ecko", "did you mean 'echo'?"),
        ("a-b", "there is no plugin 'a-b'"),
        ("", "there is no plugin ''"),
        (":app", "no name of a module"),
    ],
)
def test_targets_that_are_not_there(folder: Path, text: str, said: str) -> None:
    """Each is TargetNotFound, says what is not there, and names the nearest."""
    write(folder, "shop.py", SHOP)
    with pytest.raises(TargetNotFound) as caught:
        load(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("1/0", "ZeroDivisionError: division by zero"),
        ("import no_such_dependency", "No module named 'no_such_dependency'"),
        ("import bad.inner", "No module named 'bad.inner'"),
        ("from json import nonsense", "ImportError"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(5)", "SystemExit: 5"),
        ("x = 1\nassert not x", "AssertionError"),
    ],
)
@pytest.mark.parametrize("text", ["bad:app", "bad.py"])
def test_modules_that_fail(folder: Path, code: str, said: str, text: str) -> None:
    """What raises on import is TargetFailed, with the cause chained and the line named, not a missing target."""
    write(folder, "bad.py", "# a comment\n" + code)
    with pytest.raises(TargetFailed) as caught:
        load(text)
    assert said in str(caught.value)
    assert f"bad.py, line {code.count(chr(10)) + 2}" in str(caught.value)
    assert caught.value.__cause__ is not None
    assert "bad" not in sys.modules


@pytest.mark.parametrize(
    ("attribute", "said"),
    [
        ("number", "is an int, not a service"),
        ("Web", "takes 'db', 'port'; a factory takes nothing, or one parameter annotated with a subclass"),
        ("needs_more", "takes 'name'"),
        ("unannotated", "takes 'options'"),
        ("asynchronous", "is async"),
        ("generator", "decorate it with @plait.service"),
        ("asgi", "cannot run ASGI applications"),
        ("asgi_object", "cannot run ASGI applications"),
    ],
)
def test_attributes_that_give_no_service(folder: Path, attribute: str, said: str) -> None:
    """Each is a UsageError with the cure."""
    code = """
    def needs_more(options: ShopOptions, name): ...
    def unannotated(options): ...
    async def asynchronous(): ...
    async def generator(): yield
    async def asgi(scope, receive, send): ...
    class Asgi:
        async def __call__(self, scope, receive, send): ...
    asgi_object = Asgi()
    """
    write(folder, "shop.py", textwrap.dedent(SHOP) + textwrap.dedent(code))
    with pytest.raises(UsageError) as caught:
        load(f"shop:{attribute}")
    assert said in str(caught.value)


def test_a_tac_file_without_an_application(folder: Path) -> None:
    """It is named, and what it lacks."""
    write(folder, "old.tac", "")
    with pytest.raises(UsageError, match=r"old\.tac' has no `application`"):
        load("old.tac")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return None", "returned nothing, not a service"),
        ("return 5", "returned int, not a service"),
        ("1/0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(1)", "SystemExit: 1"),
        ("return plain_coroutine()", "returned coroutine"),
    ],
)
def test_factories_that_fail(folder: Path, body: str, said: str) -> None:
    """TargetFailed, naming the factory, when it raises or returns no service."""
    write(folder, "fails.py", f"async def plain_coroutine(): ...\ndef make_app():\n    {body}\n")
    with pytest.raises(TargetFailed) as caught:
        build("fails.py")
    assert said in str(caught.value)
    assert "'fails.py'" in str(caught.value)


def test_errors_that_say_who_is_to_blame_pass_through(folder: Path) -> None:
    """A bad endpoint in an option is bad usage, and a name used twice is the author's, from a factory too."""
    write(
        folder,
        "blame.py",
        "from plait.errors import *\ndef a(): raise UsageError('a')\ndef b(): raise InvalidTree('b')",
    )
    with pytest.raises(UsageError, match=r"^a$"):
        build("blame:a")
    with pytest.raises(InvalidTree, match=r"^b$"):
        build("blame:b")


def test_a_model_with_reserved_names_is_the_modules_failure(folder: Path) -> None:
    """An Options class of a reserved name is refused when it is made, so its module fails on import."""
    write(folder, "bad.py", "from plait import Options\nclass AOptions(Options):\n    config: str\n")
    with pytest.raises(TargetFailed, match="cannot be called 'config'"):
        load("bad.py")


def test_starting_files_and_help_of_a_target(folder: Path) -> None:
    """The values given stand in the file; a target without options has none to write."""
    write(folder, "shop.py", SHOP)
    target = load("shop")
    assert "port = 81" in target.starting_file("toml", Inputs(["--port=81"], environ={}))
    assert "--port INT" in target.help()
    assert target.wants_help(["--help"])
    assert not target.wants_help(["--port=1"])
    with pytest.raises(OptionsError, match="expected an integer"):
        target.starting_file("toml", Inputs(["--port=x"], environ={}))
    with pytest.raises(UsageError, match="has no options"):
        load("shop:plain").starting_file("toml", Inputs(environ={}))


# -- plugins ------------------------------------------------------------------------------------------------------


def install(site: Path, distribution: str, version: str, entries: dict[str, str], modules: dict[str, str]) -> None:
    """A distribution as an installer leaves it: modules, and a dist-info with metadata and entry points."""
    info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    lines = "".join(f"{name} = {value}\n" for name, value in entries.items())
    (info / "entry_points.txt").write_text(f"[plait.services]\n{lines}")
    (info / "RECORD").write_text("")
    for name, code in modules.items():
        write(site, name, code)


def python(site: Path, code: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, cwd=cwd, env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


LIST = """
    from plait.plugins import plugins
    for p in plugins():
        print(p.name, p.distribution, p.version, p.runnable, p.description, p.error, sep="|")
"""


def test_installed_plugins_are_listed_and_run(tmp_path: Path) -> None:
    """An entry point makes a service a target by name; broken ones are reported and harm no other."""
    site, cwd = tmp_path / "site", tmp_path / "cwd"
    cwd.mkdir()
    entries = {
        "shop": "their_shop:make_app", "data": "their_shop:Database", "web": "their_shop:Web",
        "bare": "their_shop", "raises": "their_bad:x", "gone": "their_gone:x", "attr": "their_shop:nothing",
        "number": "their_shop:number",
    }  # fmt: skip
    install(site, "their-shop", "1.2", entries, {"their_shop.py": SHOP, "their_bad.py": "1/0"})
    lines = [line.split("|") for line in python(site, LIST, cwd).splitlines()]
    listed = {line[0]: line for line in lines if line[1] == "their-shop"}
    assert listed["shop"] == ["shop", "their-shop", "1.2", "True", "Sells things.", "None"]
    assert listed["data"][3:] == ["True", "Keeps things.", "None"]
    assert listed["web"][3] == "False"
    assert listed["bare"][3:] == ["True", "Sells things.", "None"]
    for name, said in {
        "raises": "ZeroDivisionError",
        "gone": "there is no module 'their_gone'",
        "attr": "no attribute 'nothing'",
        "number": "not a service",
    }.items():
        assert said in listed[name][5], listed[name]
    assert any(line[0] == "echo" and line[1] == "plait" for line in lines)
    run = """
        from plait.plugins import load
        from plait.options import Inputs
        target = load("shop")
        print(target.name, target.build(target.resolve(Inputs(["--port=81"])).options).version)
        try:
            load("raises")
        except Exception as error:
            print(type(error).__name__, error)
    """
    out = python(site, run, cwd).splitlines()
    assert out[0] == "shop 81"
    assert out[1].startswith("TargetFailed plugin 'raises' of their-shop 1.2 is broken: importing 'their_bad' raised")


def test_a_plugin_goes_before_a_module_of_its_name(tmp_path: Path) -> None:
    """`plait run shop` means the same wherever it is typed; the file is shop.py, the module shop:make_app."""
    site = tmp_path / "site"
    install(site, "their-shop", "1", {"shop": "their_shop:plain"}, {"their_shop.py": SHOP})
    write(tmp_path, "shop.py", SHOP)
    code = "from plait.plugins import load; print([load(t).options_class for t in ('shop', 'shop.py', 'shop:plain')])"
    assert python(site, code, tmp_path).strip() == "[None, <class 'shop.ShopOptions'>, None]"


def test_a_name_that_two_packages_offer_is_refused(tmp_path: Path) -> None:
    """Neither wins by chance."""
    site = tmp_path / "site"
    install(site, "one", "1", {"twice": "mod_one:plain"}, {"mod_one.py": SHOP})
    install(site, "two", "1", {"twice": "mod_two:plain"}, {"mod_two.py": SHOP})
    code = """
        from plait.plugins import load
        try:
            load("twice")
        except Exception as error:
            print(type(error).__name__, error)
    """
    out = python(site, code, tmp_path)
    assert out.startswith("UsageError several packages offer a plugin 'twice'")
    assert "mod_one:plain of one" in out
    assert "mod_two:plain of two" in out
