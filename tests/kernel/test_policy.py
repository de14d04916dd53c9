"""Policy: validated field by field, with the cure; equal policies are one object."""

from __future__ import annotations

import math
from typing import Any

import pytest

from plait import Application, Policy, Service


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"restart": "sometimes"}, "'restart' is 'sometimes'; it may be always, on_failure, never"),
        ({"placement": "all"}, "'placement' is 'all'; it may be each, one"),
        ({"on_exhausted": "ignore"}, "it may be fail, park"),
        ({"start_timeout": -1}, "'start_timeout' is -1; it takes a finite number of seconds above zero"),
        ({"stop_timeout": math.inf}, "finite"),
        ({"drain_timeout": "5"}, "'drain_timeout' is '5'; it takes seconds, as a number"),
        ({"check_period": True}, "takes seconds"),
        ({"significant": 1}, "it may be True or False"),
        ({"significant": True, "restart": "always"}, "use restart='on_failure'"),
        ({"restrat": "never"}, "no field 'restrat'; did you mean 'restart'?"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], message: str) -> None:
    """Both ways in, the constructor and `add`, refuse it, and `add` registers nothing."""
    app = Application("shop")
    with pytest.raises((TypeError, ValueError)) as caught:
        app.add(Service(), name="db", **changes)
    assert message in str(caught.value)
    assert "db" not in app


def test_a_class_carries_its_own_and_add_overrides_it() -> None:
    """Field by field: what `add` does not name stays the class's."""

    class Single(Service):
        policy = Policy(placement="one", stop_timeout=3)

    service = Application("shop").add(Single(), stop_timeout=4)
    assert service.effective_policy == Policy(placement="one", stop_timeout=4)
    assert isinstance(service.effective_policy.stop_timeout, float)


def test_equal_policies_are_shared() -> None:
    """10,000 services with one policy hold one object."""
    app = Application("shop")
    first, second = (app.add(Service(), name=name, restart="never") for name in "ab")
    assert first.effective_policy is second.effective_policy


def test_a_class_policy_of_a_wrong_type_is_refused_with_the_class() -> None:
    """When the class is made, not when it first matters."""
    with pytest.raises(TypeError, match=r"Wrong.policy is 'one'; it takes a Policy"):
        type("Wrong", (Service,), {"policy": "one"})


def test_a_wrong_value_is_found_also_where_an_equal_one_was_right() -> None:
    """True equals 1, but is no number of seconds; 1 equals True, but is no answer to yes or no."""
    policy = Policy()
    policy.override({"start_timeout": 1})
    policy.override({"significant": True})
    with pytest.raises(TypeError):
        policy.override({"start_timeout": True})
    with pytest.raises(TypeError):
        policy.override({"significant": 1})
