"""Options: declaring them, merging their sources, and saying what is wrong with them."""

import enum
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Any, Literal, NewType

import msgspec
import pytest

from plait.errors import OptionsError, Problem
from plait.options import (
    Duration,
    Meta,
    Options,
    Secret,
    Size,
    Source,
    SourceKind,
    resolve,
    runner_table,
    wants_help,
)
from plait.options.sources import Inputs


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class DbOptions(Options):
    """The database."""

    dsn: str = "sqlite://"
    pool_size: Annotated[int, Meta(ge=1, le=10)] = 5
    password: Secret = Secret("default")


class TlsOptions(Options):
    cert: str
    key: Path = Path("key.pem")


class ShopOptions(Options):
    """Sells things."""

    listen: Annotated[str, Meta(description="endpoint to listen on")] = "tcp://127.0.0.1:8007"
    port: Annotated[int, Meta(ge=1, le=65535)] = 80
    rate: float = 1.5
    verbose: bool = False
    color: Color = Color.RED
    level: Level = Level.LOW
    mode: Literal["fast", "safe", 3] = "safe"
    name: str | None = None
    hosts: list[str] = []
    ports: tuple[int, ...] = ()
    pair: tuple[str, int] = ("a", 1)
    tags: frozenset[str] = frozenset()
    labels: dict[str, int] = {}
    folder: Path = Path("/tmp")
    timeout: Duration = 30.0
    patience: Duration | None = None
    pauses: list[Duration] = []
    limit: Size = 65536
    token: Annotated[str, Meta(secret=True)] = "t0ken"
    db: DbOptions = DbOptions()
    tls: TlsOptions | None = None


def shop(*argv: str, environ: dict[str, str] | None = None, **sources: Any) -> ShopOptions:
    options = resolve(ShopOptions, argv, environ=environ or {}, **sources).options
    assert isinstance(options, ShopOptions)
    return options


def problems(cls: type | None, *argv: str, environ: dict[str, str] | None = None, **sources: Any) -> list[Problem]:
    with pytest.raises(OptionsError) as caught:
        resolve(cls, argv, environ=environ or {}, **sources)
    return list(caught.value.problems)


def problem(cls: type | None, *argv: str, environ: dict[str, str] | None = None, **sources: Any) -> str:
    found = problems(cls, *argv, environ=environ, **sources)
    assert len(found) == 1, found
    return str(found[0])


# -- declaring --------------------------------------------------------------------------------------------------


def test_an_options_class_is_a_frozen_struct_with_keywords_only() -> None:
    """Instances cannot be changed, take no positional arguments, compare by value and survive pickling."""
    options = ShopOptions(port=81)
    with pytest.raises(AttributeError):
        options.port = 82  # type: ignore[misc]
    with pytest.raises(TypeError):
        ShopOptions("tcp://x")  # type: ignore[misc]
    assert options == ShopOptions(port=81) != ShopOptions()
    assert pickle.loads(pickle.dumps(options)) == options


def test_a_required_field_may_follow_one_with_a_default() -> None:
    """Fields are keywords, so their order means nothing."""

    class LateOptions(Options):
        first: int = 1
        second: int

    assert resolve(LateOptions, ["--second=2"], environ={}).options == LateOptions(second=2)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("EchoOptions", "ECHO_"),
        ("MyShopOptions", "MY_SHOP_"),
        ("HTTPServerOptions", "HTTP_SERVER_"),
        ("Http2Options", "HTTP2_"),
        ("Settings", "SETTINGS_"),
    ],
)
def test_the_prefix_is_the_name_less_options_in_upper_snake_case(name: str, prefix: str) -> None:
    """The variable of a field is the prefix and the field's name."""
    cls = type(Options)(name, (Options,), {"__annotations__": {"x": int}, "__module__": __name__})
    assert resolve(cls, environ={prefix + "X": "7"}).options.x == 7


def test_env_gives_another_prefix() -> None:
    """`env=` of the class statement wins over the class's name."""

    class ThingOptions(Options, env="MINE_"):
        x: int = 0

    assert resolve(ThingOptions, environ={"MINE_X": "1", "THING_X": "2"}).options.x == 1


def test_a_field_may_have_a_variable_of_its_own() -> None:
    """The whole name, also in a group; one that is taken, or is no name, is refused."""

    class StoreOptions(Options):
        dsn: Annotated[str, Meta(variable="DATABASE_URL")] = ""

    class SiteOptions(Options):
        store: StoreOptions = StoreOptions()
        port: int = 0

    environ = {"DATABASE_URL": "x", "SITE_PORT": "1", "SITE_STORE__DSN": "not this"}
    assert resolve(SiteOptions, environ=environ).options == SiteOptions(store=StoreOptions(dsn="x"), port=1)
    for variable, said in (("SITE_PORT", "collide, both are SITE_PORT"), ("a b", "no name for a variable")):
        with pytest.raises(TypeError, match=said):
            type(Options)(
                "SiteOptions",
                (Options,),
                {
                    "__annotations__": {"x": Annotated[int, Meta(variable=variable)], "port": int},
                    "__module__": __name__,
                },
            )


def test_a_name_that_gives_no_prefix_is_refused() -> None:
    """A class just called Options would read variables without a prefix; it must say so with env=''."""
    with pytest.raises(TypeError, match="give env="):
        type(Options)("Options", (Options,), {"__annotations__": {"x": int}, "__module__": __name__})


@pytest.mark.parametrize("name", ["config", "env_file", "set", "help", "plait"])
def test_reserved_names_are_refused_when_the_class_is_made(name: str) -> None:
    """An option may not be called what the runner needs for itself."""
    with pytest.raises(TypeError, match=f"cannot be called '{name}'"):
        type(Options)("AOptions", (Options,), {"__annotations__": {name: int}, "__module__": __name__})


@pytest.mark.parametrize(
    ("annotations", "name"),
    [
        ({"verbose": bool, "no_verbose": int}, "--no-verbose"),
        ({"password": Secret, "password_file": str}, "A_PASSWORD_FILE"),
        ({"db": DbOptions, "db__dsn": str}, "A_DB__DSN"),
        ({"x": int, "X": int}, "A_X"),
    ],
)
def test_colliding_names_are_refused_when_the_class_is_made(annotations: dict[str, Any], name: str) -> None:
    """Two fields that would answer to one flag or variable are a TypeError that names both and it."""
    with pytest.raises(TypeError, match=f"collide, both are {name}"):
        type(Options)("AOptions", (Options,), {"__annotations__": annotations, "__module__": __name__})


def test_a_plain_field_leaves_the_file_form_of_its_variable_free() -> None:
    """Only a secret has NAME_FILE, so only a secret collides over it."""

    class LogOptions(Options):
        log: str = ""
        log_file: str = ""

    assert resolve(LogOptions, environ={"LOG_LOG_FILE": "x"}).options == LogOptions(log_file="x")


def test_annotations_as_text_may_name_what_is_local() -> None:
    """Postponed annotations are evaluated where the class statement stands, in a function too."""

    class Inner(Options):
        x: int = 1

    class OuterOptions(Options):
        inner: "Inner"
        many: "list[Inner]" = []

    assert resolve(OuterOptions, ["--inner.x=2"], environ={}).options.inner == Inner(x=2)


def test_an_annotation_that_cannot_be_evaluated_is_refused() -> None:
    """A type imported only for the type checker is a TypeError that says so, not a failure in production."""
    with pytest.raises(TypeError, match="only under TYPE_CHECKING"):

        class AOptions(Options):
            x: "Nowhere"  # type: ignore[name-defined]  # noqa: F821


def test_a_group_that_holds_itself_is_refused() -> None:
    """Its keys would have no end."""
    with pytest.raises(TypeError, match="holds itself"):

        class LoopOptions(Options):
            inner: "LoopOptions | None" = None


def test_fields_are_inherited() -> None:
    """A subclass has its base's fields and reads its own prefix."""

    class BigShopOptions(ShopOptions):
        size: int = 1

    options = resolve(BigShopOptions, ["--port=81"], environ={"BIG_SHOP_SIZE": "3"}).options
    assert (options.port, options.size) == (81, 3)


# -- values -----------------------------------------------------------------------------------------------------


Port = NewType("Port", int)


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["--listen", "x"], "listen", "x"),
        (["--listen="], "listen", ""),
        (["--listen", "-"], "listen", "-"),
        (["--port", "7"], "port", 7),
        (["--port=1", "--port=2"], "port", 2),
        (["--rate", "-2.5"], "rate", -2.5),
        (["--rate", "2"], "rate", 2.0),
        (["--verbose"], "verbose", True),
        (["--verbose", "--no-verbose"], "verbose", False),
        (["--verbose=no"], "verbose", False),
        (["--verbose=ON"], "verbose", True),
        (["--color", "blue"], "color", Color.BLUE),
        (["--color", "BLUE"], "color", Color.BLUE),
        (["--level", "2"], "level", Level.HIGH),
        (["--level", "high"], "level", Level.HIGH),
        (["--mode", "fast"], "mode", "fast"),
        (["--mode", "3"], "mode", 3),
        (["--name", "x"], "name", "x"),
        (["--hosts", "a", "--hosts", "b"], "hosts", ["a", "b"]),
        (["--hosts", "[a]"], "hosts", ["[a]"]),
        (["--ports", "1", "--ports=2"], "ports", (1, 2)),
        (["--pair", "x", "--pair", "5"], "pair", ("x", 5)),
        (["--tags", "a", "--tags", "a"], "tags", frozenset("a")),
        (["--labels", "a=1", "--labels", "b=2"], "labels", {"a": 1, "b": 2}),
        (["--set", 'labels={"a": 1}'], "labels", {"a": 1}),
        (["--set", 'hosts=["a"]'], "hosts", ["a"]),
        (["--hosts", "a", "--set", 'hosts=["b"]', "--hosts", "c"], "hosts", ["c"]),
        (["--set", "port=9"], "port", 9),
        (["--set=listen=a=b"], "listen", "a=b"),
        (["--folder", "a/b"], "folder", Path("a/b")),
        (["--timeout", "1h30m"], "timeout", 5400.0),
        (["--timeout", "250ms"], "timeout", 0.25),
        (["--timeout", "12.5"], "timeout", 12.5),
        (["--patience", "1m"], "patience", 60.0),
        (["--patience", "null"], "patience", None),
        (["--pauses", "1s", "--pauses", "2m"], "pauses", [1.0, 120.0]),
        (["--limit", "64KiB"], "limit", 65536),
        (["--limit", "10MB"], "limit", 10_000_000),
        (["--limit", "1.5kB"], "limit", 1500),
        (["--db.dsn", "x"], "db", DbOptions(dsn="x")),
        (["--db.pool-size", "2"], "db", DbOptions(pool_size=2)),
        (["--db.pool_size", "2"], "db", DbOptions(pool_size=2)),
        (["--set", "db.pool_size=2"], "db", DbOptions(pool_size=2)),
        (["--tls.cert", "c"], "tls", TlsOptions(cert="c")),
    ],
)
def test_the_command_line_gives_values(argv: list[str], name: str, value: object) -> None:
    """Each kind of field has its form on the command line, converted to the declared type."""
    given = getattr(shop(*argv), name)
    assert given == value
    assert type(given) is type(value)


def test_flags_set_nothing_else() -> None:
    """Without sources, the options are those of the class called without arguments."""
    assert shop() == ShopOptions()


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("SHOP_LISTEN", "x", "listen", "x"),
        ("SHOP_PORT", "7", "port", 7),
        ("SHOP_VERBOSE", "1", "verbose", True),
        ("SHOP_HOSTS", '["a", "b"]', "hosts", ["a", "b"]),
        ("SHOP_PORTS", "[1, 2]", "ports", (1, 2)),
        ("SHOP_LABELS", '{"a": 1}', "labels", {"a": 1}),
        ("SHOP_TIMEOUT", "5m", "timeout", 300.0),
        ("SHOP_DB__DSN", "x", "db", DbOptions(dsn="x")),
        ("SHOP_TLS__CERT", "c", "tls", TlsOptions(cert="c")),
    ],
)
def test_the_environment_gives_values(variable: str, text: str, name: str, value: object) -> None:
    """Prefix and upper case; groups joined by two underscores; lists and tables as JSON."""
    assert getattr(shop(environ={variable: text}), name) == value


def test_a_toml_file_gives_values(tmp_path: Path) -> None:
    """Keys are the fields' names, groups are tables, and lists and tables are TOML's own."""
    file = tmp_path / "shop.toml"
    file.write_text(
        'port = 7\nhosts = ["a"]\ntimeout = "5m"\nlimit = 10\ncolor = "blue"\nname = "n"\n'
        '[labels]\na = 1\n[db]\ndsn = "x"\n[tls]\ncert = "c"\nkey = "k"\n[plait]\nloop = "asyncio"\n'
    )
    assert shop(config=file) == ShopOptions(
        port=7,
        hosts=["a"],
        timeout=300.0,
        limit=10,
        color=Color.BLUE,
        name="n",
        labels={"a": 1},
        db=DbOptions(dsn="x"),
        tls=TlsOptions(cert="c", key=Path("k")),
    )
    assert runner_table(file) == {"loop": "asyncio"}


def test_a_json_file_gives_values(tmp_path: Path) -> None:
    """A file that ends in .json is JSON; null is None where None is allowed."""
    file = tmp_path / "shop.json"
    file.write_text('{"port": 7, "name": null, "db": {"dsn": "x"}, "tls": null}')
    assert shop("--config", str(file)) == ShopOptions(port=7, db=DbOptions(dsn="x"))


def test_lists_of_groups_come_from_files_and_json() -> None:
    """A list may hold Options; each item is a table, and each mistake in each is found."""

    class ItemOptions(Options):
        name: str
        every: Duration = 1.0

    class ListOptions(Options):
        items: list[ItemOptions] = []

    text = '[{"name": "a", "every": "1m"}, {"name": "b"}]'
    options = resolve(ListOptions, environ={"LIST_ITEMS": text}).options
    assert options.items == [ItemOptions(name="a", every=60.0), ItemOptions(name="b")]
    bad = problems(ListOptions, environ={"LIST_ITEMS": '[{"name": 1, "evry": 2}, {"every": "x"}]'})
    assert [one.key for one in bad] == ["items[0].evry", "items[0].name", "items[1].name", "items[1].every"]
    assert "did you mean 'every'" in bad[0].expected


def test_types_of_msgspec_and_new_types_work() -> None:
    """What msgspec reads from text is a type of options too, and so is a NewType of one."""
    import datetime
    import decimal
    import uuid

    class KindsOptions(Options):
        day: datetime.date
        price: decimal.Decimal
        id: uuid.UUID
        port: Annotated[Port, Meta(le=9)]
        either: int | str = 0

    argv = ["--day=2026-01-02", "--price=1.50", f"--id={uuid.UUID(int=5)}", "--port=9", "--either=7"]
    options = resolve(KindsOptions, argv, environ={}).options
    assert (options.day, options.price) == (datetime.date(2026, 1, 2), decimal.Decimal("1.50"))
    assert (options.id, options.port, options.either) == (uuid.UUID(int=5), 9, 7)
    assert resolve(KindsOptions, [*argv, "--either=x"], environ={}).options.either == "x"


def test_numbers_are_no_moments() -> None:
    """msgspec would take an integer for a timedelta; what is no text is never converted."""
    import datetime

    class TimeOptions(Options):
        wait: datetime.timedelta

    with pytest.raises(OptionsError, match="expected a value for timedelta"):
        resolve(TimeOptions, environ={}, config="c.toml", read=lambda path: b"wait = 5")


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("port = true", "an integer"),
        ("port = 1.5", "an integer"),
        ("listen = 5", "text"),
        ("verbose = 1", "true or false"),
        ("hosts = 5", "a list of text"),
        ("hosts = [5]", "text"),
        ('db = "x"', "a table"),
        ("folder = 5", "a path"),
        ("timeout = -1", "a duration"),
        ("timeout = inf", "a duration"),
        ("timeout = nan", "a duration"),
        ("limit = 1.5", "a size"),
        ("db.password = 5", "text"),
        ("level = true", "one of low, high"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(tmp_path: Path, file: str, expected: str) -> None:
    """Text is converted, nothing else is: a number is no text, an integer is no truth value."""
    path = tmp_path / "bad.toml"
    path.write_text(file)
    assert f"expected {expected}" in problem(ShopOptions, config=path)


# -- precedence and provenance ----------------------------------------------------------------------------------


def test_sources_win_in_their_order_and_are_remembered(tmp_path: Path) -> None:
    """default < file < env file < environment < command line, and every value knows which it came from."""
    (tmp_path / "c.toml").write_text("port = 1\nrate = 1.0\nlisten = 'file'\n[db]\npool_size = 1\n")
    (tmp_path / ".env").write_text("SHOP_PORT=2\nSHOP_RATE=2\nSHOP_DB__POOL_SIZE=2\n")
    config, env_file = str(tmp_path / "c.toml"), str(tmp_path / ".env")
    argv = ["--port", "4", "--config", config, "--env-file", env_file]
    resolved = resolve(ShopOptions, argv, environ={"SHOP_PORT": "3", "SHOP_RATE": "3"})
    options, where = resolved.options, resolved.provenance
    assert (options.port, options.rate, options.db.pool_size, options.listen, options.level) == (4, 3, 2, "file", 1)
    assert where["port"] == Source(SourceKind.COMMAND_LINE, "", "--port")
    assert where["rate"] == Source(SourceKind.ENVIRONMENT, "", "SHOP_RATE")
    assert where["db.pool_size"] == Source(SourceKind.ENV_FILE, env_file, "SHOP_DB__POOL_SIZE")
    assert where["listen"] == Source(SourceKind.FILE, config, "listen")
    assert where["level"] == Source(SourceKind.DEFAULT)
    texts = {key: str(source) for key, source in where.items()}
    assert texts["rate"] == "environment SHOP_RATE"
    assert texts["listen"] == f"{config} listen"


def test_set_and_flags_are_one_source(tmp_path: Path) -> None:
    """Of --set and a flag for one key the later wins; those handed in as `sets` come before both."""
    assert shop("--port=1", "--set", "port=2").port == 2
    assert shop("--set", "port=2", "--port=1").port == 1
    assert shop("--port=1", sets=["port=3"]).port == 1
    assert str(resolve(ShopOptions, ["--set", "port=2"], environ={}).provenance["port"]) == "--set port"


def test_the_command_line_names_the_files_before_the_caller_does(tmp_path: Path) -> None:
    """--config after the target wins over the runner's config, and --env-file likewise."""
    (tmp_path / "a.toml").write_text("port = 1")
    (tmp_path / "b.toml").write_text("port = 2")
    assert shop("--config", str(tmp_path / "b.toml"), config=tmp_path / "a.toml").port == 2


def test_a_value_that_is_overridden_is_not_converted() -> None:
    """A variable that somebody else's tool sets wrongly can be overridden; it does no harm then."""
    assert shop("--port=5", environ={"SHOP_PORT": "tcp://10.0.0.1:80"}).port == 5


def test_a_groups_default_instance_gives_its_fields_defaults() -> None:
    """With one field of a group given, the others are those of the group's default, not of its class."""

    class OuterOptions(Options):
        db: DbOptions = DbOptions(dsn="mine", pool_size=9)

    assert resolve(OuterOptions, ["--db.pool-size=3"], environ={}).options.db == DbOptions(dsn="mine", pool_size=3)


def test_an_optional_group_is_none_until_something_of_it_is_given(tmp_path: Path) -> None:
    """Then its required fields are required; an empty table is something."""
    assert shop().tls is None
    assert "--tls.cert" in problem(ShopOptions, "--tls.key=k")
    (tmp_path / "c.toml").write_text("[tls]\n")
    assert "--tls.cert" in problem(ShopOptions, config=tmp_path / "c.toml")


def test_nested_optional_groups() -> None:
    """What is given deep inside makes every group above it present."""

    class DeepOptions(Options):
        x: int = 0

    class MiddleOptions(Options):
        deep: DeepOptions | None = None
        y: int = 0

    class TopOptions(Options):
        middle: MiddleOptions | None = None

    assert resolve(TopOptions, environ={}).options.middle is None
    options = resolve(TopOptions, environ={"TOP_MIDDLE__DEEP__X": "4"}).options
    assert options == TopOptions(middle=MiddleOptions(deep=DeepOptions(x=4)))


def test_resolving_reads_files_through_the_reader_it_is_given() -> None:
    """A worker resolves from a snapshot of bytes; what was read is handed back for making one."""
    files = {"c.toml": b"port = 5", "e.env": b"SHOP_RATE=2"}
    resolved = resolve(ShopOptions, environ={}, config="c.toml", env_file="e.env", read=lambda path: files[str(path)])
    assert (resolved.options.port, resolved.options.rate) == (5, 2.0)
    assert resolved.files == files


def test_default_factories_are_called() -> None:
    """`msgspec.field(default_factory=…)` makes a default anew."""

    class FactoryOptions(Options):
        hosts: list[str] = msgspec.field(default_factory=lambda: ["a"])

    assert resolve(FactoryOptions, environ={}).options.hosts == ["a"]


# -- secrets ----------------------------------------------------------------------------------------------------


def test_a_secret_is_shown_nowhere() -> None:
    """Neither str, repr, format nor the repr of the options around it give the text; reveal() does."""
    secret = Secret("hunter2")
    options = ShopOptions(db=DbOptions(password=secret), token="hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {secret:>20} {options} {options!r} {[secret]}"
    assert secret.reveal() == "hunter2"
    assert secret == Secret("hunter2") != Secret("other")
    assert hash(secret) == hash(Secret("hunter2"))
    assert pickle.loads(pickle.dumps(secret)) == secret
    assert not Secret("")


def test_a_secret_is_not_made_from_anything_else() -> None:
    """Nor can it be changed."""
    with pytest.raises(TypeError):
        Secret(5)  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        Secret("x")._text = "y"


def test_a_secret_is_read_from_the_file_its_variable_names(tmp_path: Path) -> None:
    """NAME_FILE gives the file's text without its last line end, and the source says which file."""
    (tmp_path / "pw").write_text("s3cret\n")
    (tmp_path / "token").write_text("abc\r\n")
    environ = {"SHOP_DB__PASSWORD_FILE": str(tmp_path / "pw"), "SHOP_TOKEN_FILE": str(tmp_path / "token")}
    resolved = resolve(ShopOptions, environ=environ)
    assert resolved.options.db.password.reveal() == "s3cret"
    assert resolved.options.token == "abc"
    assert str(resolved.provenance["db.password"]) == f"environment SHOP_DB__PASSWORD_FILE ({tmp_path / 'pw'})"
    assert resolved.files == {}


def test_a_variable_of_the_plain_kind_has_no_file_form(tmp_path: Path) -> None:
    """SHOP_LISTEN_FILE is nobody's variable: only secrets are read from files."""
    (tmp_path / "x").write_text("x")
    assert shop(environ={"SHOP_LISTEN_FILE": str(tmp_path / "x")}).listen == ShopOptions().listen


def test_the_file_of_a_secret_must_be_there(tmp_path: Path) -> None:
    """A missing file is one line that names the variable; both forms at once are an error."""
    said = problem(ShopOptions, environ={"SHOP_TOKEN_FILE": str(tmp_path / "none")})
    assert "SHOP_TOKEN_FILE" in said
    assert "no such file" in said
    said = problem(ShopOptions, environ={"SHOP_TOKEN_FILE": "a", "SHOP_TOKEN": "b"})
    assert "both SHOP_TOKEN and SHOP_TOKEN_FILE" in said
    (tmp_path / "latin").write_bytes(b"\xff")
    assert "UTF-8" in problem(ShopOptions, environ={"SHOP_TOKEN_FILE": str(tmp_path / "latin")})


def test_errors_do_not_show_secrets(tmp_path: Path) -> None:
    """Neither a secret that does not fit, nor a value under a misspelt key, nor a class's own complaint."""

    class LoginOptions(Options):
        password: Annotated[Secret, Meta(min_length=20)] = Secret("x" * 20)
        pin: Annotated[int, Meta(secret=True)] = 0
        names: list[Secret] = []

        def __post_init__(self) -> None:
            raise ValueError(f"bad password {self.password.reveal()}")

    (tmp_path / "c.toml").write_text('pasword = "hunter2"\nnames = ["hunter2", 5]\n')
    found = problems(
        LoginOptions, "--passwrd", "hunter2", "--set", "passwor=hunter2", "--password=hunter2", "--pin", "hunter2",
        config=tmp_path / "c.toml",
    )  # fmt: skip
    text = "\n".join(map(str, found))
    assert len(found) == 6, text
    assert "hunter2" not in text
    assert "****" in text
    said = problem(LoginOptions, environ={"LOGIN_PASSWORD": "hunter2hunter2hunter2"})
    assert said == "options: LoginOptions: bad password ****"


# -- errors -----------------------------------------------------------------------------------------------------


def test_every_error_is_shown(tmp_path: Path) -> None:
    """Problems of all sources come at once, each with source, key, value and what was expected."""
    (tmp_path / "c.toml").write_text('lisen = "x"\nrate = "fast"\n[db]\npool_size = 11\n[tls]\nkey = "k"\n')
    found = problems(
        ShopOptions, "--prot=5", "--port", "http", environ={"SHOP_MODE": "slow"}, config=tmp_path / "c.toml"
    )
    file = tmp_path / "c.toml"
    assert [str(one) for one in found] == [
        "command line: --prot: unknown; did you mean '--port'?",
        f"{file}: lisen: unknown; did you mean 'listen'?",
        "--port: port = 'http': expected an integer, at least 1, at most 65535",
        f"{file}: rate = 'fast': expected a number",
        "SHOP_MODE: mode = 'slow': expected one of fast, safe, 3",
        f"{file} [db]: db.pool_size = 11: expected an integer, at least 1, at most 10",
        "missing: tls.cert: text is required; give --tls.cert, or SHOP_TLS__CERT, or [tls] cert in a --config file",
    ]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--port"], "--port: needs a value"),
        (["--port", "--verbose"], "--port: needs a value"),
        (["--config"], "--config: needs a value"),
        (["--set", "port"], "expected key=value"),
        (["--set", "prot=1"], "did you mean 'port'?"),
        (["--set", "db=1"], "is a group"),
        (["--no-verbose=x"], "takes no value"),
        (["stray"], "stray: unexpected"),
        (["--", "x"], "--: unexpected"),
        (["-x"], "-x: unknown"),
        (["--zzzzzz"], "--zzzzzz: unknown; --help shows"),
        (["--labels", "a"], "expected NAME=VALUE"),
        (["--hosts=a", "--set", "hosts=a"], 'JSON such as ["a", "b"]'),
        (["--pair", "a"], "exactly 2 items"),
        (["--db.dsm=x"], "did you mean '--db.dsn'?"),
    ],
)
def test_a_command_line_that_makes_no_sense(argv: list[str], said: str) -> None:
    """Each mistake is one clear line."""
    assert said in "\n".join(map(str, problems(ShopOptions, *argv)))


def test_a_runners_option_after_the_target_is_told_its_place() -> None:
    """It is no unknown option, it stands in the wrong place."""
    said = problem(ShopOptions, "--loop", "asyncio", runner_flags=["--loop", "--log-level"])
    assert "before the target: plait run --loop" in said


@pytest.mark.parametrize("field", [[], ["--wrong"]])
def test_help_is_detected(field: list[str]) -> None:
    """--help and -h ask for help wherever they stand, but not as the value of a flag."""
    assert wants_help(ShopOptions, [*field, "--help"])
    assert wants_help(ShopOptions, ["-h"])
    assert wants_help(None, ["--help"])
    assert not wants_help(ShopOptions, ["--listen", "-h"])
    assert not wants_help(ShopOptions, ["--listen=--help"])


def test_toml_errors_have_line_and_column(tmp_path: Path) -> None:
    """A syntax error is one line: file, line, column, what."""
    file = tmp_path / "c.toml"
    file.write_text("port = 1\nlisten = \n")
    said = problem(ShopOptions, config=file)
    assert said.startswith(f"{file}: line 2, column 10:"), said
    assert "\n" not in said
    file = tmp_path / "c.json"
    file.write_text('{"port": 1,\n "x" 5}')
    assert problem(ShopOptions, config=file).startswith(f"{file}: line 2, column 6:")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\xff\xfe", "not UTF-8"), (b"x = 1" + b"0" * 5000, "digits"), (b"a=" + b"[" * 100_000, "too deeply")],
)
def test_files_that_are_hardly_toml(tmp_path: Path, content: bytes, said: str) -> None:
    """Bytes, numbers and nestings that Python itself refuses are told in one line as well."""
    (tmp_path / "c.toml").write_bytes(content)
    assert said in problem(ShopOptions, config=tmp_path / "c.toml")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    """A missing file is named with the flag that asked for it; a directory is no file."""
    assert problem(ShopOptions, "--config", "nowhere.toml") == "--config: nowhere.toml: no such file"
    assert problem(ShopOptions, "--env-file", "nowhere") == "--env-file: nowhere: no such file"
    assert "cannot be read" in problem(ShopOptions, config=tmp_path)
    assert "cannot be read" in problem(ShopOptions, config="a\0b")


def test_both_missing_files_are_told() -> None:
    """One missing file does not hide the other."""
    assert len(problems(ShopOptions, "--env-file=nowhere", "--config=nowhere")) == 2


def test_a_missing_value_says_the_ways_to_give_it() -> None:
    """Flag, variable, file."""

    class NeedsOptions(Options):
        dsn: str

    assert problem(NeedsOptions) == (
        "missing: dsn: text is required; give --dsn, or NEEDS_DSN, or dsn in a --config file"
    )


def test_defaults_are_checked() -> None:
    """A default outside its own limits is a problem when it is used, and none when it is not."""

    class BadOptions(Options):
        port: Annotated[int, Meta(ge=1)] = 0

    assert problem(BadOptions) == "default: port = 0: expected an integer, at least 1"
    assert resolve(BadOptions, ["--port=1"], environ={}).options.port == 1


def test_a_class_may_check_its_fields_against_each_other() -> None:
    """ValueError and TypeError of __post_init__ are problems, of a group under the group's key."""

    class RangeOptions(Options):
        low: int = 0
        high: int = 1

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low must not be above high")

    class TwoOptions(Options):
        a: RangeOptions
        b: RangeOptions

    assert problem(RangeOptions, "--low=2") == "options: RangeOptions: low must not be above high"
    assert [one.key for one in problems(TwoOptions, "--a.low=2", "--b.low=2")] == ["a", "b"]


def test_limits_are_checked() -> None:
    """Every limit of Meta is one."""

    class LimitOptions(Options):
        a: Annotated[int, Meta(gt=1, lt=5, multiple_of=2)] = 2
        b: Annotated[str, Meta(pattern="^x", min_length=2, max_length=3)] = "xx"
        c: Annotated[list[int], Meta(min_length=1, max_length=2)] = msgspec.field(default_factory=lambda: [1])
        d: Annotated[Duration, Meta(ge=1, le=10)] = 1.0
        e: Annotated[int | None, Meta(ge=1)] = None
        f: list[Annotated[int, Meta(le=3)]] = []
        g: Annotated[dict[str, int], Meta(max_length=1)] = {}

    for argv in (["--a=1"], ["--a=6"], ["--a=3"], ["--b=x"], ["--b=xxxx"], ["--b=yy"], ["--c=1"] * 3, ["--d=11s"],
                 ["--d=500ms"], ["--e=0"], ["--f=4"], ["--g=a=1", "--g=b=2"]):  # fmt: skip
        assert "expected" in problem(LimitOptions, *argv), argv
    argv = ["--a=4", "--b=xyz", "--c=1", "--c=2", "--d=10", "--e=1", "--f=3", "--g=a=1"]
    assert resolve(LimitOptions, argv, environ={}).options.d == 10.0


def test_variables_that_look_misspelt_are_noted() -> None:
    """Others may share the prefix, so it is no error; a near miss is worth a line."""
    environ = {"SHOP_LISTN": "x", "SHOP_HOME": "y", "SHOP_PORT_80_TCP_ADDR": "z"}
    resolved = resolve(ShopOptions, environ=environ)
    assert resolved.options == ShopOptions()
    assert resolved.notes == ("variable SHOP_LISTN is no option and was ignored; did you mean SHOP_LISTEN?",)


# -- an application without options -----------------------------------------------------------------------------


def test_an_application_without_options_takes_none(tmp_path: Path) -> None:
    """Flags, --set and keys of a file say that there are no options; the runner's table is no concern."""
    assert resolve(None, environ={}).options is None
    for argv in (["--port=1"], ["--set", "a=1"]):
        assert "this application has no options" in problem(None, *argv)
    file = tmp_path / "c.toml"
    file.write_text("[plait]\nloop = 'asyncio'\n")
    assert resolve(None, ["--config", str(file)], environ={}).options is None
    file.write_text("port = 1\n")
    assert "this application has no options" in problem(None, config=file)


def test_the_runners_table_must_be_a_table(tmp_path: Path) -> None:
    """And the file must be there and parse."""
    (tmp_path / "c.toml").write_text("plait = 5")
    with pytest.raises(OptionsError, match="expected a table"):
        runner_table(tmp_path / "c.toml")
    with pytest.raises(OptionsError, match="no such file"):
        runner_table(tmp_path / "d.toml")


# -- the environment of the process -----------------------------------------------------------------------------


def test_the_process_environment_is_read_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """os.environ as it is at the time of the call."""
    monkeypatch.setenv("SHOP_PORT", "99")
    assert resolve(ShopOptions).options.port == 99
    assert Inputs().environ is os.environ


def test_options_import_no_pydantic_and_no_asyncio() -> None:
    """What no application asked for is not imported with the options."""
    code = "import sys, plait.options; print(sorted({'pydantic', 'asyncio', 'tomllib', 'click'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_type_checker_knows_what_an_options_class_takes(tmp_path: Path) -> None:
    """Under mypy --strict: keywords only, required ones required, frozen, durations and sizes as numbers."""
    code = """
        from plait.options import Duration, Options, Size

        class AOptions(Options, env="A_"):
            wait: Duration = 1.5
            need: str
            size: Size = 10

        good: float = AOptions(need="x").wait
        number: int = AOptions(need="x").size
        AOptions("x")
        AOptions()
        AOptions(need=5)
        AOptions(need="x").wait = 2.0
    """
    (tmp_path / "code.py").write_text(textwrap.dedent(code).lstrip())
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "code.py"], capture_output=True, text=True, cwd=tmp_path
    )
    lines = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert {int(line.split(":")[1]) for line in lines} == {10, 11, 12, 13}, done.stdout + done.stderr
