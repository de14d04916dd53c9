"""The lifecycle against the model."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

import machine

EXAMPLES = int(os.environ.get("EXAMPLES", 2000))
STEPS = int(os.environ.get("STEPS", 20))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What fails on purpose is not logged."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_the_kernel_does_what_the_model_says(capsys: pytest.CaptureFixture[str]) -> None:
    """For 2,000 random lives of random trees, the same each time; every legal move and kind of reload is among them."""
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
    with capsys.disabled():
        print(f"\n{machine.table()}")
    unseen = [f"{old.value} -> {new.value}" for old, news in machine.LEGAL.items() for new in news]
    unseen = [move for move in unseen if not machine.has_seen(move)]
    unseen += [kind for kind in ("nothing", "live", "generation", "failed") if not machine.seen[f"reload: {kind}"]]
    assert not unseen or EXAMPLES < 2000
