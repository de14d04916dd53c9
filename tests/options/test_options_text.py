"""Options as text: units, env files, the help, the table, starting files; what is written is read back."""

import enum
import json
import math
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from plait.errors import OptionsError, UsageError
from plait.options import (
    FORMATS,
    Duration,
    Inputs,
    Meta,
    Options,
    Secret,
    Size,
    format_duration,
    format_size,
    gather,
    parse_duration,
    parse_size,
    render_help,
    render_table,
    resolve,
    starting_file,
)
from plait.options.dotenv import parse_env_file, quote
from plait.options.text import toml_key, toml_value

# -- units ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("5", 5), ("0.25", 0.25), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("1h30m15s", 5415),
        ("250ms", 0.25), ("3ms", 0.003), ("9ms", 0.009), ("13ms", 0.013), ("5us", 5e-6),
        ("7us", 7e-6), ("1d", 86400), ("1.5h", 5400), ("1s500ms", 1.5),
        (" 2M ", 120), ("1e3", 1000),
    ],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    """Units d, h, m, s, ms, us in this order, each at most once; a plain number is seconds."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "5x", "-5", "+5", "5m1h", "1h1h", "inf", "nan", "5 m", "1e999", "٣s", "1_0"])
def test_texts_that_are_no_duration(text: str) -> None:
    """Signs, unknown units, units out of order and infinity are refused."""
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False))
@example(5400.0)
@example(0.001)
@example(1e300)
def test_a_duration_is_read_back_exactly(seconds: float) -> None:
    """What format_duration writes is the same number when it is read."""
    assert parse_duration(format_duration(seconds)) == seconds


def test_durations_are_written_short() -> None:
    """In units where they come out even."""
    texts = [format_duration(s) for s in (0, 0.25, 30, 90, 5400, 86400, 90061, 1.5)]
    assert texts == ["0s", "250ms", "30s", "1m30s", "1h30m", "1d", "1d1h1m1s", "1.5s"]


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("10", 10), ("10B", 10), ("64KiB", 65536), ("64 kib", 65536), ("10MB", 10**7), ("1.5kB", 1500),
     ("1GiB", 2**30), ("2TB", 2 * 10**12), ("0.5KiB", 512)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    """kB and its like are powers of 1000, KiB and its like of 1024."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "KB5", "-1", "1.5", "0.3KiB", "5 parsecs", "1e3", "٣"])
def test_texts_that_are_no_size(text: str) -> None:
    """Signs, unknown units and parts of bytes are refused."""
    with pytest.raises(ValueError, match="expected a"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=2**70))
@example(65536)
def test_a_size_is_read_back_exactly(size: int) -> None:
    """What format_size writes is the same number when it is read."""
    assert parse_size(format_size(size)) == size


@given(st.text())
def test_units_refuse_with_value_errors_only(text: str) -> None:
    """Any text is a value or a ValueError."""
    for parse in (parse_duration, parse_size):
        try:
            assert 0 <= parse(text) < math.inf
        except ValueError as error:
            assert str(error).startswith("expected")  # noqa: PT017


# -- env files --------------------------------------------------------------------------------------------------


def test_env_files() -> None:
    """Comments, export, quotes and escapes as containers and shells write them."""
    text = """
# a comment
A=1
export B = two words   # and a comment
C='single # $X \\n'
D="double # \\"q\\" \\n \\$X"   # comment
E=
F=#nothing
G=a#b
export=5
A=last
"""
    assert parse_env_file(".env", text.replace("\n", "\r\n").encode()) == {
        "A": "last", "B": "two words", "C": "single # $X \\n", "D": 'double # "q" \n $X', "E": "", "F": "",
        "G": "a#b", "export": "5",
    }  # fmt: skip


def test_errors_of_env_files_have_lines_and_no_contents() -> None:
    """Every bad line is told by number; it may hold a secret, so it is not shown."""
    with pytest.raises(OptionsError) as caught:
        parse_env_file(".env", b"A=1\nhunter2\nB='hunter2\nC=\"hunter2\n1A=hunter2\n")
    assert [one.key for one in caught.value.problems] == ["line 2", "line 3", "line 4", "line 5"]
    assert "hunter2" not in str(caught.value)
    with pytest.raises(OptionsError, match="not UTF-8"):
        parse_env_file(".env", b"A=\xff")


@given(st.text())
def test_a_quoted_value_is_read_back(text: str) -> None:
    """Whatever the text, on one line."""
    assert parse_env_file(".env", f"A={quote(text)} # c".encode()) == {"A": text}


@given(st.binary())
@example(b"A='b'c'")
def test_any_env_file_is_variables_or_an_options_error(data: bytes) -> None:
    """Nothing else comes out."""
    try:
        variables = parse_env_file(".env", data)
    except OptionsError as error:
        assert error.problems  # noqa: PT017
    else:
        assert all(name.isidentifier() for name in variables)


# -- starting files ---------------------------------------------------------------------------------------------


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class PartOptions(Options):
    """A part."""

    text: str = ""
    many: list[str] = []


class AllOptions(Options):
    """Everything there is."""

    text: Annotated[str, Meta(description="some text\nof two lines")] = "x"
    number: int = 0
    real: float = 0.0
    truth: bool = False
    color: Color = Color.RED
    choice: Literal["a", 1] = "a"
    maybe: str | None = None
    maybe_number: int | None = None
    many: list[str] = []
    numbers: tuple[int, ...] = ()
    some: frozenset[str] = frozenset()
    table: dict[str, str] = {}
    tables: dict[str, list[float]] = {}
    folder: Path = Path(".")
    wait: Duration = 1.0
    waits: list[Duration] = []
    room: Size = 1
    parts: list[PartOptions] = []
    part: PartOptions = PartOptions()
    other: PartOptions | None = None


TEXT = st.text(max_size=12)
PARTS = st.builds(PartOptions, text=TEXT, many=st.lists(TEXT, max_size=2))
FINITE = st.floats(allow_nan=False, allow_infinity=False)
ANY = st.builds(
    AllOptions,
    text=TEXT,
    number=st.integers(-(2**63), 2**63 - 1),
    real=st.floats(allow_nan=False),
    truth=st.booleans(),
    color=st.sampled_from(Color),
    choice=st.sampled_from(["a", 1]),
    maybe=st.none() | TEXT,
    maybe_number=st.none() | st.integers(0, 10),
    many=st.lists(TEXT, max_size=3),
    numbers=st.lists(st.integers(-5, 5), max_size=3).map(tuple),
    some=st.frozensets(TEXT, max_size=3),
    table=st.dictionaries(TEXT, TEXT, max_size=3),
    tables=st.dictionaries(TEXT, st.lists(FINITE, max_size=2), max_size=2),
    folder=st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=5).map(Path),
    wait=st.floats(0, 1e9),
    waits=st.lists(st.floats(0, 1e9), max_size=2),
    room=st.integers(0, 2**40),
    parts=st.lists(PARTS, max_size=2),
    part=PARTS,
)
relaxed = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)


def defaults_like(options: AllOptions) -> type[AllOptions]:
    """A class whose defaults are these values, so that a starting file is written of them."""
    fields = {name: (type_of, getattr(options, name)) for name, type_of in AllOptions.__annotations__.items()}
    return type(Options)(
        "AllOptions",
        (Options,),
        {
            "__annotations__": {name: kind for name, (kind, _) in fields.items()},
            "__module__": __name__,
            **{name: _made_anew(value) for name, (_, value) in fields.items()},
        },
    )  # type: ignore[return-value]


def _made_anew(value: object) -> Any:
    import msgspec

    return msgspec.field(default_factory=lambda: value)


def as_dict(options: Any) -> dict[str, Any]:
    return {name: getattr(options, name) for name in options.__struct_fields__}


def read_back(cls: type, format: str, text: str) -> Any:
    data = text.encode()
    if format == "env":
        return resolve(cls, environ={}, env_file="x.env", read=lambda path: data).options
    return resolve(cls, environ={}, config=f"x.{format}", read=lambda path: data).options


@pytest.mark.parametrize("format", FORMATS)
@given(options=ANY)
@relaxed
def test_a_starting_file_is_read_back(format: str, options: AllOptions) -> None:
    """Read into the class whose own defaults are others, it gives the very values it was written from.

    None cannot be written, so a None becomes the other class's default, which is None here too.
    """
    text = starting_file(defaults_like(options), format)
    assert as_dict(read_back(AllOptions, format, text)) == as_dict(options)


def nested(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)


@given(st.recursive(st.booleans() | st.integers(-(2**63), 2**63) | FINITE | st.text(), nested, max_leaves=8))
def test_toml_values_are_read_back(value: object) -> None:
    """Lists, tables, and any text with its control characters."""
    assert tomllib.loads(f"{toml_key('a b')} = {toml_value(value)}") == {"a b": value}


class LoginOptions(Options):
    """Logs in."""

    user: Annotated[str, Meta(description="who")]
    password: Secret = Secret("hunter2")
    token: Annotated[str, Meta(secret=True)] = "hunter2"
    port: int = 5


class HostOptions(Options):
    login: LoginOptions
    backup: LoginOptions | None = None


@pytest.mark.parametrize("format", FORMATS)
def test_a_starting_file_holds_no_secret_and_marks_what_is_required(format: str) -> None:
    """Secrets stay out whatever their value; once the required is filled in, the file loads."""
    gathered = gather(HostOptions, Inputs(environ={"HOST_LOGIN__PASSWORD": "hunter3"}))
    assert [one.key for one in gathered.missing] == ["login.user"]
    text = starting_file(HostOptions, format, gathered)
    assert "hunter" not in text
    with pytest.raises(OptionsError, match=r"login\.user"):
        read_back(HostOptions, format, text)
    filled = {
        "toml": lambda: text.replace("# user =", 'user = "me"', 1),
        "json": lambda: text.replace("null", '"me"', 1),
        "env": lambda: text.replace("# HOST_LOGIN__USER=", "HOST_LOGIN__USER=me", 1),
    }[format]()
    assert read_back(HostOptions, format, filled) == HostOptions(login=LoginOptions(user="me"))
    if format != "json":
        assert "# required: who (text)" in text


def test_a_starting_file_has_the_values_in_force() -> None:
    """`plait options TARGET --port 7 --format toml` writes the 7."""
    gathered = gather(LoginOptions, Inputs(["--port", "7", "--user", "me"], environ={}))
    assert tomllib.loads(starting_file(LoginOptions, "toml", gathered)) == {"port": 7, "user": "me"}
    assert json.loads(starting_file(LoginOptions, "json", gathered)) == {"port": 7, "user": "me"}


def test_an_unknown_format_is_refused() -> None:
    """With the formats there are."""
    with pytest.raises(UsageError, match="toml, json, env"):
        starting_file(AllOptions, "yaml")


# -- help and table ---------------------------------------------------------------------------------------------


def test_the_help_tells_each_flag() -> None:
    """Flag, kind, description, limits, default, variable; required ones say so; secrets are masked."""

    class HelpOptions(Options):
        """Helps."""

        listen: Annotated[str, Meta(description="endpoint to listen on", examples=("tcp://:1",))] = "tcp://:80"
        port: Annotated[int, Meta(description="the port", ge=1)]
        wait: Duration = 90.0
        color: Color = Color.BLUE
        hosts: list[str] = []
        labels: dict[str, int] = {}
        verbose: bool = False
        password: Secret = Secret("hunter2")
        a_field_with_quite_a_long_name: Literal["one", "two"] = "one"
        part: PartOptions
        other: PartOptions | None = None

    text = " ".join(render_help(HelpOptions).split())
    assert "hunter2" not in text
    for words in [
        "--listen TEXT endpoint to listen on [default: tcp://:80; variable: HELP_LISTEN; such as tcp://:1]",
        "--port INT the port (an integer, at least 1) [required; variable: HELP_PORT]",
        "--wait DURATION",
        "default: 1m30s",
        "--color red|blue",
        "default: blue",
        "--hosts TEXT …",
        "--labels NAME=INT …",
        "--verbose / --no-verbose",
        "--password SECRET",
        "default: ****",
        "--a-field-with-quite-a-long-name one|two",
        "[part] A part. --part.text TEXT",
        "HELP_PART__TEXT",
        "[other] A part. (optional)",
        "--config FILE",
        "--env-file FILE",
        "--set KEY=VALUE",
        "--help",
    ]:
        assert words in text
    assert all(len(line) <= 80 for line in render_help(HelpOptions, width=80).splitlines())
    assert "no options" in render_help(None)


def test_the_table_has_key_value_and_source() -> None:
    """One line a value, secrets masked, lined up."""
    argv = ["--user", "me", "--port", "7"]
    text = render_table(resolve(LoginOptions, argv, environ={"LOGIN_TOKEN": "hunter2"}).rows)
    assert [re.split(r"\s{2,}", line) for line in text.splitlines()] == [
        ["user", "me", "--user"],
        ["password", "****", "default"],
        ["token", "****", "environment LOGIN_TOKEN"],
        ["port", "7", "--port"],
    ]
    assert render_table(()) == ""


def test_odd_values_stay_on_one_line() -> None:
    """Line ends, blanks and nothing are shown as what they are."""
    rows = resolve(AllOptions, ["--text", "a\nb", "--many", "x"], environ={}).rows
    shown = {row.key: row.value for row in rows}
    assert (shown["text"], shown["maybe"], shown["many"], shown["part.text"]) == ('"a\\nb"', "none", '["x"]', '""')


# -- any input gives options or an OptionsError -----------------------------------------------------------------

FLAGS = st.sampled_from(
    [
        "--text",
        "--number",
        "--truth",
        "--no-truth",
        "--color",
        "--many",
        "--table",
        "--wait",
        "--part.text",
        "--other.many",
        "--set",
        "--help",
        "--config",
        "--env-file",
        "--",
        "-x",
    ]
)
ARGV = st.lists(FLAGS | st.text(max_size=8) | st.builds("{}={}".format, FLAGS, st.text(max_size=8)), max_size=6)
VARIABLES = st.dictionaries(
    st.sampled_from(["ALL_TEXT", "ALL_NUMBER", "ALL_TABLES", "ALL_PARTS", "ALL_OTHER__TEXT", "ALL_PART__MANY"]),
    st.text() | st.recursive(st.none() | st.booleans() | FINITE | st.text(), st.lists, max_leaves=4).map(json.dumps),
)
KEYS = st.sampled_from([*AllOptions.__struct_fields__, "plait", "txt"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "many", "x"]), inner),
    max_leaves=6,
)
FILES = st.dictionaries(KEYS, VALUES, max_size=5).map(lambda data: json.dumps(data).encode()) | st.binary(max_size=40)


@given(ARGV, VARIABLES, FILES, st.binary(max_size=30))
@relaxed
@example(["--set", 'many=["\\ud800"]'], {}, b"{}", b"")
def test_any_input_gives_options_or_an_options_error(
    argv: list[str], variables: dict[str, str], config: bytes, env: bytes
) -> None:
    """Nothing else leaves resolve(), and everything that was wrong can be printed."""

    def read(path: Path) -> bytes:
        return config if path.suffix == ".json" else env

    try:
        resolved = resolve(AllOptions, argv, environ=variables, config="c.json", env_file="e", read=read)
    except OptionsError as error:
        assert error.problems  # noqa: PT017
        assert str(error)  # noqa: PT017
    else:
        assert isinstance(resolved.options, AllOptions)
        render_table(resolved.rows)


@given(st.text(max_size=60))
@relaxed
def test_any_toml_gives_options_or_an_options_error(text: str) -> None:
    """Also text that is nearly TOML."""
    try:
        resolve(AllOptions, environ={}, config="c.toml", read=lambda path: ("number = " + text).encode())
    except OptionsError as error:
        assert error.problems  # noqa: PT017
