# mypy: disable-error-code="misc,no-any-unimported"
"""What an observer of the log is."""

from __future__ import annotations

from typing import Any, TypeAlias

from zope.interface import Interface

LogEvent: TypeAlias = dict[str, Any]
"""What was logged: `log_format`, `log_level`, `log_namespace`, `log_source`, `log_time`, and what the caller gave."""

LogTrace: TypeAlias = list[tuple[Any, Any]]
"""Which publisher handed an event to which observer, in order."""


class ILogObserver(Interface):
    """Is called with every event, from any thread."""

    def __call__(event: LogEvent) -> None:
        """Do with it what this observer does. The event may not be changed."""
