"""What is wrong with a file that composes an application: every error with its file, table and key."""

import sys
import tomllib
from pathlib import Path

import pytest
from composing import DB, WEB, build, problem, problems, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plait import Application
from plait.errors import InvalidTree, OptionsError, PlaitError, TargetFailed
from plait.options import Inputs, render_table
from plait.options.text import toml_value
from plait.plugins import load
from plait.plugins.compose import compose

# -- what is wrong with a file ------------------------------------------------------------------------------------


OTHER = DB.replace("db", "other")


def web(option: str) -> str:
    """A service that is given another option."""
    return WEB.replace('"db" }', f'"db", {option} }}')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "app.toml: services: missing: no table [services.NAME]"),
        ("[servces.db]\n" + DB, "app.toml: servces: unknown; did you mean 'services'?"),
        ("services = 5", "app.toml: services: expected a table"),
        ("[services]\ndb = 5\n", "app.toml [services]: db: expected a table"),
        ("[services.db]\nneeds = []\n", "app.toml [services.db]: use: missing"),
        ("[application]\nnam = 'x'\n" + DB, "app.toml [application]: nam: unknown; did you mean 'name'?"),
        ("[application]\nversion = 1.0\n" + DB, "app.toml [application]: version = 1.0: expected text"),
        ("[application]\nname = 'a b'\n" + DB, "app.toml [application]: name: 'a b' is no name"),
        ("[application]\nstrategy = 'all'\n" + DB, "strategy = 'all': expected one of one_for_one"),
        ("[application]\nshutdown_timeout = 0\n" + DB, "app.toml [application]: application: shutdown_timeout is 0"),
        (DB + "restrat = 'always'\n", "app.toml [services.db]: restrat: unknown; did you mean 'restart'?"),
        (DB + "restart = 'sometimes'\n", "app.toml [services.db]: restart = 'sometimes': expected one of always"),
        (DB + "start_timeout = 'soon'\n", "app.toml [services.db]: start_timeout = 'soon': expected a duration"),
        (DB + "start_timeout = 0\n", "app.toml [services.db]: policy: policy field 'start_timeout' is 0"),
        (DB + "significant = true\nrestart = 'always'\n", "[services.db]: policy: policy has significant=True"),
        (DB + "strategy = 'one_for_one'\n", "app.toml [services.db]: strategy: a service with `use` cannot"),
        (DB + "[services.db.services.x]\nuse = 'parts:Database'\n", "services: a service with `use` cannot"),
        (DB + "enabled = 'perhaps'\n", "app.toml [services.db]: enabled = 'perhaps': expected true or false"),
        (DB + "needs = 'x'\n", "app.toml [services.db]: needs = 'x': expected a list of text"),
        (DB + "needs = ['d']\n", "app.toml [services.db]: needs = 'd': there is no such service"),
        (DB + "needs = ['db']\n", "app.toml [services.db]: needs = 'db': a service cannot need itself"),
        (DB + "needs = [5]\n", "app.toml [services.db]: needs[0] = 5: expected text"),
        (DB + WEB + "needs = ['dbs']\n", "needs = 'dbs': there is no such service; did you mean 'db'?"),
        (DB + WEB + "needs = ['/dv']\n", "needs = '/dv': there is no such service; did you mean '/db'?"),
        (DB + WEB.replace('"db"', '"dv"'), "app.toml [services.web.options]: db = 'dv': there is no"),
        (DB + "enabled = false\n" + WEB, "db = 'db': service 'db' is not enabled"),
        (DB + "enabled = false\n" + OTHER + "needs = ['db']\n", "needs = 'db': service 'db' is not enabled"),
        (DB.replace("parts:", "nowhere:"), "app.toml [services.db]: use: there is no module 'nowhere'"),
        (DB.replace("Database", "Databse"), "[services.db]: use: 'parts' has no attribute 'Databse'; did you"),
        (DB.replace("parts:Database", "ecko"), "[services.db]: use: there is no plugin 'ecko' (did you mean 'echo'?)"),
        (DB.replace("Database", "number"), "app.toml [services.db]: use: 'parts:number' is an int, not a service"),
        (DB.replace("Database", "made"), "use: 'parts:made' is a service that was made already"),
        (DB.replace("parts:Database", "parts:"), "use: 'parts:' names no attribute"),
        (DB.replace("parts:Database", "os:getpid"), "[services.db.options]: dsn: unknown; there are none"),
        ("[services.a]\nuse = 'parts:make_nothing'\n", "app.toml [services.a]: use: 'parts:make_nothing' returned"),
        ("[services.a]\nuse = 'parts:Hooked'\n", "Hooked has hooks of its own"),
        (DB.replace("dsn", "dns"), "app.toml [services.db.options]: dns: unknown; did you mean 'dsn'?"),
        (DB.replace('"x"', "5"), "app.toml [services.db.options]: dsn = 5: expected text"),
        ("[services.db]\nuse = 'parts:Database'\n", "app.toml [services.db.options]: dsn: missing: text is required"),
        ("[services.db]\nuse = 'parts:Database'\noptions = 5\n", "[services.db]: options = 5: expected a table"),
        (DB.replace('"x"', '"x", size = 0'), "[services.db.options]: size = 0: expected an integer, at least 1"),
        ("[services.g]\noptions = {}\n", "app.toml [services.g]: options: are given to what `use` names"),
        ("[services.'a b']\nuse = 'parts:make_one'\n", "app.toml [services]: a b: 'a b' is no name"),
        (DB + web("wait = 13"), "app.toml [services.web]: options: 'parts:Web': 13 is unlucky"),
        (DB + web("handler = 'parts'"), "[services.web]: options.handler: 'parts' names no callable"),
        (DB + web("handler = 'parts:number'"), "options.handler: 'parts:number' cannot be called"),
        (DB + web("handler = 'parts:hndle'"), "options.handler: 'parts' has no attribute 'hndle'; did"),
        ("[services.db]\nuse = 'parts:Secure'\n" + WEB, "options.db: takes a Database; service 'db' is a Secure"),
        (WEB.replace('"db"', '"/e/db"') + "[services.e]\nuse = 'parts:make_app'\n", "is inside what a factory makes"),
        (
            "[services.a]\nuse = 'parts:Configured'\noptions = { count = 13 }\n",
            "app.toml [services.a.options]: EchoOptions: unlucky ****",
        ),
        (DB.replace('"x"', '"${DSN}"'), "app.toml [services.db.options]: dsn: variable DSN is not set"),
        (DB.replace('"x"', '"${}"'), "app.toml [services.db.options]: dsn: has a '${' that begins no ${VAR}"),
        ("x = \n", "app.toml: line 1, column 5: Invalid value"),
        (DB + DB, "app.toml: line 4, column 13: Cannot declare"),
    ],
)
def test_an_error_names_file_table_and_key(folder: Path, text: str, said: str) -> None:
    """One mistake is one line, and says what to do where there is something to say."""
    found = [one for one in problems(text) if said in one]
    assert found, problems(text)


def test_what_is_needed_inside_a_factorys_group_is_checked_when_built(folder: Path) -> None:
    """Nobody can know its names before; the kernel's words then name the nearest."""
    said = problem(DB + "needs = ['/e/dbb']\n[services.e]\nuse = 'parts:make_app'\n")
    assert said.startswith("app.toml [services]: needs: service 'db' needs '/e/dbb', which is not there; did you mean")


@pytest.mark.parametrize(
    "text",
    [
        DB + "needs = ['b']\n" + DB.replace("db", "b") + "needs = ['db']\n",
        DB + "needs = ['web']\n" + WEB,
        DB.replace("services.db", "services.g.services.db") + "needs = ['/g']\n",
        WEB.replace("web", "a").replace('"db"', '"b"') + WEB.replace("web", "b").replace('"db"', '"a"'),
    ],
)
def test_cycles_are_told(folder: Path, text: str) -> None:
    """Of needs, of needs and parameters, of a group and its own, and of parameters alone."""
    assert all(one.startswith("app.toml [services") and "a cycle" in one for one in problems(text))


def test_all_errors_are_told_at_once(folder: Path) -> None:
    """Of all tables, in the order of the file."""
    found = problems(
        "[application]\nnam = 'x'\n" + DB.replace("dsn", "dns") + "restrat = 1\n" + WEB + "needs = ['no']\n",
        "--loop", "--set", "services.wbe.needs=[]", "--set", "services.db.options.sise=1",
    )  # fmt: skip
    starts = [one.split(":")[0] + ":" + one.split(":")[1] for one in found]
    assert starts == [
        "command line: --loop",
        "--set: services.wbe.needs",
        "app.toml [application]: nam",
        "app.toml [services.db]: restrat",
        "app.toml [services.db.options]: dns",
        "--set services.db.options.sise: sise",
        "app.toml [services.db.options]: dsn",
        "app.toml [services.web]: needs = 'no'",
    ]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--listen", "x"], "--listen: does not apply to app.toml"),
        (["--config", "x"], "--config: does not apply to app.toml"),
        (["--set", "x"], "expected key=value"),
        (["--set", "services.db=5"], "names a table"),
        (["--set", "services=5"], "names a table"),
        (["--set", "services.dbs.use=5"], "unknown; did you mean 'db'?"),
        (["--set", "service.db.use=5"], "unknown; did you mean 'services'?"),
        (["--set", "services.db.use.x=5"], "'use' is no table"),
        (["--set", "services.options.use=x"], "unknown; known are db"),
        (["--env-file", "nowhere"], "no such file"),
    ],
)
def test_a_command_line_that_makes_no_sense(folder: Path, argv: list[str], said: str) -> None:
    """Flags of fields and --config do not apply; --set changes what is there and registers nothing."""
    assert said in problem(DB, *argv)


def test_errors_show_no_secrets(folder: Path) -> None:
    """Not even those that a variable put under the wrong key."""
    text = '[services.db]\nuse = "parts:Database"\noptions = { dsn = "x", pasword = "${P}", password = ["${P}"] }\n'
    found = "\n".join(problems(text, P="hunter2"))
    assert "did you mean 'password'" in found
    assert "password = ****" in found
    assert "hunter2" not in found


def test_faults_of_code_are_the_targets_failure(folder: Path) -> None:
    """A module that raises on import, a constructor or factory that breaks: exit code 3, with the table named."""
    (folder / "bad.py").write_text("1/0\n")
    for text, said in {
        DB.replace("parts:", "bad:"): "importing 'bad' raised ZeroDivisionError",
        DB + web("wait = 14"): "app.toml [services.web]: 'parts:Web' raised RuntimeError: 14",
        "[services.a]\nuse = 'parts:make_trouble'\n": "app.toml [services.a]: 'parts:make_trouble' raised ZeroDivision",
    }.items():
        with pytest.raises(TargetFailed) as caught:
            build(text)
        assert said in str(caught.value)
        assert caught.value.__cause__ is not None


def test_a_tree_of_two_applications_is_the_kernels_word(folder: Path) -> None:
    """`build` reports what the kernel refuses as a problem of the file, never as a bare InvalidTree."""
    (folder / "twice.py").write_text("from parts import Database\nit = Database('x')\ndef make(): return it\n")
    try:
        found = problems("[services.a]\nuse = 'twice:make'\n[services.b]\nuse = 'twice:make'\n")
    except InvalidTree:
        pytest.fail("left as InvalidTree")
    assert len(found) == 1
    assert found[0].startswith("app.toml [services.b]: use:")


TOP_KEYS = ["application", "services", "name", "version", "strategy"]
KEYS = st.sampled_from([*TOP_KEYS, "use", "needs", "enabled", "options", "restart", "start_timeout", "db", "web"])
USES = ["parts:Database", "parts:Web", "parts:make_app", "parts:Configured", "parts:"]
TEXTS = st.sampled_from([*USES, "db", "/db", "web", "${X}", "${X:-y}", "${"])
LEAVES = st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=5) | TEXTS


def nested(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)


ANYTHING = st.recursive(LEAVES, nested, max_leaves=6)
OPTIONS = st.fixed_dictionaries(
    {}, optional={"dsn": TEXTS, "db": TEXTS, "wait": LEAVES, "size": st.integers(), "handler": LEAVES, "x": ANYTHING}
)
SERVICE = st.fixed_dictionaries(
    {"use": TEXTS},
    optional={"options": OPTIONS, "needs": st.lists(TEXTS), "enabled": st.booleans(), "start_timeout": LEAVES},
)
NAMES = st.sampled_from(["db", "web", "a"])
SERVICES = st.recursive(
    SERVICE | st.dictionaries(KEYS, ANYTHING, max_size=3),
    lambda inner: st.fixed_dictionaries({"services": st.dictionaries(NAMES, inner, max_size=2)}),
    max_leaves=4,
)
FILES = st.dictionaries(KEYS, ANYTHING, max_size=4) | st.fixed_dictionaries(
    {"services": st.dictionaries(NAMES, SERVICES, min_size=1, max_size=3)}
)
SETS = st.lists(st.lists(KEYS, max_size=4).map(".".join) | st.text(max_size=6), max_size=2)


@given(FILES, SETS)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_any_file_is_a_composition_or_an_options_error(folder: Path, data: dict[str, object], sets: list[str]) -> None:
    """Nothing else comes out, whatever the tables hold, and what comes out can be built or says why not."""
    text = "".join(f"{key} = {toml_value(value)}\n" for key, value in data.items())
    assert tomllib.loads(text).keys() == data.keys()
    write(DB)  # and parts.py, which the texts name
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    argv = [f"--set={one}=1" for one in sets]
    try:
        resolved = compose(folder / "app.toml", Inputs(argv, environ={}, read=lambda path: text.encode()))
    except OptionsError as error:
        assert str(error)  # noqa: PT017
        return
    render_table(resolved.rows)
    try:
        assert isinstance(load("app.toml").build(resolved.options), Application)
    except PlaitError as error:
        assert isinstance(error, OptionsError)  # noqa: PT017
