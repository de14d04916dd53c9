"""Env files: lines of NAME=VALUE, as shells and containers write them; nothing is expanded.

A line may begin with `export`, may be empty or a comment. A value in single quotes is taken as it stands,
one in double quotes knows the escapes \\n \\r \\t \\" \\\\ and \\$; without quotes it ends before " #" and
loses the blanks around it. A value stays on its line. Of a name given twice the last counts.
"""

from __future__ import annotations

import re

from plait.errors import OptionsError, Problem

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=[ \t]*(.*)", re.DOTALL)
_SINGLE = re.compile(r"'([^']*)'\s*(?:#.*)?", re.DOTALL)
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?', re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def parse_env_file(name: str, data: bytes) -> dict[str, str]:
    """The variables of an env file; raises OptionsError naming every line that is none."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OptionsError([Problem(name, f"byte {error.start}", "", "not UTF-8")]) from None
    variables, problems = {}, []
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            variables.update(_parse_line(line.strip()))
        except ValueError as error:
            problems.append(Problem(name, f"line {number}", "", str(error)))
    if problems:
        raise OptionsError(problems)
    return variables


def _parse_line(line: str) -> dict[str, str]:
    if not line or line.startswith("#"):
        return {}
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("expected NAME=VALUE")  # the line itself may hold a secret
    return {match[1]: _unquote(match[2])}


def _unquote(text: str) -> str:
    if text.startswith("'"):
        if match := _SINGLE.fullmatch(text):
            return match[1]
        raise ValueError("expected the closing ' at the end of the line")
    if text.startswith('"'):
        if match := _DOUBLE.fullmatch(text):
            return re.sub(r"\\(.)", lambda one: _ESCAPES.get(one[1], one[1]), match[1], flags=re.DOTALL)
        raise ValueError('expected the closing " at the end of the line')
    return "" if text.startswith("#") else re.split(r"\s#", text, maxsplit=1)[0].rstrip()


def quote(text: str) -> str:
    """The text as a value in double quotes, on one line."""
    for plain, escaped in (
        ("\\", "\\\\"),
        ('"', '\\"'),
        ("$", "\\$"),
        ("\n", "\\n"),
        ("\r", "\\r"),
        ("\t", "\\t"),
    ):
        text = text.replace(plain, escaped)
    return f'"{text}"'
