"""What zsh is told of the options of a program, so that it completes them: arguments for its own `_arguments`.

Rules: a description, a choice and an action come from the `compData` of the class and its bases; what says nothing
there is completed by its docs. Where a sub-command was typed already, it is that one's options that follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from plait.classic.python import _completers


def shellComplete(config: Any, cmdName: str, words: Sequence[str], shellCompFile: BinaryIO) -> None:
    """Write the zsh code that completes the next word after `words`."""
    lines = " \\\n  ".join(_arguments(_typed(config, words)))
    shellCompFile.write(f"#compdef {cmdName}\n\n_arguments -s -A '-*' \\\n  {lines} && return 0\n".encode())


def _typed(config: Any, words: Sequence[str]) -> Any:
    """The options of the sub-command that is among the words, or of the program."""
    commands = {name: make for first, second, make, _ in _commands(config) for name in (first, second) if name}
    for position, word in enumerate(words):
        if word in commands:
            below = commands[word]()
            below.parent = config
            return _typed(below, words[position + 1 :])
    return config


def _commands(config: Any) -> Sequence[Any]:
    return getattr(config, "subCommands", None) or ()


def _arguments(config: Any) -> Iterator[str]:
    data = _data(config)
    for name, doc in config.docs.items():
        yield from _option(config, data, name, data.descriptions.get(name, " ".join(doc.split())))
    if _commands(config):
        words = " ".join(f"{_quoted(name, ':')}\\:{_quoted(doc or name, ':')}" for name, _, _, doc in _commands(config))
        yield f"'*::command:(({words}))'"
    for action in data.extraActions:
        yield _single(_completer(action)._shellCode("", _completers._ZSH))


def _data(config: Any) -> _completers.Completions:
    """What the class and its bases say, by the main names of options. ValueError for what there is not.

    Further words are those of the last class that has any; one of them that may repeat must be the last.
    """

    def main(name: str) -> str:
        if name not in config.synonyms:
            raise ValueError(f"{type(config).__name__}.compData is about {name!r}, which is no option")
        known: str = config.synonyms[name]
        return known

    said = [vars(kind)["compData"] for kind in reversed(type(config).__mro__) if vars(kind).get("compData")]
    words: list[Any] = next((data.extraActions for data in reversed(said) if data.extraActions), [])
    if any(_completer(word)._repeat for word in words[:-1]):
        raise ValueError(f"{type(config).__name__}.compData: only the last of extraActions may repeat")
    return _completers.Completions(
        {main(name): text for data in said for name, text in data.descriptions.items()},
        [main(name) for data in said for name in data.multiUse],
        [[main(name) for name in group] for data in said for group in data.mutuallyExclusive],
        {main(name): action for data in said for name, action in data.optActions.items()},
        words,
    )


def _completer(action: Any) -> Any:
    """What makes one, such as its class, may stand for it."""
    return action() if callable(action) else action


def _option(config: Any, data: _completers.Completions, name: str, description: str) -> Iterator[str]:
    spellings = [one for one, main in config.synonyms.items() if main == name]
    is_valued = name + "=" in config.longOpt
    many = name in data.multiUse
    excluded = "" if many else _excluded(config, data, name, spellings)
    for one in spellings:
        dashed = f"--{one}{'=' * is_valued}" if len(one) > 1 else f"-{one}{'+' * is_valued}"
        value = _value(data, name) if is_valued else ""
        yield _single(f"{'*' if many else excluded}{dashed}[{_quoted(description, '[]')}]{value}")


def _excluded(config: Any, data: _completers.Completions, name: str, spellings: list[str]) -> str:
    names = {other for group in data.mutuallyExclusive if name in group for other in group} - {name}
    others = [one for one, main in config.synonyms.items() if main in names]
    both = [*spellings, *others]
    return f"({' '.join(('--' if len(one) > 1 else '-') + one for one in both)})" if len(both) > 1 else ""


def _value(data: _completers.Completions, name: str) -> str:
    code: str = _completer(data.optActions.get(name, _completers.Completer))._shellCode(name, _completers._ZSH)
    return code.removeprefix("*")


def _quoted(text: str, special: str) -> str:
    return "".join("\\" + one if one in special + "\\" else one for one in text)


def _single(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
