"""What zsh is told of usage.Options: options, their values, further words, and what compData says of them."""

from __future__ import annotations

from io import BytesIO
from typing import Any, ClassVar

import pytest

from plait.classic.python import usage


class Base(usage.Options):
    """Options with a word about their completion."""

    optParameters: ClassVar[Any] = [["port", "p", 1, "The port."], ["log", "l", None, "Where to."]]
    optFlags: ClassVar[Any] = [["fast", "f", "Be fast."], ["slow", None, "Be slow."]]
    compData = usage.Completions(
        descriptions={"port": "A [free] port."},
        mutuallyExclusive=[("f", "slow")],
        optActions={"log": usage.CompleteFiles},
    )


class Derived(Base):
    """More of it."""

    compData = usage.Completions(
        descriptions={"log": "A file."},
        multiUse=["port"],
        extraActions=[usage.CompleteDirs(), usage.Completer(repeat=True)],
    )


def told(options: usage.Options) -> str:
    """What is written for zsh."""
    out = BytesIO()
    options._shellCompFile = out
    with pytest.raises(SystemExit) as left:
        options.parseOptions(["", "--_shell-completion", "zsh:2"])
    assert left.value.code == 0
    return out.getvalue().decode()


def test_a_class_and_its_bases_are_heard() -> None:
    """Descriptions, exclusions, actions and repeats of both; what is special to zsh is quoted."""
    code = told(Derived())
    assert "'*--port=[A \\[free\\] port.]:port:'" in code
    assert "'(--log -l)--log=[A file.]:log" in code
    assert ":_files" in code
    assert "'(--fast -f --slow)--fast[Be fast.]'" in code
    assert code.endswith("'::_directories' \\\n  '*::' && return 0\n")
    assert "[The port.]" in told(type("Other", (usage.Options,), {"optParameters": Base.optParameters})())


@pytest.mark.parametrize(
    "data",
    [
        {"descriptions": {"prot": ""}},
        {"multiUse": ["prot"]},
        {"mutuallyExclusive": [("fast", "prot")]},
        {"optActions": {"prot": None}},
        {"extraActions": [usage.Completer(repeat=True), usage.Completer()]},
    ],
)
def test_what_is_said_of_no_option_is_an_error(data: dict[str, Any]) -> None:
    """A slip of the pen does not go by unseen; nor does a word after those that may repeat."""
    options = type("Broken", (Base,), {"compData": usage.Completions(**data)})()
    options._shellCompFile = BytesIO()
    with pytest.raises(ValueError, match=r"Broken\.compData"):
        options.parseOptions(["", "--_shell-completion", "zsh:2"])
