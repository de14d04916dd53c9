"""A long run against the model, on random seeds: `make soak`, or with what failed, `make soak SEED=...`.

Prints the seed first, and at the end how many steps there were and how often each move was seen.
"""

from __future__ import annotations

import logging
import random
import sys
import time

from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

import machine

STEPS = 200_000
LENGTH = 40
"""Steps an example."""
EXAMPLES = 1_000
"""Examples a seed, after which the next is drawn from it."""


def soak(first: int, steps: int) -> None:
    """Run until there were so many steps; AssertionError with a shrunk example."""
    began = time.monotonic()
    number = first
    while machine.steps < steps:
        run(number, EXAMPLES, LENGTH)
        print(f"seed {number}: {machine.steps} steps in all, {time.monotonic() - began:.0f} s", flush=True)
        number += 1


def run(number: int, examples: int, length: int) -> None:
    """The examples of one seed."""

    class Seeded(machine.Lifecycle):
        pass

    run_state_machine_as_test(
        seed(number)(Seeded),
        settings=settings(
            max_examples=examples,
            stateful_step_count=length,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        ),
    )


if __name__ == "__main__":
    start = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1] else random.randrange(10**9)
    logging.disable(logging.CRITICAL)  # what fails on purpose
    print(f"seed {start}", flush=True)
    soak(start, int(sys.argv[2]) if len(sys.argv) > 2 else STEPS)
    print(machine.table())
