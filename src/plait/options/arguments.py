"""The command line after the target: flags, values, and the reserved --config, --env-file, --set and --help.

A flag's value is the next word or stands after "="; a value that begins with "--" can only stand after "=".
Parsing never raises: what makes no sense is a problem, and the rest is parsed all the same. What follows a
flag that nobody knows is never shown: it may be the value of a misspelt --password.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from plait.errors import Problem
from plait.options.convert import nearest, unknown_key
from plait.options.schema import Field, Schema
from plait.options.sources import Found, Source, SourceKind


@dataclass(slots=True)
class Arguments:
    """The command line after the target, taken apart; `given` holds flags and --set in their order."""

    config: str | None = None
    env_file: str | None = None
    help: bool = False
    given: list[tuple[str, str, str]] = field(default_factory=list)  # flag, key, text
    sets: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, argument: str, expected: str) -> None:
        self.problems.append(Problem("command line", argument, "", expected))


NO_OPTIONS = "this application has no options"
_NEEDS_VALUE = ("--config", "--env-file", "--set")


def parse_arguments(
    argv: Sequence[str],
    schema: Schema | None,
    *,
    runner_flags: Collection[str] = (),
    none_because: str = NO_OPTIONS,
) -> Arguments:
    """Flags, values and reserved flags of a command line. Never raises; `problems` says what made no sense.

    With `schema` None every flag but the reserved ones is refused, for the reason `none_because`.
    """
    known = schema.flags() if schema is not None else {}
    found = Arguments()
    words = list(argv)
    while words:
        word = words.pop(0)
        name, equals, text = word.partition("=")
        name = "--" + name[2:].replace("_", "-") if name.startswith("--") else name
        value = text if equals else None
        if word in ("--help", "-h"):
            found.help = True
        elif name in _NEEDS_VALUE:
            _take_reserved(found, name, _value(found, name, value, words))
        elif name in known:
            _take_flag(found, known[name], name, value, words)
        elif not word.startswith("-") or word in ("-", "--"):
            found.problem(word, "unexpected; options are given as --name VALUE")
        else:
            _refuse_flag(found, name, known, runner_flags, none_because if schema is None else "")
            if value is None and words and not words[0].startswith("-"):
                words.pop(0)  # most likely its value, not worth another complaint
    return found


def _value(found: Arguments, name: str, value: str | None, words: list[str]) -> str | None:
    """The flag's value: after its "=", or the next word, unless that is a flag itself."""
    if value is not None:
        return value
    if words and not words[0].startswith("--"):
        return words.pop(0)
    found.problem(name, f"needs a value (one that begins with -- is given as {name}=VALUE)")
    return None


def _take_reserved(found: Arguments, name: str, value: str | None) -> None:
    if value is None:
        return
    if name == "--config":
        found.config = value
    elif name == "--env-file":
        found.env_file = value
    elif "=" in value:
        key, _, text = value.partition("=")
        found.given.append(("--set", key.strip(), text))
    else:
        found.problem("--set", "expected key=value")


def _take_flag(found: Arguments, one: Field, name: str, value: str | None, words: list[str]) -> None:
    if one.is_switch and name != one.flag:
        if value is not None:
            found.problem(name, f"takes no value; write {one.flag}=false")
        value = "false"
    elif one.is_switch:
        value = "true" if value is None else value
    else:
        value = _value(found, name, value, words)
    if value is not None:
        found.given.append((name, one.key, value))


def _refuse_flag(
    found: Arguments, name: str, known: Collection[str], runner_flags: Collection[str], reason: str
) -> None:
    if name in runner_flags:
        found.problem(name, f"is an option of plait itself; it stands before the target: plait run {name} … TARGET")
    elif reason:
        found.problem(name, reason)
    elif close := nearest(name, known):
        found.problem(name, f"unknown; did you mean {close!r}?")
    else:
        found.problem(name, "unknown; --help shows the options")


def take_arguments(found: Found, schema: Schema, arguments: Arguments) -> None:
    """The values of flags and of --set. Of one given twice the last wins; those of a list or table add up."""
    gathered: dict[str, list[str]] = {}
    for flag, key, text in arguments.given:
        one = schema.fields.get(key)
        if one is None:
            found.problem("--set", key, _unknown_set(schema, key))
        elif flag != "--set" and (one.is_list or one.is_table):
            texts = gathered.setdefault(key, [])
            texts.append(text)
            found.give(key, texts if one.is_list else _pairs(found, one, texts), _from_line(flag))
        else:
            gathered.pop(key, None)
            found.give(key, text, _from_line(flag if flag != "--set" else f"--set {key}"))


def _from_line(name: str) -> Source:
    return Source(SourceKind.COMMAND_LINE, "", name)


def _unknown_set(schema: Schema, key: str) -> str:
    if key in schema.groups:
        return f"is a group; set one of its fields, as in --set {key}.NAME=VALUE"
    return unknown_key(key, schema.fields) if schema.fields else NO_OPTIONS


def _pairs(found: Found, one: Field, texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if equals:
            pairs[name] = value
        elif text is texts[-1]:
            found.problem(one.flag, one.key, "expected NAME=VALUE")
    return pairs
