"""Composition by file: services without code."""

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from composing import DB, WEB, build, problem, tree, write

from plait import Group
from plait.options import Inputs, SourceKind, render_table
from plait.plugins import load

# -- what a file can say ------------------------------------------------------------------------------------------


def test_a_file_composes_an_application(folder: Path) -> None:
    """Name, version, services with their constructors' arguments, needs and policies."""
    app: Any = build(
        """
        [application]
        name = "edge"
        version = "1.2"
        strategy = "one_for_all"
        shutdown_delay = "1s"
        shutdown_timeout = 20

        [services.db]
        use = "parts:Database"
        restart = "always"
        start_timeout = "1m"
        check_period = 2.5
        options = { dsn = "sqlite://", size = 7, password = "s" }

        [services.web]
        use = "parts:Web"
        needs = ["db"]
        significant = true
        placement = "one"

        [services.web.options]
        db = "db"
        wait = "5m"
        """.replace("placement", "on_exhausted").replace('"one"', '"park"')
    )
    assert (app.name, app.version, app.strategy) == ("edge", "1.2", "one_for_all")
    assert (app.shutdown_delay, app.shutdown_timeout) == (1.0, 20.0)
    db, web = app["db"], app["web"]
    assert (db.dsn, db.size, db.password.reveal()) == ("sqlite://", 7, "s")
    policy = db.effective_policy
    assert (policy.restart, policy.start_timeout, policy.check_period, policy.stop_timeout) == ("always", 60, 2.5, 10)
    assert (web.effective_policy.significant, web.effective_policy.on_exhausted) == (True, "park")
    assert (web.db, web.wait) == (db, 300.0)
    assert set(tree(app)["web"]) == {"db", "/db"}


def test_the_name_is_the_files_unless_it_says_another(folder: Path) -> None:
    """app.toml is `app`."""
    assert build(DB).name == "app"


def test_a_parameter_of_a_service_takes_its_name_and_needs_it(folder: Path) -> None:
    """The service may stand later in the file, and in another group, by its path from the root."""
    app: Any = build(
        '[services.web]\nuse = "parts:Web"\noptions = { db = "/back/db", spare = "cache" }\n'
        '[services.cache]\nuse = "parts:Cache"\noptions = { dsn = "c" }\n'
        '[services.back.services.db]\nuse = "parts:Database"\noptions = { dsn = "b" }\n'
    )
    assert app["web"].db is app["back/db"]
    assert app["web"].spare is app["cache"]
    assert set(tree(app)["web"]) == {"/back/db", "/cache"}
    assert list(tree(app)) == ["/", "web", "cache", "back", "back/db"]


def test_a_parameter_of_a_callable_takes_module_and_attribute(folder: Path) -> None:
    """For Callable, for a protocol of a call, and for optional ones."""
    web = '[services.{0}]\nuse = "parts:Web"\noptions = {{ db = "db", {1} }}\n'
    app: Any = build(
        DB + web.format("web", 'handler = "parts:handle"') + web.format("web2", 'other = "builtins:print"')
    )
    assert app["web"].handler is sys.modules["parts"].handle
    assert app["web2"].other is print


def test_parameters_of_an_options_class_are_tables(folder: Path) -> None:
    """A nested Options, lists, and None where it is left out."""
    app: Any = build('[services.a]\nuse = "parts:Secure"\n[services.a.options]\nnames = ["x"]\ntls.cert = "c"\n'
                     '[services.b]\nuse = "parts:Secure"\n')  # fmt: skip
    assert (app["a"].tls.cert, app["a"].tls.key, app["a"].names) == ("c", "key", ("x",))
    assert (app["b"].tls, app["b"].names) == (None, ())


def test_annotations_that_run_time_does_not_know_take_anything(folder: Path) -> None:
    """What is imported only for the type checker cannot be checked here, nor what is not annotated."""
    app: Any = build(DB + '[services.web]\nuse = "parts:Web"\noptions = { db = "db", context = "x", anything = 5 }\n')
    assert (app["web"].context, app["web"].anything) == ("x", 5)


def test_only_what_is_given_is_passed_and_recorded(folder: Path) -> None:
    """Constructors keep their own defaults; the kernel's record, which a reload compares, holds what was given."""
    app = build(DB)
    assert app["db"]._record.arguments == ((), {"dsn": "x"})


def test_a_generator_service_takes_its_functions_parameters(folder: Path) -> None:
    """@service makes a class; its options are the parameters of the function, with their annotations."""
    app = build('[services.t]\nuse = "parts:ticker"\noptions = { period = "5m" }\n')
    assert app["t"]._record.arguments == ((), {"period": 300.0})
    assert "period = 'x': expected a duration" in problem(
        '[services.t]\nuse = "parts:ticker"\noptions = { period = "x" }\n'
    )


def test_a_factorys_options_are_the_fields_of_its_class(folder: Path) -> None:
    """With their defaults, without their variables; its application becomes a group."""
    text = '[services.echo]\nuse = "parts:make_app"\noptions = { listen = "L" }\nrestart = "always"\n'
    app: Any = build(text + DB, ECHO_LISTEN="no", ECHO_COUNT="x")
    assert type(app["echo"]) is Group
    assert app["echo"].strategy == "rest_for_one"
    assert app["echo"].effective_policy.restart == "always"
    assert app["echo/db"].dsn == "L"
    assert build('[services.a]\nuse = "parts:make_one"\n')["a"].dsn == "one"  # type: ignore[attr-defined]
    configured: Any = build('[services.a]\nuse = "parts:Configured"\noptions = { count = "4" }\n')["a"]
    assert configured.options.count == 4


def test_paths_inside_a_factorys_application_move_with_it(folder: Path) -> None:
    """What was a path from its root is one from its group; the same application can be used twice."""
    app = build(
        '[services.one]\nuse = "parts:make_app"\n[services.deep.services.two]\nuse = "parts:make_app"\n'
        '[services.web]\nuse = "parts:Database"\noptions = { dsn = "x" }\nneeds = ["/deep/two/inner/far", "one"]\n'
    )
    needs = tree(app)
    assert needs["one/near"] == ("/one/db", "/one/db")
    assert needs["one/inner/far"] == ("/one/near",)
    assert needs["deep/two/inner/far"] == ("/deep/two/near",)
    assert needs["web"] == ("/deep/two/inner/far", "one")


async def test_a_composed_application_runs(folder: Path) -> None:
    """It starts by its needs and stops, like one made in Python."""
    app = build(DB + WEB + '[services.echo]\nuse = "parts:make_app"\nneeds = ["web"]\n')
    async with app:
        assert {one.state.name for one in app.snapshot().walk()} == {"RUNNING"}


def test_a_service_that_is_not_enabled_is_left_out(folder: Path) -> None:
    """With everything below it, and without importing what it uses."""
    off = '[services.off]\nenabled = false\nuse = "no_such_module:X"\n[services.off.services.x]\nuse = "nor:this"\n'
    assert list(tree(build(DB + off))) == ["/", "db"]
    assert list(tree(build(DB + WEB, "--set", "services.web.enabled=no"))) == ["/", "db"]


def test_variables_are_put_into_strings(folder: Path) -> None:
    """${VAR}, ${VAR:-default} also for empty ones, $${ for the text; everywhere but in keys; then converted."""
    app: Any = build(
        '[application]\nname = "${NAME}"\n[services.db]\nuse = "parts:${CLASS:-Database}"\nneeds = []\n'
        'options = { dsn = "a-${A}-${B:-b}-${EMPTY:-e}-${EMPTY}-$${C}-$D", size = "${SIZE}" }\n',
        NAME="n", A="1", SIZE="7", EMPTY="",
    )  # fmt: skip
    assert (app.name, app["db"].dsn, app["db"].size) == ("n", "a-1-b-e--${C}-$D", 7)


def test_an_env_file_gives_variables_below_the_environment(folder: Path) -> None:
    """--env-file is where ${VAR} looks second."""
    Path("e.env").write_text("A=1\nB=2\n")
    text = '[services.db]\nuse = "parts:Database"\noptions = { dsn = "${A}${B}" }\n'
    app: Any = build(text, "--env-file", "e.env", B="3")
    assert app["db"].dsn == "13"


def test_set_changes_the_files_values(folder: Path) -> None:
    """By the dotted key, as text that is converted; lists as JSON; tables of options are made."""
    app: Any = build(
        DB + WEB + '[services.s]\nuse = "parts:Secure"\n',
        "--set", "services.db.options.dsn=${LITERAL}", "--set=services.db.options.size=9",
        "--set", "services.web.restart=always", "--set", 'services.web.needs=["s"]',
        "--set", "application.name=other", "--set", 'services.s.options.names=["a","b"]',
        "--set", "services.s.options.tls.cert=c",
    )  # fmt: skip
    assert (app.name, app["db"].dsn, app["db"].size) == ("other", "${LITERAL}", 9)
    assert (app["web"].effective_policy.restart, app["s"].names, app["s"].tls.cert) == ("always", ("a", "b"), "c")
    assert "s" in tree(app)["web"]


def test_every_value_knows_its_source(folder: Path) -> None:
    """`plait options app.toml`: key, value and source of everything in force, secrets masked."""
    write(
        '[application]\nname = "edge"\n[services.db]\nuse = "parts:Database"\nrestart = "always"\n'
        'options = { dsn = "${DSN}", password = "hunter2" }\n'
    )
    resolved = load("app.toml").resolve(Inputs(["--set", "services.db.options.size=9"], environ={"DSN": "d"}))
    assert [line.split("  ")[0] for line in render_table(resolved.rows).splitlines()] == [
        "application.name", "services.db.use", "services.db.restart", "services.db.options.dsn",
        "services.db.options.size", "services.db.options.password",
    ]  # fmt: skip
    where = {key: str(source) for key, source in resolved.provenance.items()}
    assert where["application.name"] == "app.toml [application] name"
    assert where["services.db.options.dsn"] == "app.toml [services.db.options] dsn (${DSN})"
    assert where["services.db.options.size"] == "--set services.db.options.size"
    assert resolved.provenance["services.db.options.size"].kind is SourceKind.COMMAND_LINE
    assert "hunter2" not in render_table(resolved.rows) + repr(resolved)


def test_a_file_is_read_anew_by_each_resolve(folder: Path) -> None:
    """Equal if it says the same; a service is registered by adding it and unloaded by removing it."""
    write(DB)
    target = load("app.toml")
    first = target.resolve(Inputs(environ={})).options
    write("# only a comment\n" + DB)
    assert target.resolve(Inputs(environ={})).options == first
    write(DB + WEB)
    second = target.resolve(Inputs(environ={})).options
    assert second != first
    assert list(tree(target.build(second))) == ["/", "db", "web"]
    write(WEB.replace("web", "db").replace('db = "db"', 'db = "/x"') + DB.replace("db", "x"))
    assert list(tree(target.build(target.resolve(Inputs(environ={})).options))) == ["/", "db", "x"]
    assert target.rebuildable
    assert target.build(first) is not target.build(first)


def test_a_file_is_read_through_the_reader(folder: Path) -> None:
    """As a worker does it, from a snapshot."""
    write(DB)
    data = DB.replace('"x"', '"snapshot"').encode()
    target = load("app.toml")
    resolved = target.resolve(Inputs(environ={}, read=lambda path: data))
    app: Any = target.build(resolved.options)
    assert app["db"].dsn == "snapshot"
    assert list(resolved.files.values()) == [data]


def test_the_help_of_a_file_lists_its_keys(folder: Path) -> None:
    """What --set can change; a file that is wrong says so there too."""
    write(DB + WEB)
    text = " ".join(load("app.toml").help().split())
    assert "services.db.options.dsn text [required]" in text
    assert "services.web.options.db the name of a service, Database [required]" in text
    assert "services.web.options.handler module:attr of a callable [default: none]" in text
    write(DB.replace("dsn", "dns"))
    assert "did you mean 'dsn'" in load("app.toml").help()


def test_the_built_in_plugin_is_used_by_its_name(folder: Path) -> None:
    """`use = "echo"`, with the options of its class."""
    text = '[services.{0}]\nuse = "echo"\noptions = {{ listen = "tcp://127.0.0.1:0" }}\n'
    app = build(text.format("one") + text.format("two"))
    assert len(list(app)) == 2


def test_the_runners_table_is_skipped(folder: Path) -> None:
    """[plait] is the runner's."""
    assert list(tree(build("[plait]\nloop = 'asyncio'\n" + DB))) == ["/", "db"]


def test_checking_a_file_touches_nothing(folder: Path) -> None:
    """Building imports no asyncio loop, opens no socket and leaves no file behind."""
    write(DB + WEB)
    before = sorted(path.name for path in folder.iterdir() if path.name != "__pycache__")
    code = """
        import socket
        from plait.plugins import load
        from plait.options import Inputs
        def refuse(*args, **kwargs): raise SystemExit("a socket was made")
        socket.socket.__init__ = refuse
        target = load("app.toml")
        print(target.build(target.resolve(Inputs()).options).name)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.stdout == "app\n", done.stderr
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == before
