"""How a shell completes the value of an option: what it is told for each kind of value.

Rules: `_shellCode` gives what stands behind the option in zsh's `_arguments`. Another shell is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_ZSH = "zsh"


class Completer:
    """How a shell completes the value of an option: by nothing. `repeat`: the option may be given several times."""

    _descr: str | None = None

    def __init__(self, descr: str | None = None, repeat: bool = False) -> None:
        if descr is not None:
            self._descr = descr
        self._repeat = repeat

    @property
    def _repeatFlag(self) -> str:
        return "*" if self._repeat else ""

    def _description(self, optName: str) -> str:
        return self._descr if self._descr is not None else optName

    def _action(self, optName: str) -> str:
        """What zsh's _arguments is to do."""
        return ""

    def _shellCode(self, optName: str, shellType: str) -> str:
        if shellType != _ZSH:
            raise NotImplementedError(f"Unknown shellType {shellType!r}")
        return f"{self._repeatFlag}:{self._description(optName)}:{self._action(optName)}"


class CompleteFiles(Completer):
    """By files that match a pattern."""

    def __init__(self, globPattern: str = "*", **kw: Any) -> None:
        super().__init__(**kw)
        self._globPattern = globPattern

    def _description(self, optName: str) -> str:
        return f"{super()._description(optName)} ({self._globPattern})"

    def _action(self, optName: str) -> str:
        return f'_files -g "{self._globPattern}"'


class CompleteDirs(Completer):
    """By folders."""

    def _action(self, optName: str) -> str:
        return "_directories"


class CompleteList(Completer):
    """By one of these words."""

    def __init__(self, items: Iterable[str], **kw: Any) -> None:
        super().__init__(**kw)
        self._items = items

    def _action(self, optName: str) -> str:
        return f"({' '.join(self._items)})"


class CompleteMultiList(CompleteList):
    """By several of these words, with commas between them."""

    def _action(self, optName: str) -> str:
        return f"_values -s , '{self._description(optName)}' {' '.join(self._items)}"


class CompleteUsernames(Completer):
    """By the system's users."""

    def _action(self, optName: str) -> str:
        return "_users"


class CompleteGroups(Completer):
    """By the system's groups."""

    _descr = "group"

    def _action(self, optName: str) -> str:
        return "_groups"


class CompleteHostnames(Completer):
    """By names of hosts."""

    def _action(self, optName: str) -> str:
        return "_hosts"


class CompleteUserAtHost(Completer):
    """By a host, or a user at one."""

    _descr = "host | user@host"

    def _action(self, optName: str) -> str:
        return "_user_at_host"


class CompleteNetInterfaces(Completer):
    """By network interfaces."""

    def _action(self, optName: str) -> str:
        return "_net_interfaces"


class Completions:
    """What a shell is told beyond the options themselves, by the long names of options.

    `descriptions` in place of their docs, `multiUse` those that may be given several times, `mutuallyExclusive` groups
    of which one may be given, `optActions` Completers of their values, `extraActions` Completers of the other words.
    """

    def __init__(
        self,
        descriptions: Mapping[str, str] = {},
        multiUse: Iterable[str] = (),
        mutuallyExclusive: Iterable[Sequence[str]] = (),
        optActions: Mapping[str, Any] = {},
        extraActions: Iterable[Any] = (),
    ) -> None:
        self.descriptions = descriptions
        self.multiUse = [*multiUse]
        self.mutuallyExclusive = [*mutuallyExclusive]
        self.optActions = optActions
        self.extraActions = [*extraActions]
