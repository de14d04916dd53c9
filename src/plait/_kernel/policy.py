"""How a group treats one of its services.

Rules: a Policy is frozen and checked when it is made, with every field named that is wrong. A class may carry
its own (`policy = Policy(...)`); keyword arguments of `Group.add` override it field by field.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Literal

Restart = Literal["always", "on_failure", "never"]
OnExhausted = Literal["fail", "park"]
Placement = Literal["each", "one"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "restart": ("always", "on_failure", "never"),
    "on_exhausted": ("fail", "park"),
    "placement": ("each", "one"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a group does with a service: restart it, how long to wait for it, where it runs.

    All durations are seconds. TypeError or ValueError names the field, its value and what it may be.
    """

    restart: Restart = "on_failure"
    """`always`, `on_failure` or `never`; OTP's permanent, transient and temporary."""
    significant: bool = False
    """Its end ends its group: cleanly if its `run` returned, as failed if it failed."""
    on_exhausted: OnExhausted = "fail"
    """When restarts are used up: `fail` upward, or `park` it until an operator starts it."""
    placement: Placement = "each"
    """With workers: in `each` of them, or in exactly `one`."""
    start_timeout: float = 30.0
    """How long `on_start` may take (or, with manual readiness, until `ready()`)."""
    stop_timeout: float = 10.0
    """How long all of stopping may take, after the drain."""
    drain_timeout: float = 5.0
    """How long `on_drain` may take, and a `run` that watches `self.stopping`."""
    pause_timeout: float = 10.0
    """How long `on_pause` and `on_resume` may take, each."""
    check_period: float = 10.0
    """Seconds from the end of one `check` to the next."""
    check_timeout: float = 5.0
    """How long one `check` may take."""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"policy field {name!r} is {value!r}; it may be {', '.join(choices)}")
        if not isinstance(self.significant, bool):
            raise TypeError(f"policy field 'significant' is {self.significant!r}; it may be True or False")
        for name in DURATIONS:
            object.__setattr__(self, name, duration(f"policy field {name!r}", getattr(self, name)))
        if self.significant and self.restart == "always":
            raise ValueError(
                "policy has significant=True and restart='always': a service that always comes back never ends "
                "its group; use restart='on_failure'"
            )

    def override(self, changes: dict[str, Any]) -> Policy:
        """This policy with some fields changed; an unknown field is a TypeError that names the nearest."""
        if not changes:
            return self
        for name in changes:
            if name not in FIELDS:
                near = get_close_matches(name, FIELDS, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"the fields are {', '.join(FIELDS)}"
                raise TypeError(f"a policy has no field {name!r}; {hint}")
        try:
            return _override(self, tuple((name, value, type(value)) for name, value in changes.items()))
        except TypeError:  # an unhashable value: let the check say what is wrong with it
            return replace(self, **changes)


FIELDS = tuple(field.name for field in fields(Policy))
DURATIONS = tuple(name for name in FIELDS if name.endswith(("_timeout", "_period")))


def duration(subject: str, value: Any, *, zero: bool = False) -> float:
    """`value` as float seconds, finite and above zero (or zero, where that means something)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{subject} is {value!r}; it takes seconds, as a number")
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise ValueError(f"{subject} is {value!r}; it takes a finite number of seconds above zero")
    return float(value)


@lru_cache(maxsize=256)
def _override(policy: Policy, changes: tuple[tuple[str, Any, type], ...]) -> Policy:
    """Policies are values: equal ones are shared, so 10,000 services with one policy hold one object.

    The types are there because True equals 1, and is no number of seconds.
    """
    return replace(policy, **{name: value for name, value, _ in changes})


DEFAULT = Policy()
