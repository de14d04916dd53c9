"""The reactor: importing this module gives an object that provides the interfaces, the only one of the process."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import plait.classic.internet as _package
from plait.classic.internet._reactor import Reactor as _Reactor

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...

else:
    sys.modules[__name__] = _package.reactor = _Reactor()
